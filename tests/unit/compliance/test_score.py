"""The v0.5 statistic: of NCF the first 50 of 100, without the fastest and the slowest."""

from __future__ import annotations

import gzip
import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from call_counts import count_calls
from v05_log import FAILED, START, Events, inserted, many, run, valued, without, write_results

from trainbench.compliance.check import check_file
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.outcome import outcome
from trainbench.compliance.reading import CHECKERS
from trainbench.compliance.rules.levels import _BENCHMARK_TAGS, ruleset
from trainbench.compliance.score import LEGACY_REFERENCE, score
from trainbench.compliance.score_text import to_json, to_text
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


def test_gaps_are_found_from_the_numbers_that_are_there(tmp_path: Path) -> None:
    write_results(tmp_path, many(6, converged=6))
    for index in (0, 3, 4):
        (tmp_path / f"result_{index}.txt").unlink()
    (tmp_path / "result_2.txt").rename(tmp_path / "result_99999999999.txt")
    result = score(tmp_path)
    assert "no log for runs 0, 2 to 4, 6 to 99999999998" in result.notes
    assert len(result.runs) == 3


def reasons(folder: Path, logs: list[Events]) -> dict[str, str]:
    return {run.file: run.reason for run in score(write_results(folder, logs)).runs}


def test_each_log_says_why_it_does_not_count(tmp_path: Path) -> None:
    plain = run()
    twice = inserted(tags.RUN_START, None, after=tags.TRAIN_LOOP)(plain)
    logs = [
        plain,
        run(hits=FAILED),
        twice,
        without(tags.RUN_STOP)(plain),
        without(tags.EVAL_TARGET)(plain),
        valued(tags.EVAL_TARGET, 0.1, which=slice(1))(plain),
        valued(tags.EVAL_ACCURACY, "high")(plain),
        without(tags.RUN_START)(run(hits=FAILED)),
    ]
    assert reasons(tmp_path, logs) == {
        "result_0.txt": "",
        "result_1.txt": f"{87_943 / 138_493} of 0.635",
        "result_2.txt": "no single run_start (2 found)",
        "result_3.txt": "no single run_stop (0 found)",
        "result_4.txt": "no single eval_target (none found)",
        "result_5.txt": "no single eval_target (0.1, 0.635)",
        "result_6.txt": "no eval_accuracy with a number",
        "result_7.txt": f"no single run_start (0 found); {87_943 / 138_493} of 0.635",
    }
    text = to_text(score(tmp_path))
    assert f"result_1.txt: not counted: {87_943 / 138_493} of 0.635\n" in text


def test_a_quality_just_below_its_target_is_shown_with_all_digits(tmp_path: Path) -> None:
    last = valued(tags.EVAL_ACCURACY, {"epoch": 0, "value": 21.799999})(run())
    events = valued(tags.EVAL_TARGET, 21.8)(last)
    gnmt = [[replace(event, benchmark="gnmt") for event in events]]
    assert reasons(tmp_path, gnmt) == {"result_0.txt": "21.799999 of 21.8"}


def test_a_file_without_a_readable_line_is_no_log_of_ncf(tmp_path: Path) -> None:
    (tmp_path / "result_0.txt").write_text("epoch 3: loss 0.2\n")
    with pytest.raises(DataIntegrityError, match=r"none of 1 log .* no compliance line"):
        score(tmp_path)
    (tmp_path / "result_1.txt").write_text(":::MLPv0.5 ncf 12 run_start\n")
    assert reasons(tmp_path / "more", [run()]) == {"result_0.txt": ""}
    (tmp_path / "result_2.txt").write_text((tmp_path / "more" / "result_0.txt").read_text())
    found = {each.file: each.reason for each in score(tmp_path).runs}
    assert found == {
        "result_0.txt": "no compliance line",
        "result_1.txt": "unreadable dialect: ':::MLPv0.5 ncf 12 run_start'",
        "result_2.txt": "",
    }


def test_a_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    write_results(tmp_path, [run()])
    (tmp_path / "result_1.txt").write_bytes(b"\xff\xfe\n" * 3)
    last = score(tmp_path).runs[-1]
    assert (last.index, last.reason) == (1, "no compliance line (bytes that are not UTF-8)")


def test_lines_behind_a_prefix_are_read_as_the_later_checker_does(tmp_path: Path) -> None:
    """The v0.5 submission tool comes with the earlier one, to which there is nothing in the log."""
    write_results(tmp_path, many(1, converged=1))
    log = tmp_path / "result_0.txt"
    log.write_text("".join(f"[1,0]<stdout>:{line}\n" for line in log.read_text().splitlines()))
    with pytest.raises(
        DataIntegrityError, match=r"with :::MLP; trainbench score --checker 2019-04"
    ):
        score(tmp_path)
    assert score(tmp_path, checker="2019-04").converged == 1


def test_a_number_with_leading_zeros_is_no_run(tmp_path: Path) -> None:
    write_results(tmp_path, many(2, converged=2))
    (tmp_path / "result_01.txt").write_text("another file\n")
    assert [run.file for run in score(tmp_path).runs] == ["result_0.txt", "result_1.txt"]


