"""What the compiled step asks of a GPU, read from the HLO that TensorFlow gives to XLA.

It is that of the CPU's trainer in the form that a GPU runs, before any pass of a backend:
TensorFlow lowers a function with variables for devices of this machine only. What XLA's passes for
a GPU make of it, only a GPU shows (docs/devices.md, "GPU claims").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from trainbench.ncf.config import NcfConfig, mlperf, reference
from trainbench.ncf.train import build

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


def instructions(config: NcfConfig) -> list[Instruction]:
    trainer = build(replace(config, devices="cpu", lanes=None), USERS, ITEMS, seed=1)
    zeros = np.zeros((config.steps_per_call, config.batch_size), np.int32)
    asked = trainer.step.run.experimental_get_compiler_ir(zeros, zeros, zeros.astype(np.uint8), 0)
    found = []
    for line in asked(stage="hlo").splitlines():
        if match := INSTRUCTION.match(line):
            gives, name, rest = match.groups()
            shapes = [
                (kind, tuple(int(n) for n in dims.split(",") if n))
                for kind, dims in SHAPE.findall(gives)
            ]
            found.append(Instruction(shapes, name, rest))
    return found


@pytest.fixture(scope="module")
def at_2048() -> list[Instruction]:
    return instructions(reference())


def test_a_call_is_one_loop_that_never_speaks_to_the_host(at_2048: list[Instruction]) -> None:
    names = [i.name for i in at_2048]
    assert names.count("while") == 1
    assert {"dot", "scatter"} <= set(names)
    assert not set(names) & set(TO_THE_HOST)


def test_nor_does_the_loop_of_the_benchmarks_own_preset() -> None:
    names = [i.name for i in instructions(replace(mlperf(), batch_size=8_192))]
    assert names.count("while") == 1
    assert not set(names) & set(TO_THE_HOST)


def test_float64_is_in_the_points_of_the_catch_up_alone_and_too_little_to_count(
    at_2048: list[Instruction],
) -> None:
    wide = [i for i in at_2048 if i.elements("f64")]
    assert wide, "the catch-up's points are in float64"
    assert not any(i.name in ("dot", "scatter", "reduce-window") for i in wide)
    # A sample's points are a few dozen numbers; its row of a table is 192 and its layers 896.
    assert all(math.prod(shape[1:]) < 192 for i in wide for kind, shape in i.gives if kind == "f64")
    arithmetic = sum(i.elements("f64") for i in wide if i.name not in PASSED_ON)
    # FLOP of a step's products. A consumer's GPU has a 64th of the rate in float64.
    assert 64 * arithmetic < 0.5 * 639e3 * BATCH


PASSED_ON = ("constant", "broadcast", "reshape", "slice", "concatenate", "tuple", "transpose")


def test_at_2048_nothing_but_rows_of_the_tables_is_computed_or_written(
    at_2048: list[Instruction],
) -> None:
    tables = {USERS, USERS + 1, ITEMS, ITEMS + 1}
    whole = [i for i in at_2048 if any(shape[:1] and shape[0] in tables for _, shape in i.gives)]
    assert whole
    assert {i.name for i in whole} <= IN_PLACE
    # Of each table: value, m, v, the last step, and which sample stands for a row.
    assert sum(i.name == "scatter" for i in whole) == 2 * 5
