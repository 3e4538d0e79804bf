"""Compliance lines are read in every spelling seen in the wild, and never dropped silently."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from call_counts import count_calls
from v05_log import lines, run

from trainbench.compliance import parse
from trainbench.compliance.check import check, check_file
from trainbench.compliance.commands import check_logs
from trainbench.compliance.dialects.v05 import format_line
from trainbench.compliance.event import Event, Finding
from trainbench.compliance.parse import (
    MAX_FINDINGS,
    MAX_LINE,
    other_lines,
    parse_line,
    read_lines,
    read_log,
)
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.tags import ncf as tags

LINE = ":::MLPv0.5.0 ncf 1541635592.735490084 (data_preprocessing.py:139) "
EVENT = Event("preproc_hp_min_ratings", 20, "1541635592.735490084", "data_preprocessing.py", 139)


@pytest.mark.parametrize(
    "text",
    [
        LINE + "preproc_hp_min_ratings: 20",
        LINE + "preproc_hp_min_ratings : 20",
        LINE + "preproc_hp_min_ratings: 20   \r\n",
        "NCF_RAW_" + LINE + "preproc_hp_min_ratings: 20",
        "100%|##########| 970/970 [00:01<00:00, 574.24it/s]" + LINE + "preproc_hp_min_ratings: 20",
        "0: " + LINE + "preproc_hp_min_ratings:\t20",
    ],
)
def test_every_spelling_says_the_same(text: str) -> None:
    assert parse_line(text, 7) == EVENT


@pytest.mark.parametrize("text", [LINE + "run_start", LINE + "run_start ", LINE + "run_start\n"])
def test_bare_tag_has_no_value(text: str) -> None:
    parsed = parse_line(text)
    assert isinstance(parsed, Event)
    assert (parsed.key, parsed.value) == ("run_start", None)


def test_canonical_line_is_written_back_to_the_letter() -> None:
    for line in lines(run()):
        parsed = parse_line(line)
        assert isinstance(parsed, Event)
        assert format_line(parsed) + "\n" == line


def test_event_knows_its_line() -> None:
    parsed = parse_line("NCF_RAW_" + LINE + "train_loop", 42)
    assert isinstance(parsed, Event)
    assert (parsed.source.number, parsed.source.text) == (42, LINE + "train_loop")


@pytest.mark.parametrize("text", ["", "epoch 1 of 7", ":: MLPv0.5.0", "loss: {'a': 1}"])
def test_other_text_is_no_compliance_line(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize(
    "text",
    [
        ":::MLP",
        ":::MLPv0.5.0 ncf",
        ":::MLL 1541635592.7 run_start: {}",
        LINE + "eval_stop: {'epoch': 0}",
        LINE + "eval_stop: ",
        LINE + "eval stop: 0",
        LINE + "a: " + "[" * 50_000,
        LINE + "a: " + "[" * 40 + "]" * 40,
        LINE + "a: " + LINE + "b: 1",
        LINE.replace("139", "1" * 6_000) + "a",
        LINE.replace("1541635592", "1" * 600) + "a",
        ":::MLLOG nothing",
        ":::MLLOG " + "[" * 50_000,
        ':::MLLOG {"key": 1, "time_ms": 2, "metadata": null}',
        ':::MLLOG {"key": "a", "time_ms": true, "metadata": 1}',
        ':::MLLOG {"key": "a", "time_ms": "b", "metadata": {}}',
        ':::MLLOG {"key": "a", "time_ms": 1e999, "metadata": {}}',
        ":::MLLOG [1, 2]",
    ],
)
def test_unparsable_line_is_a_finding_with_its_number(text: str) -> None:
    parsed = parse_line(text, 3)
    assert isinstance(parsed, Finding)
    assert (parsed.rule, parsed.line_number) == ("parse/line", 3)
    assert len(str(parsed)) < 1_000


def test_lone_carriage_return_ends_a_line(tmp_path: Path) -> None:
    """As Python's text files have it, in which the v0.5 checker read its logs."""
    path = tmp_path / "log"
    path.write_bytes(b" 10%\r 20%\r" + (LINE + "run_start\r\n").encode())
    (event,) = read_log(path).events
    assert (event.key, event.source.number) == ("run_start", 3)


def test_lines_without_a_token_can_be_listed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("hello\n\n" + LINE + "run_start\n")
    (finding,) = other_lines(path)
    assert (finding.rule, finding.line_number) == ("parse/other", 1)


def test_empty_log_has_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    assert read_log(path).events == ()


VALID = "".join(lines(run())).encode()

