"""The charts of one trial on the axis of its clock: only what was measured, and why this trial."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from run_dir import START, build_run, machine_records

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page import plots
from trainbench.reporting.page.drawing import Figure, style
from trainbench.reporting.page.machine import MOST_POINTS, MOST_ROWS, figure
from trainbench.trials.paths import RunDir

GPU = {
    "utilisation": 0.9,
    "power_w": 300.0,
    "temperature_c": 60.0,
    "sm_mhz": 1_500.0,
    "memory_mhz": 2_000.0,
    "memory_bytes": 2**34,
}


def write_samples(run: RunDir, samples: list[dict[str, Any]]) -> None:
    for trial in run.trials:
        trial.machine.write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def machine(run: RunDir) -> Figure | None:
    with style():
        return figure(collect(run, NCF))


def only(run: RunDir) -> Figure:
    found = machine(run)
    assert found is not None
    return found


@pytest.fixture
def one(tmp_path: Any) -> RunDir:
    return build_run(tmp_path / "one", trials=1)


def test_cpu_and_memory_are_drawn_with_the_phases_behind_them(one: RunDir) -> None:
    found = only(one)
    assert [panel.title for panel in found.panels] == [
        "CPU, percent of the time of 2 CPUs",
        "Memory of the trial's processes, GiB",
    ]
    labels = {key.label: key.stroke for key in found.keys}
    assert labels == {
        "this trial": "solid",
        "other processes": "solid",
        "train epoch": "shade",
        "eval": "shade",
        "compile": "shade",
    }
    assert "this trial took 93.0 % of the CPUs, other processes 1.2 %; at most 1.1 GiB" in found.alt
    assert found.stacked


def test_gpus_their_memory_and_power_are_drawn_where_they_were_measured(one: RunDir) -> None:
    gpus = [GPU, {**GPU, "utilisation": 0.5}]
    rows = [{**s, "gpus": gpus, "cpu_energy_j": 80.0} for s in machine_records(START)]
    write_samples(one, rows)
    found = only(one)
    assert [panel.title for panel in found.panels][2:] == [
        *("GPUs at work, percent", "Memory of the GPUs, GiB", "Power, W"),
    ]
    assert found.table.columns[4:] == (
        *("GPU 0, % at work", "GPU 1, % at work", "GPUs memory, GiB", "GPUs, W", "CPU packages, W"),
    )
    assert found.table.rows[0][4:] == ("90.0", "50.0", "32.0", "600.0", "80.0")


def test_what_the_machine_did_not_tell_has_no_chart(one: RunDir) -> None:
    nothing = dict.fromkeys(("power_w", "memory_bytes"))
    rows = [
        {**s, "resident_bytes": None, "gpus": [{**GPU, **nothing}]} for s in machine_records(START)
    ]
    write_samples(one, rows)
    titles = [panel.title for panel in only(one).panels]
    assert titles == ["CPU, percent of the time of 2 CPUs", "GPU at work, percent"]
    one.trial(0).machine.unlink()
    assert machine(one) is None


def test_steal_is_drawn_where_other_virtual_machines_took_any(one: RunDir) -> None:
    assert "other virtual machines (steal)" not in {key.label for key in only(one).keys}
    write_samples(one, [{**s, "steal_cpu": 0.2} for s in machine_records(START)])
    assert "other virtual machines (steal)" in {key.label for key in only(one).keys}


def test_a_day_of_seconds_is_drawn_and_listed_in_few_points(one: RunDir) -> None:
    [sample, *_] = machine_records(START)
    rows = [{**sample, "unix_s": START + n / 100, "interval_s": 0.01} for n in range(29_000)]
    write_samples(one, rows)
    found = only(one)
    assert len(found.table.rows) == MOST_ROWS
    # Every point of a line has a letter before its two coordinates; frames and ticks have a few.
    assert all(len(re.findall(r"[ML] [\d.]+ ", p.svg)) < 4 * MOST_POINTS for p in found.panels)


def test_a_trial_of_one_look_has_a_dot(one: RunDir) -> None:
    [sample, *_] = machine_records(START)
    write_samples(one, [{**sample, "unix_s": START + 5}])
    assert "<use" in only(one).panels[0].svg


def test_charts_say_which_trial_they_show_and_why(run: RunDir, one: RunDir) -> None:
    for name in ("timeline", "machine"):
        notes = {f.name: f.note for f in plots.figures(collect(run, NCF))}
        assert notes[name].startswith("Trial 0 is shown: its time to train, 292.6 s, is the lower")
        assert {f.name: f.note for f in plots.figures(collect(one, NCF))}[name] == ""


def test_charts_of_runs_without_a_time_to_train_say_so(tmp_path: Any) -> None:
    run = build_run(tmp_path / "run", trials=2, short=(0, 1))
    assert "none reached the target" in only(run).note
    run = build_run(tmp_path / "other", trials=2, short=(0,))
    assert only(run).note == "Trial 1 is shown, the only one that reached the target."


def test_a_long_trial_has_an_axis_of_minutes_and_both_charts_the_same(one: RunDir) -> None:
    figures = {f.name: f for f in plots.figures(collect(one, NCF))}
    assert all("seconds since" in figures[n].panels[-1].svg for n in ("timeline", "machine"))
    phases = [json.loads(line) for line in one.trial(0).phases.read_text().splitlines()]
    phases[-1]["duration_s"] = 900
    one.trial(0).phases.write_text("".join(json.dumps(p) + "\n" for p in phases))
    figures = {f.name: f for f in plots.figures(collect(one, NCF))}
    assert all("minutes since" in figures[n].panels[-1].svg for n in ("timeline", "machine"))


def test_samples_are_for_the_page_alone(one: RunDir) -> None:
    from trainbench.reporting.page.render import results_json

    found = collect(one, NCF)
    assert len(found.samples) == 305
    assert "samples" not in json.loads(results_json(found))
