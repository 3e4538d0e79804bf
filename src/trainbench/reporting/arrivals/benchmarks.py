"""A benchmark's record for every name that a log may have: registered here, of v0.5, or unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainbench.benchmark import Benchmark, Quality, RunRule, registered
from trainbench.compliance.statistic import run_rule

# What the benchmarks of v0.5 measure.
_QUALITY = {
    "gnmt": "BLEU",
    "maskrcnn": "box mAP",
    "minigo": "pro move prediction",
    "ncf": "HR@10",
    "resnet": "top-1",
    "ssd": "mAP",
    "transformer": "BLEU",
}


def benchmark_named(name: str) -> Benchmark:
    """The record that a report of logs of benchmark ``name`` is made with."""
    return registered().get(name) or _foreign(name)


def _foreign(name: str) -> Benchmark:
    """A record of a benchmark that this package cannot run: only what a report needs."""
    none: Callable[..., Any] = lambda *_: None  # noqa: E731  each of them is never called
    return Benchmark(
        name=name,
        command=name,
        title=name,
        config=object,
        presets={},
        with_settings=none,
        from_json=none,
        default_preset=none,
        reference="",
        task=none,
        quality=Quality(_QUALITY.get(name, "quality"), "best", "target", every="evaluation"),
        run_rule=run_rule(name) or RunRule(1, 1),
        gpu_setting="",
        download="",
        prepare_step="",
        prepare="",
        inputs="",
        trial="",
        strict_rules="",
    )