HOSTILE: dict[str, Callable[[], bytes]] = {
    "a line of 10 MB": lambda: VALID + LINE.encode() + b"x" * 10_000_000 + b"\n",
    "a value of 10 MB": lambda: VALID + LINE.encode() + b'a: "' + b"x" * 10_000_000 + b'"\n',
    "no line end in 10 MB": lambda: b"x" * 10_000_000 + LINE.encode(),
    "10 MB of bytes": lambda: bytes(range(256)) * 40_000 + VALID,
    "10 MB of zeros": lambda: VALID + bytes(10_000_000),
    "a hundred thousand others": lambda: b"no tag\n" * 100_000 + VALID,
    "a hundred thousand empty lines": lambda: b"\n" * 100_000 + VALID,
    "more good lines than are read": lambda: (LINE + "input_order\n").encode() * 60_000,
    "more bad lines than are read": lambda: b":::MLPv0\n" * 70_000,
    "deep JSON": lambda: (LINE + "a: " + '{"a":' * 8_000 + "\n").encode() * 200,
    "wide JSON": lambda: (LINE + "a: [" + "[]," * 20_000 + "0]\n").encode() * 10,
    "another encoding": lambda: VALID.decode().encode("utf-16"),
    "CRLF": lambda: VALID.replace(b"\n", b"\r\n") * 50,
    "tokens only": lambda: b":::MLP" * 1_500_000,
    "nested prefixes": lambda: (":::MLP" * 10_000 + "\n").encode() * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_log_ends_in_findings_after_work_in_proportion_to_its_size(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(HOSTILE[name]())
    findings, calls = count_calls(lambda: check_file(path, ruleset("strict")))
    content = path.read_bytes()
    assert calls < 20_000 + 50 * content.count(b"\n") + len(content) / 2
    assert len(findings) < MAX_FINDINGS + 100
    assert all(len(str(finding)) < 2_000 for finding in findings)
    assert all("\x00" not in str(finding) for finding in findings)
    # What the log says of a run before or after the rubbish is still read.
    if name in ("a line of 10 MB", "10 MB of bytes", "a hundred thousand others"):
        assert not [f for f in findings if f.rule.startswith("level")]


def test_log_of_256_devices_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = lines(run())
    fillers = [LINE.replace("139", str(device)) + "input_order\n" for device in range(256)]
    # More lines and characters than 65,536 and 4 MiB.
    path.write_text("".join([*log[:20], *fillers * 260, *log[20:]]))
    read = list(read_lines(path))
    assert len(read) == len(log) + 256 * 260
    assert check(read, ruleset(2, checker="2018-11")) == []


def test_no_more_is_kept_than_a_run_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_text((LINE + "input_order\n") * 100)
    for limit, most in (("MAX_LINES", 60), ("MAX_LOG", 60 * len(LINE + "input_order\n"))):
        with monkeypatch.context() as patch:
            patch.setattr(parse, limit, most)
            log = read_log(path)
        assert (len(log.events), log.findings[-1].rule) == (60, "parse/size")
        assert log.findings[-1].line_number == 61


def test_containers_count_for_the_memory_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_text((LINE + "a: [" + "[]," * 1_000 + "0]\n") * 10)
    monkeypatch.setattr(parse, "MAX_LOG", 40_000)
    assert [f.rule for f in read_log(path).findings] == ["parse/size"]
    assert len(read_log(path).events) == 2


def test_gzip_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    for name in ("result_0.txt.gz", "result_0.txt"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(VALID))
        assert check_file(path, ruleset("strict")) == []
    plain = tmp_path / "plain.gz"
    plain.write_bytes(VALID)
    assert check_file(plain, ruleset("strict")) == []


def test_damaged_gzip_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    packed = gzip.compress(VALID)
    changed = packed[:60] + bytes(60) + packed[120:]
    for damaged in (packed[:-20], packed[:200], packed[:2], changed):
        path.write_bytes(damaged)
        assert "parse/gzip" in [finding.rule for finding in check_file(path, ruleset(1))]


def test_gzip_bomb_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(VALID + bytes(50_000_000)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(parse, "MAX_FILE", 5_000_000)
    tracemalloc.start()
    findings, calls = count_calls(lambda: check_file(path, ruleset(2)))
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [finding.rule for finding in findings] == ["parse/size"]
    assert calls < 40_000
    assert most_bytes < 20 * MAX_LINE


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(VALID),))
    writer.start()
    report = check_logs([path], level="strict")
    writer.join()
    assert (report.exit_code, report.files[0].findings) == (0, ())
    assert report.files[0].outcome is not None
    assert report.files[0].outcome.converged


def test_a_line_without_end_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 10_000_000 + LINE.encode())
    tracemalloc.start()
    read_log(path)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 10 * MAX_LINE


def test_overlong_line_is_one_finding_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * (MAX_LINE - 3) + LINE + "run_start" + "y" * 3 * MAX_LINE + "\nnext\n")
    (finding,) = read_log(path).findings
    assert (finding.rule, finding.line_number) == ("parse/length", 1)


def test_undecodable_bytes_are_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff\n\xff\n" + VALID)
    (finding,) = check_file(path, ruleset(2))
    assert (finding.rule, finding.line_number) == ("parse/encoding", 1)


def test_tag_with_a_value_per_epoch_and_without_compare_alike() -> None:
    per_epoch = Event(tags.EVAL_TARGET, {"epoch": 3, "value": 0.635})
    assert (per_epoch.scalar, per_epoch.epoch) == (0.635, 3)
    assert Event(tags.EVAL_TARGET, 0.635).scalar == 0.635
