"""The commands that look at many runs: history."""

from __future__ import annotations

from pathlib import Path

import click

from trainbench.cli.options import FOLDER, FiniteRange
from trainbench.errors import RegressionError


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
