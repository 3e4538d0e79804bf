"""The v0.5 statistic: of NCF the first 50 of 100, without the fastest and the slowest."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from call_counts import count_calls
from v05_log import FAILED, Events, many, run, valued, write_results

from trainbench.compliance.check import check_file
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.outcome import outcome
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.score import LEGACY_REFERENCE, score, to_json, to_text
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError, DataIntegrityError


def times(logs: list[Events]) -> list[float]:
    """The times of the runs that converged, in the order of the logs."""
    found = [outcome(events) for events in logs]
    return [run.time_s for run in found if run.converged and run.time_s is not None]


def test_score_is_the_mean_of_48(tmp_path: Path) -> None:
    logs = many(100, converged=80)
    result = score(write_results(tmp_path, logs))
    counted = sorted(times(logs)[:50])
    assert result.official
    assert result.mean_s == pytest.approx(statistics.fmean(counted[1:-1]), rel=1e-12)
    assert result.standard_deviation_s == pytest.approx(statistics.stdev(counted[1:-1]))
    assert (result.shortest_s, result.longest_s) == (counted[0], counted[-1])
    assert result.convergence_rate == 0.8
    assert len(result.counted) == 50
    assert len(result.dropped) == 2
    assert set(result.dropped) <= set(result.counted)


def test_first_is_by_run_start_or_by_index(tmp_path: Path) -> None:
    logs = many(100, converged=80)
    backwards = score(write_results(tmp_path, logs[::-1]))
    by_index = score(tmp_path, order="index")
    assert backwards.mean_s == pytest.approx(statistics.fmean(sorted(times(logs)[:50])[1:-1]))
    assert by_index.mean_s == pytest.approx(statistics.fmean(sorted(times(logs[::-1])[:50])[1:-1]))
    assert backwards.counted[0] > by_index.counted[0]


def test_bootstrap_interval_holds_the_score_and_is_the_same_twice(tmp_path: Path) -> None:
    write_results(tmp_path, many(100, converged=55))
    first, second = score(tmp_path), score(tmp_path)
    assert first == second
    assert first.interval is not None
    assert first.mean_s is not None
    assert first.interval.low < first.mean_s < first.interval.high
    assert 0.7 < first.interval.complete < 0.95  # 55 of 100: 0.87 by a bootstrap of Intel's logs


@pytest.mark.parametrize(("runs", "converged"), [(100, 49), (99, 60), (101, 60), (3, 2), (1, 1)])
def test_fewer_runs_are_described_honestly(runs: int, converged: int, tmp_path: Path) -> None:
    logs = many(runs, converged=converged)
    result = score(write_results(tmp_path, logs))
    assert not result.official
    assert result.dropped == ()
    assert result.mean_s == pytest.approx(statistics.fmean(times(logs)))
    text = to_text(result)
    said = (
        "1 log and 1 converged run" if runs == 1 else f"{runs} logs and {converged} converged runs"
    )
    assert f"NOTE not the v0.5 statistic: {said}, wanted 100 and 50" in text
    assert "v0.5 statistic:" not in text.replace("not the v0.5 statistic:", "")


def of_resnet(logs: list[Events]) -> list[Events]:
    return [[replace(event, benchmark="resnet") for event in events] for events in logs]


def test_score_of_resnet_is_the_mean_of_three_of_five(tmp_path: Path) -> None:
    logs = of_resnet(many(5, converged=5))
    result = score(write_results(tmp_path, logs))
    assert (result.benchmark, result.official) == ("resnet", True)
    assert result.mean_s == pytest.approx(statistics.fmean(sorted(times(logs))[1:-1]))
    assert "5 hits in 100 % of the samples" in to_text(result)
    assert "evaluations to target: " in to_text(result)
    text = "".join(f"{line}\n" for line in format_lines(logs[0]))
    (tmp_path / "result_0.txt").write_text(text)
    assert score(tmp_path).mean_s == pytest.approx(result.mean_s, abs=0.002)


@pytest.mark.parametrize(("runs", "converged"), [(5, 4), (4, 4), (6, 6)])
def test_all_five_runs_of_resnet_have_to_converge(
    runs: int, converged: int, tmp_path: Path
) -> None:
    result = score(write_results(tmp_path, of_resnet(many(runs, converged=converged))))
    assert not result.official
    said = f"{runs} logs and {converged} converged runs, wanted 5 and 5"
    assert f"NOTE not the v0.5 statistic: {said}" in to_text(result)


def test_logs_of_two_benchmarks_have_no_statistic(tmp_path: Path) -> None:
    first, second = many(2, converged=2)
    with pytest.raises(DataIntegrityError, match="logs of ncf, resnet; wanted logs of one of"):
        score(write_results(tmp_path, [first, *of_resnet([second])]))


def test_a_reference_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, of_resnet(many(5, converged=5))))
    with pytest.raises(ConfigError, match="logs of resnet, which a time of ncf says nothing"):
        to_text(result, reference=LEGACY_REFERENCE)


def test_no_converged_run_has_no_time(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, [run(hits=FAILED)]))
    assert (result.mean_s, result.interval, result.converged) == (None, None, 0)
    assert "no run converged" in to_text(result, reference=LEGACY_REFERENCE)
    json.loads(to_json(result, reference=LEGACY_REFERENCE))


def test_convergence_is_judged_by_the_logs_own_numbers(tmp_path: Path) -> None:
    boast = valued(tags.RUN_STOP, {"success": True})(run(hits=FAILED))
    two_targets = valued(tags.EVAL_TARGET, 0.1, which=slice(1))(run(start=1_541_700_000))
    result = score(write_results(tmp_path, [boast, two_targets]))
    assert result.converged == 0
    assert "run_stop contradicts eval_accuracy in runs 0, 1" in to_text(result)


def test_denominator_is_named(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, many(5, converged=5)))
    assert "2803" not in to_text(result)
    assert "comparison" not in json.loads(to_json(result))
    text = to_text(result, reference=LEGACY_REFERENCE)
    assert "2803 s / " in text
    assert "legacy v0.5 reference result of May 2018" in text
    compared = json.loads(to_json(result, reference=LEGACY_REFERENCE))["comparison"]
    assert compared["denominator"]["time_s"] == 2803.0
    assert compared["reference_over_result"] == pytest.approx(2803.0 / (result.mean_s or 0))


def test_gaps_in_the_numbers_are_told(tmp_path: Path) -> None:
    write_results(tmp_path, many(4, converged=4))
    (tmp_path / "result_1.txt").unlink()
    assert "no log for runs 1" in to_text(score(tmp_path))


def test_every_statement_is_unverified(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, many(2, converged=2)))
    assert "Unverified: result not verified by MLPerf." in to_text(result)
    assert json.loads(to_json(result))["statement"].startswith("Unverified")


def test_modern_dialect_scores_the_same(tmp_path: Path) -> None:
    logs = many(4, converged=3)
    before = score(write_results(tmp_path, logs)).mean_s
    for index, events in enumerate(logs):
        text = "".join(f"{line}\n" for line in format_lines(events))
        (tmp_path / f"result_{index}.txt").write_text(text)
    assert score(tmp_path).mean_s == pytest.approx(before, abs=0.002)


def test_empty_folder_and_unknown_order_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"no result_<i>\.txt"):
        score(tmp_path)
    with pytest.raises(ConfigError, match="unknown order"):
        score(tmp_path, order="luck")


def test_the_work_of_checking_and_scoring_grows_with_the_number_of_logs_only(
    tmp_path: Path,
) -> None:
    def calls(count: int) -> int:
        folder = write_results(tmp_path / f"{count}", many(count, converged=count))

        def check_and_score() -> None:
            assert all(check_file(path, ruleset("strict")) == [] for path in folder.iterdir())
            score(folder)

        return count_calls(check_and_score)[1]

    assert calls(40) < 4.2 * calls(10)


def test_a_caller_who_knows_the_benchmark_need_not_find_it_in_the_logs(tmp_path: Path) -> None:
    """A report is made of damaged logs too."""
    damaged = [replace(event, benchmark="nfc") for event in many(1, converged=1)[0]]
    write_results(tmp_path, [*many(1, converged=1), damaged])
    with pytest.raises(DataIntegrityError, match="logs of ncf, nfc"):
        score(tmp_path)
    assert score(tmp_path, benchmark="ncf").converged == 2
