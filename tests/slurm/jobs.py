"""What a Slurm of two nodes is asked: a step that trains together, an array into one set."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
from cluster import Cluster, wait_until
from product import CHECKOUT, command, environment, settings

TRIALS = 4
EXAMPLES = CHECKOUT / "examples" / "slurm"


def main(data: Path, root: Path) -> None:
    """Every question to one cluster."""
    with Cluster(root) as slurm:
        slurm.environment |= environment(data, "max_epochs=2")
        print("slurm: two nodes are up", flush=True)
        _step(slurm, data)
        _array(slurm, data, root)


def _step(slurm: Cluster, data: Path) -> None:
    slurm.run("srun", "-N2", *command("train", *settings("max_epochs=2")), patience_s=150)
    trial = data / "runs" / "latest" / "trial_0"
    status = json.loads((trial / "status.json").read_text())
    assert (status["state"], status["device"]) == ("completed", "2 x CPU, 2 workers"), status
    print("slurm: srun -N2 trained one model on two nodes", flush=True)


def _array(slurm: Cluster, data: Path, root: Path) -> None:
    """One task is killed in its trial, one node drained; then the rest is run by number."""
    slurm.environment |= {"SET_NAME": "array", "SBATCH_OUTPUT": str(root / "%A_%a.log")}
    script = str(EXAMPLES / "trials.sbatch")
    run = data / "runs" / "array"
    words = ("sbatch", "--parsable", f"--array=0-{TRIALS - 1}")
    job = slurm.run(*words, script).strip()
    killed = _kill_first(run)
    slurm.run("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    report = f"--dependency=afterany:{job}"
    out = f"--output={root}/report.log"
    refused = slurm.run("sbatch", "--wait", out, report, str(EXAMPLES / "report.sbatch"),
                        check=False, patience_s=240)  # fmt: skip
    told = (root / "report.log").read_text()
    assert f"1 of {TRIALS} trials missing: {killed} " in told, refused + told
    ended = slurm.run("scontrol", "show", "job", f"{job}_{killed}")
    assert {"JobState=FAILED", "ExitCode=1:0"} <= set(ended.split()), ended
    assert "drain" in slurm.states()["n2"], slurm.states()
    print(f"slurm: trial {killed} killed, n2 drained: the report names {killed}", flush=True)
    slurm.run("scontrol", "update", "nodename=n2", "state=resume")
    slurm.environment["OF"] = str(TRIALS)
    again = ("sbatch", "--wait", f"--array={killed}")
    slurm.run(*again, script, patience_s=150)
    slurm.run("sbatch", "--wait", out, str(EXAMPLES / "report.sbatch"), check=False, patience_s=240)
    results = json.loads((run / "report" / "results.json").read_text())
    assert results["verdict"]["finished"] == TRIALS, (root / "report.log").read_text()
    print(f"slurm: trial {killed} run again by its number; the set is reported", flush=True)


def _kill_first(run: Path) -> int:
    """Kill the process of the first trial that trains, as the kernel does without memory."""
    found: list[psutil.Process] = []

    def starts() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            spec = words[-1] if "trainbench.trials.child" in words else ""
            if spec.startswith(str(run)):
                found.append(process)
        return bool(found)

    wait_until(starts)
    spec = found[0].cmdline()[-1]
    os.kill(found[0].pid, signal.SIGKILL)
    return int(Path(spec).parent.name.removeprefix("trial_"))
