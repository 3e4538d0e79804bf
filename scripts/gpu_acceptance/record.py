"""What became of every claim: the record that programs read and the page that people read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from gpu_acceptance.claims import CLAIMS
from trainbench.display.visible import presentable
from trainbench.errors import DataIntegrityError
from trainbench.files import damage_told, read_object, write_atomically
from trainbench.progress import duration

PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"
RESULTS = (PASSED, FAILED, SKIPPED, NOT_RUN)
# What needs no second look.
SETTLED = (PASSED, SKIPPED)
RECORD, PAGE = "acceptance.json", "acceptance.md"
# By what two calls are on the same machine and of the same code.
SAME = ("cpu", "gpus", "packages", "git")


@dataclass(frozen=True)
class Outcome:
    """What became of one claim; ``cpu_seconds`` are those of all its processes."""

    claim: str
    result: str
    found: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The outcomes so far, in the order of the claims; ``state`` says why there are no more."""

    devices: str
    state: str
    seconds: float
    machine: Mapping[str, Any]
    outcomes: Sequence[Outcome]

    def counts(self) -> dict[str, int]:
        """How many claims have each result."""
        return {name: sum(o.result == name for o in self.outcomes) for name in RESULTS}

    def write(self, folder: Path) -> None:
        """Write both files into ``folder``, each whole."""
        claims = [{**asdict(o), "text": CLAIMS[o.claim][0]} for o in self.outcomes]
        whole = {
            "schema": 1,
            "devices": self.devices,
            "state": self.state,
            "seconds": round(self.seconds, 1),
            "counts": self.counts(),
            "claims": claims,
            "machine": self.machine,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RECORD, json.dumps(whole, indent=1) + "\n")
        write_atomically(folder / PAGE, page(self))


def kept(folder: Path, devices: str, machine: Mapping[str, Any]) -> dict[str, Outcome]:
    """What an earlier call found in ``folder``, of each claim that there still is.

    Raises:
        DataIntegrityError: the record is damaged, or of other devices, machines or code.
    """
    path = folder / RECORD
    if not path.exists():
        return {}
    with damage_told(path, "a record of this script", "remove it, or leave --resume out"):
        found = read_object(path)
        there = msgspec.convert(found["machine"], dict[str, Any])
        if found["devices"] != devices or any(there[key] != machine[key] for key in SAME):
            raise DataIntegrityError(
                f"{path}: it is of other devices, another machine or other code; leave --resume "
                "out, or give another --out"
            )
        outcomes = msgspec.convert(found["claims"], list[Outcome])
        if unheard := [o.result for o in outcomes if o.result not in RESULTS]:
            raise ValueError(f"the result {unheard[0]!r}")
    return {o.claim: o for o in outcomes if o.claim in CLAIMS}


def page(record: Record) -> str:
    """The page that people read, in Markdown."""
    counts = ", ".join(f"{count} {name}" for name, count in record.counts().items())
    packages, cpu = record.machine["packages"], record.machine["cpu"]
    gpus = ", ".join(gpu["name"] for gpu in record.machine["gpus"]) or "no GPU"
    lines = [
        f"# GPU claims, checked with --devices {record.devices}",
        "",
        f"**{counts}** ({record.state}, {duration(record.seconds)}).",
        "",
        f"{gpus}; {cpu['model']}, {cpu['threads']} threads; TensorFlow {packages['tensorflow']}, "
        f"trainbench {packages['trainbench']}.",
    ]
    if record.devices == "cpu":
        lines += ["", "On the CPU this shows that the checks work, and nothing about a GPU."]
    lines += [
        "",
        "| claim | what is claimed | result | found | seconds | of CPUs |",
        "|---|---|---|---|--:|--:|",
    ]
    for o in record.outcomes:
        cells = (o.claim, CLAIMS[o.claim][0], _marked(o.result), _cell(o.found))
        lines.append(f"| {' | '.join(cells)} | {o.seconds:.0f} | {o.cpu_seconds:.0f} |")
    lines += ["", "The folder of a claim, beside this page, has its log and what else it left."]
    return "\n".join(lines) + "\n"


def _marked(result: str) -> str:
    return f"**{result}**" if result in (FAILED, NOT_RUN) else result


def _cell(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "/")):
        text = text.replace(mark, entity)
    return presentable(" ".join(text.split()))
