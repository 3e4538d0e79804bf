"""The report of a run of image classification: the same page as NCF's, with its own numbers.

Logs, findings, verdict and files are made by the code that NCF's report uses; what is different
stands here: accuracy, images per second and the times of single steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from trainbench.compliance.tags.resnet import BENCHMARK
from trainbench.reporting import collect as collecting
from trainbench.reporting import image_plots, tables, text
from trainbench.reporting.image_plots import Measured
from trainbench.reporting.junit import junit
from trainbench.reporting.records import Epoch, Results, Status
from trainbench.reporting.render import (
    ReportFiles,
    csv_text,
    html_page,
    json_text,
    markdown_page,
    results_record,
    write_files,
)
from trainbench.reporting.sources import Source, fill
from trainbench.reporting.summary import Answer, summary_of
from trainbench.reporting.tables import Table
from trainbench.reporting.text import NA, fixed, percent, seconds
from trainbench.reporting.verdict import judge
from trainbench.trials.paths import RunDir, TrialDir

# Fields of status.json by the names that the records have for them: the quality is the accuracy.
_STATUS = {
    "best_hit_rate": "best_top_1",
    "target_hit_rate": "target_top_1",
    "epochs": "evaluations",
}


@dataclass(frozen=True)
class ImagesResults:
    """A run as its directory tells it, and what each trial measured of its steps."""

    results: Results
    measured: tuple[Measured, ...]


def write_report(run: RunDir, out: Path | None = None, *, reference: Any) -> ReportFiles:
    """Write the report of ``run`` into ``out`` (default: the run's ``report`` folder).

    Args:
        reference: the configuration that the run's own is compared with.
    """
    found = collect(run, reference)
    texts = {
        "html": html(found),
        "markdown": markdown(found),
        "results_json": results_json(found),
        "results_csv": csv_text(_trial_rows(found)),
        "epochs_csv": csv_text(_evaluation_rows(found)),
        "junit": junit(found.results),
    }
    return write_files(out or run.report, texts, exit_code=judge(found.results).exit_code)


def collect(run: RunDir, reference: Any) -> ImagesResults:
    """Everything the run directory says; what is absent or damaged is named, never guessed."""
    results = collecting.collect(run, reference, benchmark=BENCHMARK, read=_read_trial)
    source = Source(run.root)
    measured = [
        Measured.of(trial.index, source.mapping(run.trial(trial.index).result))
        for trial in results.trials
    ]
    missing = (*results.missing, *source.missing)
    return ImagesResults(replace(results, missing=missing), tuple(measured))


def _read_trial(
    source: Source, trial: TrialDir, _: tuple[Epoch, ...]
) -> tuple[Status, tuple[Epoch, ...]]:
    record = source.mapping(trial.status)
    renamed = {name: record.get(own) for name, own in _STATUS.items()}
    return fill(Status, {**record, **renamed}, set()), ()


def html(found: ImagesResults) -> str:
    """The page, complete in itself: no script, no request to anywhere."""
    figures = image_plots.figures(found.measured, found.results.target)
    return html_page("images.html.j2", _context(found), figures)


def markdown(found: ImagesResults) -> str:
    """The page's Markdown twin, without drawings."""
    return markdown_page("images.md.j2", _context(found))


def results_json(found: ImagesResults) -> str:
    """results.json: the run's records, and what each trial measured of its steps."""
    record = results_record(found.results)
    return json_text({**record, "measured": [asdict(m) for m in found.measured]})


def trials_table(found: ImagesResults) -> Table:
    """One row per trial."""
    columns = ("Trial", "Outcome", "Time to train", "Best top-1", "Images/s", "Seed", "Level 2")
    rows = tuple(
        (
            str(t.index),
            tables.outcome(t),
            seconds(t.time_s),
            fixed(t.best_hit_rate),
            text.fixed(m.images_per_s, 1),
            NA if t.seed is None else str(t.seed),
            tables.level(t, "2"),
        )
        for t, m in zip(found.results.trials, found.measured, strict=True)
    )
    return Table(columns, rows, numeric_from=2)


def evaluations_table(measured: Measured) -> Table:
    """One row per evaluation of a trial."""
    rows = tuple(
        (fixed(e.epoch, 2), text.count(e.step), fixed(e.top_1), fixed(e.top_5), fixed(e.speed, 0))
        for e in measured.evaluations
    )
    return Table(("Epoch", "Step", "Top-1", "Top-5", "Images/s evaluated"), rows, numeric_from=0)


def steps_table(found: ImagesResults) -> Table:
    """Times of the training steps of each trial."""
    columns = ("Trial", "Steps", "Median", "p90", "p99", "Longest", "Images/s, median step")
    rows = tuple(
        (
            str(m.trial),
            text.count(len(m.step_times_s)),
            *(f"{1e3 * s:,.1f} ms" for s in m.percentiles()),
            fixed(m.batch_size / median(m.step_times_s), 1),
        )
        for m in found.measured
        if m.step_times_s and m.batch_size
    )
    return Table(columns, rows)


def _context(found: ImagesResults) -> dict[str, Any]:
    results = found.results
    speeds = [m.images_per_s for m in found.measured if m.images_per_s]
    best, target = percent(results.best_hit_rate), percent(results.target)
    speed = Answer(
        "Training speed",
        f"{fixed(median(speeds), 1)} images/s" if speeds else NA,
        "over the whole run, compiling and evaluations included",
    )
    return {
        "results": results,
        "summary": summary_of(
            results,
            model=results.config.get("model", NA),
            quality=f"best top-1 {best}, target {target}",
            speed=speed,
        ),
        "measured": found.measured,
        "trials": trials_table(found),
        "steps": steps_table(found),
        "evaluations": evaluations_table,
    }


def _trial_rows(found: ImagesResults) -> list[dict[str, Any]]:
    return [
        {
            "run_id": found.results.run.run_id,
            "trial": t.index,
            "state": t.status.state,
            "seed": t.seed,
            "time_to_train_s": t.time_s,
            "best_top_1": t.best_hit_rate,
            "target_top_1": t.status.target_hit_rate,
            "images_per_s": m.images_per_s,
            "median_step_s": median(m.step_times_s) if m.step_times_s else None,
            "findings_2": len(t.log.of_level("2")) if t.log else None,
            "log_sha256": t.log.sha256 if t.log else None,
        }
        for t, m in zip(found.results.trials, found.measured, strict=True)
    ]


def _evaluation_rows(found: ImagesResults) -> list[dict[str, Any]]:
    return [{"trial": m.trial, **asdict(e)} for m in found.measured for e in m.evaluations]
