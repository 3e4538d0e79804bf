"""The reviewer's half on Windows and macOS: no call, module or file of Linux, no default encoding.

There is no Windows here. The commands run in a process from which everything is taken that Python
has on Linux alone, in which /proc and /sys cannot be opened, and whose encoding is not UTF-8.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkout import CHECKOUT
from every_command import CODES, cheap, commands, contents, workplace

from trainbench.trials.paths import RunDir

SOURCE = CHECKOUT / "src" / "trainbench"
# Whose work needs TensorFlow, Docker or Linux; all others, whoever adds them, are a reviewer's.
# The doctor starts programs, which Python itself does in another way on each system.
TRAINERS = {
    *("bench", "cnn", "doctor", "download", "evaluate", "generate", "images", "init", "pipeline"),
    *("preprocess", "replay", "train"),
}
MORE = {
    "check as strict, JSON": ["check", "--level=strict", "--json", "result_0.txt"],
    "check of a file that is not there": ["check", "absent.txt"],
    "report of logs alone": ["report", "--run", "logs", "--out", "of logs"],
    "report of a run": ["report", "--run", "data/runs/latest", "--out", "my-report"],
    "score as text": ["score", "results/my-system/ncf"],
    "submission verify": ["submission", "verify", "my-submission"],
    "stitch one log": ["stitch", "--log", "raw.txt", "--out", "stitched.txt"],
}
POSIX_MODULES = (
    *("crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "prctl", "pty", "pwd"),
    *("readline", "resource", "spwd", "syslog", "termios", "tty"),
)
LINUX_CALLS = """
    chown chroot confstr ctermid fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs
    getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority
    getresgid getresuid getsid getuid getxattr initgroups killpg lchown listxattr lockf
    memfd_create mkfifo mknod nice openpty pathconf pidfd_open pipe2 posix_fadvise posix_fallocate
    posix_spawn pread preadv pwrite pwritev readv register_at_fork removexattr sched_getaffinity
    sched_setaffinity sched_yield sendfile setegid seteuid setgid setgroups setpgid setpriority
    setregid setresgid setresuid setreuid setsid setuid setxattr splice statvfs sync sysconf
    tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
    O_NOFOLLOW O_DIRECTORY O_NONBLOCK O_CLOEXEC O_SYNC O_DSYNC O_NOCTTY O_DIRECT O_TMPFILE O_PATH
    O_NOATIME WNOHANG
"""
PROGRAM = """
import importlib, json, os, shutil, signal, sys, traceback, warnings

commands, modules, calls = map(json.loads, sys.argv[1:])
# What other packages import and choose for Linux, they have chosen by now.
for name in ("asyncio", "click", "docker", "filelock", "jinja2", "matplotlib.figure",
             "matplotlib.backends.backend_svg", "mlperf_logging.mllog.mllog", "msgspec",
             "multiprocessing", "numpy", "pandas", "psutil", "requests", "scipy.stats",
             "subprocess", "tempfile", "yaml"):
    importlib.import_module(name)
usage = shutil.disk_usage("/")
shutil.disk_usage = lambda path: usage
shutil._use_fd_functions = shutil._USE_CP_SENDFILE = False
shutil._copyxattr = lambda *names, **options: None
os.supports_dir_fd.clear()
os.supports_fd.clear()
sys.modules.update(dict.fromkeys(modules))
for name in calls.split():
    if hasattr(os, name):
        delattr(os, name)
kept = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
for name in dir(signal):
    if name.startswith("SIG") and name not in kept:
        delattr(signal, name)
