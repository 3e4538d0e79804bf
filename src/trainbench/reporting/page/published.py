"""The run beside the published results of v0.5: sentences, tables and figures of one section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from trainbench.display.visible import visible
from trainbench.reporting.page import drawing
from trainbench.reporting.page.drawing import INK, SERIES, WIDE, Figure, Key, Panel
from trainbench.reporting.page.tables import Table
from trainbench.reporting.published import beside as times
from trainbench.reporting.published import convergence as speed
from trainbench.reporting.published.beside import Beside
from trainbench.reporting.published.convergence import Convergence
from trainbench.reporting.published.tables import PublishedRun, runs
from trainbench.reporting.records import Results
from trainbench.reporting.text import NA, count, fixed, number, seconds

THIS_RUN = "this run"


@dataclass(frozen=True)
class Part:
    """A question of the section with its answer in words, tables and figures.

    ``tone`` is warn where the answer is a finding.
    """

    heading: str
    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    tone: str = ""


def parts(
    results: Results, own: str = THIS_RUN, name: str = "", *, drawn: bool = True
) -> tuple[Part, ...]:
    """Whether the time is good, and whether it converged as others did.

    ``own`` is what the run is called, and ``name`` sets its figures apart from those of others on
    the page; without ``drawn`` there are none.
    """
    beside, check = times.beside(results), speed.convergence(results)
    with drawing.style():
        of_times = (_times(beside, own, name),) if drawn and beside.rows else ()
        of_epochs = (_epochs(check, own, name),) if drawn and check.systems else ()
    return (
        Part(
            "Time to train beside published results",
            times.sentences(beside),
            (times_table(beside, own),) if beside.rows else (),
            of_times,
        ),
        Part(
            "Epochs to the target beside public runs",
            speed.sentences(check),
            (systems_table(check),) if check.systems else (),
            of_epochs,
            "warn" if check.implausible else "",
        ),
    )


def times_table(beside: Beside, own: str) -> Table:
    """The published results and this run, fastest first."""
    own_s = beside.own_s or 0.0
    rows = [
        (r.score_s, r.system, f"{r.converged} of {r.runs}", "v0.5 statistic") for r in beside.rows
    ]
    rows.append((own_s, cut_label(own), "", beside.own_is))
    return Table(
        ("System", "Converged", "Statistic", "Time to train", "Times this run's"),
        tuple(
            (name, converged, statistic, seconds(value), fixed(value / own_s, 2))
            for value, name, converged, statistic in sorted(rows, key=lambda row: row[0])
        ),
        numeric_from=3,
    )


def systems_table(check: Convergence) -> Table:
    """The public runs of each system, and the test against them."""
    return Table(
        ("Public runs of", "Converged", "Fastest", "Median", "Slowest", "p", "p of converged"),
        tuple(
            (
                s.system,
                f"{s.converged} of {s.runs}",
                count(s.fastest),
                number(s.median),
                count(s.slowest),
                f"{s.p:.3g}",
                f"{s.p_converged:.3g}",
            )
            for s in check.systems
        ),
        numeric_from=2,
    )


Ranked = tuple[str, Sequence[float], bool]
"""Who took how many seconds, and whether it is what the page is of."""
MOST_LABEL = 44


def ranking(rows: Sequence[Ranked]) -> Axes:
    """Seconds above 0 on a logarithmic axis, a row for each, from the fastest to the slowest."""
    rows = sorted(rows, key=lambda row: min(row[1]))
    labels = [cut_label(name) for name, _, _ in rows]
    margin = 14 + 6.4 * max(map(len, labels))
    height = 0.7 + 0.24 * len(rows)
    drawn = drawing.axes(WIDE, height, left_px=margin, xlabel="seconds to train (logarithmic)")
    drawn.set_xscale("log")
    for place, (_, times_s, own) in enumerate(rows):
        marker, colour = ("D", INK) if own else ("o", SERIES[0])
        drawn.plot(times_s, [place] * len(times_s), marker, markersize=6, color=colour)
    drawn.set_yticks(range(len(labels)), labels)
    drawn.set_ylim(len(labels) - 0.4, -0.6)
    every = [time_s for _, times_s, _ in rows for time_s in times_s]
    drawn.set_xlim(min(every) / 1.5, max(every) * 1.5)
    drawing.plain_numbers(drawn.xaxis)
    drawn.grid(visible=False, axis="y")
    drawn.grid(visible=True, axis="x")
    return drawn


def cut_label(label: str) -> str:
    """A label that leaves room for the drawing; names of files may have any length."""
    label = visible(label)
    return label if len(label) <= MOST_LABEL else f"{label[: MOST_LABEL - 3]}..."


def _times(beside: Beside, own: str, name: str) -> Figure:
    own_s = beside.own_s or 0.0
    fastest = beside.rows[0].score_s
    said = f"the fastest of {len(beside.rows)} published results takes {seconds(fastest)}"
    if own_s < fastest:
        said = f"faster than all {len(beside.rows)} published results"
    drawn = ranking([(own, [own_s], True), *((r.system, [r.score_s], False) for r in beside.rows)])
    title = "Time to train beside published results"
    return Figure(
        f"published{name}",
        title,
        f"{title}: {own} takes {seconds(own_s)}, {said}",
        (Panel("", drawing.svg(drawn, f"published{name}")),),
        (
            Key("--ink", "dot", cut_label(own)),
            Key("--series-0", "dot", "published, v0.5 statistic"),
        ),
        times_table(beside, own),
    )


def _epochs(check: Convergence, own: str, name: str) -> Figure:
    """How many public runs reached the target in each epoch, and where the own ones are."""
    folders = {system.folder for system in check.systems}
    public = [r for r in runs() if r.folder in folders and r.batch_size == check.batch_size]
    theirs = Counter(r.epoch_of_target for r in public if r.epoch_of_target is not None)
    mine = Counter(epoch for epoch in check.epochs if epoch is not None)
    drawn = drawing.axes(WIDE, 2.4, left_px=40, xlabel="epoch of the target, as logs number it")
    drawn.bar(list(theirs), list(theirs.values()), color=SERIES[0], width=0.8)
    top = max(theirs.values(), default=1)
    drawn.plot(list(mine), [1.08 * top] * len(mine), "D", color=INK, markersize=7)
    drawn.set_ylim(0, 1.2 * top)
    keys = [Key("--series-0", "bar", "public runs"), Key("--ink", "dot", cut_label(own))]
    missed = _missed(public), sum(epoch is None for epoch in check.epochs)
    keys.append(Key("--muted", "hollow", f"not converged: {missed[0]} public, {missed[1]} own"))
    rows = _rows(theirs, mine, missed)
    span = f"{min(theirs)} to {max(theirs)}" if theirs else NA
    reached = f"{min(mine)} to {max(mine)}" if mine else "none"
    return Figure(
        f"epochs{name}",
        f"Epochs to the target at batch size {count(check.batch_size)}",
        f"Epochs to the target: public runs {span}, {own} {reached}",
        (Panel("", drawing.svg(drawn, f"epochs{name}")),),
        tuple(keys),
        Table(("Epoch", "Public runs", "Own runs"), rows, numeric_from=0),
    )


def _missed(public: Sequence[PublishedRun]) -> int:
    return sum(run.epoch_of_target is None for run in public)


def _rows(
    theirs: Counter[int], mine: Counter[int], missed: tuple[int, int]
) -> tuple[tuple[str, ...], ...]:
    epochs = sorted(theirs.keys() | mine.keys())
    rows = [(count(epoch), count(theirs[epoch]), count(mine[epoch])) for epoch in epochs]
    return (*rows, ("not reached", count(missed[0]), count(missed[1])))
