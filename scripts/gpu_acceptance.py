"""The claims of docs/devices.md about GPUs, checked one by one; see scripts/gpu_acceptance.sh."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
# A claim that takes longer has hung: the longest compiles for a minute and trains for another.
LIMIT_S = 600
HOST = ("infeed", "outfeed", "send", "recv", "xla_python_cpu_callback", "xla_ffi_python")
STEPS, BATCH, USERS, ITEMS = 16, 2_048, 20_011, 10_007


class Skipped(Exception):
    """The machine lacks what the claim is about."""


@dataclass(frozen=True)
class Outcome:
    """What became of one claim."""

    claim: str
    text: str
    result: str
    found: str
    seconds: float


Check = Callable[[str, Path], str]
CLAIMS: dict[str, tuple[str, Check]] = {}


def claim(name: str, text: str) -> Callable[[Check], Check]:
    """Register a check: it returns what it found, or fails an assertion that says it."""

    def register(check: Check) -> Check:
        CLAIMS[name] = (text, check)
        return check

    return register


def _config(devices: str, **changes: Any) -> Any:
    from trainbench.ncf.config import reference

    return replace(
        reference(), devices=devices, batch_size=BATCH, steps_per_call=8, lanes=None, **changes
    )


def _epoch(steps: int = STEPS) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)

    class Epoch:
        epoch = 0
        users = rng.integers(0, USERS, (steps, BATCH), np.int32)
        items = rng.integers(0, ITEMS, (steps, BATCH), np.int32)
        labels = (users % 3 == 0).astype(np.uint8)

    return Epoch()


def _trained(config: Any, steps: int = STEPS) -> tuple[float, dict[str, Any], float]:
    """Mean loss, weights and samples/s of an epoch after one that compiles."""
    from trainbench.ncf.train import build

    trainer = build(config, USERS, ITEMS, seed=1)
    epoch = _epoch(steps)
    trainer.train_epoch(epoch)
    found = trainer.train_epoch(epoch)
    return found.mean_loss, trainer.weights(), found.samples / found.seconds


def _several(devices: str) -> dict[str, Any]:
    """Settings for all GPUs, or for two logical devices of the CPU."""
    import tensorflow as tf

    if devices == "cpu":
        return {"cpu_devices": 2}
    if len(tf.config.list_physical_devices("GPU")) < 2:
        raise Skipped("one GPU; wanted two or more")
    return {}


def _close(one: float, other: float, relative: float) -> str:
    apart = abs(one - other) / abs(other)
    assert apart <= relative, f"{one} and {other} differ by {apart:.1e}, allowed {relative:.0e}"
    return f"losses {one:.6f} and {other:.6f}"


def _command(*arguments: str, timeout_s: int = LIMIT_S) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trainbench", *arguments],
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    tail = " | ".join((done.stdout + done.stderr).splitlines()[-3:])
    assert done.returncode == 0, f"trainbench {arguments[0]} ended with {done.returncode}: {tail}"
    return done.stdout + done.stderr


@claim("one-device", "One GPU trains to the same loss as the CPU, up to rounding")
def _one_device(devices: str, folder: Path) -> str:
    here, _, rate = _trained(_config(devices))
    there, _, _ = _trained(_config("cpu"))
    return _close(here, there, 1e-3) + f"; {rate:,.0f} samples/s at 2,048"


@claim("several-devices", "Several GPUs (NCCL) compute the same numbers as one")
def _several_devices(devices: str, folder: Path) -> str:
    more = _config("all", **_several(devices))
    here, _, _ = _trained(more)
    there, _, _ = _trained(_config(devices))
    return _close(here, there, 1e-5 if devices == "cpu" else 1e-3)


def _equal_bits(config: Any) -> str:
    first, second = (_trained(config)[1] for _ in range(2))
    differ = [name for name in first if first[name].tobytes() != second[name].tobytes()]
    assert not differ, f"two runs differ in {', '.join(differ)}"
    return f"{len(first)} arrays are equal to the last bit"


@claim("deterministic", "With --deterministic one GPU repeats its results bit by bit")
def _deterministic(devices: str, folder: Path) -> str:
    return _equal_bits(_config(devices, deterministic=True))


@claim("deterministic-several", "With --deterministic several GPUs repeat theirs bit by bit")
def _deterministic_several(devices: str, folder: Path) -> str:
    return _equal_bits(_config("all", deterministic=True, **_several(devices)))


@claim("whole-epoch", "An epoch is handed to the device as a whole where it fits")
def _whole_epoch(devices: str, folder: Path) -> str:
    from trainbench.ncf.devices import input_budget_bytes
    from trainbench.ncf.train import Handed, build

    trainer = build(_config(devices), USERS, ITEMS, seed=1)
    budget = 10**9 if devices == "cpu" else input_budget_bytes(trainer.device)
    assert budget > 893_800_000, (
        f"{budget:,} bytes are free for it; an epoch of ml-20m needs 0.9 GB"
    )
    handed = Handed(_epoch(), 8, budget, trainer.scope)
    parts = [handed.call(first, first + 8) for first in (0, 8)]
    wanted = "CPU" if devices == "cpu" else "GPU"
    where = {part.device for call in parts for part in call}
    assert handed.uploads == 1, f"it was handed over in {handed.uploads} parts"
    assert all(wanted in place for place in where), f"it lies on {where}"
    return f"one part, budget {budget / 1e9:.1f} GB"


@claim("loop-on-device", "The compiled loop has no transfer to the host and no float64 product")
def _loop_on_device(devices: str, folder: Path) -> str:
    import numpy as np
    import tensorflow as tf

    from trainbench.ncf.train import build

    trainer = build(_config(devices), USERS, ITEMS, seed=1)
    zeros = np.zeros((8, BATCH), np.int32)
    with trainer.scope():
        asked = trainer.step.run.experimental_get_compiler_ir(
            zeros,
            zeros,
            zeros.astype(np.uint8),
            tf.constant(0),  # A plain 0 would drop the loop.
        )
        hlo = asked(stage="optimized_hlo")
    assert " while(" in hlo, "the HLO has no loop"
    (folder / "step.hlo").write_text(hlo, encoding="utf-8")
    host = [word for word in HOST if re.search(rf" {word}[-a-z]*\(|target=\"{word}", hlo)]
    assert not host, f"the loop has {', '.join(host)}"
    assert not re.search(r"= f64\[\S+ (dot|custom-call)\(", hlo), "a product is in float64"
    return f"{len(hlo.splitlines()):,} lines of optimized HLO, in step.hlo"


@claim("bf16", "bf16 trains as fp32 does")
def _bf16(devices: str, folder: Path) -> str:
    here, _, rate = _trained(_config(devices, precision="bf16"))
    there, _, _ = _trained(_config(devices))
    return _close(here, there, 1e-2) + f"; {rate:,.0f} samples/s at 2,048"


@claim("no-xla", "--no-xla trains to the same loss")
def _no_xla(devices: str, folder: Path) -> str:
    here, _, _ = _trained(_config(devices, xla=False))
    there, _, _ = _trained(_config(devices))
    return _close(here, there, 1e-3)


@claim("quick-and-prove", "quick reaches its target, and prove finds every rank within its bound")
def _quick_and_prove(devices: str, folder: Path) -> str:
    data = ["--data-dir", str(folder / "data")]
    _command("pipeline", *data, "--preset=quick", f"--devices={devices}", "--set=drop_caches=false")
    _command("prove", str(folder / "data/runs/latest"))
    status = json.loads((folder / "data/runs/latest/trial_0/status.json").read_text())
    assert status["state"] == "converged", f"it ended as {status['state']}"
    wanted = "CPU" if devices == "cpu" else "GPU"
    assert wanted in status["device"], f"it trained on {status['device']}"
    return f"{status['time_to_train_s']:.1f} s to {status['best_hit_rate']:.4f} on {wanted}"


@claim("recorded", "machine.jsonl says how busy each GPU was, system.json which GPUs there are")
def _recorded(devices: str, folder: Path) -> str:
    if devices == "cpu":
        raise Skipped("a GPU's sensors")
    data = ["--data-dir", str(folder / "data")]
    _command("pipeline", *data, "--preset=quick", "--devices=gpu", "--set=drop_caches=false")
    trial = folder / "data/runs/latest/trial_0"
    gpus = json.loads((trial / "system.json").read_text()).get("gpus")
    looks = [json.loads(line) for line in (trial / "machine.jsonl").read_text().splitlines()]
    assert gpus, "system.json names no GPU"
    assert any(look.get("gpus") for look in looks), "no line of machine.jsonl has gpus"
    return ", ".join(gpu["name"] for gpu in gpus)


def _cnn(devices: str, *flags: str) -> str:
    one = ["cnn", "--model=trivial", "--num_batches=3", "--num_warmup_batches=2"]
    return _command(*one, "--batch_size=8", f"--device={devices}", *flags)


def _rate_of(text: str) -> str:
    found = re.search(r"total images/sec: ([\d.]+)", text)
    assert found, "it printed no total images/sec"
    return f"{found[1]} images/s"


@claim("cnn-one", "trainbench cnn trains on one GPU, with the default threads for GPUs")
def _cnn_one(devices: str, folder: Path) -> str:
    return _rate_of(_cnn(devices))


@claim("cnn-several", "trainbench cnn trains on several GPUs (replicated, NCCL)")
def _cnn_several(devices: str, folder: Path) -> str:
    _several(devices)
    return _rate_of(_cnn(devices, "--num_gpus=2", "--variable_update=replicated"))


@claim("cnn-trace", "A trace of trainbench cnn has the times of a GPU's streams")
def _cnn_trace(devices: str, folder: Path) -> str:
    file = folder / "trace.json"
    _cnn(devices, f"--trace_file={file}")
    text = file.read_text(encoding="utf-8", errors="replace")
    assert "traceEvents" in text, "no trace was written"
    if devices == "cpu":
        return f"{len(text):,} bytes of trace"
    assert re.search(r"GPU|[Ss]tream", text), "the trace names no stream of a GPU"
    return f"{len(text):,} bytes of trace, streams among them"


@claim("all-reduce", "bench all-reduce times the reductions between several GPUs")
def _all_reduce(devices: str, folder: Path) -> str:
    _several(devices)
    text = _command(
        "bench", "all-reduce", "--model=trivial", "--num_gpus=2", f"--device={devices}",
        "--num_batches=2", "--num_warmup_batches=1",
    )  # fmt: skip
    return text.strip().splitlines()[-1][:80]


def check_one(name: str, devices: str, folder: Path) -> dict[str, str]:
    """Check one claim in this process: its result and what was found."""
    try:
        return {"result": PASSED, "found": CLAIMS[name][1](devices, folder)}
    except Skipped as lacks:
        return {"result": SKIPPED, "found": f"not there: {lacks}"}
    except Exception as error:  # noqa: BLE001  whatever it is, the other claims are checked too
        return {"result": FAILED, "found": f"{type(error).__name__}: {error}".replace("\n", " ")}


def _in_a_process(name: str, devices: str) -> Outcome:
    text, started = CLAIMS[name][0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="acceptance-") as folder:
        arguments = [__file__, "--one", name, "--devices", devices, "--out", folder]
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                capture_output=True, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            found = {"result": FAILED, "found": f"not done within {LIMIT_S} s"}
        except (IndexError, ValueError):
            last = " | ".join(done.stderr.splitlines()[-2:])
            found = {"result": FAILED, "found": f"ended with {done.returncode}: {last}"}
    return Outcome(name, text, found["result"], found["found"], time.monotonic() - started)


def page(outcomes: list[Outcome], machine: dict[str, Any]) -> str:
    """The page that people read, in Markdown."""
    counts = {r: sum(o.result == r for o in outcomes) for r in (PASSED, FAILED, SKIPPED)}
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    lines = [
        f"# GPU claims, checked with --devices {machine['devices']}",
        "",
        f"{gpus}; TensorFlow {machine['tensorflow']}, trainbench {machine['trainbench']}. "
        + ", ".join(f"{count} {result}" for result, count in counts.items())
        + ".",
        "",
        "| claim | what is claimed | result | found | seconds |",
        "|---|---|---|---|--:|",
    ]
    for o in outcomes:
        found = o.found.replace("|", "/")
        lines.append(f"| {o.claim} | {o.text} | {o.result} | {found} | {o.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _machine(devices: str) -> dict[str, Any]:
    from importlib.metadata import version

    from trainbench import __version__
    from trainbench.machine import system

    return {
        "devices": devices,
        "gpus": system.nvidia_gpus(),
        "tensorflow": version("tensorflow"),
        "trainbench": __version__,
    }


def main() -> int:
    """Parse, check, write; the exit code."""
    parser = argparse.ArgumentParser(prog="gpu_acceptance.sh")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append", choices=list(CLAIMS), metavar="CLAIM")
    parser.add_argument("--devices", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_acceptance"))
    parser.add_argument("--one", choices=list(CLAIMS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if given.list:
        print("\n".join(f"{name}: {text}" for name, (text, _) in CLAIMS.items()))
        return 0
    if given.one:
        print(json.dumps(check_one(given.one, given.devices, given.out)))
        return 0
    return _all(given.only or list(CLAIMS), given.devices, given.out)


def _all(names: list[str], devices: str, out: Path) -> int:
    machine = _machine(devices)
    if devices == "gpu" and not machine["gpus"]:
        print("error: no GPU here; wanted one, or --devices cpu", file=sys.stderr)
        return 6
    outcomes = []
    for name in names:
        outcomes.append(_in_a_process(name, devices))
        last = outcomes[-1]
        print(f"{last.result:8} {name}: {last.found} ({last.seconds:.0f} s)", flush=True)
    record = {"machine": machine, "claims": [asdict(outcome) for outcome in outcomes]}
    out.mkdir(parents=True, exist_ok=True)
    (out / "acceptance.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "acceptance.md").write_text(page(outcomes, machine), encoding="utf-8")
    print(f"{out / 'acceptance.json'}, {out / 'acceptance.md'}")
    return 1 if any(outcome.result == FAILED for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
