"""The package as a wheel, in environments that have nothing but it and one of its extras."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import CHECKOUT, Ended, Environment, sh, without
from every_command import CODES, cheap, commands, contents, workplace

ADVICE = re.compile(r"error: .* not installed\)?: pip install '(trainbench-ncf\[[a-z,]+\])'$")
# In the train environment everything runs, so what is dear gets words that are cheap.
SHORT = {
    "download": "--preset=quick",
    "preprocess": "--preset=quick",
    "train": "--preset=quick --set=max_epochs=1 --defer-verdict",
    "bench all-reduce": "--model=trivial --num_gpus=2 --device=cpu --num_batches=2",
    "bench data": "--ratings-millions=1 --repeats=1",
    "bench ncf": "--repeats=1 --only=ml-1m",
    "bench cnn": "trivial",
    "cnn": "--model=trivial --batch_size=8 --num_batches=2 --num_warmup_batches=1 --device=cpu",
    "images download": "--preset=quick",
    "images convert": "--preset=quick",
    "images train": "--preset=quick --set=max_epochs=1 --set=generated_train=400 --defer-verdict",
    "generate": "--timeout-s=1",
}
EXTRAS = {"base": "", "report": "[report]", "train": "[train]"}
"""The environments, each with what stands behind the wheel's name for pip."""
WORK = {
    "base": {"check", "download", "init", "score", "stitch", "submission build"},
    "report": {"check", "compare", "init", "report", "score", "stitch", "submission build"},
    "train": {"bench ncf", "cnn", "download", "images convert", "init", "preprocess", "train"},
}


def wheel(folder: Path) -> Path:
    """The wheel, as pip builds it from the checkout."""
    sh(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, CHECKOUT],
        check=True,
    )
    (built,) = folder.glob("trainbench_ncf-*.whl")
    return built


def installed(folder: Path, extra: str) -> Path:
    """The folder of the programs of a new environment with the wheel and one extra."""
    built = wheel(folder)
    sh([sys.executable, "-m", "venv", folder / "venv"], check=True)
    sh([folder / "venv/bin/pip", "install", "-q", f"{built}{EXTRAS[extra]}"], check=True)
    return folder / "venv" / "bin"


def every_command(extra: str, folder: Path) -> Ended:
    """Every command in a new environment."""
    program = installed(folder, extra) / "trainbench"
    return tried([program], workplace(folder / "place"), WORK[extra])


def tried(program: Sequence[str | Path], place: Path, work: set[str]) -> Ended:
    """Call every command in ``place``: it works, or names its extra and makes nothing.

    Args:
        program: what the words of a command are added to.
        place: a folder as ``workplace`` makes it.
        work: commands that have to end with 0 here.
    """
    order = [*SHORT, *(path for path in commands() if path not in SHORT)]
    ends: dict[str, list[str]] = {"worked": [], "named the extra": [], "did neither": []}
    output = ""
    for path in order:
        words = [*path.split(), *SHORT[path].split()] if path in SHORT else cheap(path)
        before = contents(place)
        done = sh([*program, *words], place, unset=["COMPLIANCE_FILE"])
        end = _end(done, made=contents(place) != before)
        if path in work and done.code:
            end = "did neither"
        ends[end].append(path)
        if end == "did neither":
            output += f"trainbench {' '.join(words)}: {done.code}\n{done.output[-1_500:]}\n"
    for end, paths in ends.items():
        output += f"{end}: {', '.join(paths) or 'none'}\n"
    counts = ", ".join(f"{len(paths)} {end}" for end, paths in ends.items())
    return Ended(1 if ends["did neither"] else 0, f"{output}{len(order)} commands: {counts}\n")


def _end(done: Ended, *, made: bool) -> str:
    last = done.output.strip().rpartition("\n")[2]
    if ADVICE.search(last):
        return "did neither" if done.code != 6 or made else "named the extra"
    return "did neither" if "Traceback" in done.output or done.code not in CODES else "worked"


def advice_followed(folder: Path) -> Ended:
    """A report where it lacks its packages, then what its message says, then the report."""
    program = installed(folder, "base")
    place = workplace(folder / "place")
    first = sh([program / "trainbench", "report"], place)
    (requirement,) = ADVICE.findall(first.output.strip().rpartition("\n")[2])
    added = sh([program / "pip", "install", "-q", requirement])
    second = sh([program / "trainbench", "report", "--out=my-report"], place)
    found = (place / "my-report" / "report.html").is_file()
    return Ended(second.code if found else 1, first.output + added.output + second.output)


