"""The tables of the report, as text: the HTML page and its Markdown twin print the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainbench.machine.load import Load
from trainbench.reporting.records import CacheDrop, Phase, Results, Trial
from trainbench.reporting.text import (
    NA,
    count,
    fixed,
    gib,
    moment,
    number,
    of_target,
    percent,
    seconds,
    shown,
    yes,
)

MOST_COLUMNS = 8
MOST_ROWS = 200
"""Rows of one table that a page shows; results.json, results.csv and epochs.csv have all."""
MOST_TRIALS = 50
"""Trials whose epochs a page lists."""


@dataclass(frozen=True)
class Table:
    """Rows of text under column headings; columns from ``numeric_from`` on are set right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric_from: int = 1

    @property
    def shown_rows(self) -> tuple[tuple[str, ...], ...]:
        """What a page shows of ``rows``: all, or as many from the beginning and from the end."""
        if len(self.rows) <= MOST_ROWS:
            return self.rows
        half = MOST_ROWS // 2
        left_out = f"... {count(len(self.rows) - 2 * half)} more"
        gap = (left_out, *[""] * (len(self.columns) - 1))
        return (*self.rows[:half], gap, *self.rows[-half:])


def trials(results: Results) -> Table:
    """One row per trial."""
    columns = (
        "Trial",
        "Outcome",
        "Time to train",
        f"{results.quality.every.capitalize()}s",
        f"Best {results.quality.name}",
        "Seed",
        "Level 2",
        "Strict",
    )
    rows = tuple(
        (
            str(t.index),
            outcome(t),
            seconds(t.time_s),
            count(len(t.epochs)),
            of_target(t.best, results.target),
            t.seed or NA,
            level(t, "2"),
            level(t, "strict"),
        )
        for t in results.trials
    )
    return Table(columns, rows, numeric_from=2)


def outcome(trial: Trial) -> str:
    """The state of a trial in words."""
    if trial.targetless:
        return "no target"
    if trial.finished:
        return "target reached" if trial.reached else "target not reached"
    state = trial.status.state
    return "running or killed" if state == "running" else state or NA


def level(trial: Trial, name: str) -> str:
    """What a trial's log is worth at a level: ``passed`` or a number of findings."""
    if trial.log is None:
        return NA
    number = len(trial.log.of_level(name))
    return "passed" if number == 0 else f"{number} found"


def epochs(results: Results, trial: Trial) -> Table:
    """One row per epoch, or evaluation, of a trial."""
    columns = results.sections.epoch_columns or (
        (results.quality.every.capitalize(), lambda e: number(e.epoch)),
        (results.quality.name, lambda e: fixed(e.quality)),
    )
    rows = tuple(tuple(cell(e) for _, cell in columns) for e in trial.epochs)
    return Table(tuple(heading for heading, _ in columns), rows, numeric_from=0)


def phases(trial: Trial, spans: Sequence[Phase]) -> Table:
    """Seconds per phase of a trial, on and off the clock, in order of first appearance."""
    by_name: dict[tuple[str | None, bool | None], list[Phase]] = {}
    for phase in spans:
        by_name.setdefault((phase.name, phase.timed), []).append(phase)
    rows = []
    for (name, timed), own in by_name.items():
        known = [p.duration_s for p in own if p.duration_s is not None]
        total = sum(known) if known else None
        share = trial.covered(own) if timed else None
        rows.append((name or NA, yes(timed), count(len(own)), seconds(total), percent(share)))
    columns = ("Phase", "On the clock", "Times", "Total", "Share of the clock")
    return Table(columns, tuple(rows), numeric_from=2)


def differences(results: Results, reference: str) -> Table:
    """The configuration as a difference from that called ``reference``."""
    rows = tuple((d.key, d.reference, d.this) for d in results.differences or ())
    return Table(("Setting", reference, "This run"), rows, numeric_from=3)


def quality(results: Results) -> Table:
    """The quality with epochs down and trials across; of many trials, the range and the median."""
    return by_epoch(results, "quality")


