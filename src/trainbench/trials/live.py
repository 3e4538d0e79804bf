"""How far a running trial is: a small file that the trial writes anew, for whoever looks.

The process that waits for the trial shows it as a status line on a terminal, ``runs show`` prints
it in another one. It is no record: it is gone when the trial has ended, and no sum covers it.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from trainbench.display.visible import presentable, steer
from trainbench.files import fill, is_own_file, object_or_empty
from trainbench.progress import duration, scaled
from trainbench.trials.paths import TrialDir

INTERVAL_S = 0.5
OLD_S = 60.0
"""What is older says so: the trial may be gone."""


@dataclass(frozen=True)
class Progress:
    """A trial at one time.

    Attributes:
        phase: what it does now: ``train``, ``eval``, ``compile``.
        epoch, epochs: the present one, from 1, and the most there will be.
        done, total: samples of this epoch.
        rate_per_s: ``unit`` per second.
        quality, best, target: the newest, the highest, and the one wanted.
        wait_s: for input, of the present or the last epoch.
        eta_s: until the end of the last epoch, if no earlier one reaches the target.
    """

    phase: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    done: float | None = None
    total: float | None = None
    unit: str | None = None
    rate_per_s: float | None = None
    name: str | None = None
    quality: float | None = None
    best: float | None = None
    target: float | None = None
    wait_s: float | None = None
    eta_s: float | None = None
    unix_s: float | None = None

    def line(self, now_unix_s: float | None = None) -> str:
        """``epoch 3/20 45 %  1.2 Msamples/s  HR@10 0.5980 (target 0.635)  wait 0.1 s  ETA 4m``."""
        parts = [self._where()]
        if self.rate_per_s:
            parts.append(scaled(self.rate_per_s, f"{self.unit or 'samples'}/s"))
        wanted = "no target" if self.target is None else f"target {self.target:g}"
        if self.name:
            found = "-" if self.quality is None else f"{self.quality:.4f}"
            parts.append(f"{self.name} {found} ({wanted})")
        if self.wait_s is not None:
            parts.append(f"wait {duration(self.wait_s)}")
        if self.eta_s is not None:
            parts.append(f"ETA {duration(max(0.0, self.eta_s))} at most")
        age = (now_unix_s or time.time()) - (self.unix_s or 0.0)
        if self.unix_s and age > OLD_S:
            parts.append(f"({duration(age)} ago: it may be gone)")
        return "  ".join(parts)

    def _where(self) -> str:
        if self.epoch is None:
            return (self.phase or "starting").replace("_", " ")
        of = f"/{self.epochs}" if self.epochs else ""
        share = f" {100 * self.done / self.total:.0f} %" if self.done and self.total else ""
        phase = "" if self.phase in (None, "train_epoch") else f" {self.phase}"
        return f"epoch {self.epoch}{of}{share}{phase}".replace("_", " ")


class Writer:
    """Writes the progress of one trial; a disk that refuses costs the line and not the trial."""

    def __init__(self, path: Path) -> None:
        self._path, self._now = path, Progress()

    def tell(self, **changes: object) -> None:
        """Replace fields, and write them. It takes a tenth of a millisecond and no fsync."""
        self._now = replace(self._now, **changes, unix_s=time.time())  # type: ignore[arg-type]
        part = self._path.with_name(f".{self._path.name}.part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(asdict(self._now)), encoding="utf-8", newline="\n")
            os.replace(part, self._path)


def read(trial: TrialDir) -> Progress | None:
    """How far a trial is; ``None`` where it does not run, or has told nothing yet."""
    if not is_own_file(trial.progress, trial.root):
        return None
    if object_or_empty(trial.status).get("state") != "running":
        return None
    record = object_or_empty(trial.progress)
    return fill(Progress, record) if record else None


class StatusLine:
    """The last line of a terminal, below the lines that scroll."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._shown, self._lock = out, "", threading.Lock()

    def show(self, text: str) -> None:
        """Write ``text`` in place of what stands there, cut to the width of the terminal."""
        with self._lock:
            self._shown = presentable(text)[: _width(self._out) - 1]
            steer(self._out, f"\r\x1b[K{self._shown}")
            self._out.flush()

    def above(self, line: str) -> None:
        """Let ``line``, which ends with a newline, scroll above the status line."""
        with self._lock:
            steer(self._out, "\r\x1b[K")
            self._out.write(line)
            if self._shown and line.endswith("\n"):
                steer(self._out, self._shown)
            self._out.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        with self._lock:
            self._shown = ""
            steer(self._out, "\r\x1b[K")
            self._out.flush()


def _width(out: TextIO) -> int:
    try:
        return max(20, os.get_terminal_size(out.fileno()).columns)
    except (OSError, ValueError):
        return 80


@contextlib.contextmanager
def shown(trial: TrialDir, out: TextIO) -> Iterator[StatusLine | None]:
    """Show the progress of ``trial`` on ``out`` while the body runs; ``None`` off a terminal."""
    if not out.isatty():
        yield None
        return
    line, ended = StatusLine(out), threading.Event()

    def look() -> None:
        while not ended.wait(INTERVAL_S):
            now = read(trial)
            if now:
                line.show(now.line())

    thread = threading.Thread(target=look, daemon=True, name="status line")
    thread.start()
    try:
        yield line
    finally:
        ended.set()
        thread.join()
        line.clear()
