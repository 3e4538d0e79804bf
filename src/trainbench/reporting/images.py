"""The report of a run of image classification: the same page as NCF's, with its own numbers.

Logs, findings, verdict and files are made by the code that NCF's report uses; what is different
stands here: accuracy, images per second and the times of single steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from statistics import median
from typing import Any

from markupsafe import Markup

from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.tags.resnet import BENCHMARK
from trainbench.image_classification import config as configuration
from trainbench.reporting import evidence, image_plots, tables, text
from trainbench.reporting.findings import found_by, grouped, trials_of
from trainbench.reporting.image_plots import Measured
from trainbench.reporting.junit import junit
from trainbench.reporting.records import (
    CacheDrop,
    Degradation,
    Difference,
    Phase,
    Results,
    Run,
    Status,
    Trial,
)
from trainbench.reporting.render import (
    REGENERATE,
    ReportFiles,
    csv_text,
    environment,
    json_text,
    results_record,
    write_files,
)
from trainbench.reporting.sources import Source
from trainbench.reporting.summary import Answer, score_sentences
from trainbench.reporting.tables import Table
from trainbench.reporting.text import NA, fixed, percent, plural, seconds
from trainbench.reporting.verdict import UNVERIFIED, judge, level_findings
from trainbench.trials.paths import RunDir, TrialDir


@dataclass(frozen=True)
class ImagesResults:
    """A run as its directory tells it, and what each trial measured of its steps."""

    results: Results
    measured: tuple[Measured, ...]


def write_report(run: RunDir, out: Any = None) -> ReportFiles:
    """Write the report of ``run`` into ``out`` (default: the run's ``report`` folder)."""
    found = collect(run)
    texts = {
        "html": html(found),
        "markdown": markdown(found),
        "results_json": results_json(found),
        "results_csv": csv_text(_trial_rows(found)),
        "epochs_csv": csv_text(_evaluation_rows(found)),
        "junit": junit(found.results, BENCHMARK),
    }
    return write_files(out or run.report, texts, exit_code=judge(found.results).exit_code)


def collect(run: RunDir) -> ImagesResults:
    """Everything the run directory says; what is absent or damaged is named, never guessed."""
    source = Source(run.root)
    identity = source.record(run.run_file, Run)
    logs = evidence.evidence(run, identity.system_name, source.missing, BENCHMARK)
    lost = evidence.lost_lines(source.mapping(run.findings))
    trials, measured = [], []
    for trial in run.trials:
        log = logs.logs.get(trial.index)
        record = source.mapping(trial.result)
        measured.append(Measured.of(trial.index, record))
        trials.append(_trial(source, trial, log, lost.get(trial.index, ())))
    config = source.mapping(run.config)
    results = Results(
        run=identity,
        config=config,
        differences=_differences(config),
        dataset=_flat(source.mapping(run.manifest)),
        cache=_flat(source.mapping(run.cache_record)),
        trials=tuple(trials),
        rules=evidence.rules(BENCHMARK),
        set_findings=logs.set_findings,
        score=logs.score,
        set_aside=tuple(sorted(p.name for p in run.root.glob("trial_*.aborted-*"))),
        missing=tuple(source.missing),
        benchmark=BENCHMARK,
    )
    return ImagesResults(results, tuple(measured))


def html(found: ImagesResults) -> str:
    """The page, complete in itself: no script, no request to anywhere."""
    target = found.results.config.get("target_top_1")
    figures = image_plots.figures(found.measured, target)
    template = environment(escape=True).get_template("images.html.j2")
    style = resources.files(__package__).joinpath("templates/style.css").read_text("utf-8")
    return template.render(_context(found), figures=figures, style=Markup(style))


def markdown(found: ImagesResults) -> str:
    """The page's Markdown twin, without drawings."""
    return environment(escape=False).get_template("images.md.j2").render(_context(found))


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
            _level(t),
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


def _trial(source: Source, trial: TrialDir, log: Any, lost: tuple[Any, ...]) -> Trial:
    return Trial(
        index=trial.index,
        status=_status(source.mapping(trial.status)),
        epochs=(),
        phases=source.records(trial.phases, Phase),
        cache_drop=source.record(trial.cache_drop, CacheDrop),
        system=source.mapping(trial.system),
        log=replace(log, findings=(*log.findings, *lost)) if log else None,
    )


def _status(record: Mapping[str, Any]) -> Status:
    """status.json in the terms of the report's records: the quality of a trial is its accuracy."""
    notes = record.get("degraded")
    return Status(
        state=record.get("state"),
        exit_code=record.get("exit_code"),
        message=record.get("message"),
        seed=record.get("seed"),
        time_to_train_s=record.get("time_to_train_s"),
        best_hit_rate=record.get("best_top_1"),
        target_hit_rate=record.get("target_top_1"),
        epochs=record.get("evaluations"),
        num_users=None,
        num_items=None,
        num_parameters=record.get("num_parameters"),
        initial_hit_rate=None,
        device=record.get("device"),
        precision=record.get("precision"),
        degraded=tuple(Degradation(n.get("code"), n.get("text")) for n in notes or ()),
    )


def differences_table(results: Results) -> Table:
    """The configuration as a difference from the preset ``imagenet``."""
    rows = tuple((d.key, d.reference, d.this) for d in results.differences or ())
    return Table(("Setting", "Preset imagenet", "This run"), rows, numeric_from=3)


def _differences(config: Mapping[str, Any]) -> tuple[Difference, ...]:
    base = asdict(configuration.imagenet())
    return tuple(
        Difference(key, text.shown(base[key]), text.shown(config[key]))
        for key in sorted(base)
        if key != "preset" and key in config and config[key] != base[key]
    )


def _flat(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest without its list of files, which can be long."""
    listed = record.get("files")
    number = len(listed) if isinstance(listed, dict) else 0
    return {**{k: v for k, v in record.items() if k != "files"}, "number_of_files": number}


def _answers(found: ImagesResults) -> tuple[Answer, ...]:
    results, verdict = found.results, judge(found.results)
    best = max((t.best_hit_rate or 0.0 for t in results.trials), default=None)
    target = results.config.get("target_top_1")
    reached = verdict.reached == verdict.expected > 0
    word = f"{verdict.reached} of {verdict.expected} trials" if verdict.expected > 1 else ""
    word = word or ("yes" if reached else "no")
    times = [t.time_s for t in results.trials if t.time_s is not None]
    time = text.long_seconds(median(times)) if times else NA
    speeds = [m.images_per_s for m in found.measured if m.images_per_s]
    return (
        Answer(
            "Target reached",
            word,
            f"best top-1 {percent(best)}, target {percent(target)}",
            "good" if reached else "bad",
        ),
        Answer("Time to train", time, "from run_start to run_stop" if times else ""),
        _rules("Level 2 of the v0.5 checker", "2", results),
        _rules("Strict rules", "strict", results),
        Answer(
            "Training speed",
            f"{fixed(median(speeds), 1)} images/s" if speeds else NA,
            "over the whole run, compiling and evaluations included",
        ),
    )


def _rules(question: str, level: str, results: Results) -> Answer:
    broken = "bad" if level == "2" else "warn"
    if level_findings(results, level) is None:
        return Answer(question, "not checked", "a trial has no stitched log", broken)
    groups = [g for g in grouped(results) if LEVELS.index(g.finding.level) <= LEVELS.index(level)]
    if not groups:
        return Answer(question, "passed", tone="good")
    meant = sum(bool(g.settings) for g in groups)
    detail = f"{meant} of them by the preset's own settings" if meant else ""
    return Answer(question, f"{plural(len(groups), 'rule')} broken", detail, broken)


def _context(found: ImagesResults) -> dict[str, Any]:
    results, verdict = found.results, judge(found.results)
    return {
        "results": results,
        "measured": found.measured,
        "verdict": verdict,
        "tone": {0: "good", 4: "warn"}.get(verdict.exit_code, "bad"),
        "subtitle": f"{results.config.get('model', NA)} on {results.config.get('dataset', NA)}, "
        f"preset {results.run.preset or NA}, run {results.run.run_id or NA}, "
        f"{text.moment(results.run.created_unix_s)}",
        "answers": _answers(found),
        "degraded": results.degraded,
        "trials": trials_table(found),
        "score": score_sentences(results),
        "steps": steps_table(found),
        "evaluations": evaluations_table,
        "differences": differences_table(results),
        "findings": grouped(results),
        "trials_of": trials_of,
        "found_by": found_by,
        "unverified": UNVERIFIED,
        "regenerate": REGENERATE,
    }


def _level(trial: Trial) -> str:
    if trial.log is None:
        return NA
    number = len(trial.log.of_level("2"))
    return "passed" if number == 0 else f"{number} found"


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
