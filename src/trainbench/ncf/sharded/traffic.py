"""How many bytes a worker sends in a step, counted from the plans of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainbench.progress import scaled

_FLOAT_BYTES = 4
_COUNTS = ("steps", "rows", "row_bytes", "slot_bytes", "sample_bytes", "dense_bytes")


@dataclass(frozen=True)
class Traffic:
    """What one worker sent to the others in ``steps`` steps.

    rows: of items asked for, distinct in each step, that others own. row_bytes: of these rows, as
    they come, and of their gradients, as they go back; slot_bytes: the same for the slots that
    hold them, which is what travels. sample_bytes: of samples and requests. dense_bytes: of the
    dense gradients, of which each worker sums a part.
    """

    workers: int
    steps: int
    rows: int
    row_bytes: int
    slot_bytes: int
    sample_bytes: int
    dense_bytes: int

    @classmethod
    def none(cls, workers: int) -> Traffic:
        """Before the first step."""
        return cls(workers, 0, 0, 0, 0, 0, 0)

    @classmethod
    def of_call(
        cls,
        *,
        workers: int,
        steps: int,
        rows: int,
        slots: int,
        width: int,
        sample_bytes: int,
        dense: int,
    ) -> Traffic:
        """Of a call of ``steps`` steps.

        Args:
            rows: asked of other workers in all steps.
            slots: for them in one step.
            width: numbers in a row.
            sample_bytes: of samples sent in all steps.
            dense: numbers that are summed over all workers.
        """
        requests = _FLOAT_BYTES * slots * steps
        reduced = 2 * (workers - 1) * _FLOAT_BYTES * dense // workers
        both = 2 * _FLOAT_BYTES * width
        return cls(
            workers,
            steps,
            rows,
            both * rows,
            both * slots * steps,
            sample_bytes + requests,
            reduced * steps,
        )

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.workers, *(getattr(self, n) + getattr(other, n) for n in _COUNTS))

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.workers, *(getattr(self, n) - getattr(other, n) for n in _COUNTS))

    @property
    def bytes_per_step(self) -> float:
        """What this worker sends in a step."""
        total = self.slot_bytes + self.sample_bytes + self.dense_bytes
        return total / max(1, self.steps)

    def record(self) -> dict[str, Any] | None:
        """What the run's record says, per step; ``None`` where nothing leaves the process."""
        if self.workers == 1:
            return None
        steps = max(1, self.steps)
        return {
            "bytes_per_step": round(self.bytes_per_step),
            "rows_per_step": round(self.rows / steps, 1),
            "row_bytes_per_step": round(self.row_bytes / steps),
            "slot_bytes_per_step": round(self.slot_bytes / steps),
            "sample_bytes_per_step": round(self.sample_bytes / steps),
            "dense_bytes_per_step": round(self.dense_bytes / steps),
        }


def traffic_line(record: Mapping[str, Any]) -> str:
    """What a log says of a ``record``."""
    sent, rows = scaled(record["bytes_per_step"], "B"), record["rows_per_step"]
    of_rows, dense = (scaled(record[f"{part}_bytes_per_step"], "B") for part in ("slot", "dense"))
    return (
        f"each step sends {sent} to other workers: {of_rows} for {rows:,.0f} rows of items and "
        f"their gradients, {dense} of dense gradients"
    )
