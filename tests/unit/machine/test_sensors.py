"""What the kernel and the driver tell is read as they print it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trainbench.machine import sensors
from trainbench.machine.load import Gpu

STAT = """cpu  2000 40 400 9000 30 0 50 70 100 0
cpu0 1000 20 200 4000 10 0 30 40 100 0
cpu1 900 10 100 4500 20 0 10 20 0 0
cpu10 100 10 100 500 0 0 10 10 0 0
intr 15385006 0
"""


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_work_is_that_of_processes_on_the_allotted_cpus(tmp_path: Path) -> None:
    proc = written(tmp_path, {"stat": STAT})
    assert sensors.cpu_ticks({0}, proc) == (1_220, 40, 1)
    assert sensors.cpu_ticks({1, 10}, proc) == (1_220, 30, 2)
    # A container whose kernel shows it CPUs by numbers of its own.
    assert sensors.cpu_ticks({40, 41}, proc) == (2_440, 70, 3)


def test_energy_is_that_of_whole_packages_and_begins_anew_where_the_count_does(
    tmp_path: Path,
) -> None:
    def zones(first: int, second: int) -> dict[str, str]:
        folder = "class/powercap/intel-rapl"
        return {
            f"{folder}:0/energy_uj": f"{first}\n",
            f"{folder}:0/max_energy_range_uj": "999999999\n",
            f"{folder}:1/energy_uj": f"{second}\n",
            f"{folder}:1/max_energy_range_uj": "999999999\n",
            f"{folder}:0:0/energy_uj": "5\n",
            f"{folder}:0:0/max_energy_range_uj": "999999999\n",
        }

    before = sensors.energy_uj(written(tmp_path, zones(1_000_000, 990_000_000)))
    after = sensors.energy_uj(written(tmp_path, zones(31_000_000, 10_000_000)))
    assert sensors.energy_j_between(before, after) == pytest.approx(30 + 20)
    assert sensors.energy_uj(tmp_path / "absent") == {}
    assert sensors.energy_j_between({}, {}) is None


def test_heat_is_counted_for_the_allotted_cpus(tmp_path: Path) -> None:
    name = "devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    sys = written(tmp_path, {name.format(0): "3\n", name.format(1): "4\n", name.format(2): "9\n"})
    assert sensors.thermal_throttles({0, 1}, sys) == 7
    assert sensors.thermal_throttles({5}, sys) is None


def test_a_gpus_line_is_read_and_what_it_does_not_tell_is_none() -> None:
    assert sensors.gpu_line(b"1, 87, 341.20, 64, 1980, 2619, 70123") == (
        1,
        Gpu(0.87, 341.2, 64.0, 1_980.0, 2_619.0, 70_123 << 20),
    )
    assert sensors.gpu_line(b"0, [N/A], [Not Supported], 40, 300, 405, 0") == (
        0,
        Gpu(None, None, 40.0, 300.0, 405.0, 0),
    )
    assert sensors.gpu_line(b"Failed to initialize NVML: Unknown Error") is None


def test_the_newest_figures_of_each_gpu_are_read_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in place of the driver's own, which needs a GPU."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '1, 10, 90.5, 50, 1000, 2000, 300'\necho '0, 20, 80, 50, 1000, 2000, 1'\n"
        "echo '1, 30, 90.5, 50, 1000, 2000, 300'\nprintf '0, 99, 8'\nexec sleep 60\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with sensors.gpus() as reader:
        found: tuple[Gpu, ...] = ()
        while len(found) < 2 or found[1].utilisation != 0.3:
            time.sleep(0.01)
            found = reader.read()
        assert [gpu.utilisation for gpu in found] == [0.2, 0.3]
    monkeypatch.setenv("PATH", str(tmp_path / "absent"))
    with sensors.gpus() as reader:
        assert reader.read() == ()
