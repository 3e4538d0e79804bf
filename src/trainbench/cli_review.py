"""The reviewer's commands: judge logs and folders of logs, wherever they come from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from trainbench.errors import NotCompliantError

_LOGS = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)


@click.command("check")
@_LOGS
@click.option("--level", type=click.Choice(["1", "2", "strict"]), default="2", show_default=True)
@click.option(
    "--checker",
    type=click.Choice(["2018-11", "2019-04"]),
    default="2019-04",
    show_default=True,
    help="Decide as this published version of the v0.5 checker.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(files: tuple[Path, ...], level: str, checker: str, as_json: bool) -> int:
    """Check compliance logs. Exit code 0: clean, 1: findings, 2: a file could not be read."""
    from trainbench.compliance.check import check_file
    from trainbench.compliance.rules import ruleset

    rules = ruleset(level, checker=checker)
    found, unreadable = {}, False
    for path in files:
        try:
            found[path] = check_file(path, rules)
        except OSError as error:
            click.echo(f"{path}: cannot be read ({error.strerror})", err=True)
            unreadable = True
    if as_json:
        content = {str(path): [asdict(f) for f in findings] for path, findings in found.items()}
        click.echo(json.dumps(content, indent=2))
    else:
        for path, findings in found.items():
            for finding in findings:
                click.echo(f"{path}: {finding}")
            click.echo(f"{path}: level {level} {'FAIL' if findings else 'pass'}")
    return 2 if unreadable else int(any(found.values()))


@click.command("score")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the score as JSON.")
@click.option(
    "--order",
    type=click.Choice(["run_start", "index"]),
    default="run_start",
    show_default=True,
    help="What makes a run one of the first 50.",
)
@click.option("--legacy-reference", is_flag=True, help="Compare with the 2,803 s of May 2018.")
def score(folder: Path, as_json: bool, order: str, legacy_reference: bool) -> None:
    """The v0.5 statistic of a folder of result_*.txt."""
    from trainbench.compliance import score as scoring

    result = scoring.score(folder, order=order)
    render = scoring.to_json if as_json else scoring.to_text
    reference = scoring.LEGACY_REFERENCE if legacy_reference else None
    click.echo(render(result, reference=reference), nl=False)


@click.group("submission")
def submission() -> None:
    """Build or verify the v0.5 submission folder."""


@submission.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def submission_verify(folder: Path) -> None:
    """Verify a submission folder as the v0.5 tool does, with an exit code. Exit 5: findings."""
    from trainbench.compliance.submission import verify

    findings = verify(folder)
    for finding in findings:
        click.echo(str(finding))
    if findings:
        raise NotCompliantError(f"{folder}: {len(findings)} findings")
    click.echo(f"{folder}: verified")
