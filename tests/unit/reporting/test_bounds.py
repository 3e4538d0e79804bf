"""A page stays readable however many trials and epochs a run has; the data files have all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from run_dir import build_run

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.page import plots, tables
from trainbench.reporting.page.render import epochs_csv, html, markdown, results_csv, results_json
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import Phase, Results

TRIALS, EPOCHS = 1_000, 10_000
PAGE_BYTES = 2_000_000


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return collect(build_run(tmp_path_factory.mktemp("run") / "run", trials=1), NCF)


def of_trials(one: Results) -> Results:
    [trial] = one.trials
    return replace(one, trials=tuple(replace(trial, index=index) for index in range(TRIALS)))


def of_epochs(one: Results) -> Results:
    [trial] = one.trials
    epochs = tuple(replace(trial.epochs[0], epoch=epoch) for epoch in range(EPOCHS))
    phases = tuple(
        Phase(name, epoch, 1e9 + epoch + start, 0.5, True)
        for epoch in range(EPOCHS)
        for name, start in (("train", 0.0), ("evaluate", 0.5))
    )
    return replace(one, trials=(replace(trial, epochs=epochs, phases=phases),))


def test_a_thousand_trials_fit_a_page_and_all_are_in_the_data_files(one: Results) -> None:
    many = of_trials(one)
    page = html(many)
    assert len(page) < PAGE_BYTES
    assert "... 800 more" in page
    assert "These are the first 50 of 1,000 trials" in page
    assert "100 of 1,000 trials are drawn" in page
    assert len(markdown(many)) < PAGE_BYTES
    assert len(results_csv(many).splitlines()) == TRIALS + 1
    assert len(json.loads(results_json(many))["trials"]) == TRIALS


def test_ten_thousand_epochs_fit_a_page_and_all_are_in_the_data_files(one: Results) -> None:
    long = of_epochs(one)
    page = html(long)
    assert len(page) < PAGE_BYTES
    assert "... 9,800 more" in page
    assert len(markdown(long)) < PAGE_BYTES
    assert len(epochs_csv(long).splitlines()) == EPOCHS + 1


def test_a_long_table_shows_its_beginning_and_its_end() -> None:
    rows = tuple((str(i), "x") for i in range(1_000))
    shown = Table(("Number", "Letter"), rows).shown_rows
    assert len(shown) == tables.MOST_ROWS + 1
    assert (shown[0], shown[100], shown[-1]) == (rows[0], ("... 800 more", ""), rows[-1])
    assert Table(("Number", "Letter"), rows[:200]).shown_rows == rows[:200]


def test_thinning_keeps_the_ends_and_the_order() -> None:
    assert plots.thinned([3, 1, 2], 3) == [3, 1, 2]
    kept = plots.thinned(range(1_001), 11)
    assert list(kept) == list(range(0, 1_001, 100))
