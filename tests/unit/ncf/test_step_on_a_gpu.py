"""What the compiled step asks of a GPU, read from the HLO that TensorFlow gives to XLA.

It is that of the CPU's trainer in the form that a GPU runs, before any pass of a backend:
TensorFlow lowers a function with variables for devices of this machine only. What XLA's passes for
a GPU make of it, only a GPU shows (docs/devices.md, "GPU claims").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainbench.ncf import train
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import Lanes, NcfConfig, mlperf, reference
from trainbench.ncf.lanes import choice
from trainbench.ncf.lanes.step import LaneStep
from trainbench.ncf.step import Step
from trainbench.ncf.train import build
from trainbench.trials.paths import DataDir
from trainbench.trials.spec import SetSpec

# More than four times a batch of 2,048, so that rows are caught up, as on ml-20m; few, so that
# the test is quick. What is asked of shapes depends on which of two sizes is larger, not on them.
USERS, ITEMS, BATCH = 20_011, 10_007, 2_048
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?\S+ = (\(?.*?\)?) ([a-z][a-z0-9-]*)\((.*)$")
SHAPE = re.compile(r"\b(pred|[subf]+\d+)\[([\d,]*)\]")
TO_THE_HOST = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done", "custom-call")
# What hands a table on as it is, or changes rows of it in place.
IN_PLACE = {"parameter", "get-tuple-element", "tuple", "while", "scatter", "call"}
IN_PLACE |= {"copy", "reshape"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of the HLO: what it gives, its name, and what stands in its brackets."""

    gives: list[tuple[str, tuple[int, ...]]]
    name: str
    rest: str

    def elements(self, dtype: str) -> int:
        return sum(math.prod(shape) for kind, shape in self.gives if kind == dtype)


def parsed(hlo: str) -> list[Instruction]:
    found = []
    for line in hlo.splitlines():
        if match := INSTRUCTION.match(line):
            gives, name, rest = match.groups()
            shapes = [
                (kind, tuple(int(n) for n in dims.split(",") if n))
                for kind, dims in SHAPE.findall(gives)
            ]
            found.append(Instruction(shapes, name, rest))
    return found


def instructions(config: NcfConfig) -> list[Instruction]:
    trainer = build(replace(config, devices="cpu", lanes=None), USERS, ITEMS, seed=1)
    zeros = np.zeros((config.steps_per_call, config.batch_size), np.int32)
    asked = trainer.step.run.experimental_get_compiler_ir(zeros, zeros, zeros.astype(np.uint8), 0)
    return parsed(asked(stage="hlo"))


def to_the_host(found: list[Instruction]) -> set[str]:
    return {i.name for i in found} & set(TO_THE_HOST)


def in_float64(found: list[Instruction]) -> set[str]:
    """What float64 may not be in: products, sums, what is written, and anything a row wide."""
    wide = [i for i in found if i.elements("f64")]
    heavy = {i.name for i in wide} & {"dot", "scatter", "reduce", "reduce-window", "custom-call"}
    # A sample's points are a few dozen numbers; its row of a table is 192 and its layers 896.
    return heavy | {
        i.name
        for i in wide
        for kind, shape in i.gives
        if kind == "f64" and math.prod(shape[1:]) >= 192
    }


def with_whole_tables(found: list[Instruction]) -> list[Instruction]:
    """What gives an array of a table's size, however it lies: all rows, times any width."""
    rows = (USERS, USERS + 1, ITEMS, ITEMS + 1)
    return [
        i
        for i in found
        if any(math.prod(shape) % count == 0 for _, shape in i.gives for count in rows)
    ]


@pytest.fixture(scope="module")
def at_2048() -> list[Instruction]:
    return instructions(reference())


@pytest.fixture(scope="module")
def of_the_benchmark() -> list[Instruction]:
    return instructions(replace(mlperf(), batch_size=8_192))


def test_a_call_is_one_loop_that_never_speaks_to_the_host(
    at_2048: list[Instruction], of_the_benchmark: list[Instruction]
) -> None:
    for found in (at_2048, of_the_benchmark):
        names = [i.name for i in found]
        assert names.count("while") == 1
        assert "dot" in names
        assert not to_the_host(found)


