"""What an environment is, and the tools with which the files in ``subjects`` make them."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SUBJECTS = HERE / "subjects"
LONGEST_S = 900
"""A guard against hanging; nothing is said about how long anything takes."""


@dataclass(frozen=True)
class Ended:
    """The end of a command: its exit code, and what it printed to both streams."""

    code: int
    output: str


@dataclass(frozen=True)
class Environment:
    """A machine, or a state of one, on which a command has to print one line."""

    name: str
    """Lower case with hyphens; unique."""
    what: str
    """What it is, in a few words for the table."""
    made: str
    """How it is made, in one sentence; simulated parts are called so."""
    command: str
    """What a user would type."""
    expected: str
    """The line, or the part of one, that the output has to contain; ``...`` stands for anything."""
    code: int = 0
    """The exit code of the command."""
    run: Callable[[Path], Ended] | None = None
    """Makes it in an empty folder and runs the command; may raise AssertionError."""
    ci: bool = False
    """Whether it fits into a CI run (all of them together: four minutes)."""
    missing: Callable[[], str] = str
    """Why it cannot be made on this machine; empty where it can."""
    not_run: str = ""
    """Why it is made nowhere."""

    @property
    def state(self) -> str:
        """In CI, by hand, or not at all."""
        return "not run" if self.run is None else "CI" if self.ci else "by hand"

    def problem(self, ended: Ended) -> str:
        """What is not as it has to be; empty where all is."""
        if ended.code != self.code:
            return f"exit code {ended.code}, wanted {self.code}"
        parts = map(re.escape, self.expected.split("..."))
        if not re.search(".*".join(parts), ended.output):
            return f"the output lacks: {self.expected}"
        return ""


def environments() -> list[Environment]:
    """Those of every file in ``subjects``: each has a list named ENVIRONMENTS."""
    names = sorted(path.stem for path in SUBJECTS.glob("*.py"))
    return [
        each for name in names for each in importlib.import_module(f"subjects.{name}").ENVIRONMENTS
    ]


def sh(
    command: str | Sequence[str | Path],
    folder: Path = CHECKOUT,
    *,
    unset: Sequence[str] = (),
    check: bool = False,
    **env: str,
) -> Ended:
    """Run a command of bash, or a program with its arguments, in a folder.

    Args:
        command: text for bash, or a list.
        folder: where it runs.
        unset: variables that it does not inherit.
        check: whether a failure is an AssertionError (for commands that make an environment).
        env: variables that are set, or changed.
    """
    words = ["bash", "-c", command] if isinstance(command, str) else [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**inherited(unset), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=LONGEST_S,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
    return Ended(done.returncode, done.stdout)


def inherited(unset: Sequence[str] = ()) -> Mapping[str, str]:
    """This process's environment without the parameters of the workflow."""
    ours = {"PRESET", "RUNS", "SEED", "SETTINGS", "DATA_DIR", "MIRROR", "SHA256", "DOCKER_HOST"}
    ours |= {"DOCKER_CONTEXT", "PYTHONPATH", "VIRTUAL_ENV", *unset}
    return {name: value for name, value in os.environ.items() if name not in ours}


def clone(folder: Path) -> Path:
    """A fresh clone in ``folder``, with what the working tree has beyond its last commit."""
    sh(["git", "clone", "-q", CHECKOUT, folder], check=True)
    for name in _changed():
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return folder


def _changed() -> Iterator[str]:
    for options in ("diff HEAD --name-only -z", "ls-files --others --exclude-standard -z"):
        yield from filter(None, sh(["git", *options.split()], check=True).output.split("\0"))


def without(*programs: str) -> str:
    """Why it cannot be made here: no root, or a program that is missing; empty where it can."""
    if os.getuid() != 0:
        return "needs root"
    return next((f"needs {name}" for name in programs if shutil.which(name) is None), "")


def without_engine() -> str:
    """Why it cannot be made here: no root, or no Docker engine."""
    return without("docker") or ("" if sh("docker version").code == 0 else "needs a Docker engine")
