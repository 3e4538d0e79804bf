"""Each claim in a process of its own, with a limit; the two files are whole after every claim."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from gpu_acceptance.claims import CLAIMS, Case, Found, Skipped
from gpu_acceptance.record import (
    FAILED,
    NOT_RUN,
    PAGE,
    PASSED,
    RECORD,
    SETTLED,
    SKIPPED,
    Outcome,
    Record,
    kept,
)
from trainbench.errors import MachineError, system_text
from trainbench.machine import system
from trainbench.progress import duration, heartbeat, log_line
from trainbench.trials import parent_watch, signals

OUTCOME = "outcome.json"
# To end by itself, and to remove what it made.
GRACE_S = 10.0
LONGEST_TEXT = 400


def check_one(name: str, case: Case) -> None:
    """Check one claim in this process and write what was found into its folder."""
    parent_watch.die_with_parent()
    try:
        found = CLAIMS[name][1](case)
        result = PASSED
    except Skipped as lacks:
        found, result = Found(f"not there: {lacks}"), SKIPPED
    except AssertionError as wrong:
        found, result = Found(str(wrong)), FAILED
    except Exception as error:  # noqa: BLE001  whatever it is, the other claims are checked too
        found, result = Found(f"{type(error).__name__}: {error}"), FAILED
    (case.folder / OUTCOME).write_text(json.dumps({"result": result, **asdict(found)}))


def run(
    only: Sequence[str],
    devices: str,
    out: Path,
    *,
    limit_s: float,
    minutes: float,
    resume: bool,
) -> int:
    """Check ``only`` these claims, or all, one after the other; the exit code.

    Args:
        limit_s: for a claim. Those that have not begun after ``minutes`` do not; the one that runs
            is ended and has not run.
        resume: keep what an earlier call in ``out`` found, but of ``only``. Without ``only``, what
            failed or did not run there is checked again; with it, that stays as it is.
    """
    signals.listen()
    started = time.monotonic()
    machine = _machine(devices)
    done = kept(out, devices, machine) if resume else {}
    wanted = _wanted(only, done)
    done = {name: outcome for name, outcome in done.items() if name not in wanted}
    shown = [name for name in CLAIMS if name in wanted or name in done]

    def write(state: str) -> None:
        left = {name: Outcome(name, NOT_RUN, state) for name in shown}
        outcomes = [(left | done)[name] for name in shown]
        Record(devices, state, time.monotonic() - started, machine, outcomes).write(out)

    state, over = "finished", f"the {minutes:g} minutes were over"
    # From the start, so that no files of an earlier call pass for this one's.
    write("running")
    try:
        for number, name in enumerate(wanted, 1):
            left_s = minutes * 60 - (time.monotonic() - started)
            if left_s > 0:
                log_line(f"{number}/{len(wanted)} {name}: {CLAIMS[name][0]}")
                found = _in_a_process(
                    name, devices, out / name, limit_s=limit_s, left_s=left_s, over=over
                )
                print(_line(found), flush=True)
                done[name] = found
                write("running")
            if left_s <= 0 or found.result == NOT_RUN:
                state = over
                break
    except KeyboardInterrupt:
        state = "interrupted"
    except OSError as error:
        with suppress(OSError):
            write(f"ended: {system_text(error)}")
        raise
    write(state)
    print(f"{state}: {out / RECORD}, {out / PAGE}", flush=True)
    if state == "interrupted":
        return 130
    return int(any(name not in done or done[name].result not in SETTLED for name in shown))


def _wanted(only: Sequence[str], done: Mapping[str, Outcome]) -> list[str]:
    """The claims to check, in their order: ``only`` these, or all that are not settled."""
    if only:
        return [name for name in CLAIMS if name in only]
    return [name for name in CLAIMS if name not in done or done[name].result not in SETTLED]


def _line(outcome: Outcome) -> str:
    return (
        f"{outcome.result:8} {outcome.claim}: {outcome.found} "
        f"({duration(outcome.seconds)}, {outcome.cpu_seconds:.0f} s of CPUs)"
    )


def _machine(devices: str) -> dict[str, Any]:
    machine = system.record()
    if not machine["packages"].get("tensorflow"):
        raise MachineError("tensorflow is not installed; run scripts/test.sh, which installs it")
    if devices == "gpu" and not machine["gpus"]:
        raise MachineError("no GPU here: nvidia-smi lists none; wanted one, or --devices cpu")
    return machine


def _in_a_process(
    name: str, devices: str, own: Path, *, limit_s: float, left_s: float, over: str
) -> Outcome:
    """What became of the claim; one that ``left_s`` ends, as ``over`` says, has not run."""
    started, before = time.monotonic(), _cpu_seconds()
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="acceptance-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "gpu_acceptance", "--one", name]
        command += ["--devices", devices, "--out", str(own), "--folder", folder]
        with (own / "log.txt").open("w") as log, heartbeat(f"checking {name}"):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                code: int | None = process.wait(min(limit_s, left_s))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
        found = _found(Path(folder) / OUTCOME, code, own / "log.txt", limit_s)
    if code is None and left_s < limit_s:
        found |= {"result": NOT_RUN, "text": f"ended, as {over}"}
    return Outcome(
        name, found["result"], found["text"][:LONGEST_TEXT],
        round(time.monotonic() - started, 1), round(_cpu_seconds() - before, 1), found["figures"],
    )  # fmt: skip


def _found(path: Path, code: int | None, log: Path, limit_s: float) -> dict[str, Any]:
    if code is None:
        text = f"not done within {duration(limit_s)}"
    else:
        with suppress(OSError, ValueError):
            return dict(json.loads(path.read_text()))
        text = f"ended with {code}"
    last = " | ".join(log.read_text(errors="replace").splitlines()[-2:])
    return {"result": FAILED, "text": f"{text}: {last}" if last else text, "figures": {}}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process and of all that it started, also where it ended by itself."""
    left = _left(process.pid)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    _, alive = psutil.wait_procs(left, GRACE_S)
    for one in alive:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def _left(group: int) -> set[psutil.Process]:
    """The members of the group, which outlives its leader, and what these started elsewhere."""
    found = set()
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, OSError):
            if os.getpgid(one.pid) == group:
                found |= {one, *one.children(recursive=True)}
    return found


def _cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
