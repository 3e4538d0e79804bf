"""Writes the report: one page, its Markdown twin, and the same results for machines.

Every file is a pure function of the run directory: no clock, no host name, no absolute path.
"""

from __future__ import annotations

import csv
import gc
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainbench import files
from trainbench.benchmark import Benchmark, Quality
from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.statistic import UNVERIFIED
from trainbench.display.visible import cell, visible
from trainbench.errors import ConfigError
from trainbench.reporting import text
from trainbench.reporting.collect import collect
from trainbench.reporting.compare import Comparison, compare_runs, shown_tables
from trainbench.reporting.junit import junit
from trainbench.reporting.page import answers, links, plots, published, roofline, tables
from trainbench.reporting.published.beside import beside
from trainbench.reporting.published.convergence import convergence
from trainbench.reporting.records import SCHEMA_VERSION, Epoch, Results, Trial
from trainbench.reporting.summary import summary
from trainbench.reporting.verdict import found_by, grouped, judge, trials_of
from trainbench.trials.paths import RunDir
from trainbench.trials.spec import benchmark_of

SUMMARY_LIMIT = 2**20
# Where a reader would make a link of a bare address.
_LINK = re.compile(
    r"(?<=[A-Za-z0-9])(?=://)|(?i:(?<=\bmailto)(?=:)|(?<=\bxmpp)(?=:)|(?<=\bwww)(?=\.))"
)
_PUBLISHED = re.compile(
    r"https://(files\.grouplens\.org/datasets|www\.cs\.toronto\.edu/~kriz)/[\w./-]+"
)
LOAD_NOTE = "Shares are of the time of the CPUs that a trial may run on, second by second."


@dataclass(frozen=True)
class ReportFiles:
    """The files that ``write_report`` wrote, and the exit code that the results deserve.

    ``compliance`` says whether logs, records and sums of the run fit together.
    """

    exit_code: int
    compliance: tuple[str, ...]
    html: Path
    markdown: Path
    results_json: Path
    results_csv: Path
    epochs_csv: Path
    junit: Path


@contextmanager
def collecting_later() -> Iterator[None]:
    """A report makes millions of records and few cycles: looking for these is a seventh of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@collecting_later()
def write_report(
    run: RunDir, out: Path | None = None, *, benchmark: Benchmark, compare: Sequence[RunDir] = ()
) -> ReportFiles:
    """Writes the report of ``run`` into ``out`` (default: the run's ``report`` folder).

    Args:
        compare: further runs of ``benchmark``, shown beside this one.

    Raises:
        ConfigError: one of ``compare`` is of another benchmark.
        DataIntegrityError: ``run`` or one of ``compare`` is not the folder of a run, or the report
            would be written through a link.
    """
    if out is None:
        files.require_own_folder(run.report, run.root)
    results = collect(run, benchmark)
    others = [_comparable(other, run, benchmark) for other in compare]
    comparison = None
    if others:
        _of_one_benchmark([results, *others], [run, *compare])
        comparison = compare_runs([results, *others])
    folder = out or run.report
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        folder / "report.html": html(results, comparison, links.files_of(run)),
        folder / "report.md": markdown(results, comparison),
        folder / "results.json": results_json(results, comparison),
        folder / "results.csv": results_csv(results),
        folder / "epochs.csv": epochs_csv(results),
        folder / "junit.xml": junit(results),
    }
    for path, content in texts.items():
        files.write_atomically(path, content)
    said = summary(results).compliance
    return ReportFiles(judge(results).exit_code, said, *texts)


def _comparable(other: RunDir, run: RunDir, benchmark: Benchmark) -> Results:
    results = collect(other, benchmark_of(other))
    if results.benchmark is not benchmark:
        raise ConfigError(
            f"{other.root}: a run of {results.benchmark.name}, but {run.root} is one of "
            f"{benchmark.name}; only runs of one benchmark are compared"
        )
    return results


def _of_one_benchmark(runs: Sequence[Results], folders: Sequence[RunDir]) -> None:
    """A folder that is called after a benchmark may hold the logs of another one."""
    for results, folder in zip(runs, folders, strict=True):
        logged = {t.log.benchmark for t in results.trials if t.log} - {None}
        if logged and logged != {results.benchmark.name}:
            names = ", ".join(sorted(map(str, logged)))
            raise ConfigError(
                f"{folder.root}: logs of {names} where those of {results.benchmark.name} should "
                "be; only runs of one benchmark are compared"
            )


def html(
    results: Results,
    comparison: Comparison | None = None,
    files_of: Mapping[int, Sequence[str]] = links.NONE,
) -> str:
    """The page, complete in itself: no script, no request to anywhere.

    ``files_of`` names the files of each trial that the page may link to, from the run's folder.
    """
    page = environment(escape=True).get_template("page.html.j2")
    figures = plots.figures(results)
    return page.render(
        _context(results, comparison),
        figures=figures,
        style=style(),
        files=files_of,
        links=links.hrefs(files_of),
        good=published.parts(results),
        roofline=roofline.roofline(results),
    )


def markdown(results: Results, comparison: Comparison | None = None) -> str:
    """The page's Markdown twin, without drawings."""
    page = environment(escape=False).get_template("page.md.j2")
    good = published.parts(results, drawn=False)
    beside = roofline.roofline(results, drawn=False)
    return page.render(_context(results, comparison), good=good, roofline=beside)


def step_summary(page: str, limit: int = SUMMARY_LIMIT) -> str:
    """``page`` cut at a line end to ``limit`` bytes, saying so: CI drops a longer summary."""
    if len(page.encode()) <= limit:
        return page
    note = "\n\nThe rest is in report.md: a step summary holds 1 MiB.\n"
    cut = page.encode()[: limit - len(note)].decode(errors="ignore")
    return (cut[: cut.rindex("\n")] if "\n" in cut else cut) + note


def results_json(results: Results, comparison: Comparison | None = None) -> str:
    """results.json, as results.schema.json describes it: the quality by its own names."""
    measured = [t.measured for t in results.trials if t.measured]
    record = {
        "schema_version": SCHEMA_VERSION,
        "note": UNVERIFIED,
        "verdict": judge(results),
        **vars(results),
        "benchmark": results.benchmark.name,
        "trials": [_trial_record(t, results.quality) for t in results.trials],
        "degraded": results.degraded,
        "comparison": comparison,
        "published": beside(results),
        "convergence": convergence(results),
        **({"measured": measured} if measured else {}),
    }
    del record["samples"]
    return json.dumps(record, default=asdict, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _trial_record(trial: Trial, quality: Quality) -> dict[str, Any]:
    record = {**asdict(trial), "time_to_train_s": trial.time_s, quality.best: trial.best}
    del record["measured"]
    for part in filter(None, (record["status"], record["log"])):
        part[quality.best], part[quality.target] = part.pop("best"), part.pop("target")
    return record


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
                f"{results.quality.every}s": len(t.epochs),
                results.quality.best: t.best,
                results.quality.target: t.status.target,
                **results.sections.trial_columns(t),
                **{f"findings_{k}": len(log.of_level(k)) if log else None for k in LEVELS},
                "log_sha256": log.sha256 if log else None,
            }
        )
    return csv_text(rows)


