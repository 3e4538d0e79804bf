"""Which logs are one result, and what it is called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from v05_log import Events, lines, many, run, valued, write_results

from trainbench.compliance.score import score
from trainbench.compliance.tags import ncf as tags
from trainbench.reporting.arrivals.review import collect
from trainbench.reporting.arrivals.sets import LogSet, number_of


def put(path: Path, events: Events) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines(events)))


def sets(*paths: Path) -> dict[str, LogSet]:
    return {found.name: found for found in collect(paths).sets}


@pytest.mark.parametrize(
    ("file", "number"),
    [
        ("result_0.txt", 0),
        ("a/result_12.txt.gz", 12),
        ("intel_result_3.txt", 3),
        ("run7.log", 7),
        ("7.txt", 7),
        ("m00031.txt", 31),
        ("slurm-4711.out", 4711),
        ("dgx1.txt", None),
        ("reference_example.log", None),
        ("deadbeef.log", None),
    ],
)
def test_the_number_of_a_run_is_at_the_end_of_its_name(file: str, number: int | None) -> None:
    assert number_of(file) == number


def test_a_submission_has_a_set_per_system_named_by_it(tmp_path: Path) -> None:
    for start, (org, system) in enumerate((("a", "x"), ("a", "y"), ("b", "x"))):
        for index in range(2):
            events = run(seed=10 * start + index, start=1.5e9 + 1e5 * start + 1e3 * index)
            put(tmp_path / org / "results" / system / "ncf" / f"result_{index}.txt", events)
    found = sets(tmp_path)
    assert sorted(found) == ["a/x", "b/x", "y"]
    assert [len(one.logs) for one in found.values()] == [2, 2, 2]


def test_the_statistic_of_a_whole_set_is_that_of_score(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "dgx", many(100, converged=70))
    (found,) = sets(folder).values()
    wanted = score(folder)
    assert found.results.score is not None
    assert found.results.score.official
    assert found.results.score.mean_s == wanted.mean_s
    assert found.results.score.counted == wanted.counted


def test_prefixes_keep_the_results_of_one_folder_apart(tmp_path: Path) -> None:
    names = ("intel_result_0", "intel_result_1", "dgx2-run-0", "dgx2h-run-0", "other")
    # Of two equal logs one would be left out.
    for seed, name in enumerate(names):
        put(tmp_path / "flat" / f"{name}.txt", run(seed=seed))
    found = sets(tmp_path / "flat")
    assert sorted(found) == ["dgx2", "dgx2h", "intel", "other"]
    assert len(found["intel"].logs) == 2


def test_names_without_meaning_are_one_set_where_they_are_set_alike(tmp_path: Path) -> None:
    names = ("0a1b2c3d-4e5f", "deadbeef-0001", "2018-11-09T02-50-49", "12345678")
    for seed, name in enumerate(names):
        put(tmp_path / "dgx" / f"{name}.log", run(seed=seed, start=1.5e9 + 1e4 * seed))
    put(tmp_path / "dgx" / "cafe0123.log", valued(tags.OPT_LR, 0.1)(run(seed=9)))
    found = collect([tmp_path / "dgx"]).sets
    assert sorted(len(one.logs) for one in found) in ([1, 4], [1, 1, 3])


def test_benchmarks_in_one_folder_are_sets_of_their_own(tmp_path: Path) -> None:
    for index, benchmark in enumerate(("ncf", "resnet", "gnmt", "something")):
        events = [replace(event, benchmark=benchmark) for event in run(seed=index)]
        put(tmp_path / "logs" / f"result_{index}.txt", events)
    found = collect([tmp_path / "logs"]).sets
    assert sorted(one.benchmark for one in found) == ["gnmt", "ncf", "resnet", "something"]
    assert all(len(one.logs) == 1 for one in found)


def test_names_that_stay_equal_get_a_number(tmp_path: Path) -> None:
    put(tmp_path / "results" / "result_0.txt", run(seed=1))
    put(tmp_path / "logs" / "results" / "result_0.txt", run(seed=2))
    found = collect([tmp_path / "results", tmp_path / "logs" / "results"]).sets
    assert len({one.name for one in found}) == 2


def test_numbers_that_occur_twice_do_not_lose_a_run(tmp_path: Path) -> None:
    put(tmp_path / "dgx" / "result_0.txt", run(seed=1))
    put(tmp_path / "dgx" / "result_0.log", run(seed=2, start=1.6e9))
    (found,) = sets(tmp_path / "dgx").values()
    assert [trial.index for trial in found.results.trials] == [0, 1]
    assert len(found.logs) == 2
