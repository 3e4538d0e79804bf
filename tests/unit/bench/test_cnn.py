"""The table of ``trainbench bench cnn``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest

from trainbench.bench import cnn as bench
from trainbench.bench.trained import trained_normalization
from trainbench.errors import ConfigError


def test_a_row_holds_both_speeds_their_ratio_and_the_share_of_the_matrix_rate() -> None:
    case = bench.Case("a model, training", {}, "stock", 1.25, 4.0)
    result = bench.Result(case, 8.0, 4.5, 6.0, 3.0, 95.4)
    assert result.ratio == 1.5
    assert result.row().split() == [
        "a", "model,", "training", "8.00", "4.50", "3.00", "1.50x", "95", "%", "1.25x", ">", "4",
    ]  # fmt: skip
    assert len(result.row()[:75].rstrip()) <= len(bench.HEADER)


def test_a_row_without_a_plain_form_has_no_ratio() -> None:
    result = bench.Result(bench.Case("alone", {}), 8.0, 4.5, None, None, None)
    assert result.ratio is None
    assert result.row().split() == ["alone", "8.00", "4.50"]


def test_an_unknown_row_is_named() -> None:
    with pytest.raises(ConfigError, match="no row is called resnet51"):
        bench.run(["resnet51"])


@pytest.mark.parametrize(("forward_only", "passes"), [(True, 1), (False, 3)])
def test_a_step_is_counted_by_its_passes(forward_only: bool, passes: int) -> None:
    flags = {"model": "trivial", "data_name": "cifar10", "batch_size": 2}
    step, operations = bench.counted_step({**flags, "forward_only": forward_only})
    weights = 56_332
    assert operations == pytest.approx(passes * 2 * weights, rel=0.1)
    assert math.isfinite(step())


def test_bfloat16_has_a_row_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for obstacle in (None, "this CPU has none"):
        monkeypatch.setattr(bench, "bfloat16_obstacle", lambda obstacle=obstacle: obstacle)
        assert any("bfloat16" in case.name for case in bench.cases()) == (obstacle is None)
    with pytest.raises(ConfigError, match="none in bfloat16, as this CPU has none"):
        bench.run(["bfloat16"])


def test_a_step_is_measured_with_offsets_and_statistics_of_a_trained_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables: dict[str, Any] = {}
    given = bench.as_if_trained

    def kept(named: Mapping[str, Any]) -> None:
        variables.update(named)
        given(named)

    monkeypatch.setattr(bench, "as_if_trained", kept)
    bench.counted_step({"model": "trivial", "data_name": "cifar10", "batch_size": 2})
    norm = keras.layers.BatchNormalization()
    norm.build((None, 8))
    kept({variable.path: variable for variable in norm.variables})
    biases = [variable for path, variable in variables.items() if path.endswith("bias")]
    assert biases
    for values in map(keras.ops.convert_to_numpy, [*biases, *norm.variables]):
        assert not np.isin(values, (0, 1)).any()


def test_what_is_no_normalization_keeps_its_values() -> None:
    assert trained_normalization("kernel", (3, 3)) is None
