"""Run folders of both benchmarks, mutated at random: a report all the same, or one clean line."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
from images_run_dir import build_images_run
from run_dir import build_run, seal
from undisturbed import Undisturbed, scratch

from trainbench.cli import pipeline
from trainbench.errors import TrainbenchError
from trainbench.trials.paths import RunDir

COUNT = 200
CODES = (0, 1, 4, 5)
SCHEMA = jsonschema.Draft202012Validator(
    json.loads(resources.files("trainbench.reporting").joinpath("results.schema.json").read_text())
)
PLANTED = (
    "<script>chaos()</script>",
    "\"'><img src=x onerror=chaos()>",
    "\x1b[31mchaos\x1b]0;chaos\x07",
    "=chaos()",
    "@chaos|x",
    "\u202echaos\u2066",
    "[chaos](javascript:chaos())",
    "chaos\r\nchaos | chaos\n# chaos",
    "]]>chaos<![CDATA[",
    "\ud800chaos\ufffe\x00",
    "{{ chaos }}{% chaos %}",
)
STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069\ufffe]")
ACTING = {
    "report.html": re.compile("<script>chaos|<img src=x"),
    "report.md": re.compile(r"(?<!\\)(<script>chaos|<img src=x|\[chaos\]\(javascript)"),
}
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 0.5, 2**63, 10**400, float("nan"), float("inf"), -1e308, "", "7", [],
    {}, [[]], {"a": {}}, "x" * 70_000, [None, 1, "a"], "../../..", *PLANTED,
)  # fmt: skip
WHOLE = (
    b"", b"[]", b"null", b"{", b"\xff\xfe{\x00}\x00", b"[" * 60_000, b'{"a":' * 60_000, b"\0" * 99,
    b'{"state": 1}\n', b"9" * 5_000,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run folder of a benchmark, and the seed of what becomes of it."""

    benchmark: str
    seed: int

    def __str__(self) -> str:
        return f"a mutated run folder of {self.benchmark}, {self.seed}"


def drawn(chance: random.Random, index: int) -> Case:
    """Each benchmark in turn."""
    return Case(("ncf", "resnet")[index % 2], chance.getrandbits(32))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Mutate a run folder, and report it."""
    chance = random.Random(case.seed)
    with scratch() as name:
        root = Path(name) / "data" / "runs" / "20261118-093320-quick-0000"
        root.parent.mkdir(parents=True)
        if case.benchmark == "ncf":
            run = build_run(root, trials=1, run_id=root.name)
        else:
            run = build_images_run(root)
        if chance.random() < 0.5:
            seal(run)
        done = [mutated(chance, run) for _ in range(chance.choice((1, 1, 2, 4)))]
        out = Path(name) / "out"
        if chance.random() < 0.3:
            with contextlib.suppress(TrainbenchError):
                pipeline.stitch(run)
        try:
            code = pipeline.report(run, out=out)
        except TrainbenchError as error:
            assert str(error).isprintable(), f"{case}, {done}: {str(error)!r}"
            yield f"refused ({error.exit_code})"
            return
        assert code in CODES, f"{case}, {done}: exit {code}"
        try:
            require_clean(out)
        except Exception as error:
            raise AssertionError(f"{case}, {done}: {error}") from error
        yield f"reported ({code})"


def require_clean(out: Path) -> None:
    """The files of a report are what their formats want, and nothing in them acts.

    Raises:
        AssertionError, jsonschema.ValidationError, ET.ParseError: one is not.
    """
    text = {path.name: path.read_text() for path in out.iterdir()}
    SCHEMA.validate(json.loads(text["results.json"]))
    ET.fromstring(text["junit.xml"])
    for name, content in text.items():
        for pattern in (STEERING, ACTING.get(name, STEERING)):
            found = pattern.search(content)
            assert not found, f"{name}: {content[max(found.start() - 40, 0) : found.end() + 40]!r}"
    for name in ("results.csv", "epochs.csv"):
        for row in csv.reader(text[name].splitlines()):
            assert not any(cell.startswith(("=", "@", "+chaos")) for cell in row), f"{name}: {row}"


def mutated(chance: random.Random, run: RunDir) -> str:
    """Change one file of the run; what was done, in words."""
    files = sorted(path for path in run.root.rglob("*") if path.is_file() and not path.is_symlink())
    path = chance.choice(files)
    name = path.relative_to(run.root).as_posix()
    kind = chance.choice(
        ("value", "value", "value", "bytes", "bytes", "lines", "whole", "instead", "renamed")
    )
    if kind == "value" and path.suffix in (".json", ".jsonl"):
        path.write_text(
            _with_value(chance, path.read_text(errors="replace")), errors="surrogatepass"
        )
    elif kind in ("value", "bytes"):
        path.write_bytes(_with_bytes(chance, path.read_bytes()))
    elif kind == "lines":
        path.write_bytes(_with_lines(chance, path.read_bytes()))
    elif kind == "whole":
        path.write_bytes(chance.choice(WHOLE))
    elif kind == "renamed":
        path.rename(path.with_name(chance.choice(("\u00b2", "chaos<b>", "x" * 200, "status.json"))))
    else:
        path.unlink()
        _other(chance, path)
    return f"{kind} of {name}"


def _with_value(chance: random.Random, text: str) -> str:
    """One value of a JSON object, or of one of several in lines, at any depth, is another."""
    lines = text.splitlines() if text.startswith("{") and "\n{" in text else [text]
    at = chance.randrange(len(lines))
    try:
        record = json.loads(lines[at])
        inner = record
        while chance.random() < 0.6:
            deeper = [v for v in _values(inner) if isinstance(v, dict | list) and v]
            if not deeper:
                break
            inner = chance.choice(deeper)
        key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    except (ValueError, IndexError, TypeError, RecursionError):
        return chance.choice(PLANTED)
    value = chance.choice(VALUES)
    if isinstance(inner, dict) and chance.random() < 0.2:
        inner[chance.choice(PLANTED)] = value
    elif isinstance(inner, dict) and chance.random() < 0.2:
        del inner[key]
    else:
        inner[key] = value
    lines[at] = json.dumps(record)
    return "\n".join(lines) + "\n"


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def _with_bytes(chance: random.Random, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(raw) + 1)
        new = chance.choice((chance.randbytes(3), chance.choice(PLANTED).encode(errors="ignore")))
        raw[at : at + chance.choice((0, 1, len(new)))] = new
    return bytes(raw)


def _with_lines(chance: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    first = chance.randrange(len(lines))
    some = lines[first : first + chance.choice((1, 2, 30))]
    kind = chance.choice(("cut", "doubled", "shuffled", "many"))
    if kind == "cut":
        return b"".join(lines[:first])
    if kind == "doubled":
        return b"".join([*lines[:first], *some, *lines[first:]])
    if kind == "many":
        return b"".join([*lines, *some * 2_000])
    chance.shuffle(lines)
    return b"".join(lines)


def _other(chance: random.Random, path: Path) -> None:
    """Nothing, or what is no file, in the place of a file."""
    kind = chance.choice(("nothing", "link", "broken link", "pipe", "folder", "circle"))
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "broken link":
        path.symlink_to("/nowhere/chaos")
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
