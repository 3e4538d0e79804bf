"""``--sweep FILE.csv``: models, batch sizes and precisions, a row for each combination.

The file is the state: a row is added when its run has ended, and what has a row is not run again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from trainbench.cnn import places
from trainbench.cnn.flags.arguments import argv_of
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.series import batch_search, processes, repeats
from trainbench.display.visible import cell
from trainbench.errors import Interrupted, TrainbenchError
from trainbench.files import write_atomically
from trainbench.machine import extras
from trainbench.progress import log_line

PRECISIONS = {
    "fp32": {"use_fp16": False, "use_bf16": False},
    "fp16": {"use_fp16": True, "use_bf16": False},
    "bf16": {"use_fp16": False, "use_bf16": True},
}
COLUMNS = (
    *("model", "batch_size", "precision", "status", "images_per_sec", "ci95_low", "ci95_high"),
    *(
        "runs",
        "global_batch_size",
        "step_p50_s",
        "step_p90_s",
        "step_p99_s",
        "compile_s",
        "peak_memory_bytes",
    ),
    *("percent_of_measured_peak", "last_average_loss", "device", "reason", "flags"),
)
_OWN = ("sweep", "sweep_models", "sweep_batch_sizes", "sweep_precisions", "result_json")
_KEY = ("model", "batch_size", "precision")


@dataclass(frozen=True)
class Combination:
    """One row to be; ``batch_size`` is a number for each device, ``auto`` or ``default``."""

    model: str
    batch_size: str
    precision: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its row from others."""
        return self.model, self.batch_size, self.precision


def run(params: Params, file: str) -> None:
    """Run what ``file``, the table of ``--sweep``, has no row for.

    Raises:
        ParamError: a list holds what cannot be run, or the file is of another sweep.
        TrainbenchError: no run of the sweep succeeded.
    """
    repeats.check_shared(params, "--sweep")
    path, wanted = Path(file), combinations(params)
    places.check_file("sweep", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, flags = read(path), " ".join(argv_of(_common(params)))
    _check_same(path, rows, flags)
    done = {tuple(row[name] for name in _KEY) for row in rows}
    log_line(
        f"{len(wanted)} runs, {sum(each.key in done for each in wanted)} of them in {path} already"
    )
    for each in wanted:
        if each.key in done:
            continue
        log_line(f"{each.model}, batch size {each.batch_size}, {each.precision}")
        row = {**_measured(params, each), "flags": flags}
        log_line(f"{row['images_per_sec']} images/sec" if row["status"] == "ok" else row["reason"])
        rows.append(row)
        write(path, rows)
    _plot(path, rows)
    if all(row["status"] == "failed" for row in rows):
        raise TrainbenchError(f"{path}: no run of the sweep succeeded: {rows[-1]['reason']}")


def combinations(params: Params) -> list[Combination]:
    """Every combination of the lists, models first.

    Raises:
        ParamError: a batch size that is not a number, an unknown precision, or a flag that a
            sweep of precisions sets itself.
    """
    sizes = tuple(str(size) for size in params.sweep_batch_sizes)
    for text in sizes:
        if not (text == "auto" or (text.isdigit() and int(text) > 0)):
            raise ParamError(f"--sweep_batch_sizes: {text!r} is not a number above 0 or auto")
    for name in params.sweep_precisions:
        if name not in PRECISIONS:
            raise ParamError(f"--sweep_precisions: {name!r} is not one of {', '.join(PRECISIONS)}")
    now = next(
        precision
        for precision, flags in PRECISIONS.items()
        if all(getattr(params, flag) == value for flag, value in flags.items())
    )
    own_size = "auto" if params.auto_batch_size else str(params.batch_size or "default")
    return [
        Combination(str(model), size, str(precision))
        for model, size, precision in product(
            params.sweep_models or (params.model,),
            sizes or (own_size,),
            params.sweep_precisions or (now,),
        )
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a sweep's file; none where there is no file.

    Raises:
        ParamError: the file is something else.
    """
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ParamError(f"--sweep={path}: not a table of a sweep; give the name of a new file")
        # A spreadsheet would run flags: they were written with a ' in front.
        return [
            {name: (text or "").removeprefix("'") for name, text in row.items()} for row in reader
        ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the file by ``rows``."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    write_atomically(path, text.getvalue())


def params_of(params: Params, each: Combination) -> Params:
    """The parameters of one combination."""
    auto = each.batch_size == "auto"
    return _common(params).replace(
        model=each.model,
        batch_size=int(each.batch_size) if each.batch_size.isdigit() else 0,
        auto_batch_size=auto,
        memory_limit_gib=params.memory_limit_gib if auto else None,
        **PRECISIONS[each.precision],
    )


def row_of(each: Combination, record: dict[str, Any]) -> dict[str, Any]:
    """The row of a run that succeeded, from its record."""
    stats, steps = record["stats"], record["step_s"]
    again = record["repeats"] or {}
    values = {
        "images_per_sec": again.get("mean", stats["images_per_sec"]),
        "ci95_low": again.get("ci95_low"),
        "ci95_high": again.get("ci95_high"),
        "runs": again.get("runs", 1),
        "global_batch_size": record["batch_size"] * stats["num_workers"],
        **{f"step_{name}_s": steps.get(name) for name in ("p50", "p90", "p99")},
        **{name: record[name] for name in ("compile_s", "peak_memory_bytes")},
        "percent_of_measured_peak": record["percent_of_measured_peak"],
        "last_average_loss": stats.get("last_average_loss"),
        "device": record["environment"]["device"],
        "reason": record.get("percent_of_measured_peak_reason"),
    }
    return {**_empty(each, "ok"), **{name: _text(value) for name, value in values.items()}}


def failed_row(each: Combination, reason: str) -> dict[str, Any]:
    """The row of a run that failed."""
    return {**_empty(each, "failed"), "reason": reason}


def _measured(params: Params, each: Combination) -> dict[str, Any]:
    """Run one combination; a failure is a row as well, and what follows is run all the same."""
    try:
        chosen = params_of(params, each)
        if chosen.auto_batch_size:
            chosen = batch_search.choose(chosen)
        if chosen.repeat > 1:
            return row_of(each, repeats.run(chosen, quiet=True))
        outcome = processes.run(chosen, quiet=True)
    except TrainbenchError as error:
        if isinstance(error, Interrupted):
            raise
        return failed_row(each, str(error))
    if outcome.record is None:
        return failed_row(each, outcome.reason)
    return row_of(each, outcome.record)


def _common(params: Params) -> Params:
    """What all rows share."""
    return params.without(*_OWN, "model", "batch_size", "auto_batch_size", "use_fp16", "use_bf16")


def _check_same(path: Path, rows: Sequence[dict[str, Any]], flags: str) -> None:
    others = sorted({row["flags"] for row in rows} - {flags})
    if others:
        raise ParamError(
            f"--sweep={path}: its rows were run with {others[0] or 'no other flags'!r}, this sweep "
            f"with {flags or 'none'!r}; give the same flags or the name of a new file"
        )


def _empty(each: Combination, status: str) -> dict[str, Any]:
    return {
        **dict.fromkeys(COLUMNS, ""),
        **dict(zip(_KEY, each.key, strict=True)),
        "status": status,
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    picture = path.with_suffix(".png")
    if extras.missing(("matplotlib",)):
        log_line(f"{picture} is not drawn: {extras.advice('matplotlib')}")
        return
    # Only here: drawing takes a second to import and a package that runs do without.
    from trainbench.cnn.series import plot as sweep_plot

    sweep_plot.draw(picture, rows)
    log_line(f"wrote {path} and {picture}")
