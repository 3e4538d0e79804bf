"""What is known of public v0.5 logs holds: their times, their findings, their outcomes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trainbench.compliance.check import check, check_file
from trainbench.compliance.commands import check_logs
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.outcome import outcome
from trainbench.compliance.parse import parse_line, read_lines
from trainbench.compliance.reading import CHECKERS, read_file
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.score import score

Fixture = Callable[[str], Path]

both_checkers = pytest.mark.parametrize("checker", CHECKERS)


@pytest.fixture
def public_log(shared_dir: Path, tmp_path: Path) -> Fixture:
    """The path of a public log by its name."""

    def path(name: str) -> Path:
        found = shared_dir / "fixtures" / "v05_logs" / name
        if not found.is_file():
            pytest.skip(f"{name} is not in {found.parent}")
        if found.suffix != ".gz":
            return found
        unpacked = tmp_path / found.stem
        unpacked.write_bytes(gzip.decompress(found.read_bytes()))
        return unpacked

    return path


def rules_broken(path: Path, level: str, checker: str) -> list[str]:
    return [finding.rule for finding in check_file(path, ruleset(level, checker=checker))]


@both_checkers
@pytest.mark.parametrize(
    ("name", "time_s", "best", "converged"),
    [
        ("intel_result_1.txt", 2631.2, 0.63674, True),
        ("intel_result_0.txt", 4314.7, 0.63275, False),
        ("tf_result_2.txt", 210.39, 0.64175, True),
        ("tf_result_7.txt", 409.28, 0.63496, False),
        ("tf_resnet_v100x8_result_0.txt.gz", 8279.09, 0.74994, True),
    ],
)
def test_log_passes_both_levels(
    name: str, time_s: float, best: float, converged: bool, checker: str, public_log: Fixture
) -> None:
    path = public_log(name)
    assert rules_broken(path, "1", checker) == []
    assert rules_broken(path, "2", checker) == []
    told = outcome(read_file(path, checker).told)
    assert told.time_s == pytest.approx(time_s, abs=0.05)
    assert told.best == pytest.approx(best, abs=1e-5)
    assert told.converged == converged
    assert told.success == converged


@both_checkers
@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("dgx2_resnet/result_0.txt.gz", []),
        ("nvidia_dgx2_gnmt_result_0.txt.gz", []),
        ("nvidia_transformer_result_0.txt.gz", ["level2/at-least-one/eval_size"]),
    ],
)
def test_packed_logs_of_other_benchmarks(
    name: str, broken: list[str], checker: str, shared_dir: Path
) -> None:
    path = shared_dir / "fixtures" / "v05_logs" / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {path.parent}")
    assert rules_broken(path, "1", checker) == []
    assert rules_broken(path, "2", checker) == broken


def test_quality_just_below_the_target_is_shown_as_such(shared_dir: Path) -> None:
    path = shared_dir / "fixtures" / "v05_logs" / "nvidia_dgx2_gnmt_result_0.txt.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    text = check_logs([path], level="2").to_text()
    assert text.endswith("441.62 s, best 21.7999992, target 21.8, not converged\n")


def test_lines_that_a_logger_repeats_count_once(shared_dir: Path) -> None:
    """NVIDIA's ResNet logs hold every line a second time, behind the name of a logger."""
    folder = shared_dir / "fixtures" / "v05_logs" / "dgx2_resnet"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    for checker in CHECKERS:
        result = score(folder, checker=checker)
        assert (result.official, result.converged) == (True, 5)
        assert result.mean_s == pytest.approx(4436.38, abs=0.005)


@both_checkers
def test_nvidia_log_lacks_one_tag(checker: str, public_log: Fixture) -> None:
    path = public_log("nvidia_dgx1_result_0.txt")
    assert rules_broken(path, "1", checker) == []
    assert rules_broken(path, "2", checker) == ["level2/at-least-one/preproc_hp_min_ratings"]
    told = outcome(read_file(path, checker).told)
    assert (told.time_s, told.converged) == (pytest.approx(26.5168, abs=1e-4), True)


def test_reference_example_divides_the_checkers(public_log: Fixture) -> None:
    path = public_log("reference_example.log")
    assert rules_broken(path, "1", "2018-11") == []
    assert rules_broken(path, "1", "2019-04") == ["level1/pair/run_stop/run_final"]
    missing = ["level2/at-least-one/run_clear_caches", "level2/at-least-one/opt_learning_rate"]
    assert rules_broken(path, "2", "2018-11") == missing
    assert rules_broken(path, "2", "2019-04") == ["level1/pair/run_stop/run_final", *missing]
    assert outcome(read_file(path).told).time_s == 5081.0


def test_strict_finds_what_reviewers_found_in_the_public_logs(public_log: Fixture) -> None:
    intel = rules_broken(public_log("intel_result_1.txt"), "strict", "2019-04")
    assert "strict/order/caches" in intel
    nvidia = rules_broken(public_log("nvidia_dgx1_result_0.txt"), "strict", "2019-04")
    assert "strict/order/clock" in nvidia
    tensorflow = rules_broken(public_log("tf_result_2.txt"), "strict", "2019-04")
    assert tensorflow == ["strict/present/input_shard", "strict/present/seed"]


@pytest.mark.parametrize(
    "name",
    [
        "intel_result_0.txt",
        "intel_result_1.txt",
        "nvidia_dgx1_result_0.txt",
        "reference_example.log",
        "tf_result_2.txt",
        "tf_result_7.txt",
    ],
)
def test_public_hit_rates_are_in_the_band_and_whole(name: str, public_log: Fixture) -> None:
    broken = rules_broken(public_log(name), "strict", "2019-04")
    assert not [rule for rule in broken if rule.startswith("strict/outcome")]


@both_checkers
@pytest.mark.parametrize("name", ["intel_result_1.txt", "tf_result_2.txt"])
def test_each_required_tag_is_missed_when_removed(
    name: str, checker: str, public_log: Fixture
) -> None:
    lines = [line.text for line in read_lines(public_log(name)) if hasattr(line, "text")]
    events = {line: parse_line(line) for line in lines}
    rules = ruleset(2, checker=checker)
    names = [rule.name.split("/") for rule in (*rules.rules, *rules.by_benchmark["ncf"])]
    required = {name[1] for name in names if name[0] in ("exactly-one", "at-least-one")}
    assert len(required) == 23
    for tag in required:
        kept = [line for line in lines if getattr(events[line], "key", None) != tag]
        assert any(finding.rule.endswith(f"/{tag}") for finding in check(kept, rules)), tag


@pytest.mark.parametrize("name", ["intel_result_1.txt", "tf_result_7.txt"])
def test_public_log_in_the_modern_dialect_has_the_same_outcome(
    name: str, public_log: Fixture
) -> None:
    events = read_file(public_log(name)).told
    modern = [parse_line(line) for line in format_lines(events)]
    before, after = outcome(events), outcome(modern)  # type: ignore[arg-type]
    assert (after.best, after.converged, after.seed) == (before.best, before.converged, before.seed)
    assert after.time_s == pytest.approx(before.time_s, abs=0.002)
    json.dumps(after.target)
