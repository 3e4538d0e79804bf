"""Writes the report: one page, its Markdown twin, and the same results for machines.

Every file is a pure function of the run directory: no clock, no host name, no absolute path.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainbench import files
from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.score import UNVERIFIED
from trainbench.reporting import plots, tables, text
from trainbench.reporting.collect import collect
from trainbench.reporting.compare import Comparison, compare_runs
from trainbench.reporting.junit import junit
from trainbench.reporting.records import SCHEMA_VERSION, Results
from trainbench.reporting.summary import summary
from trainbench.reporting.verdict import found_by, grouped, judge, trials_of
from trainbench.trials.paths import RunDir

SUMMARY_LIMIT = 2**20
REGENERATE = "python -m trainbench report --run DIR"


@dataclass(frozen=True)
class ReportFiles:
    """The files that ``write_report`` wrote, and the exit code that the results deserve."""

    html: Path
    markdown: Path
    results_json: Path
    results_csv: Path
    epochs_csv: Path
    junit: Path
    exit_code: int


def write_files(folder: Path, texts: Mapping[str, str], *, exit_code: int) -> ReportFiles:
    """Write ``texts``, by the names of ``ReportFiles``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = ReportFiles(
        html=folder / "report.html",
        markdown=folder / "report.md",
        results_json=folder / "results.json",
        results_csv=folder / "results.csv",
        epochs_csv=folder / "epochs.csv",
        junit=folder / "junit.xml",
        exit_code=exit_code,
    )
    for name, content in texts.items():
        files.write_atomically(getattr(written, name), content)
    return written


def write_report(
    run: RunDir, out: Path | None = None, *, reference: Any, compare: Sequence[RunDir] = ()
) -> ReportFiles:
    """Writes the report of ``run`` into ``out`` (default: the run's ``report`` folder).

    Args:
        reference: the configuration that the run's own is compared with.
        compare: further runs, shown beside this one.

    Raises:
        DataIntegrityError: ``run`` or one of ``compare`` is not the folder of a run.
    """
    folder = out or run.report
    results = collect(run, reference)
    others = [collect(other, reference) for other in compare]
    comparison = compare_runs([results, *others]) if others else None
    texts = {
        "html": html(results, comparison),
        "markdown": markdown(results, comparison),
        "results_json": results_json(results, comparison),
        "results_csv": results_csv(results),
        "epochs_csv": epochs_csv(results),
        "junit": junit(results),
    }
    return write_files(folder, texts, exit_code=judge(results).exit_code)


def html(results: Results, comparison: Comparison | None = None) -> str:
    """The page, complete in itself: no script, no request to anywhere."""
    return html_page("report.html.j2", _context(results, comparison), plots.figures(results))


def markdown(results: Results, comparison: Comparison | None = None) -> str:
    """The page's Markdown twin, without drawings."""
    return markdown_page("report.md.j2", _context(results, comparison))


def html_page(template: str, context: Mapping[str, Any], figures: Sequence[plots.Figure]) -> str:
    """The page of a benchmark; ``context`` has its results, its summary and its own tables."""
    style = resources.files(__package__).joinpath("templates/style.css").read_text("utf-8")
    page = _environment(escape=True).get_template(template)
    return page.render(_of_any(context), figures=figures, style=Markup(style))


def markdown_page(template: str, context: Mapping[str, Any]) -> str:
    """The Markdown page of a benchmark; ``context`` as for ``html_page``."""
    return _environment(escape=False).get_template(template).render(_of_any(context))


def _of_any(context: Mapping[str, Any]) -> dict[str, Any]:
    """``context`` with what the pages of all benchmarks show."""
    results = context["results"]
    return {
        **context,
        "verdict": judge(results),
        "findings": grouped(results),
        "trials_of": trials_of,
        "found_by": found_by,
        "unverified": UNVERIFIED,
        "regenerate": REGENERATE,
    }


def step_summary(page: str, limit: int = SUMMARY_LIMIT) -> str:
    """``page`` cut at a line end to ``limit`` bytes, saying so: CI drops a longer summary."""
    if len(page.encode()) <= limit:
        return page
    note = "\n\nThe rest is in report.md: a step summary holds 1 MiB.\n"
    cut = page.encode()[: limit - len(note)].decode(errors="ignore")
    return (cut[: cut.rindex("\n")] if "\n" in cut else cut) + note


def results_json(results: Results, comparison: Comparison | None = None) -> str:
    """results.json, as results.schema.json describes it."""
    return json_text(results_record(results, comparison))


def results_record(results: Results, comparison: Comparison | None = None) -> dict[str, Any]:
    """The content of results.json, whatever the benchmark."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "note": UNVERIFIED,
        "verdict": asdict(judge(results)),
        **asdict(results),
        "degraded": results.degraded,
        "comparison": asdict(comparison) if comparison else None,
    }
    for trial, source in zip(record["trials"], results.trials, strict=True):
        trial["time_to_train_s"] = source.time_s
        trial["best_hit_rate"] = source.best_hit_rate
    return record


def json_text(record: Any) -> str:
    """``record`` as the reports' JSON files have it."""
    return json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n"


def results_csv(results: Results) -> str:
    """One row per trial."""
    rows = []
    for t in results.trials:
        log = t.log
        rows.append(
            {
                "run_id": results.run.run_id,
                "trial": t.index,
                "state": t.status.state,
                "seed": t.seed,
                "time_to_train_s": t.time_s,
                "epochs": len(t.epochs),
                "best_hit_rate": t.best_hit_rate,
                "target_hit_rate": t.status.target_hit_rate,
                "mean_samples_per_s": tables.mean_of(t, "samples_per_s"),
                "mean_eval_pairs_per_s": tables.mean_of(t, "eval_pairs_per_s"),
                "mean_input_wait_s": tables.mean_of(t, "input_wait_s"),
                **{f"findings_{k}": len(log.of_level(k)) if log else None for k in LEVELS},
                "log_sha256": log.sha256 if log else None,
            }
        )
    return csv_text(rows)


def epochs_csv(results: Results) -> str:
    """One row per epoch of every trial."""
    return csv_text([{"trial": t.index, **asdict(e)} for t in results.trials for e in t.epochs])


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """``rows`` as CSV under a heading of the first row's keys; empty where there are none."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _context(results: Results, comparison: Comparison | None) -> dict[str, Any]:
    return {
        "results": results,
        "summary": summary(results),
        "trials": tables.trials(results),
        "comparison": comparison,
    }


def _environment(*, escape: bool) -> Environment:
    """The templates, with every value escaped for HTML or none."""
    made = Environment(
        loader=PackageLoader("trainbench.reporting", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals.update(tables=tables, text=text, markup=Markup)
    made.filters["cell"] = markdown_cell
    return made


def markdown_cell(value: str) -> str:
    """``value`` as one cell of a Markdown table: nothing in it is markup or ends the cell."""
    line = " ".join(str(value).split())
    for character in "\\`*_<>[]|#&~":
        line = line.replace(character, "\\" + character)
    return line
