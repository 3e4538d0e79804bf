"""The commands that look at runs beside runs: history, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trainbench.cli.options import FILE, FOLDER, FiniteRange, needs
from trainbench.errors import ConfigError, RegressionError
from trainbench.files import write_atomically
from trainbench.machine import extras


@click.command("history")
@click.argument("places", metavar="DIR...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=FOLDER, help="Folder of the page. Default: history/ in the first DIR.")
@click.option(
    "--threshold-percent",
    type=FiniteRange(0, 100, max_open=True),
    default=1.0,
    help="Changes for the worse by less than this raise no alarm.",
)
@click.option("--json", "as_json", is_flag=True, help="Print history.json instead of a summary.")
@needs(*extras.REPORT)
def history(
    places: tuple[Path, ...], out: Path | None, threshold_percent: float, as_json: bool
) -> None:
    """List the runs below DIR... on one page, and find where their level changed.

    DIR is a data directory, a folder of runs or of results of trainbench cnn, or one of these; the
    default is data. Written are index.html, which needs no network, and history.json. Runs of
    other machines, tasks or settings are series of their own. Exit code 7: a time, a speed or a
    quality became worse and stayed so by more than the threshold.
    """
    from trainbench.history import record, series, summary
    from trainbench.history.page import write_history
    from trainbench.history.stored import stored

    places = places or (Path("data"),)
    found = series.history(stored(places), threshold_percent=threshold_percent)
    first = places[0] if places[0].is_dir() else places[0].parent
    page = write_history(found, out or first / "history")
    click.echo(record.history_json(found) if as_json else summary.to_text(found), nl=False)
    click.echo(f"history: {page}", err=True)
    if found.alarms:
        raise RegressionError(summary.first_alarm(found))


@click.command("compare")
@click.argument(
    "paths", metavar="[BASELINE] OTHER", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--baseline", type=click.Path(path_type=Path), help="The same as BASELINE.")
@click.option(
    "--threshold-percent",
    type=FiniteRange(0, 100, max_open=True),
    default=0.0,
    help="Ignore what is worse by up to this percentage.",
)
@click.option(
    "--confidence",
    type=FiniteRange(0.5, 1, max_open=True),
    default=0.95,
    help="Confidence of the intervals; 1 minus this is the test's level.",
)
@click.option(
    "--other-machine",
    type=click.Choice(["judge", "skip", "refuse"]),
    default="judge",
    help="Times of another machine than the baseline's: judge them with a caution, judge quality "
    "alone, or refuse (exit code 2).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option(
    "--markdown", type=FILE, help="Also write it as Markdown, for a comment on a pull request."
)
@click.option(
    "--smaller-is-better",
    type=FILE,
    help="Also write OTHER's times as github-action-benchmark's customSmallerIsBetter.",
)
@click.option(
    "--bigger-is-better",
    type=FILE,
    help="Also write OTHER's speeds and quality as its customBiggerIsBetter.",
)
@needs("scipy")
def compare(paths: tuple[Path, ...], baseline: Path | None, **options: Any) -> None:
    """Test whether OTHER is worse than BASELINE in time, speed or quality.

    Each is the folder of a run, the results.json of a report, or a file of trainbench cnn
    --result_json. Welch's test on the trials, or on the runs of --repeat; on single runs, on blocks
    of their steps or on their epochs. Without a baseline, OTHER alone is written out. Exit code 7:
    OTHER is significantly worse by more than the threshold.
    """
    wanted = 1 if baseline else 2
    if len(paths) > wanted:
        raise click.UsageError(f"{len(paths)} paths; wanted BASELINE and OTHER")
    first = baseline or (paths[0] if len(paths) == 2 else None)
    _compare(first, paths[-1], options)


def _compare(baseline: Path | None, path: Path, options: dict[str, Any]) -> None:
    from trainbench.history import gate, gate_text
    from trainbench.history.reading import read

    # Refused before anything is written.
    before, other = (read(baseline) if baseline else None), read(path)
    chosen = ("confidence", "threshold_percent", "other_machine")
    settings = {name: options[name] for name in chosen}
    found = gate.compare(before, other, **settings) if before else None
    for name, smaller in (("smaller_is_better", True), ("bigger_is_better", False)):
        if options[name]:
            text = gate_text.action_benchmark(other, smaller_is_better=smaller)
            _write(options[name], text)
    if options["markdown"]:
        text = gate_text.to_markdown(found) if found else gate_text.without_baseline(other)
        _write(options["markdown"], text)
    if found is None and options["as_json"]:
        click.echo(gate_text.without_baseline_json(other), nl=False)
        return
    if found is None:
        click.echo(f"{other.title}: no baseline to compare {path} with")
        return
    click.echo((gate_text.to_json if options["as_json"] else gate_text.to_text)(found), nl=False)
    if found.worse:
        raise RegressionError(f"{path}: {gate_text.why_closed(found)}")


def _write(path: Path, text: str) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: no such folder; make {path.parent}, or name another file")
    write_atomically(path, text)
