"""No command line ends in a traceback: a sample of ``tests/fixtures/random_flags.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_flags
import small_images

SAMPLE = 25


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few images."""
    folder = tmp_path_factory.mktemp("imagenet")
    small_images.generate(folder, train=4, validation=2, shards=(1, 1))
    return folder


def test_random_command_lines_end_well_or_with_one_line_that_says_why_not(images: Path) -> None:
    found = list(random_flags.outcomes(range(SAMPLE), images))
    faults = [f"{seed}: {each.argv}\n{each.fault}" for seed, each in found if each.fault]
    assert not faults, "\n".join(faults)
    assert {each.code for _, each in found} >= {0, 2}


@pytest.mark.parametrize(
    "flag",
    [
        f"--{name}={place}"
        for name in ("train_dir", "result_json", "benchmark_log_dir", "trace_file", "sweep")
        for place in ("x" * 300, "{file}/below")
    ]
    + ["--sweep={dir}", "--result_json={dir}"],
)
def test_a_place_that_cannot_be_is_told_in_one_line(flag: str, images: Path) -> None:
    found = random_flags.run([*random_flags.SMALL, flag], images)
    assert found.fault is None
    assert found.code in (2, 6)


def test_a_seed_always_draws_the_same_command_line() -> None:
    assert random_flags.argv_of("3") == random_flags.argv_of("3") != random_flags.argv_of("4")