def debian(folder: Path, extra: str, work: set[str]) -> Ended:
    """Every command on Debian 13, whose only Python is 3.13, in a root made by debootstrap."""
    root = folder / "root"
    packages = "--include=python3,python3-venv,ca-certificates"
    try:
        sh(["debootstrap", "--variant=minbase", packages, "trixie", root], check=True)
    finally:
        # One that is interrupted leaves it, and who removes the folder removes what is mounted.
        sh(["umount", "-q", root / "proc"])
    built = wheel(folder)
    shutil.copy(built, root)
    # What this machine's pip is told of its site: certificates, an index.
    for name in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf", "/etc/resolv.conf"):
        if Path(name).is_file():
            shutil.copyfile(name, root / name.lstrip("/"))
    sh(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        return _in_root(root, built, extra, work)
    finally:
        sh(["umount", root / "proc"])


def _in_root(root: Path, built: Path, extra: str, work: set[str]) -> Ended:
    inside = f"python3 -m venv /venv && /venv/bin/pip install -q '/{built.name}{EXTRAS[extra]}'"
    sh(["chroot", root, "sh", "-c", inside], check=True, **settings())
    version = sh(["chroot", root, "/venv/bin/python", "--version"], check=True).output
    workplace(root / "place")
    program = ["chroot", root, "sh", "-c", 'cd /place && exec /venv/bin/trainbench "$@"', "sh"]
    ended = tried(program, root / "place", work)
    return Ended(ended.code, version + ended.output)


def settings() -> Mapping[str, str]:
    """Variables of pip that name files of this machine, which a root has not, are left out."""
    return {name: "" for name in os.environ if name in ("PIP_FIND_LINKS", "PIP_CONSTRAINT")}


def blocked(folder: Path) -> Ended:
    """The reviewer's commands in a process without anything that Linux alone has."""
    test = "tests/unit/test_other_systems.py"
    return sh([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test])


def ready_workflow(folder: Path) -> Ended:
    """``trainbench init`` from the wheel, then the workflow in the folder that it wrote."""
    program = installed(folder, "base")
    sh([program / "trainbench", "init", folder / "mine"], check=True)
    data = str(folder / "data")
    return sh("./scripts/run.sh", folder / "mine", PRESET="quick", DATA_DIR=data)


def _wheel(extra: str, *, what: str, ci: bool) -> Environment:
    return Environment(
        name=f"wheel-{extra}",
        what=what,
        made="The wheel is built, and installed by pip into an empty environment. Then every "
        "command is called, by the example in its help or by shorter words: it works, or it exits "
        "with 6, names what to install, and has made nothing.",
        command=f"pip install ./trainbench_ncf-*.whl{EXTRAS[extra]}\ntrainbench doctor",
        expected="commands: ... worked, ... named the extra, 0 did neither",
        run=lambda folder: every_command(extra, folder),
        ci=ci,
    )


ENVIRONMENTS = [
    _wheel("base", what="a wheel without extras, in an environment of its own", ci=False),
    _wheel("report", what="a wheel with the extra report", ci=True),
    _wheel("train", what="a wheel with the extra train", ci=False),
    Environment(
        name="wheel-advice-followed",
        what="what a message says to install is installed",
        made="A wheel without extras; `trainbench report` says what to install; that is done, and "
        "`trainbench report` is called again.",
        command="pip install 'trainbench-ncf[report]' && trainbench report --out my-report",
        expected="report: my-report/report.html",
        run=advice_followed,
    ),
    Environment(
        name="wheel-report-python-3-13",
        what="a wheel with the extra report on Debian 13, Python 3.13",
        made="A root of Debian 13 made by debootstrap, in which the wheel is installed as above.",
        command="pip install './trainbench_ncf-*.whl[report]'\ntrainbench doctor",
        expected="commands: ... worked, ... named the extra, 0 did neither",
        run=lambda folder: debian(folder, "report", WORK["report"]),
        missing=lambda: without("debootstrap", "chroot", "mount"),
    ),
    Environment(
        name="no-linux-calls",
        what="the reviewer's half without the calls, modules and files of Linux",
        made="Simulated: a process from which all is taken that Python has on Linux alone "
        "(`fcntl`, `resource`, `os.getuid`, SIGHUP, /proc, ...), with an encoding that is not "
        "UTF-8.",
        command="python -m pytest tests/unit/test_other_systems.py",
        expected=" passed",
        run=blocked,
    ),
    Environment(
        name="windows",
        what="the reviewer's half on Windows",
        made="Nothing here can run it; `no-linux-calls` takes its place.",
        command="py -m trainbench report DIR",
        expected="report: ",
        not_run="no Windows, and no Python for it in the registries that can be reached",
    ),
    Environment(
        name="init-workflow",
        what="the workflow that trainbench init wrote from a wheel",
        made="A wheel without extras in an environment of its own writes a folder; the workflow "
        "runs in it, with PRESET=quick.",
        command="trainbench init mine\ncd mine && PRESET=quick ./scripts/run.sh",
        expected="finished with exit code 0",
        run=ready_workflow,
        missing=lambda: "" if sh("docker version").code == 0 else "needs a Docker engine",
    ),
]
