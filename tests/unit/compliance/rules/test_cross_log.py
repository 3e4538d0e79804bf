"""A set of logs is many runs of one thing, one after another, each with its own seed."""

from __future__ import annotations

from pathlib import Path

from v05_log import START, Events, lines, many, run, valued, without

from trainbench.compliance.commands import check_logs
from trainbench.compliance.rules.cross_log import check_set
from trainbench.compliance.tags import ncf as tags


def found(*logs: Events) -> list[tuple[str, str]]:
    named = {f"result_{i}.txt": events for i, events in enumerate(logs)}
    return [(finding.rule, finding.found) for finding in check_set(named)]


def test_runs_one_after_another_are_clean() -> None:
    assert found(*many(5, converged=3)) == []


def test_repeated_seed_is_found() -> None:
    first, second = run(seed=7), run(seed=7, start=START + 1000)
    assert found(first, second) == [("set/seeds", "seed 7 in result_0.txt and result_1.txt")]


def test_missing_seed_is_found() -> None:
    assert found(without(tags.SEED)(run())) == [("set/seeds", "no seed in result_0.txt")]


def test_other_hyperparameters_are_found() -> None:
    other = valued(tags.OPT_LR, 0.001)(run(seed=2, start=START + 1000))
    assert found(run(seed=1), other) == [
        (
            "set/configuration",
            "opt_learning_rate 0.00281936 in result_0.txt, 0.001 in result_1.txt",
        )
    ]


def test_overlap_is_found_whatever_the_order_of_the_names() -> None:
    late, early = run(seed=1, start=START + 100), run(seed=2)
    (overlap,) = found(late, early)
    assert overlap[0] == "set/overlap"
    assert overlap[1].startswith("result_1.txt and result_0.txt overlap by ")


def test_run_inside_a_longer_one_and_one_after_it_are_told_apart() -> None:
    long = run(seed=1, epoch_s=1000)
    inside, inside_too = run(seed=2, start=START + 500), run(seed=3, start=START + 900)
    after = run(seed=4, start=START + 50_000)
    assert [rule for rule, _ in found(long, inside, inside_too, after)] == ["set/overlap"] * 2


def test_the_same_log_twice_is_found() -> None:
    rules = [rule for rule, _ in found(run(), run())]
    assert rules == ["set/same-log", "set/seeds", "set/overlap"]


def test_runs_that_did_not_end_have_no_interval() -> None:
    assert found(run(seed=1)[:40], run(seed=2)) == []


def test_check_of_several_logs_at_level_strict_looks_at_the_set(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("".join(lines(run())))
    report = check_logs(paths, level="strict")
    assert report.exit_code == 1
    assert "set of 2 logs: set/seeds" in report.to_text()
    assert check_logs(paths, level="2").exit_code == 0


def test_check_tells_its_verdict_and_exit_code(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("".join(lines(run())))
    bad.write_text("".join(lines(without(tags.RUN_CLEAR_CACHES)(run()))))
    clean = check_logs([good], level="2", checker="2018-11")
    assert clean.exit_code == 0
    assert clean.to_text() == (
        f"{good}: compliant (level 2, checker 2018-11); 154.10 s, best 0.635923837, target 0.635, "
        "converged\n"
    )
    assert check_logs([bad], level="2").exit_code == 1
    unreadable = check_logs([good, tmp_path / "absent"], level="2")
    assert unreadable.exit_code == 2
    assert "cannot be read" in unreadable.to_text()
    assert unreadable.to_json() == check_logs([good, tmp_path / "absent"], level="2").to_json()
