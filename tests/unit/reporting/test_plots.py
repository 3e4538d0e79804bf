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
from trainbench.reporting.page.render import markdown
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
    assert list(found) == [*("quality", "second", "times", "timeline", "machine", "throughput")]
    assert all(f.alt and f.keys and f.table.rows for f in found.values())


def test_waiting_for_input_has_a_plot_only_where_there_is_some(
    run: RunDir, found: dict[str, Figure]
) -> None:
    titles = [panel.title for panel in found["throughput"].panels]
    assert titles == ["Training, thousand samples per second", "Waiting for input, seconds"]
    for trial in run.trials:
        rows = [json.loads(line) for line in trial.epochs.read_text().splitlines()]
        rows = [row | {"input_wait_s": 4e-5} for row in rows]
        trial.epochs.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    alone = drawn(run)["throughput"]
    assert [panel.title for panel in alone.panels] == titles[:1]
    assert "wait" not in f"{alone.title}{alone.alt}"
    assert "waiting for input" not in markdown(collect(run, NCF))


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
    found = drawn(run)
    assert [panel.title for panel in found["quality"].panels] == ["HR@10 by epoch", "HR@10 by time"]
    assert "second" not in found


def ticks(svg: str, axis: str) -> list[float]:
    """The numbers along an axis, x or y."""
    part = re.search(rf'id="[^"]*matplotlib\.axis_{"1" if axis == "x" else "2"}".*', svg, re.DOTALL)
    assert part is not None
    text = part[0] if axis == "y" else part[0].split("matplotlib.axis_2")[0]
    return [float(t.replace("−", "-")) for t in re.findall(r">([−\d.]+)</text>", text)]


@pytest.mark.parametrize("quality", [1.0, 0.0, 0.999_7])
def test_one_epoch_has_axes_around_it_and_no_share_beyond_one(run: RunDir, quality: float) -> None:
    for trial in run.trials[1:]:
        shutil.rmtree(trial.root)
    shutil.rmtree(run.root / "results")
    epoch = json.loads(run.trial(0).epochs.read_text().splitlines()[0])
    changed = epoch | {"hit_rate": quality, "ndcg": quality}
    run.trial(0).epochs.write_text(json.dumps(changed) + "\n")
    change_config(run, batch_size=4_096)  # no curve of the reference beside it
    found = drawn(run)
    for svg in (found["quality"].panels[0].svg, found["second"].panels[0].svg):
        assert ticks(svg, "x") == [0.0]
        assert 0 <= min(ticks(svg, "y")) < max(ticks(svg, "y")) <= 1
    assert min(ticks(found["quality"].panels[1].svg, "x")) == 0
