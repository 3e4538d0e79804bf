"""SHA-256 sums over what a run left behind: what is changed afterwards is found.

    trial_<i>/sha256sums.txt    every file of the trial, and the records of the run
    results/sha256sums.txt      the stitched logs, their findings, and the sums of every trial

The format is that of coreutils: ``sha256sum -c sha256sums.txt``, in the folder that it lies in. A
trial's sums are its last file. A trial that ended without them was cut off, and is not believed.

Who changes a file can write its sum anew. What the sums prove, and what not: docs/decisions.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from trainbench.files import object_or_empty, read_file, sha256_of, write_atomically
from trainbench.trials.paths import RunDir, TrialDir

RULES = (
    ("chain/sha256", "a file as its sum in sha256sums.txt says"),
    ("chain/missing", "every file that sha256sums.txt lists, and the list itself"),
    ("chain/unlisted", "no record that sha256sums.txt does not list"),
    ("chain/unreadable", "lines of sha256sum, for files of the run"),
)
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\\].*)")
# Not in a list: the list itself, and what may be found of a trial at any time.
_LATER = ("sha256sums.txt", "proof.json", "progress.json")
_LOG = "results/*/*/result_*.txt"
_NOT_ENDED = ("running", "interrupted", "aborted")


@dataclass(frozen=True)
class Break:
    """A file of the folder that is not as its sum says, by its path below the folder."""

    rule: str
    file: str
    found: str
    wanted: str


@dataclass(frozen=True)
class Chain:
    """What the sums of a folder say of its files.

    Attributes:
        equal: the files that are as they say.
        breaks: those that are not.
        without: the folders that have no sums, as those of earlier versions.
        not_there: weights that were listed and were left out of a copy.
    """

    equal: frozenset[str] = frozenset()
    breaks: tuple[Break, ...] = ()
    without: tuple[str, ...] = ()
    not_there: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What was compared, for a reader."""
        if not self.equal and not self.breaks:
            return "no chain: not checked"
        number = len(self.equal) + len(self.breaks)
        parts = [f"chain: {len(self.equal)} of {number} files are as their SHA-256 sums say"]
        parts += [f"not there: {_some(self.not_there)}: not checked"] if self.not_there else []
        parts += [f"no chain in {_some(self.without)}: not checked"] if self.without else []
        return "; ".join(parts)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def promised(run: RunDir) -> bool:
    """Whether the trials of ``run`` write their sums; those of earlier versions did not."""
    return object_or_empty(run.run_file).get("chain") is True


def seal_trial(run: RunDir, trial: TrialDir) -> None:
    """Write the sums of a trial that has ended: after them, its folder does not change."""
    own = [path for path in trial.root.rglob("*") if path.name not in _LATER]
    write(trial.chain, [*own, *run.records])


def seal_results(run: RunDir) -> None:
    """Write the sums of the stitched logs and their findings, and of the trials' sums."""
    own = [path for path in run.chain.parent.rglob("*") if path.name not in _LATER]
    write(run.chain, [*own, *run.records, *(trial.chain for trial in run.trials)])


def write(sums: Path, files: Iterable[Path]) -> None:
    """Write ``sums``, whole or not at all, over those of ``files`` that exist."""
    named = {os.path.relpath(path, sums.parent): path for path in files if path.is_file()}
    lines = [f"{sha256_of(path)}  {Path(name).as_posix()}\n" for name, path in named.items()]
    write_atomically(sums, "".join(sorted(lines, key=lambda line: line[64:])))


def of_run(run: RunDir) -> Chain:
    """The files of a run, or of a part of one, beside their sums."""
    run = RunDir(run.root.resolve())
    due = promised(run)
    parts = [_of_trial(run, trial, due=due) for trial in run.trials]
    logs = any(run.root.glob(_LOG))
    if run.chain.is_file():
        alone = not run.trials and not run.run_file.exists()
        parts.append(compare(run.root, run.chain, logs_alone=alone))
    elif due and logs:
        parts.append(Chain(breaks=(_no_sums(run, run.chain),)))
    elif logs:
        parts.append(Chain(without=("results",)))
    return _joined(parts)


def _of_trial(run: RunDir, trial: TrialDir, *, due: bool) -> Chain:
    if not trial.chain.is_file():
        state = object_or_empty(trial.status).get("state")
        if due and state not in _NOT_ENDED:
            return Chain(breaks=(_no_sums(run, trial.chain),))
        return Chain(without=(trial.root.name,))
    known = [path for path in trial.files if path.is_file() and path.name not in _LATER]
    return compare(run.root, trial.chain, known=known)


def _no_sums(run: RunDir, path: Path) -> Break:
    wanted = "the list that its step writes last; run that step again"
    return Break("chain/missing", path.relative_to(run.root).as_posix(), "not there", wanted)


def compare(
    root: Path, sums: Path, *, known: Iterable[Path] = (), logs_alone: bool = False
) -> Chain:
    """The files that ``sums`` lists, all below ``root``, as they are now.

    Args:
        known: files that are there and have to be listed.
        logs_alone: other files than stitched logs may be absent, as in a reviewer's copy.
    """
    listed: dict[Path, str] = {}
    breaks, not_there, equal = [], [], set()
    for path, wanted in _lines(root, sums):
        if isinstance(path, Break):
            breaks.append(path)
            continue
        listed[path] = wanted
        name = path.relative_to(root).as_posix()
        found = _sum(path)
        if found == wanted:
            equal.add(name)
        elif found:
            breaks.append(Break("chain/sha256", name, f"sha256 {found}", f"sha256 {wanted}"))
        elif path.parent.name == "model" or (logs_alone and not path.match(_LOG)):
            not_there.append(name)
        else:
            breaks.append(Break("chain/missing", name, "not there", f"sha256 {wanted}"))
    for path in known:
        if path not in listed:
            name = path.relative_to(root).as_posix()
            wanted = f"no file that {sums.relative_to(root).as_posix()} does not list"
            breaks.append(Break("chain/unlisted", name, "a file", wanted))
    return Chain(frozenset(equal), tuple(breaks), (), tuple(not_there))


def _lines(root: Path, sums: Path) -> Iterator[tuple[Path | Break, str]]:
    """Each file with the sum that it should have; a break for a line that says no such thing."""
    name = sums.relative_to(root).as_posix()
    wanted = "'<sha256>  <file>', a file of the run"
    try:
        lines = read_file(sums).decode(errors="replace").splitlines()
    except ValueError as error:
        yield Break("chain/unreadable", name, str(error), wanted), ""
        return
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        path = Path(os.path.normpath(sums.parent / match[2])) if match else root
        if match and root in path.parents:
            yield path, match[1]
        else:
            yield Break("chain/unreadable", name, f"line {number}: {line[:80]!r}", wanted), ""


def _sum(path: Path) -> str:
    """The file's sum; empty where there is no file, or none that can be read."""
    try:
        return sha256_of(path) if path.is_file() else ""
    except OSError:
        return ""


def _joined(parts: Iterable[Chain]) -> Chain:
    parts = list(parts)
    return Chain(
        frozenset().union(*(part.equal for part in parts)),
        tuple(dict.fromkeys(chain.from_iterable(part.breaks for part in parts))),
        tuple(chain.from_iterable(part.without for part in parts)),
        tuple(chain.from_iterable(part.not_there for part in parts)),
    )