def test_a_step_branches_where_rows_are_caught_up_and_nowhere_else(
    at_2048: list[Instruction], of_the_benchmark: list[Instruction]
) -> None:
    # XLA's runtime for GPUs reads the condition of a branch back to the host.
    assert sum(i.name == "conditional" for i in at_2048) == len(("users", "items"))
    assert not any(i.name == "conditional" for i in of_the_benchmark)


def test_float64_is_in_the_points_of_the_catch_up_alone_and_too_little_to_count(
    at_2048: list[Instruction],
) -> None:
    wide = [i for i in at_2048 if i.elements("f64")]
    assert wide, "the catch-up's points are in float64"
    assert not in_float64(at_2048)
    arithmetic = sum(i.elements("f64") for i in wide if i.name not in PASSED_ON)
    # FLOP of a step's products. A consumer's GPU has a 64th of the rate in float64.
    assert 64 * arithmetic < 0.5 * 639e3 * BATCH


PASSED_ON = ("constant", "broadcast", "reshape", "slice", "concatenate", "tuple", "transpose")


def test_at_2048_nothing_but_rows_of_the_tables_is_computed_or_written(
    at_2048: list[Instruction],
) -> None:
    whole = with_whole_tables(at_2048)
    assert whole
    assert {i.name for i in whole} <= IN_PLACE
    # Of each table: value, m, v, the last step, and which sample stands for a row.
    assert sum(i.name == "scatter" for i in whole) == 2 * 5


def of_function(body: Callable[..., Any], *arguments: Any) -> list[Instruction]:
    asked = tf.function(body, jit_compile=True, autograph=False)
    return parsed(asked.experimental_get_compiler_ir(*arguments)(stage="hlo"))


@pytest.mark.parametrize(
    "line",
    [
        "%in = ((f32[8]{0}), token[]) infeed(token[] %t)",
        "ROOT %out = token[] outfeed(f32[8]{0} %x, token[] %t)",
        "%sent = (f32[8]{0}, u32[], token[]) send(%x, %t), is_host_transfer=true",
        '%call = f32[8]{0} custom-call(%x), custom_call_target="xla_ffi_python_cpu_callback"',
    ],
)
def test_what_speaks_to_the_host_is_found(line: str) -> None:
    assert to_the_host(parsed(f"  {line}"))


def test_float64_is_found_in_products_sums_and_whole_rows() -> None:
    wide = tf.zeros([BATCH, 64], tf.float64)
    assert in_float64(of_function(lambda w: tf.matmul(w, w, transpose_a=True), wide)) == {"dot"}
    assert in_float64(of_function(lambda w: tf.reduce_mean(w, axis=0), wide)) == {"reduce"}
    assert in_float64(of_function(lambda r: r * r, tf.zeros([BATCH, 192], tf.float64)))
    assert not in_float64(of_function(lambda r: r * r, wide))


@pytest.mark.parametrize("form", [[-1], [ITEMS, 8], [8, ITEMS]])
def test_a_table_is_found_however_it_lies(form: list[int]) -> None:
    table = tf.Variable(tf.zeros([ITEMS, 8]))

    def swept() -> None:
        table.assign(tf.reshape(tf.reshape(table, form) * 0.5, table.shape))

    assert "multiply" in {i.name for i in with_whole_tables(of_function(swept))}


def test_gradients_scattered_over_a_table_are_found() -> None:
    ids, rows = tf.zeros([BATCH], tf.int32), tf.zeros([BATCH, 8])
    summed = of_function(lambda r, i: tf.math.unsorted_segment_sum(r, i, ITEMS), rows, ids)
    found = {i.name for i in with_whole_tables(summed)}
    assert "scatter" in found
    assert not found <= IN_PLACE


def test_on_a_gpu_no_step_is_in_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(reference(), lanes=Lanes(1_024, 1))
    assert type(build(replace(config, devices="cpu"), 50, 60, seed=1).step) is LaneStep
    # Where the GPU is the default device; TensorFlow places what it names on the CPU here.
    monkeypatch.setattr(train, "choose_device", lambda devices: "GPU:0")
    assert type(build(replace(config, devices="auto"), 50, 60, seed=1).step) is Step
    # And none is chosen: there are no ratings here that could be measured for.
    monkeypatch.setattr(choice.system, "nvidia_gpus", lambda: [{"name": "NVIDIA H100"}])
    for devices in ("auto", "gpu", "all"):
        spec = SetSpec(NCF, replace(reference(), devices=devices), DataDir(tmp_path))
        assert choice.choose(spec) == {"lanes": "none"}
