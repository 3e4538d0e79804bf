"""What ``--peers`` prints: the machine, a table for each row, and what was left out and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, TextIO

import psutil

from trainbench.bench.peers.rounds import Form, Measured, Row, measure
from trainbench.errors import ConfigError, MachineError
from trainbench.machine import allotment, system

HEADING = (
    f"  {'form':<34}{'median/s':>12}{'lowest':>12}{'highest':>12}{'ours is':>9}  lowest to highest"
)
_PACKAGES = ("tensorflow", "keras", "torch", "numpy")


def run(
    rows: Sequence[Row],
    *,
    names: Sequence[str] = (),
    repeats: int,
    without: Sequence[str] = (),
    forms: str = "",
    as_json: bool = False,
    out: TextIO | None = None,
) -> list[Measured]:
    """Measure the rows whose name contains one of ``names`` and print them to ``out`` (stdout).

    Where bfloat16 would be emulated, its rows are named and not measured: they would say nothing.

    Args:
        names: all rows without any.
        without: modules whose forms are not wanted.
        forms: of the others' forms, those whose name contains this.
        as_json: one document at the end instead of tables.

    Raises:
        ConfigError: no row has such a name.
        MachineError: a form was left out, after all others were measured; or every row was.
        KeyboardInterrupt: after what was measured is printed.
    """
    chosen = _chosen(rows, names, without, forms)
    emulated = _emulated(chosen)
    chosen = [row for row in chosen if row.name not in emulated]
    stream, found = out or sys.stdout, []
    machine = machine_record()
    if not as_json:
        print(*machine_lines(machine), *_told(emulated), sep="\n", file=stream, flush=True)
    interrupted = True
    try:
        for measured in measure(chosen, repeats=repeats):
            found.append(measured)
            if not as_json:
                print(*lines(measured), sep="\n", file=stream, flush=True)
        interrupted = False
    finally:
        if as_json:
            document = {"schema": 1, "machine": machine, "interrupted": interrupted}
            document |= {"rows": [one.as_json() for one in found], "not_measured": emulated}
            print(json.dumps(document, indent=2), file=stream, flush=True)
    _require_complete(found)
    if not chosen:
        told = f"{', '.join(emulated)}: {next(iter(emulated.values()))}"
        raise MachineError(f"nothing was measured: {told}; name rows in fp32")
    return found


def _chosen(
    rows: Sequence[Row], names: Sequence[str], without: Sequence[str], forms: str
) -> list[Row]:
    chosen = [wanted(row, without, forms) for row in rows if _named(row, names)]
    if not chosen:
        known = ", ".join(row.name for row in rows)
        raise ConfigError(
            f"no row of the peers contains {' or '.join(names)}; name one of: {known}"
        )
    return chosen


def wanted(row: Row, without: Sequence[str] = (), part: str = "") -> Row:
    """The row with ours, and of the others what ``part`` is in and that needs no ``without``.

    Raises:
        ConfigError: no form has such a name.
    """
    forms = tuple(form for form in row.forms if not set(form.modules) & set(without))
    if not any(part in form.name for form in forms):
        known = ", ".join(form.name for form in forms)
        raise ConfigError(f"no form of {row.name} contains {part}; name one of: {known}")
    return replace(row, forms=tuple(one for one in forms if one.own or part in one.name))


def machine_record() -> dict[str, Any]:
    """The CPU with its instructions, threads, load, and the versions that are compared."""
    return {
        "cpu": system.cpu(),
        "threads": allotment.cpus(),
        "load": round(psutil.getloadavg()[0], 2),
        "packages": {name: system.version(name) for name in _PACKAGES},
    }


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The same in words."""
    cpu = machine["cpu"]
    sets = ", ".join(cpu["instruction_sets"]) or "none that is known"
    versions = ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v)
    return [
        f"{cpu['model']}, {machine['threads']} threads for every form, load {machine['load']:.1f}",
        f"instructions: {sets}",
        versions,
    ]


def lines(measured: Measured) -> list[str]:
    """The table of one row."""
    rounds = max((len(rates) for rates in measured.rates.values()), default=0)
    told = [f"\n{measured.row.name}, {measured.row.unit}, {rounds} rounds", HEADING]
    told += [_line(measured, form) for form in measured.row.forms if measured.rates.get(form.name)]
    told += [f"  {name}: left out: {why}" for name, why in measured.left_out.items()]
    unmeasured = [
        form.name
        for form in measured.row.forms
        if not measured.rates.get(form.name) and form.name not in measured.left_out
    ]
    if unmeasured:
        told.append(f"  not measured before the interruption: {', '.join(unmeasured)}")
    return told


def _line(measured: Measured, form: Form) -> str:
    rates, ratios = measured.rates[form.name], measured.ratios(form.name)
    digits = 0 if median(rates) >= 1000 else 2
    figures = "".join(f"{x:12,.{digits}f}" for x in (median(rates), min(rates), max(rates)))
    mark = "*" if form.other else ""
    line = f"  {form.name + mark:<34}{figures}"
    if form is measured.ours:
        return f"{line}  compared"
    if not ratios:
        return line
    line += f"{median(ratios):8.2f}x  {min(ratios):.2f} to {max(ratios):.2f}"
    return f"{line}  *{form.other}" if form.other else line


def _emulated(rows: Sequence[Row]) -> dict[str, str]:
    """The names of the rows that this CPU would emulate, and why."""
    obstacle = system.bfloat16_obstacle()
    return {row.name: obstacle for row in rows if row.bf16 and obstacle}


def _told(emulated: Mapping[str, str]) -> list[str]:
    return [f"{name}: not measured: {why}" for name, why in emulated.items()]


def _named(row: Row, names: Sequence[str]) -> bool:
    return not names or any(name in row.name for name in names)


def _require_complete(found: Sequence[Measured]) -> None:
    reasons: dict[str, list[str]] = {}
    for measured in found:
        for name, why in measured.left_out.items():
            reasons.setdefault(why, []).append(name)
    if reasons:
        told = "; ".join(
            f"{', '.join(dict.fromkeys(names))}: {why}" for why, names in reasons.items()
        )
        raise MachineError(f"left out of the table: {told}")
