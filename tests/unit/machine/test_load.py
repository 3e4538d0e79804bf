"""A machine is busy when others take too much of it while the clock runs, and not for a moment."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest

from trainbench.machine.load import (
    Gpu,
    Load,
    Sample,
    load_of,
    read_samples,
    threshold,
    timed,
)

ZERO = 1_795_000_000.0
SAMPLE = Sample(
    unix_s=ZERO + 1,
    interval_s=1.0,
    cpus=2,
    own_cpu=0.9,
    foreign_cpu=0.01,
    steal_cpu=0.0,
    cpu_mhz=2_500.0,
    thermal_throttles=None,
    quota_throttled_s=0.0,
    resident_bytes=1 << 30,
    cpu_energy_j=None,
    gpus=(),
)


def samples(foreign: list[float], *, cpus: int = 2, steal: float = 0.0) -> list[Sample]:
    """One a second, with what others took in each."""
    return [
        replace(
            SAMPLE,
            unix_s=ZERO + second,
            cpus=cpus,
            own_cpu=max(0.0, 0.97 - share - steal),
            foreign_cpu=share,
            steal_cpu=steal,
        )
        for second, share in enumerate(foreign, start=1)
    ]


def load(foreign: list[float], *, cpus: int = 2, steal: float = 0.0) -> Load:
    found = load_of(samples(foreign, cpus=cpus, steal=steal))
    assert found is not None
    return found


def noise(seconds: int, most: float, seed: int = 7) -> list[float]:
    """Daemons, kernel threads and the error of counters in whole ticks."""
    random = Random(seed)
    return [round(random.uniform(0, most), 4) for _ in range(seconds)]


@pytest.mark.parametrize(
    ("foreign", "cpus"),
    [
        pytest.param(noise(7, 0.03), 2, id="seven seconds of a small machine"),
        pytest.param(noise(600, 0.06), 2, id="a small machine with a container engine"),
        pytest.param([*noise(3, 0.03), 0.55, *noise(3, 0.03)], 2, id="one busy second of seven"),
        pytest.param([*noise(500, 0.03), *[0.5] * 60, *noise(40, 0.03)], 2, id="a job of a minute"),
        pytest.param(noise(300, 0.008), 64, id="half a CPU of 64 at most"),
        pytest.param([0.04], 2, id="one second in all"),
        pytest.param([0.15, 0.05, 0.05, 0.02], 1, id="one CPU"),
    ],
)
def test_an_idle_machine_is_not_busy(foreign: list[float], cpus: int) -> None:
    assert not load(foreign, cpus=cpus).busy


@pytest.mark.parametrize(
    ("foreign", "cpus"),
    [
        pytest.param([0.48, 0.52, 0.5, 0.46, 0.51], 2, id="two loops beside two threads"),
        pytest.param([0.66], 2, id="one second in all"),
        pytest.param([0.5, 0.5], 4, id="two loops on four CPUs, half of them idle"),
        pytest.param([2 / 16] * 30, 16, id="two loops on 16 CPUs, most of them idle"),
        pytest.param([1 / 64] * 30, 64, id="two loops beside 64 threads"),
        pytest.param([2 / 128] * 30, 128, id="two loops on 128 CPUs"),
        pytest.param([*[0.5] * 200, *noise(300, 0.03)], 2, id="two loops for two fifths of a run"),
        pytest.param([0.5, 0.01] * 20, 2, id="a loop that rests every other second"),
    ],
)
def test_two_busy_loops_make_a_machine_busy(foreign: list[float], cpus: int) -> None:
    found = load(foreign, cpus=cpus)
    assert found.busy
    assert found.sentence() == (
        f"while the clock ran, other processes took {100 * sum(foreign) / len(foreign):.1f} % of "
        f"the time of the {cpus} CPUs"
    )


def test_steal_counts_as_foreign_in_words_of_its_own() -> None:
    found = load(noise(60, 0.02), steal=0.12)
    assert found.busy
    assert "other virtual machines 12.0 % (steal) of the time of the 2 CPUs" in found.sentence()
    assert not load(noise(60, 0.02), steal=0.03).busy


def test_a_larger_machine_is_busy_from_a_smaller_share_on() -> None:
    assert [threshold(cpus) for cpus in (1, 2, 75)] == [0.1, 0.1, 0.01]


def test_only_the_time_on_the_clock_counts() -> None:
    # Ten seconds of loading before, five on the clock, ten of writing the model.
    found = samples([0.9] * 10 + [0.0] * 5 + [0.9] * 10)
    inside = timed(found, ZERO + 9.8, ZERO + 15.2)
    assert [sample.foreign_cpu for sample in inside] == [0.0] * 5
    # A run of a moment has the second that it was in.
    assert [s.unix_s for s in timed(found, ZERO + 3.2, ZERO + 3.3)] == [ZERO + 4]
    assert timed(found, ZERO + 100, ZERO + 200) == []


def test_means_are_weighed_by_their_seconds_and_what_is_not_told_stays_untold() -> None:
    gpu = Gpu(0.8, 300.0, 60.0, 1_900.0, 2_600.0, 1 << 30)
    long = replace(SAMPLE, interval_s=3.0, foreign_cpu=0.4, cpu_energy_j=30.0, gpus=(gpu, gpu))
    found = load_of([replace(SAMPLE, foreign_cpu=0.0, cpu_energy_j=10.0), long])
    assert found is not None
    assert found.foreign_cpu == pytest.approx(0.3)
    assert found.cpu_energy_j == 40.0
    assert found.thermal_throttles is None
    assert (found.gpu_utilisation, found.gpu_power_w) == (pytest.approx(0.8), 600.0)
    assert load_of([]) is None
    assert load_of([replace(SAMPLE, cpus=None), replace(SAMPLE, foreign_cpu=None)]) is None


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "machine.jsonl"
    assert read_samples(file) == []
    gpu = Gpu(0.5, None, None, None, None, None)
    whole = json.dumps(asdict(replace(SAMPLE, gpus=(gpu,))))
    file.write_text(f"{whole}\n{whole[:40]}\n[]\n{{}}\n")
    first, empty = read_samples(file)
    assert first.gpus == (gpu,)
    assert first.unix_s == ZERO + 1
    assert load_of([empty]) is None