def by_epoch(results: Results, field: str) -> Table:
    """A field of the epochs as ``quality`` shows the quality."""
    trials = results.trials
    rates = {
        (e.epoch, t.index): value
        for t in trials
        for e in t.epochs
        if e.epoch is not None and (value := getattr(e, field)) is not None
    }
    of_epoch: dict[float, list[float]] = {}
    for (epoch, _), rate in rates.items():
        of_epoch.setdefault(epoch, []).append(rate)
    numbers = sorted(of_epoch)
    if len(trials) > MOST_COLUMNS:
        columns: tuple[str, ...] = ("Epoch", "Trials", "Lowest", "Median", "Highest")
        rows = [_spread(n, of_epoch[n]) for n in numbers]
    else:
        columns = ("Epoch", *(f"Trial {t.index}" for t in trials))
        rows = [
            (
                number(n),
                *(fixed(rates[n, t.index]) if (n, t.index) in rates else "" for t in trials),
            )
            for n in numbers
        ]
    return Table(columns, tuple(rows), numeric_from=0)


def _spread(epoch: float, rates: list[float]) -> tuple[str, ...]:
    shown_rates = (fixed(rate) for rate in (min(rates), median(rates), max(rates)))
    return number(epoch), count(len(rates)), *shown_rates


def settings(results: Results) -> Table:
    """Every setting of the run."""
    return facts((key, shown(value)) for key, value in sorted(results.config.items()))


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Two columns without headings."""
    return Table(("", ""), tuple(pairs), numeric_from=2)


def system(results: Results) -> Table:
    """The machine of the first trial that recorded one."""
    record = next((t.system for t in results.trials if t.system), {})
    cpu, gpus = _mapping(record.get("cpu")), record.get("gpus")
    status = results.trials[0].status if results.trials else None
    pairs = [
        ("Device", shown(record.get("device") or (status and status.device))),
        ("Precision", shown(status.precision if status else None)),
        ("CPU", shown(cpu.get("model"))),
        (
            "Sockets, cores, threads",
            ", ".join(shown(cpu.get(k)) for k in ("sockets", "cores", "threads")),
        ),
        ("Memory", gib(_number(record.get("memory_bytes")))),
        ("Of the whole machine", _host(_mapping(record.get("host")))),
        ("GPUs", "; ".join(_gpu(g) for g in gpus) if isinstance(gpus, list) and gpus else "none"),
        ("CUDA", shown(record.get("cuda"))),
        ("Operating system", shown(record.get("os"))),
        ("Kernel", shown(record.get("kernel"))),
        ("Limits (cgroup)", shown(record.get("cgroup"))),
        ("In a container", shown(record.get("container"))),
    ]
    return facts(pairs)


def _host(host: Mapping[str, Any]) -> str:
    """What there is beside what the run was allotted."""
    cores, threads = (shown(host.get(key)) for key in ("cores", "threads"))
    return f"{cores} cores, {threads} threads, {gib(_number(host.get('memory_bytes')))}"


def _gpu(gpu: Any) -> str:
    gpu = _mapping(gpu)
    memory = gib(_number(gpu.get("memory_bytes")))
    return f"{shown(gpu.get('name'))}, {memory}, driver {shown(gpu.get('driver'))}"


def loads(results: Results) -> Table:
    """Who took how much of the machine while the clock ran; without columns that no trial tells.

    Shares are of the time of the CPUs that the trial may run on.
    """
    loads = [(t.index, t.load) for t in results.trials if t.load]
    told = [
        (heading, cell)
        for heading, field, cell in _LOAD
        if any(getattr(load, field) is not None for _, load in loads)
    ]
    rows = tuple((str(i), *(cell(load) for _, cell in told)) for i, load in loads)
    return Table(("Trial", *(heading for heading, _ in told)), rows)


_LOAD: tuple[tuple[str, str, Callable[[Load], str]], ...] = (
    ("Seconds", "samples", lambda load: count(load.samples)),
    ("CPUs", "cpus", lambda load: count(load.cpus)),
    ("This trial", "own_cpu", lambda load: percent(load.own_cpu)),
    ("Other processes", "foreign_cpu", lambda load: percent(load.foreign_cpu)),
    ("Other virtual machines (steal)", "steal_cpu", lambda load: percent(load.steal_cpu)),
    ("Most memory", "resident_bytes", lambda load: gib(load.resident_bytes)),
    ("CPU frequency", "cpu_mhz", lambda load: f"{count(load.cpu_mhz)} MHz"),
    ("Slowed by heat", "thermal_throttles", lambda load: f"{count(load.thermal_throttles)} times"),
    ("Stopped by quota", "quota_throttled_s", lambda load: seconds(load.quota_throttled_s)),
    ("CPU energy", "cpu_energy_j", lambda load: f"{count(load.cpu_energy_j)} J"),
    ("GPUs at work", "gpu_utilisation", lambda load: percent(load.gpu_utilisation)),
    ("GPU power", "gpu_power_w", lambda load: f"{count(load.gpu_power_w)} W"),
)


def cache_drops(results: Results) -> Table:
    """Whether the page cache was dropped before each trial, with the proof."""
    cached = ("Cached before", "Cached after", "Of it in use")
    columns = ("Trial", "Dropped", "How", *cached, "Location", "Why not")
    rows = tuple((str(t.index), *_drop(t.cache_drop)) for t in results.trials)
    return Table(columns, rows, numeric_from=8)


def _drop(drop: CacheDrop) -> tuple[str, ...]:
    looked = (drop.cached_before_kib, drop.cached_after_kib, drop.in_use_kib)
    cached = (gib(None if kib is None else kib * 1024) for kib in looked)
    why = drop.reason or ("" if drop.dropped else NA)
    return yes(drop.dropped), drop.method or NA, *cached, drop.location or NA, why


def dataset(results: Results) -> Table:
    """Where the data comes from and what was made of them."""
    hidden = {"schema", "own"}
    pairs = [
        (key.replace("_", " "), shown(value))
        for key, value in results.dataset.items()
        if key not in hidden and value is not None
    ]
    own = results.dataset.get("own")
    if isinstance(own, dict):
        pairs += [(f"own ratings: {k.replace('_', ' ')}", shown(v)) for k, v in own.items()]
    names = ("key", "counts", "tied_users", "test_set_sha256")
    pairs += [
        (f"cache: {name.replace('_', ' ')}", shown(results.cache[name]))
        for name in names
        if name in results.cache
    ]
    return facts(pairs)


def provenance(results: Results) -> Table:
    """What made the numbers: revision, versions, images, identity of the run."""
    run = results.run
    record = next((t.system for t in results.trials if t.system), {})
    git = _mapping(record.get("git"))
    dirty = ", with uncommitted changes" if git.get("dirty") is True else ""
    images = record.get("images")
    pairs = [
        ("Run", run.run_id or NA),
        ("Started", moment(run.created_unix_s)),
        *_notes(results),
        ("Command", " ".join(run.command) if run.command else NA),
        ("trainbench", run.trainbench_version or NA),
        ("Git revision", f"{shown(git.get('revision'))}{dirty}"),
        (
            "Images",
            "; ".join(_image(i) for i in images) if isinstance(images, list) and images else NA,
        ),
    ]
    packages = _mapping(record.get("packages"))
    pairs += [(name, shown(packages[name])) for name in sorted(packages)]
    return facts(pairs)


def _notes(results: Results) -> list[tuple[str, str]]:
    """What the user says of the run, if anything; the sums cover what was said at its start."""
    said = results.notes
    later = ", said later: not covered by the sums of the run" if said.later else ""
    found = {"Note": said.note, "Tags": ", ".join(said.tags)}
    return [(name, f"{text}{later}") for name, text in found.items() if text]


def _image(image: Any) -> str:
    image = _mapping(image)
    return f"{shown(image.get('name'))} {shown(image.get('digest'))}"


def logs(results: Results) -> Table:
    """The stitched logs with their checksums."""
    rows = tuple(
        (
            str(t.index),
            t.log.file,
            seconds(t.log.time_s),
            seconds(t.log.monotonic_time_s),
            t.log.sha256,
        )
        for t in results.trials
        if t.log
    )
    columns = ("Trial", "Log", "MLPerf time", "By the monotonic clock", "sha256")
    return Table(columns, rows, numeric_from=5)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
