"""Logs of MLPerf 0.6 and later are scored by ``mlperf_logging``, each by the rules of its round."""

from __future__ import annotations

import gzip
import json
import logging
import sys
from pathlib import Path

import pytest
from later_logs import BETWEEN_ROUNDS_0_7_AND_1_0 as THEN
from later_logs import bert, ssd, write_logs
from v05_log import lines as v05_lines
from v05_log import run

from trainbench.compliance.dialects import mllog
from trainbench.compliance.dialects.later_rounds import PUBLISHED, LaterLog, rules_of
from trainbench.compliance.score import score
from trainbench.compliance.score_text import to_json, to_text
from trainbench.errors import ConfigError, DataIntegrityError, MachineError

summarizer = pytest.importorskip("mlperf_logging.result_summarizer.result_summarizer")


def test_the_score_is_that_of_its_summarizer(tmp_path: Path) -> None:
    """Without the fastest and the slowest; a run that missed the target is one of the slowest."""
    logs = [bert(THEN + 1e4 * i, 100.0 + i**2, 0.5 if i == 3 else 0.7205) for i in range(10)]
    result = score(write_logs(tmp_path, logs))
    minutes, *_ = summarizer._compute_strong_score_standalone(
        "bert", "", False, str(tmp_path), "training", "1.0.0"
    )
    assert result.mean_s == pytest.approx(60 * minutes)
    assert (result.rules, result.benchmark, result.official) == ("1.0.0", "bert", True)
    assert (result.converged, result.dropped) == (9, (0,))
    kept = [100.0 + i**2 for i in range(1, 10) if i != 3]
    assert result.mean_s == pytest.approx(sum(kept) / len(kept))
    (left_out,) = (each for each in result.runs if each.reason)
    assert left_out.index == 3
    assert "eval_accuracy" in left_out.reason
    assert "0.720" in left_out.reason
    text = to_text(result)
    assert "NOTE scored by mlperf_logging" in text
    assert f"1.0.0 score: {result.mean_s:.2f} s = {minutes:.3f} min, mean of 8 runs" in text
    assert "v0.5" not in text
    json.loads(to_json(result))


def test_two_runs_that_do_not_count_leave_no_score(tmp_path: Path) -> None:
    logs = [bert(THEN + 1e4 * i, 100.0, 0.5 if i in (3, 4) else 0.7205) for i in range(10)]
    result = score(write_logs(tmp_path, logs))
    assert (result.mean_s, result.official, result.converged) == (None, False, 8)
    assert "NOTE no score: too few runs count" in to_text(result)


def test_times_of_0_6_are_seconds(tmp_path: Path) -> None:
    result = score(write_logs(tmp_path, [ssd(1.56e9 + 1e4 * i, 1_000.0 + i) for i in range(5)]))
    assert (result.rules, result.mean_s) == ("0.6.0", pytest.approx(1_002.0))
    assert (result.counted, result.dropped) == ((0, 1, 2, 3, 4), (0, 4))


def test_too_few_logs_and_a_factor_are_told(tmp_path: Path) -> None:
    write_logs(tmp_path, [bert(THEN + 1e4 * i, 100.0) for i in range(4)])
    before = score(tmp_path)
    assert not before.official
    assert "not a whole result: 4 logs, wanted 10" in before.notes
    (tmp_path / "scaling.json").write_text('{"scaling_factor": 1.5}')
    after = score(tmp_path)
    assert after.mean_s == pytest.approx(1.5 * (before.mean_s or 0))
    assert "multiplied by 1.5 of scaling.json" in after.notes


