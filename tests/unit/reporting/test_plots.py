from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib
import pytest
from run_dir import build_run, change_config

from trainbench.ncf.benchmark import NCF
from trainbench.ncf.report import reference_curve
from trainbench.reporting.collect import collect
from trainbench.reporting.page.drawing import VARIABLES, Figure
from trainbench.reporting.page.plots import figures
from trainbench.reporting.records import typical
from trainbench.trials.paths import RunDir


def drawn(run: RunDir) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(collect(run, NCF))}


def svgs(found: dict[str, Figure]) -> list[str]:
    return [panel.svg for figure in found.values() for panel in figure.panels]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    """The figures of an untouched run, by name."""
    return drawn(build_run(tmp_path_factory.mktemp("plots") / "run"))


def test_a_full_run_has_all_figures_each_with_words_legend_and_numbers(
    found: dict[str, Figure],
) -> None:
    assert list(found) == ["quality", "times", "timeline", "throughput"]
    assert all(f.alt and f.keys and f.table.rows for f in found.values())


def test_microseconds_of_waiting_for_input_do_not_fill_their_plot(run: RunDir) -> None:
    epochs = run.trial(0).epochs
    rows = [json.loads(line) | {"input_wait_s": 4e-5} for line in epochs.read_text().splitlines()]
    epochs.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for index in range(1, len(run.trials)):
        shutil.rmtree(run.trial(index).root)
    wait = drawn(run)["throughput"].panels[1].svg
    assert ">0.10<" in wait
    assert "e−" not in wait


def test_the_users_own_matplotlib_settings_change_nothing(
    run: RunDir, found: dict[str, Figure]
) -> None:
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert svgs(drawn(run)) == svgs(found)


def test_drawings_take_every_colour_from_the_page(found: dict[str, Figure]) -> None:
    for svg in svgs(found):
        assert not any(colour in svg for colour in VARIABLES)
        assert set(re.findall(r"#[0-9a-fA-F]{6}\b", svg)) <= {"#000000"}


def test_drawings_carry_no_date_and_no_reference_to_elsewhere(found: dict[str, Figure]) -> None:
    for svg in svgs(found):
        assert "metadata" not in svg
        assert "http" not in svg


def test_ids_of_all_drawings_of_a_page_are_distinct(found: dict[str, Figure]) -> None:
    ids = [i for svg in svgs(found) for i in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in svgs(found):
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert {a or b for a, b in used} <= set(re.findall(r' id="([^"]+)"', svg))


def test_drawings_are_well_formed_with_text_as_text(found: dict[str, Figure]) -> None:
    for svg in svgs(found):
        root = ET.fromstring(svg)
        assert root.tag == "svg"
        assert root.get("viewBox")
        assert "width" not in root.attrib
        assert root.findall(".//text")


def test_hostile_phase_names_are_escaped_and_are_no_formula(run: RunDir) -> None:
    phases = run.trial(0).phases
    phases.write_text(phases.read_text().replace("compile", "<script>$\\\\frac{1$"))
    (svg,) = [panel.svg for panel in drawn(run)["timeline"].panels]
    assert "<script" not in svg
    assert "&lt;script&gt;$\\frac{1$" in svg


def test_one_time_to_train_has_no_distribution(tmp_path: Path) -> None:
    assert "times" not in drawn(build_run(tmp_path / "one", trials=1))


def test_equal_times_to_train_can_be_drawn(tmp_path: Path) -> None:
    run = build_run(tmp_path / "two", trials=2)
    log = run.results("two-core-laptop")
    (log / "result_1.txt").write_text((log / "result_0.txt").read_text())
    assert drawn(run)["times"].table.rows == (("1", "292.6 s"), ("2", "292.6 s"))


def test_many_trials_share_two_colours(tmp_path: Path) -> None:
    quality = drawn(build_run(tmp_path / "many", trials=9))["quality"]
    assert [key.label for key in quality.keys][:2] == ["reached the target", "did not"]
    assert quality.table.columns == ("Epoch", "Trials", "Lowest", "Median", "Highest")


def test_a_run_that_has_just_started_has_the_figures_it_can_fill(run: RunDir) -> None:
    shutil.rmtree(run.root / "results")
    for trial in run.trials:
        trial.epochs.write_text("")
        trial.phases.write_text(trial.phases.read_text().splitlines(True)[0])
    assert "quality" not in drawn(run)
    assert "timeline" in drawn(run)
    for trial in run.trials:
        trial.phases.write_text('{"name": null}\n')
    assert "timeline" not in drawn(run)


def test_the_reference_is_drawn_only_beside_the_same_hyperparameters(run: RunDir) -> None:
    change_config(run, generator_workers=4, target_hit_rate=0.23)
    assert reference_curve(collect(run, NCF))[1][0] == 0.1586
    change_config(run, batch_size=4_096)
    assert reference_curve(collect(run, NCF))[1] == ()


def test_the_timeline_shows_the_median_trial(tmp_path: Path) -> None:
    run = build_run(tmp_path / "five", trials=5)
    found = typical(collect(run, NCF).trials)
    assert found is not None
    times = sorted((t.time_s, t.index) for t in collect(run, NCF).trials if t.time_s is not None)
    assert found.index == times[2][1]


def test_phases_add_up_to_the_time_on_the_clock(run: RunDir) -> None:
    phases = [json.loads(line) for line in run.trial(0).phases.read_text().splitlines()]
    timed = sum(p["duration_s"] for p in phases if p["timed"])
    trial = collect(run, NCF).trials[0]
    assert trial.time_on_clock_s == pytest.approx(timed)


def test_a_panel_without_a_value_is_left_out(run: RunDir) -> None:
    for trial in run.trials:
        trial.epochs.unlink()
    quality = drawn(run)["quality"]
    assert [panel.title for panel in quality.panels] == ["HR@10"]
