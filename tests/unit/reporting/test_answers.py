"""Who has only the page can say what ran, whether it was fair, and how to run it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
from images_run_dir import build_images_run
from run_dir import START, build_run, change, change_config, machine_records

from trainbench import configuration
from trainbench.benchmark import find
from trainbench.image_classification.benchmark import RESNET
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page.answers import again, dirty, fair, ran
from trainbench.reporting.page.render import headings, html, write_report
from trainbench.trials.paths import RunDir


def test_what_ran_is_said_with_device_number_format_and_processor(run: RunDir) -> None:
    answer = ran(collect(run, NCF))
    assert answer.answer == "3 trials of NeuMF on ml-1m"
    assert answer.detail == "on CPU, fp32, Xeon Example 2.5 GHz"
    gpus = [{"name": "H100"}, {"name": "H100"}]
    change(run.trial(0).system, gpus=gpus)
    assert "2 x H100, Xeon" in ran(collect(run, NCF)).detail


def test_a_run_that_nothing_speaks_against_was_fair(run: RunDir) -> None:
    answer = fair(collect(run, NCF))
    assert (answer.answer, answer.tone) == ("nothing speaks against it", "good")
    assert "the page cache was dropped before each trial" in answer.detail
    assert "others took at most 1.3 % of the CPUs; both clocks agree" in answer.detail


def test_reservations_come_first_and_are_counted(run: RunDir) -> None:
    change(run.trial(1).cache_drop, dropped=False)
    samples = machine_records(START, foreign=0.4)
    run.trial(0).machine.write_text("".join(json.dumps(s) + "\n" for s in samples))
    run.trial(2).machine.unlink()
    answer = fair(collect(run, NCF))
    assert (answer.answer, answer.tone) == ("with reservations", "warn")
    assert "the page cache was kept before 1 of 3 trials" in answer.detail
    assert "others took up to 40.1 % of the CPUs in 1 of 3 trials" in answer.detail
    assert "not known of 1 of 3 trials what else the machine did" in answer.detail


def test_files_that_contradict_each_other_are_no_fair_run(run: RunDir) -> None:
    change(run.trial(0).status, seed="1")
    answer = fair(collect(run, NCF))
    assert (answer.answer, answer.tone) == ("1 contradiction between the files of the run", "bad")


@pytest.mark.parametrize("name", ["ncf", "resnet"])
def test_the_command_makes_the_very_configuration(name: str, tmp_path: Path) -> None:
    benchmark = find(name)
    build = build_run if name == "ncf" else build_images_run
    run = build(tmp_path / "run")
    change(run.run_file, preset="quick", runs=4, seed="17")
    if name == "ncf":
        change_config(
            run, learning_rate=0.0005, batch_size=4_096, mlp_layer_sizes=(64, 32), division="open"
        )
    *_, command = again(collect(run, benchmark))
    words = shlex.split(command)
    group = [] if name == "ncf" else ["images"]
    assert words[: len(group) + 4] == ["python", "-m", "trainbench", *group, "pipeline"]
    assert words[-4:] == ["--runs", "4", "--seed", "17"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    made = benchmark.with_settings(benchmark.presets["quick"](), settings)
    own = benchmark.from_json(run.config.read_text())
    assert configuration.differences(made, own) == {}


def test_the_revision_is_checked_out_first_and_changes_in_it_are_told(run: RunDir) -> None:
    results = collect(run, NCF)
    assert again(results)[0] == "git checkout f34ba14d0c5e"
    assert not dirty(results)
    change(run.trial(0).system, git={"revision": "$(id)", "dirty": True})
    results = collect(run, NCF)
    assert len(again(results)) == 1
    assert dirty(results)
    assert "changes that this revision does not have" in html(results)


@pytest.mark.parametrize("text", ["a; rm -rf .", "$(id)", "--help", "a\nb"])
def test_no_name_of_the_run_is_a_command(run: RunDir, text: str) -> None:
    change(run.run_file, preset=text, seed=text)
    assert again(collect(run, NCF)) == []
    change(run.run_file, preset="ml-1m")
    change(run.config, dataset=text)
    *_, command = again(collect(run, NCF))
    words = shlex.split(command)
    assert words[words.index("--set") + 1] == f"dataset={text}"
    assert "--seed" not in words


def test_the_page_links_to_the_files_that_are_there(run: RunDir, tmp_path: Path) -> None:
    run.trial(0).stdout.write_text("printed\n")
    page = write_report(run, benchmark=NCF).html
    hrefs = [part.split('"')[0] for part in page.read_text().split('href="')[1:]]
    files = [unquote(href) for href in hrefs if not href.startswith("#")]
    assert "../trial_0/stdout.log" in files
    assert "../results/two-core-laptop/ncf/result_0.txt" in files
    assert "../trial_1/stdout.log" not in files
    assert all((page.parent / file).is_file() for file in files)
    elsewhere = write_report(run, tmp_path / "out", benchmark=NCF).html
    assert elsewhere.read_bytes() == page.read_bytes()


def test_the_log_of_a_trial_that_failed_is_a_link_where_it_is_there(run: RunDir) -> None:
    change(run.trial(1).status, state="failed", message="the producer died")
    run.trial(1).stdout.write_text("printed\n")
    page = write_report(run, benchmark=NCF).html.read_text()
    assert 'see <a href="../trial_1/stdout.log">trial_1/stdout.log</a>.' in page
    run.trial(1).stdout.unlink()
    page = write_report(run, benchmark=NCF).html.read_text()
    assert "see <code>trial_1/stdout.log</code>." in page


def test_the_contents_list_every_section_and_nothing_else(run: RunDir) -> None:
    page = html(collect(run, NCF))
    contents = page[page.index("<nav") : page.index("</nav>")]
    listed = [part.split('"')[0] for part in contents.split('href="#')[1:]]
    sections = [anchor for anchor, _ in headings(page) if anchor != "verdict-title"]
    assert listed == sections
    assert {"trials", "quality", "time", "speed", "compliance", "again"} <= set(listed)


def test_images_have_the_sections_of_every_benchmark(tmp_path: Path) -> None:
    page = html(collect(build_images_run(tmp_path / "run"), RESNET))
    anchors = {anchor for anchor, _ in headings(page)}
    assert {"trials", "quality", "time", "speed", "compliance", "again"} <= anchors