for name in ("alarm", "getitimer", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"):
    delattr(signal, name)


def no_linux(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys", "/etc", "/dev")):
        frame = sys._getframe(1)
        while frame:
            if "psutil" in frame.f_code.co_filename:  # It has a half of its own for each system.
                return
            frame = frame.f_back
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.addaudithook(no_linux)
warnings.filterwarnings("error", category=EncodingWarning, module="trainbench")
import trainbench.files

trainbench.files.ON_WINDOWS = True
from trainbench.cli.main import main

codes = {}
for name, words in commands.items():
    sys.argv[:] = ["trainbench", *words]
    sys.stdout.flush()
    print(f"== {name}", file=sys.stderr, flush=True)
    try:
        main()
    except SystemExit as ended:
        codes[name] = ended.code
    except BaseException:
        codes[name] = traceback.format_exc()
with open("codes.json", "w", encoding="utf-8") as file:
    json.dump(codes, file)
"""


@dataclass(frozen=True)
class Seen:
    """How the commands ended in one process, what they printed and what they left."""

    codes: dict[str, int | str]
    output: str
    left: dict[str, str]


def reviewers_commands() -> dict[str, list[str]]:
    """Every command of the reviewer's half by its own example, and some more ways to call them."""
    mine = {path: cheap(path) for path in commands() if path.split()[0] not in TRAINERS}
    # First what is compared: a command may write into the run, as a tag does.
    return {**MORE, **mine}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all the examples work, under a name that is not ASCII."""
    folder = workplace(tmp_path_factory.mktemp("systems") / "plätze")
    run = RunDir(folder / "data" / "runs" / "latest")
    shutil.copytree(run.root / "results", folder / "logs" / "results")
    (folder / "raw.txt").write_bytes(run.trial(0).raw_logs[0].read_bytes())
    return folder


@pytest.fixture(scope="module")
def elsewhere(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All of them in one process without Linux, on a copy of the place."""
    folder = tmp_path_factory.mktemp("elsewhere") / "plätze"
    shutil.copytree(place, folder, symlinks=True)
    done = subprocess.run(
        [
            *(sys.executable, "-X", "warn_default_encoding", "-c", PROGRAM),
            *map(json.dumps, (reviewers_commands(), POSIX_MODULES, LINUX_CALLS)),
        ],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("LC_")},
            **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            **{"PYTHONIOENCODING": "cp1252", "MPLCONFIGDIR": str(folder.parent)},
        },
        capture_output=True,
        check=False,
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert (folder / "codes.json").exists(), output[-4_000:]
    codes = json.loads((folder / "codes.json").read_bytes())
    return Seen(codes, output, contents(folder))


@pytest.mark.parametrize("name", reviewers_commands())
def test_a_reviewers_command_ends_elsewhere_with_its_code(name: str, elsewhere: Seen) -> None:
    assert elsewhere.codes[name] in CODES, elsewhere.codes[name]
    assert "Traceback" not in elsewhere.output


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("check", 0),
        ("check of a file that is not there", 2),
        ("compare", 0),
        ("score", 0),
        ("report of a run", 0),
        ("report of logs alone", 0),
        ("stitch one log", 0),
        ("submission build", 0),
    ],
)
def test_what_works_here_works_elsewhere(name: str, code: int, elsewhere: Seen) -> None:
    assert elsewhere.codes[name] == code, elsewhere.output


@pytest.mark.parametrize("name", ["report of a run", "report of logs alone"])
def test_a_report_has_the_same_bytes_here_and_elsewhere(
    name: str, elsewhere: Seen, place: Path
) -> None:
    out = MORE[name][-1]
    command = [sys.executable, "-m", "trainbench", *MORE[name]]
    subprocess.run(command, cwd=place, capture_output=True, check=True)
    wanted = {f"{out}/{file}": sha256 for file, sha256 in contents(place / out).items()}
    assert {f: s for f, s in elsewhere.left.items() if f.startswith(f"{out}/")} == wanted


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node


def is_text(name: str, call: ast.Call) -> bool:
    """Whether a file is opened as text, by ``open``, ``Path.open`` or a sibling of theirs."""
    if name != "open":
        return name in ("read_text", "write_text", "fdopen", "TextIOWrapper")
    if ast.unparse(call.func).startswith(("os.", "tarfile.", "source.", "archive.", "gzip.")):
        return False
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    words = {node.value for part in given for node in ast.walk(part) if hasattr(node, "value")}
    return not any(isinstance(w, str) and "b" in w and len(w) < 4 for w in words)


@pytest.mark.parametrize("kind", ["encoding", "newline"])
def test_every_text_says_how_it_is_written_and_read(kind: str) -> None:
    """Without ``encoding`` Windows takes its code page, without ``newline`` it writes CR LF."""
    lacking = [
        f"{path.relative_to(SOURCE)}:{call.lineno}: {ast.unparse(call)}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name, call in calls_of(path)
        if is_text(name, call)
        and (kind == "encoding" or name == "write_text")
        and kind not in {keyword.arg for keyword in call.keywords}
        and not (name == "read_text" and call.args)
    ]
    assert lacking == []


def without_what_may_fail(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those of a ``try`` that goes on after an ImportError."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        handlers = node.handlers if isinstance(node, ast.Try) else []
        if not any(h.type and ast.unparse(h.type) == "ImportError" for h in handlers):
            yield from without_what_may_fail(node)


def test_no_module_needs_to_import_what_linux_alone_has() -> None:
    found = [
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in without_what_may_fail(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.split(".")[0] in POSIX_MODULES
    ]
    assert found == []
