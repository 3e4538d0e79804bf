"""Claims about several devices: they train and evaluate one model as one device does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checkout import FIXTURES
from small_ncf import ODD_ITEMS, SMALL

from trainbench.errors import ConfigError
from trainbench.ncf.config import NcfConfig, reference, validated, with_settings

PROCESS = FIXTURES / "replicas_process.py"
TWO = {"devices": "all", "cpu_devices": 2}
MIRRORED = {**TWO, "tables": "mirrored"}
LAZY = {"optimizer": "lazy_adam", "deterministic": True}
MASK, HALF = {"last_batch": "mask"}, {"precision": "bf16"}
# A batch of so few samples leaves some of four replicas without one.
FEW = {"batch_size": 4}
CASES: dict[str, dict[str, Any]] = {
    "one": {},
    "one, lazy": LAZY,
    "one, lazy, again": LAZY,
    "one, mask": MASK,
    "one, bf16": HALF,
    "one, few": FEW,
    "mirrored": MIRRORED,
    "mirrored, lazy": {**MIRRORED, **LAZY},
    "mirrored, lazy, again": {**MIRRORED, **LAZY},
    "mirrored, lazy, compiled": {**MIRRORED, **LAZY, "xla": True},
    "two": TWO,
    "two, compiled": {**TWO, "xla": True},
    "two, lazy": {**TWO, **LAZY},
    "two, lazy, again": {**TWO, **LAZY},
    "two, mask": {**TWO, **MASK},
    "two, bf16": {**TWO, **HALF},
    "four": {**TWO, "cpu_devices": 4},
    "four, few": {**TWO, "cpu_devices": 4, **FEW},
}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROCESS), json.dumps(CASES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    outcomes: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


def assert_same_numbers(found: dict[str, Any], expected: dict[str, Any]) -> None:
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-5)
    for name, values in expected["copies"][0].items():
        size = np.abs(values).max()
        np.testing.assert_allclose(
            found["copies"][0][name], values, rtol=0, atol=1e-5 * size, err_msg=name
        )


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("mirrored", "one"),
        ("mirrored, lazy", "one, lazy"),
        ("mirrored, lazy, compiled", "one, lazy"),
        ("two", "one"),
        ("two, compiled", "one"),
        ("two, lazy", "one, lazy"),
        ("two, mask", "one, mask"),
        ("four", "one"),
        ("four, few", "one, few"),
    ],
)
def test_several_devices_train_as_one_does(found: dict[str, Any], several: str, one: str) -> None:
    assert found[several]["device"] == ("4 x CPU" if "four" in several else "2 x CPU")
    assert_same_numbers(found[several], found[one])


def test_in_bfloat16_the_losses_of_the_first_steps_are_those_of_one_device(
    found: dict[str, Any],
) -> None:
    assert found["two, bf16"]["losses"] == pytest.approx(found["one, bf16"]["losses"], rel=1e-5)


@pytest.mark.parametrize("several", ["mirrored", "mirrored, lazy", "mirrored, lazy, compiled"])
def test_the_copies_of_the_model_stay_equal_to_the_last_bit(
    found: dict[str, Any], several: str
) -> None:
    first, second = found[several]["copies"]
    assert first == second


@pytest.mark.parametrize("several", ["mirrored", "two", "four"])
def test_several_devices_count_the_hits_that_one_counts(
    found: dict[str, Any], several: str
) -> None:
    assert found[several]["users"] == found["one"]["users"] == 397
    assert found[several]["hits"] == found["one"]["hits"] > 0
    assert found[several]["ndcg"] == pytest.approx(found["one"]["ndcg"], rel=1e-12)


@pytest.mark.parametrize(
    ("several", "rows"),
    # Few items are swept as a whole, and lazy Adam takes each sample's row.
    [("mirrored", SMALL.batch_size + ODD_ITEMS), ("mirrored, lazy", 2 * SMALL.batch_size)],
)
def test_whole_tables_sum_the_gradients_of_all_rows_of_a_batch(
    found: dict[str, Any], several: str, rows: int
) -> None:
    parameters = found[several]["copies"][0]
    dense = sum(np.size(v) for name, v in parameters.items() if name[:4] not in ("user", "item"))
    loss, width = 1, 2 * SMALL.mf_dim
    assert found[several]["summed_bytes"] == 4 * (loss + dense + rows * width)


def test_evaluation_ends_where_the_process_is_asked_to_stop(found: dict[str, Any]) -> None:
    assert {name: case["stops"] for name, case in found.items()} == dict.fromkeys(CASES, True)


@pytest.mark.parametrize("devices", ["one, lazy", "mirrored, lazy", "two, lazy"])
def test_deterministic_repeats_are_equal_to_the_last_bit(
    found: dict[str, Any], devices: str
) -> None:
    assert found[f"{devices}, again"]["copies"] == found[devices]["copies"]


def several(**changes: Any) -> NcfConfig:
    return replace(reference(), devices="all", **changes)


def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can() -> None:
    with pytest.raises(ConfigError, match=r"among 3 replicas; try --set batch_size=2049"):
        validated(several(cpu_devices=3))


def test_several_cpu_devices_without_devices_all_are_refused() -> None:
    with pytest.raises(ConfigError, match="cpu_devices=2: several devices train with devices=all"):
        with_settings(reference(), ["cpu_devices=2"])
