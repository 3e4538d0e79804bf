"""The claims about ``trainbench cnn`` and the reductions between GPUs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from gpu_acceptance.claims import Case, Found, Skipped, claim
from gpu_acceptance.commands import trainbench
from gpu_acceptance.ncf import several

SMALL = ("--model=trivial", "--batch_size=8", "--num_batches=3")
LARGE = ("--model=resnet50", "--batch_size=64", "--num_batches=30")


def _cnn(case: Case, *flags: str, size: Sequence[str] = SMALL) -> tuple[str, Any]:
    """What it printed, and its result file."""
    file = case.folder / "result.json"
    given = ("--num_warmup_batches=2", f"--device={case.devices}", f"--result_json={file}")
    text = trainbench("cnn", *size, *given, *flags)
    result = json.loads(file.read_text())
    # Without a GPU it computes on the CPU and says so.
    notes = [note["code"] for note in result["degraded"]]
    assert "no_gpu" not in notes, "it found no GPU and computed on the CPU"
    return text, result


def _rate(result: Any) -> tuple[str, dict[str, float]]:
    rate = result["stats"]["images_per_sec"]
    return f"{rate:,.1f} images/s", {"images_per_s": rate}


@claim("cnn-one", "trainbench cnn trains on one GPU, with its default threads and no form for CPUs")
def _cnn_one(case: Case) -> Found:
    text, result = _cnn(case, size=LARGE if case.on_gpu else SMALL)
    told, figures = _rate(result)
    held = result["peak_memory_bytes"]
    assert held > 0, "peak_memory_bytes is 0"
    if case.on_gpu:
        assert result["forms"] == [], f"forms: {result['forms']}"
        for wanted in ("1 intra-op", "2 each GPU pool"):
            assert wanted in text, f"its line of threads has no '{wanted}'"
    return Found(f"{told}, {held / 2**30:.1f} GiB", {**figures, "peak_memory_bytes": held})


@claim("cnn-memory", "trainbench cnn holds no more of a GPU than the share that it is given")
def _cnn_memory(case: Case) -> Found:
    if not case.on_gpu:
        raise Skipped("a GPU's memory")
    from trainbench.machine.system import nvidia_gpus

    limit = 0.25 * min(gpu["memory_bytes"] for gpu in nvidia_gpus())
    _, result = _cnn(case, "--gpu_memory_frac_for_testing=0.25", "--gpu_indices=0")
    held = result["peak_memory_bytes"]
    assert 0 < held <= limit, f"{held:,.0f} bytes, allowed {limit:,.0f}"
    _, grown = _cnn(case, "--allow_growth=true")
    assert grown["peak_memory_bytes"] > 0, "with --allow_growth peak_memory_bytes is 0"
    return Found(f"{held / 2**30:.2f} of {limit / 2**30:.1f} GiB", {"peak_memory_bytes": held})


@claim("cnn-layout", "NHWC, the default, is the faster layout of trainbench cnn on a GPU")
def _cnn_layout(case: Case) -> Found:
    # In 16 bits, in which the products are made whose layout it is.
    size = (*LARGE, "--use_fp16=true") if case.on_gpu else SMALL
    rates = {}
    for layout in ("NHWC", "NCHW"):
        _, result = _cnn(case, f"--data_format={layout}", size=size)
        rates[layout] = result["stats"]["images_per_sec"]
    told = ", ".join(f"{layout} {rate:,.1f} images/s" for layout, rate in rates.items())
    assert not case.on_gpu or rates["NHWC"] >= rates["NCHW"], told
    return Found(told, {f"{name.lower()}_images_per_s": rate for name, rate in rates.items()})


@claim("cnn-several", "trainbench cnn trains on several GPUs (replicated, NCCL)")
def _cnn_several(case: Case) -> Found:
    several(case)
    _, result = _cnn(case, "--num_gpus=2", "--variable_update=replicated")
    return Found(*_rate(result))


@claim("cnn-trace", "Traces and profiles of trainbench cnn have the times of a GPU's streams")
def _cnn_trace(case: Case) -> Found:
    trace, profile = case.folder / "trace.json", case.folder / "profile.json"
    _cnn(case, f"--trace_file={trace}", f"--tfprof_file={profile}")
    text = trace.read_text(encoding="utf-8", errors="replace")
    rows = json.loads(profile.read_text())["types"]
    assert "traceEvents" in text, "no trace was written"
    assert rows, "the profile has no row"
    if case.on_gpu:
        assert re.search(r"/device:GPU|[Ss]tream", text), "the trace names no stream of a GPU"
    busy = sum(row["accelerator_s"] for row in rows)
    assert busy > 0 or not case.on_gpu, "the profile has no time of an accelerator"
    return Found(f"{len(text):,} bytes of trace, {busy:.4f} s of an accelerator in the profile")


@claim("all-reduce", "bench all-reduce times the reductions between several GPUs")
def _all_reduce(case: Case) -> Found:
    several(case)
    text = trainbench(
        "bench", "all-reduce", "--model=trivial", "--num_gpus=2", f"--device={case.devices}",
        "--variable_update=replicated", "--num_batches=2", "--num_warmup_batches=1",
    )  # fmt: skip
    found = re.search(r"Average time per step: ([\d.e-]+)", text)
    assert found, "it printed no average time per step"
    assert "sees no GPU" not in text, "it found no GPU and computed on the CPU"
    return Found(f"{float(found[1]):.4f} s a step", {"step_s": float(found[1])})