def test_packed_logs_are_scored_as_plain_ones(tmp_path: Path) -> None:
    write_logs(tmp_path, [bert(THEN + 1e4 * i, 100.0 + i) for i in range(4)])
    before = score(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    after = score(tmp_path)
    assert (after.mean_s, after.converged) == (before.mean_s, 4)
    assert after.runs[0].file == "result_0.txt.gz"


def test_damaged_logs_are_left_out_with_what_its_checker_says(tmp_path: Path) -> None:
    good = bert(THEN, 100.0)
    logs = [
        good,
        [line for line in good if "run_stop" not in line],
        [line for line in good if "submission_benchmark" not in line],
        [":::MLLOG {"],
        [],
    ]
    result = score(write_logs(tmp_path, logs))
    found = [each.reason.split(" (and")[0] for each in result.runs]
    by_file = dict(zip([each.file for each in result.runs], found, strict=True))
    assert by_file == {
        "result_0.txt": "",
        "result_1.txt": "Required EXACTLY_ONE occurrence of 'run_stop' but found 0",
        "result_2.txt": "Required EXACTLY_ONE occurrence of 'submission_benchmark' but found 0",
        "result_3.txt": "Log lines had parsing errors.",
        "result_4.txt": "No log lines detected",
    }


def test_where_its_checker_ends_with_an_error_there_is_no_score(tmp_path: Path) -> None:
    good = bert(THEN, 100.0)
    bad = [line.replace('"metadata"', '"meta"') for line in good]
    result = score(write_logs(tmp_path, [good, bad]))
    assert result.mean_s is None
    assert "no score: its summarizer ends with KeyError: 'metadata'" in result.notes
    assert result.runs[1].reason == "the checker ends with KeyError: 'metadata'"
    # What it left behind does not touch the next folder.
    assert score(write_logs(tmp_path / "next", [good] * 3)).converged == 3


def test_a_token_of_v0_5_with_a_later_version_is_not_scored_by_our_rules(tmp_path: Path) -> None:
    lines = [line.replace("MLPv0.5.0", "MLPv0.6.0").strip() for line in v05_lines(run())]
    result = score(write_logs(tmp_path, [lines]))
    assert (result.rules, result.mean_s) == ("0.6.0", None)
    assert result.runs[0].reason.startswith("No log lines detected")


def test_rounds_are_not_mixed(tmp_path: Path) -> None:
    old = [line.strip() for line in v05_lines(run())]
    with pytest.raises(DataIntegrityError, match=r"a log of v0\.5 and others are of later rounds"):
        score(write_logs(tmp_path, [bert(THEN, 100.0), old]))
    two = [bert(THEN, 100.0), ssd(THEN, 100.0)]
    with pytest.raises(DataIntegrityError, match="logs of bert, ssd"):
        score(write_logs(tmp_path, two))


def test_our_own_ncf_logs_in_the_later_dialect_have_the_statistic_of_v0_5(tmp_path: Path) -> None:
    result = score(write_logs(tmp_path, [mllog.format_lines(run())]))
    assert (result.rules, result.benchmark, result.converged) == ("v0.5", "ncf", 1)


@pytest.mark.parametrize(
    ("start", "benchmark", "rules"),
    [
        (PUBLISHED["0.7.0"] - 30 * 86_400, "bert", "0.7.0"),
        (PUBLISHED["0.7.0"] + 1, "bert", "1.0.0"),
        (PUBLISHED["4.0.0"] - 1, "gpt3", "4.0.0"),
        (PUBLISHED["5.1.0"] + 10**9, "resnet", "4.0.0"),
        (PUBLISHED["0.6.0"] - 1, "ssd", "0.7.0"),
        (None, "ssd", "0.7.0"),
    ],
)
def test_the_rules_are_those_of_the_round_that_the_runs_were_for(
    start: float | None, benchmark: str, rules: str
) -> None:
    assert rules_of([LaterLog(benchmark, start, None)], benchmark) == rules


def test_other_rules_may_be_asked_for(tmp_path: Path) -> None:
    write_logs(tmp_path, [bert(THEN + 1e4 * i, 100.0) for i in range(3)])
    assert score(tmp_path, rules="2.0.0").rules == "2.0.0"
    with pytest.raises(ConfigError, match=r"unknown rules '9\.9\.9' \(known: 0\.6\.0, "):
        score(tmp_path, rules="9.9.9")
    write_logs(tmp_path, [[line.strip() for line in v05_lines(run())]] * 3)
    with pytest.raises(ConfigError, match="no logs of a later round"):
        score(tmp_path, rules="2.0.0")


def test_a_benchmark_that_no_round_has_is_named(tmp_path: Path) -> None:
    lines = [line.replace('"bert"', '"chess"') for line in bert(THEN, 100.0)]
    with pytest.raises(DataIntegrityError, match="logs of chess, which no round"):
        score(write_logs(tmp_path, [lines]))


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_logging.compliance_checker.mlp_compliance", None)
    with pytest.raises(MachineError, match=r"pip install 'trainbench-ncf\[mllog\]'") as told:
        score(write_logs(tmp_path, [bert(THEN, 100.0)]))
    assert told.value.exit_code == 6


def test_nothing_is_printed_and_logging_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = list(logging.getLogger().handlers)
    score(write_logs(tmp_path, [bert(THEN, 100.0, 0.5)] * 3))
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == 0
