"""The claims about NCF."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gpu_acceptance.claims import Case, Found, Skipped, claim
from gpu_acceptance.commands import trainbench

HOST = ("infeed", "outfeed", "send", "recv", "xla_python_cpu_callback", "xla_ffi_python")
STEPS, CALL, BATCH, USERS, ITEMS = 16, 8, 2_048, 20_011, 10_007
# docs/devices.md, "The input rate that a GPU needs".
WANTED_PER_S = 55e6


def _config(devices: str, **changes: Any) -> Any:
    from trainbench.ncf.config import reference

    fixed: dict[str, Any] = {"batch_size": BATCH, "steps_per_call": CALL, "lanes": None}
    return replace(reference(), devices=devices, **(fixed | changes))


def _epoch(batch: int = BATCH, users: int = USERS, items: int = ITEMS) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    of = rng.integers(0, users, (STEPS, batch), np.int32)
    rated = rng.integers(0, items, (STEPS, batch), np.int32)
    return SimpleNamespace(epoch=0, users=of, items=rated, labels=(of % 3 == 0).astype(np.uint8))


def _built(config: Any, users: int = USERS, items: int = ITEMS) -> Any:
    from trainbench.ncf.train import build

    return build(config, users, items, seed=1)


def _trained(trainer: Any, epoch: Any = None) -> tuple[float, float]:
    """Mean loss and samples/s of an epoch after one that compiles."""
    epoch = epoch or _epoch()
    trainer.train_epoch(epoch)
    found = trainer.train_epoch(epoch)
    return found.mean_loss, found.samples / found.seconds


def _hits(trainer: Any) -> int:
    import numpy as np

    from trainbench.ncf.evaluation.evaluator import Evaluator

    drawn = np.random.default_rng(1).integers(0, ITEMS, (509, 100), np.int32)
    return int(Evaluator(trainer, SimpleNamespace(items=drawn)).evaluate().hits)


def several(case: Case) -> dict[str, Any]:
    """Settings for all GPUs, or for two logical devices of the CPU."""
    import tensorflow as tf

    if not case.on_gpu:
        return {"cpu_devices": 2}
    if len(tf.config.list_physical_devices("GPU")) < 2:
        raise Skipped("one GPU; wanted two or more")
    return {}


def _close(one: float, other: float, relative: float) -> str:
    apart = abs(one - other) / abs(other)
    assert apart <= relative, f"{one} and {other} differ by {apart:.1e}, allowed {relative:.0e}"
    return f"losses {one:.6f} and {other:.6f}"


@claim("one-device", "One GPU, the default, trains to the same loss as the CPU, up to rounding")
def _one_device(case: Case) -> Found:
    trainer = _built(_config("auto" if case.on_gpu else "cpu"))
    assert trainer.device == ("GPU:0" if case.on_gpu else "CPU:0"), f"auto is {trainer.device}"
    here, rate = _trained(trainer)
    there, _ = _trained(_built(_config("cpu")))
    told = f"; {rate:,.0f} samples/s at 2,048"
    return Found(_close(here, there, 1e-3) + told, {"samples_per_s": rate})


@claim("several-devices", "Several GPUs (NCCL) compute the same numbers as one, in evaluation too")
def _several_devices(case: Case) -> Found:
    more, one = _built(_config("all", **several(case))), _built(_config(case.devices))
    here, rate = _trained(more)
    there, _ = _trained(one)
    told = _close(here, there, 1e-3 if case.on_gpu else 1e-5)
    with tempfile.TemporaryDirectory(dir=case.folder) as folder:
        one.load(more.save(Path(folder)))
    hits = _hits(more), _hits(one)
    # A rank may differ where two scores are one rounding apart.
    assert abs(hits[0] - hits[1]) <= (2 if case.on_gpu else 0), f"hits {hits[0]} and {hits[1]}"
    return Found(f"{told}; {hits[0]} and {hits[1]} hits", {"samples_per_s": rate})


def _equal_bits(config: Any) -> Found:
    trainers = [_built(config) for _ in range(2)]
    for trainer in trainers:
        _trained(trainer)
    first, second = (trainer.weights() for trainer in trainers)
    differ = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    assert not differ, f"two runs differ in {', '.join(differ)}"
    return Found(f"{len(first)} arrays are equal to the last bit")


@claim("deterministic", "With --deterministic one GPU repeats its results bit by bit")
def _deterministic(case: Case) -> Found:
    return _equal_bits(_config(case.devices, deterministic=True))


@claim("deterministic-several", "With --deterministic several GPUs repeat theirs bit by bit")
def _deterministic_several(case: Case) -> Found:
    return _equal_bits(_config("all", deterministic=True, **several(case)))


@claim("whole-epoch", "An epoch is handed to the device as a whole where it fits")
def _whole_epoch(case: Case) -> Found:
    from trainbench.ncf.devices import input_budget_bytes
    from trainbench.ncf.train import Handed

    trainer = _built(_config(case.devices))
    budget = input_budget_bytes(trainer.device) if case.on_gpu else 10**9
    assert budget > 893_800_000, (
        f"{budget:,} bytes are free for it; an epoch of ml-20m needs 0.9 GB"
    )
    handed = Handed(_epoch(), CALL, budget, trainer.scope)
    parts = [handed.call(first, first + CALL) for first in range(0, STEPS, CALL)]
    wanted = "GPU" if case.on_gpu else "CPU"
    where = {part.device for call in parts for part in call}
    assert handed.uploads == 1, f"it was handed over in {handed.uploads} parts"
    assert all(wanted in place for place in where), f"it lies on {where}"
    return Found(f"one part, budget {budget / 1e9:.1f} GB", {"budget_bytes": budget})


@claim("loop-on-device", "The compiled loop has no transfer to the host and no float64 product")
def _loop_on_device(case: Case) -> Found:
    import numpy as np
    import tensorflow as tf

    trainer = _built(_config(case.devices))
    zeros = np.zeros((CALL, BATCH), np.int32)
    with trainer.scope():
        # A plain 0 would drop the loop.
        count = tf.constant(0)
        asked = trainer.step.run.experimental_get_compiler_ir(
            zeros, zeros, zeros.astype(np.uint8), count
        )
        hlo = asked(stage="optimized_hlo")
    case.kept.mkdir(parents=True, exist_ok=True)
    (case.kept / "step.hlo").write_text(hlo, encoding="utf-8")
    assert " while(" in hlo, "the HLO has no loop"
    host = [word for word in HOST if re.search(rf" {word}[-a-z]*\(|target=\"{word}", hlo)]
    assert not host, f"the loop has {', '.join(host)}"
    assert not re.search(r"= \(?f64\[\S+ (dot|custom-call)\(", hlo), "a product is in float64"
    # XLA's runtime for GPUs waits for each of these, in each step.
    waits = len(re.findall(r" conditional\(", hlo)) + sum(
        " while(" in line and "known_trip_count" not in line for line in hlo.splitlines()
    )
    told = f"{len(hlo.splitlines()):,} lines of optimized HLO, in step.hlo; {waits} conditions"
    return Found(told, {"conditions_read_back": waits})


@claim("lanes", "No step in lanes is chosen for a GPU, and nothing is measured for the choice")
def _lanes(case: Case) -> Found:
    from trainbench.ncf.benchmark import NCF
    from trainbench.ncf.config import Lanes, mlperf
    from trainbench.ncf.lanes.choice import choose
    from trainbench.ncf.step import Step
    from trainbench.trials.paths import DataDir
    from trainbench.trials.spec import SetSpec

    # There are no ratings in the folder: a measurement would end with an error.
    tried = ("auto", "gpu", "all") if case.on_gpu else ("gpu", "all")
    for devices in tried:
        config = replace(mlperf(), devices=devices, division="open")
        found = choose(SetSpec(NCF, config, DataDir(case.folder)))
        assert found == {"lanes": "none"}, f"devices={devices}: {found}"
    if case.on_gpu:
        step = _built(_config("auto", lanes=Lanes(BATCH // 2, 1))).step
        assert type(step) is Step, f"with lanes set, the step is a {type(step).__name__}"
    return Found(f"none, with devices={', '.join(tried)}")


@claim("bf16", "bf16 trains as fp32 does")
def _bf16(case: Case) -> Found:
    here, rate = _trained(_built(_config(case.devices, precision="bf16")))
    there, _ = _trained(_built(_config(case.devices)))
    told = f"; {rate:,.0f} samples/s at 2,048"
    return Found(_close(here, there, 1e-2) + told, {"samples_per_s": rate})


@claim("no-xla", "--no-xla trains to the same loss")
def _no_xla(case: Case) -> Found:
    here, _ = _trained(_built(_config(case.devices, xla=False)))
    there, _ = _trained(_built(_config(case.devices)))
    return Found(_close(here, there, 1e-3))


@claim("input-rate", "The host makes the input faster than the GPU trains on it")
def _input_rate(case: Case) -> Found:
    from trainbench.bench.data import cost_of
    from trainbench.machine import allotment
    from trainbench.ncf.config import mlperf

    config = _config("cpu")
    users, items, million = USERS, ITEMS, 1
    if case.on_gpu:
        config = replace(mlperf(), devices="gpu", lanes=None)
        users, items, million = 138_493, 26_744, 20
    _, trained = _trained(
        _built(config, users, items), _epoch(config.batch_size, users=users, items=items)
    )
    workers = max(1, allotment.cpus() * 3 // 4)  # As generator_workers=auto.
    cost = cost_of(million * 10**6, workers=workers, repeats=3, folder=case.folder / "ratings")
    made, of_core = cost.samples / cost.epoch_s, cost.samples / cost.epoch_core_s
    told = (
        f"{made / 1e6:.1f} M samples/s made by {workers} of {allotment.cpus()} cores "
        f"({of_core / 1e6:.1f} M by a core's own time), {trained / 1e6:.2f} M trained on at "
        f"{config.batch_size:,}; 24 s on an H100 need {WANTED_PER_S / 1e6:.0f} M of both"
    )
    assert made > trained, told
    figures = {"made_per_s": made, "made_per_core_s": of_core, "trained_per_s": trained}
    return Found(told, {**figures, "workers": workers})


def _quick(case: Case, *more: str) -> Path:
    """The run of a set of ``quick``. Its page cache is kept, so its logs are not compliant."""
    from trainbench.errors import NotCompliantError

    data = case.folder / "data"
    trainbench(
        "pipeline", "--data-dir", str(data), "--preset=quick", f"--devices={case.devices}",
        "--set=drop_caches=false", *more, codes=(0, NotCompliantError.exit_code),
    )  # fmt: skip
    return (data / "runs/latest").resolve()


@claim("quick-and-prove", "quick reaches its target, and prove finds every rank within its bound")
def _quick_and_prove(case: Case) -> Found:
    run = _quick(case)
    status = json.loads((run / "trial_0/status.json").read_text())
    assert status["state"] == "converged", f"it ended as {status['state']}"
    wanted = "GPU" if case.on_gpu else "CPU"
    assert wanted in status["device"], f"it trained on {status['device']}"
    trainbench("prove", str(run))
    seconds, best = status["time_to_train_s"], status["best_hit_rate"]
    return Found(
        f"{seconds:.1f} s to {best:.4f} on {wanted}",
        {"time_to_train_s": seconds, "best_hit_rate": best},
    )


@claim("recorded", "machine.jsonl says how busy each GPU was, system.json which GPUs there are")
def _recorded(case: Case) -> Found:
    if not case.on_gpu:
        raise Skipped("a GPU's sensors")
    trial = _quick(case) / "trial_0"
    gpus = json.loads((trial / "system.json").read_text()).get("gpus")
    assert gpus, "system.json names no GPU"
    looks = [json.loads(line) for line in (trial / "machine.jsonl").read_text().splitlines()]
    seen = [gpu for look in looks for gpu in look.get("gpus") or []]
    assert seen, "no line of machine.jsonl has gpus"
    assert all(gpu.get("utilisation") is not None for gpu in seen), f"no utilisation in {seen[0]}"
    null = sorted({key for gpu in seen for key, value in gpu.items() if value is None})
    told = f"; not told: {', '.join(null)}" if null else ""
    return Found(", ".join(gpu["name"] for gpu in gpus) + f"; {len(looks)} lines" + told)
