"""The table of ``trainbench bench cnn``."""

from __future__ import annotations

import math

import pytest

from trainbench.bench import cnn as bench
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
    for there in (True, False):
        monkeypatch.setattr(bench, "has_bfloat16", lambda there=there: there)
        assert any("bfloat16" in case.name for case in bench.cases()) == there