def epochs_csv(results: Results) -> str:
    """One row per epoch of every trial."""
    return csv_text([{"trial": t.index, **_columns(e)} for t in results.trials for e in t.epochs])


def _columns(epoch: Epoch) -> dict[str, Any]:
    """The fields of ``epoch``; a record in it has a column for each of its own, also without it."""
    found: dict[str, Any] = {}
    for name, kind in _records_in(type(epoch)).items():
        value = getattr(epoch, name)
        if kind is None:
            found[name] = value
        else:
            found |= {f"{name}_{f.name}": getattr(value, f.name, None) for f in fields(kind)}
    return found


@cache
def _records_in(kind: Any) -> dict[str, Any]:
    """Field of a dataclass -> the dataclass that it may hold, or ``None``."""
    hints = get_type_hints(kind)
    holds = {f.name: get_args(hints[f.name]) for f in fields(kind)}
    return {n: next((k for k in kinds if is_dataclass(k)), None) for n, kinds in holds.items()}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """``rows`` as CSV under a heading of the first row's keys; empty where there are none."""
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _context(results: Results, comparison: Comparison | None) -> dict[str, Any]:
    sections, benchmark = results.sections, results.benchmark
    return {
        "results": results,
        "quality": results.quality,
        "summary": summary(results),
        "subject": sections.subject or benchmark.title,
        "reference": sections.reference or f"preset {benchmark.reference}",
        "trials": tables.trials(results),
        "further": sections.tables(results),
        "loads": tables.loads(results),
        "load_note": LOAD_NOTE,
        "comparison": shown_tables(comparison, results) if comparison else None,
        "verdict": judge(results),
        "findings": grouped(results),
        "trials_of": trials_of,
        "found_by": found_by,
        "unverified": UNVERIFIED,
        "ran": answers.ran(results),
        "fair": answers.fair(results),
        "again": answers.again(results),
        "dirty": answers.dirty(results),
        "regenerate": answers.REGENERATE,
        "replays": answers.replays(results),
    }


def environment(*, escape: bool, further: str | None = None) -> Environment:
    """The templates, with every value escaped for HTML or none.

    ``further`` names a package with templates of its own beside those of the report.
    """
    packages = [package for package in (further, "trainbench.reporting.page") if package]
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, "templates") for package in packages]),
        autoescape=escape,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # A page that has no files to link to has no links.
    made.globals.update(tables=tables, text=text, markup=Markup, links={})
    made.filters["cell"] = markdown_cell
    made.filters["headings"] = headings
    return made


def style() -> Markup:
    """The style sheet of every page."""
    return Markup(resources.files(__package__).joinpath("templates/style.css").read_text("utf-8"))


def headings(body: str) -> list[tuple[str, Markup]]:
    """Anchor and text of each section of ``body``, for the list of contents."""
    found = re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', body)
    return [(anchor, Markup(title)) for anchor, title in found]


def markdown_cell(value: str) -> str:
    """``value`` as one cell of a Markdown table: nothing in it is markup or ends the cell.

    Readers make links of bare addresses; only those of the publishers of data may be such.
    """
    line = visible(" ".join(str(value).split()))
    published = _PUBLISHED.fullmatch(line)
    for character in "\\`*_<>[]|#&~$":
        line = line.replace(character, "\\" + character)
    return line if published else _LINK.sub(r"\\", line)


def _finalize(value: Any) -> Any:
    """What a template prints, made visible; markup of our own stays markup."""
    if isinstance(value, Markup):
        return Markup(visible(str(value)))
    return visible(value) if isinstance(value, str) else value
