"""``trainbench runs``: the runs of a data directory: list, show, tag, note, prune."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from trainbench.cli.options import DATA_DIR, Group, opened
from trainbench.display.visible import one_line
from trainbench.errors import ConfigError
from trainbench.files import object_or_empty
from trainbench.history import kept
from trainbench.history.kept import Kept
from trainbench.reporting.text import gib, moment, plural, seconds
from trainbench.trials import live, notes
from trainbench.trials.lock import locked
from trainbench.trials.paths import TrialDir

_RUN = click.argument("name", metavar="RUN")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("runs", cls=Group)
def runs() -> None:
    """List, show, tag and remove the runs of a data directory.

    RUN is the id of a run, the beginning of one, or latest.
    """


@runs.command("list", epilog="Example: trainbench runs list")
@DATA_DIR
@_JSON
@click.option("--tag", help="Only runs with this tag.")
def list_runs(data_dir: Path, as_json: bool, tag: str | None) -> None:
    """The runs, the newest first, with their size on the disk."""
    found = [one for one in kept.kept(opened(data_dir)) if tag is None or tag in one.tags]
    if as_json:
        click.echo(json.dumps([_record(one) for one in found], indent=1))
        return
    click.echo(_table(found), nl=False)


@runs.command("show", epilog="Example: trainbench runs show latest")
@DATA_DIR
@_RUN
@_JSON
def show(data_dir: Path, name: str, as_json: bool) -> None:
    """One run; of a trial that is running, how far it is."""
    one = kept.find(opened(data_dir), name)
    now = {trial.index: live.read(trial) for trial in one.run.trials}
    if as_json:
        record = {**_record(one), "trials": [_trial(t, now[t.index]) for t in one.run.trials]}
        click.echo(json.dumps(record, indent=1))
        return
    click.echo(f"run      {one.name}{'  (latest)' if one.latest else ''}")
    click.echo(f"started  {moment(one.created_unix_s)}")
    click.echo(f"task     {one.benchmark} {one.preset}")
    click.echo(f"state    {one.state}")
    click.echo(f"size     {gib(one.size_bytes)}")
    click.echo(f"tags     {', '.join(one.tags) or 'none'}")
    click.echo(f"note     {one_line(one.note) or 'none'}")
    for trial in one.run.trials:
        record = _trial(trial, now[trial.index])
        progress = now[trial.index]
        said = progress.line() if progress else one_line(str(record["message"] or ""))
        click.echo(f"trial {trial.index}  {record['state']}{'  ' if said else ''}{said}")


@runs.command("tag", epilog="Example: trainbench runs tag latest keep")
@DATA_DIR
@_RUN
@click.argument("tags", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Take the tags away.")
def tag_run(data_dir: Path, name: str, tags: tuple[str, ...], remove: bool) -> None:
    """Tag a run. keep: prune leaves it. expected: history takes its new level as meant."""
    run = kept.find(opened(data_dir), name).run
    found = notes.change(run, add=() if remove else tags, remove=tags if remove else ())
    click.echo(f"{run.root.name}: {', '.join(found.tags) or 'no tags'}")


@runs.command("note", epilog='Example: trainbench runs note latest "with the new cooler"')
@DATA_DIR
@_RUN
@click.argument("text")
def note_run(data_dir: Path, name: str, text: str) -> None:
    """Write the note of a run anew. The sums of the run do not cover it, and stay right."""
    run = kept.find(opened(data_dir), name).run
    click.echo(f"{run.root.name}: {notes.change(run, note=text).note or 'no note'}")


@runs.command("prune", epilog="Example: trainbench runs prune --keep 10")
@DATA_DIR
@click.option(
    "--keep", required=True, type=click.IntRange(0), help="How many of the newest runs stay."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(data_dir: Path, keep: int, yes: bool) -> None:
    """Remove all but the newest runs, after they were listed and you agreed.

    runs/latest, runs tagged keep and runs that are not at their end stay. Nothing is removed while
    a step is running.
    """
    data = opened(data_dir)
    gone, stay = kept.to_prune(kept.kept(data), keep)
    for one, reason in stay:
        click.echo(f"stays: {one.name} ({reason})")
    if not gone:
        click.echo("nothing to remove")
        return
    click.echo(_table(gone), nl=False)
    total = gib(sum(one.size_bytes for one in gone))
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"{plural(len(gone), 'run')}, {total}: nothing removed; say --yes to remove them"
            )
        click.confirm(f"Remove these {plural(len(gone), 'run')}, {total}?", abort=True)
    with locked(data, "prune"):
        # What was started since may be the latest by now.
        still = {one.name for one in kept.to_prune(kept.kept(data), keep)[0]}
        kept.clear_remains(data)
        gone = [one for one in gone if one.name in still]
        freed = kept.prune(data, gone)
    click.echo(f"removed {plural(len(gone), 'run')}, {gib(freed)}")


def _record(one: Kept) -> dict[str, Any]:
    record = {k: v for k, v in asdict(one).items() if k not in ("run", "time_s")}
    own = {"run_id": one.name, "path": str(one.run.root), "state": one.state}
    return {**own, **record, "time_to_train_s": one.time_s}


def _trial(trial: TrialDir, now: live.Progress | None) -> dict[str, Any]:
    status = object_or_empty(trial.status)
    state = str(status.get("state") or "not started")
    return {
        "trial": trial.index,
        "state": state,
        "message": status.get("message") or None,
        "progress": asdict(now) if now else None,
    }


def _table(found: list[Kept]) -> str:
    rows = [("run", "started", "state", "time", "size", "tags and note")]
    rows += [
        (
            one.name + (" *" if one.latest else ""),
            moment(one.created_unix_s),
            one.state,
            seconds(one.time_s),
            gib(one.size_bytes),
            " ".join([*(f"[{tag}]" for tag in one.tags), one_line(one.note[:60])]).strip(),
        )
        for one in found
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total = gib(sum(one.size_bytes for one in found))
    return "\n".join([*lines, f"{plural(len(found), 'run')}, {total}"]) + "\n"