def test_minigo_stops_the_result_verifier(tmp_path: Path) -> None:
    logs = [[replace(event, benchmark="minigo") for event in log] for log in many(20, converged=20)]
    result = score(write_results(tmp_path, logs))
    assert result.official
    assert "v0.5 result verifier: no time (its checker has no list of minigo" in to_text(result)


def test_runs_after_the_last_one_that_counts_say_so(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, many(100, converged=80)))
    after = [run.index for run in result.runs if run.reason.startswith("after the first 50")]
    assert len(after) == 30
    assert not set(after) & set(result.counted)
    assert "and 10 more: not counted: after the first 50 that converged" in to_text(result)


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_dgx2_logs_of_resnet_have_the_time_that_the_verifier_gives(
    checker: str, shared_dir: Path, tmp_path: Path
) -> None:
    """Every line stands there twice, once behind the name of a logger."""
    logs = list((shared_dir / "fixtures" / "v05_logs" / "dgx2_resnet").glob("result_*.txt.gz"))
    if len(logs) != 5:
        pytest.skip("the logs are not there")
    result = score(logs[0].parent, checker=checker)
    assert result.official
    assert result.mean_s == pytest.approx(4436.38, abs=0.005)
    assert result.verifier is not None
    assert result.verifier.time_s == pytest.approx(result.mean_s)


def of_gnmt(converged: int) -> list[Events]:
    return [[replace(e, benchmark="gnmt") for e in log] for log in many(10, converged=converged)]


def test_the_result_verifier_counts_infinite_times(tmp_path: Path) -> None:
    """Two of ten did not converge: one is dropped as the slowest, the other goes into the mean."""
    logs = of_gnmt(8)
    hp = _BENCHMARK_TAGS["gnmt"].split()
    logs = [
        [*log[:-2], *(replace(log[-3], key=key, value=None) for key in hp), *log[-2:]]
        for log in logs
    ]
    result = score(write_results(tmp_path, logs))
    assert result.verifier is not None
    kept = [*sorted(times(logs))[1:], 9_999_999_999.99]
    assert (result.verifier.time_s, result.verifier.division) == (
        pytest.approx(statistics.fmean(kept)),
        "closed",
    )
    assert "v0.5 result verifier: 1,250,000," in to_text(result)
    assert "1 run that did not converge with 9,999,999,999.99 s each" in to_text(result)


@pytest.mark.parametrize(
    ("logs", "reason"),
    [
        (many(99, converged=60), "result_99.txt is not there"),
        (many(100, converged=49), "fewer than 50 runs converged"),
        (
            [*many(99, converged=60), without(tags.RUN_FINAL)(run(start=START + 10**6))],
            "result_99.txt passes level 0, which no division takes",
        ),
        (
            [*many(99, converged=60), without(tags.EVAL_SIZE)(run(start=START + 10**6))],
            "result_99.txt passes level 1, which is not that of the others",
        ),
    ],
)
def test_the_result_verifier_prints_no_time_for_a_reason(
    logs: list[Events], reason: str, tmp_path: Path
) -> None:
    found = score(write_results(tmp_path, logs)).verifier
    assert found is not None
    assert (found.time_s, found.reason) == (None, reason)


def test_the_result_verifier_agrees_on_a_whole_set(tmp_path: Path) -> None:
    result = score(write_results(tmp_path, many(101, converged=80)))
    assert not result.official
    assert result.verifier is not None
    (tmp_path / "result_100.txt").unlink()
    assert result.verifier.time_s == pytest.approx(score(tmp_path).mean_s)
    assert json.loads(to_json(result))["verifier"]["time_s"] == result.verifier.time_s


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


def test_a_damaged_gzip_is_named_and_does_not_count(tmp_path: Path) -> None:
    """Cut short, with a flipped bit, with a wrong sum at the end though every line is there."""
    write_results(tmp_path, many(4, converged=4))
    whole = score(tmp_path)
    packed = {i: gzip.compress((tmp_path / f"result_{i}.txt").read_bytes()) for i in range(3)}
    packed[0] = packed[0][:-40]
    packed[1] = packed[1][:60] + bytes([packed[1][60] ^ 4]) + packed[1][61:]
    packed[2] = packed[2][:-8] + b"\0" * 4 + packed[2][-4:]
    for i, content in packed.items():
        (tmp_path / f"result_{i}.txt").unlink()
        (tmp_path / f"result_{i}.txt.gz").write_bytes(content)
    result = score(tmp_path)
    assert whole.counted == (0, 1, 2, 3)
    assert result.counted == (3,)
    reasons = {run.index: run.reason for run in result.runs}
    for i in packed:
        assert reasons[i].startswith("damaged gzip (")
    text = to_text(result)
    assert "not counted: damaged gzip (" in text
    assert "result_2.txt.gz" in text
    (tmp_path / "result_3.txt").unlink()
    for i in (1, 2):
        (tmp_path / f"result_{i}.txt.gz").unlink()
    (tmp_path / "result_0.txt.gz").write_bytes(packed[0][:12])
    with pytest.raises(DataIntegrityError, match=r"result_0.txt.gz: damaged gzip \("):
        score(tmp_path)
