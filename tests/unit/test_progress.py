"""Long work reports at a human rate."""

from __future__ import annotations

import io
import queue
import sys
import time

import pytest

from trainbench import progress


class Heard(io.StringIO):
    """A stream that another thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def write(self, text: str) -> int:
        self.lines.put(text)
        return len(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"), [(41.23, "41.2 s"), (318, "5m18s"), (7_500, "2h05m"), (59.96, "60.0 s")]
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(999, "999 B"), (5_134_476, "5.13 MB"), (2.41e9, "2.41 GB")]
)
def test_amounts_carry_decimal_prefixes(value: float, text: str) -> None:
    assert progress.scaled(value, "B") == text


def test_the_line_has_value_share_rate_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = progress.Progress(1_000_000, label="ml-20m.zip", stream=io.StringIO())
    now[0] += 2
    work.advance(250_000)
    assert work.line() == "ml-20m.zip: 250.00 kB of 1.00 MB (25 %)  125.00 kB/s  ETA 6.0 s"


def test_what_a_resumed_download_had_is_not_part_of_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    work = progress.Progress(1_000, label="x", done=500, stream=io.StringIO())
    now[0] += 1
    work.advance(100)
    assert "100 B/s" in work.line()


def test_no_carriage_return_outside_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pipe, terminal = io.StringIO(), Terminal()
    for stream in (pipe, terminal):
        with progress.Progress(100, label="x", stream=stream) as work:
            for _ in range(4):
                now[0] += 6
                work.advance(25)
    assert "\r" not in pipe.getvalue()
    assert "\r" in terminal.getvalue()
    # One line per ten seconds (at 12 s and 24 s), and the closing one.
    assert len(pipe.getvalue().splitlines()) == 3


def test_a_failure_says_stopped_not_done() -> None:
    stream = io.StringIO()
    with pytest.raises(OSError, match="gone"), progress.Progress(1, label="x", stream=stream):
        raise OSError("gone")
    assert "stopped" in stream.getvalue()


def test_heartbeat_breaks_the_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Heard()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.heartbeat("compiling", interval_s=0.01):
        assert "still compiling (" in stream.lines.get(timeout=60)
