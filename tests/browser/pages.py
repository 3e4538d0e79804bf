"""Writes a page of every kind that a browser is to open: ``python tests/browser/pages.py FOLDER``.

Runs in the project's own environment. pages.json in the folder names each page by its kind.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent / "fixtures")]

from images_run_dir import EVALUATION, RESULT, build_images_run  # noqa: E402
from run_dir import (  # noqa: E402
    START,
    TRIAL_S,
    build_run,
    change,
    machine_records,
    phase_records,
    seal,
)
from stored_runs import noisy, stored  # noqa: E402
from v05_log import lines, write_results  # noqa: E402
from v05_log import run as log_of  # noqa: E402

from trainbench.cnn.series import plot  # noqa: E402
from trainbench.history import series  # noqa: E402
from trainbench.history.page import write_history  # noqa: E402
from trainbench.history.stored import stored as found_in  # noqa: E402
from trainbench.image_classification.benchmark import RESNET  # noqa: E402
from trainbench.ncf.benchmark import NCF  # noqa: E402
from trainbench.reporting.arrivals.write import write_review  # noqa: E402
from trainbench.reporting.page.render import write_report  # noqa: E402
from trainbench.trials.paths import RunDir, TrialDir  # noqa: E402

LONG = "a_name_without_a_place_to_break_it_" * 6


def ncf(folder: Path) -> Path:
    """Three trials, the last of which missed the target, with logs to link to."""
    run = build_run(folder / "run")
    for trial in run.trials:
        busy(trial)
        trial.stdout.write_text("printed\n")
    return write_report(seal(run), benchmark=NCF).html


def gpu(folder: Path) -> Path:
    """Two GPUs, power of both kinds, steal."""
    run = build_run(folder / "run", trials=2)
    for trial in run.trials:
        busy(trial, gpus=2)
    gpus = [{"name": "NVIDIA H100", "memory_bytes": 80 * 2**30, "driver": "570.1"}] * 2
    change(run.trial(0).system, gpus=gpus)
    return write_report(run, benchmark=NCF).html


def images(folder: Path) -> Path:
    """Image classification with evaluations, start-up and the machine."""
    run = build_images_run(folder / "run")
    trial, top_1 = run.trial(0), (0.31, 0.55, 0.72, 0.82)
    phases = phase_records(START, [])[:2]
    training = {"name": "train_and_evaluate", "epoch": None, "timed": True}
    phases.append({**training, "start_unix_s": START, "duration_s": 290.0})
    trial.phases.write_text("".join(json.dumps(phase) + "\n" for phase in phases))
    evaluations = [
        {**EVALUATION, "epoch": n, "unix_s": START + 70 * n, "top_1_accuracy": value}
        for n, value in enumerate(top_1, start=1)
    ]
    measured = {
        **{"flops_per_image": 60_127_496, "peak_flops_per_s": 7.1e10},
        "step_times_s": [0.42 + 0.05 * math.sin(step / 9) for step in range(320)],
        "startup_s": {"build": 2.0, "trace": 3.0, "compile": 9.0},
    }
    change(trial.result, **{**RESULT, **measured, "evaluations": evaluations})
    busy(trial)
    return write_report(run, benchmark=RESNET).html


def comparison(folder: Path) -> Path:
    """Two runs beside each other."""
    run = build_run(folder / "run", trials=2)
    other = build_run(folder / "other", trials=1, run_id="20261117-080000-ml-1m")
    change(other.config, learning_rate=0.001)
    return write_report(run, benchmark=NCF, compare=[other]).html


def many(folder: Path) -> Path:
    """More trials than are listed at once, and than there are colours."""
    run = build_run(folder / "run", trials=14, short=(3, 7))
    return write_report(run, benchmark=NCF).html


def broken(folder: Path) -> Path:
    """A trial that failed, files that are missing, and names that do not break."""
    run = build_run(folder / "run", trials=2)
    change(run.trial(1).status, state="failed", exit_code=1, message=f"no space left on {LONG}")
    change(run.manifest, source=LONG, **{LONG: LONG})
    change(run.trial(0).system, kernel=LONG, packages={LONG: "1"})
    run.trial(1).machine.unlink()
    run.trial(0).cache_drop.unlink()
    return write_report(run, benchmark=NCF).html


def started(folder: Path) -> Path:
    """A run of which nothing has ended."""
    run = build_run(folder / "run", trials=1)
    trial = run.trial(0)
    for path in (trial.epochs, trial.phases, trial.machine, trial.compliance_raw):
        path.unlink()
    change(trial.status, state="running")
    for log in run.root.glob("results/*/*/result_*.txt"):
        log.unlink()
    return write_report(RunDir(run.root), benchmark=NCF).html


def history(folder: Path) -> Path:
    """Thirty runs, of which those from run 20 on are 5 % slower."""
    times_s = noisy(30, seed=1)
    times_s[20:] *= 1.05
    made = stored(folder / "data", list(times_s))
    for run in made[:1]:
        write_report(run, benchmark=NCF)
    return write_history(series.history(found_in([folder / "data"])), folder / "history")


def logs(folder: Path) -> Path:
    """Logs of several systems and benchmarks, one damaged, one twice, names of any length."""
    for place, system in enumerate(("dgx", LONG[:70])):
        runs = [log_of(seed=i, start=1.5e9 + 1e4 * (10 * place + i)) for i in range(2 + place)]
        write_results(folder / "in" / "results" / system / "ncf", runs)
    other = [replace(event, benchmark="gnmt") for event in log_of(seed=9)]
    (folder / "in" / "gnmt.log").write_text("".join(lines(other)))
    (folder / "in" / "result_0.txt.gz").write_bytes(gzip.compress(b"cut short")[:12])
    return write_review([folder / "in"], folder / "out").html


def fixtures(folder: Path) -> Path | None:
    """The public logs beside the checkout, of several benchmarks; none where there are none."""
    shared = Path(os.environ.get("TRAINBENCH_SHARED", HERE.parents[2] / "shared")) / "fixtures"
    if not shared.is_dir():
        print(f"skipped: fixtures, no {shared} (set TRAINBENCH_SHARED)")
        return None
    return write_review([shared], folder / "out").html


KINDS = (ncf, gpu, images, comparison, many, broken, started, history, logs, fixtures)
PAGES: Mapping[str, Callable[[Path], Path | None]] = {made.__name__: made for made in KINDS}


def busy(trial: TrialDir, *, gpus: int = 0) -> None:
    """Looks at the machine that change from second to second."""
    zero = START + trial.index * (TRIAL_S + 100)
    rows = []
    for n, sample in enumerate(machine_records(zero)):
        wave = math.sin(n / 15)
        row: dict[str, Any] = {**sample, "own_cpu": 0.8 + 0.12 * wave}
        row["resident_bytes"] = int(sample["resident_bytes"] * (1 - math.exp(-(n + 5) / 20)))
        if gpus:
            one = {"utilisation": 0.9 + 0.08 * wave, "power_w": 500 + 80 * wave}
            one |= {"temperature_c": 61, "sm_mhz": 1_700, "memory_mhz": 2_600}
            row |= {"gpus": [{**one, "memory_bytes": 21 * 2**30}] * gpus}
            row |= {"steal_cpu": 0.03, "cpu_energy_j": 95 + 20 * wave}
        rows.append(row)
    trial.machine.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sweep(picture: Path) -> None:
    """The plot of ``trainbench cnn --sweep``, which is a picture and no page."""
    rows = [
        {
            **{"status": "ok", "precision": precision, "model": model},
            "global_batch_size": str(size),
            "images_per_sec": str(speed * size**0.3),
            "ci95_high": str(1.05 * speed * size**0.3),
        }
        for precision in ("fp32", "fp16")
        for model, speed in (("resnet50", 30.0), ("vgg16", 12.0))
        for size in (16, 32, 64)
    ]
    plot.draw(picture, rows)


def main() -> None:
    """Write all pages below the folder that the command line names."""
    folder = Path(sys.argv[1])
    made = {}
    for kind, make in PAGES.items():
        (folder / kind).mkdir(parents=True)
        page = make(folder / kind)
        if page is not None:
            made[kind] = str(page.relative_to(folder))
    sweep(folder / "cnn_sweep.png")
    (folder / "pages.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
