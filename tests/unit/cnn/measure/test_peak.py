"""A run's share of the matrix rate, which never stands above 100 % without a reason."""

from __future__ import annotations

import pytest

from trainbench.cnn.flags.params import make_params
from trainbench.cnn.measure import peak


def measured(monkeypatch: pytest.MonkeyPatch, *rates: float) -> list[float]:
    """These rates, one for each measurement; what is left of them."""
    left = list(rates)
    monkeypatch.setattr(peak, "measured_peak_flops", lambda *size, **how: left.pop(0))
    return left


def test_a_share_above_100_has_its_peak_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    left = measured(monkeypatch, 1e9, 4e9)
    assert peak.share_of_peak(2e9, dtype="float32", devices=1) == peak.Share(4e9, 50.0)
    assert left == []
    left = measured(monkeypatch, 1e9, 4e9)
    assert peak.share_of_peak(0.5e9, dtype="float32", devices=1) == peak.Share(1e9, 50.0)
    assert left == [4e9]


def test_one_that_stays_above_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 1e9, 0.9e9)
    share = peak.share_of_peak(2e9, dtype="float32", devices=1)
    assert share.percent == 200.0
    assert str(share.reason).startswith("above 100 %: the matrix product")


def test_the_peak_is_that_of_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 1e9)
    assert peak.share_of_peak(2e9, dtype="float32", devices=4) == peak.Share(4e9, 50.0)
    measured(monkeypatch, 1e9)
    assert peak.share_of_peak(None, dtype="float32", devices=1) == peak.Share(1e9, None)


def test_the_reason_is_the_load_where_there_was_one() -> None:
    assert peak.reason_above(100.0, load=9.0, cpus=2) is None
    assert "load 9.0 on 2 CPUs" in str(peak.reason_above(101.0, load=9.0, cpus=2))
    assert "fewer operations than are counted" in str(peak.reason_above(101.0, load=2.0, cpus=2))


@pytest.mark.parametrize(
    ("flags", "there", "wanted"),
    [
        ({}, True, "float32"),
        ({"use_bf16": True}, True, "bfloat16"),
        ({"use_bf16": True}, False, "float32"),
        ({"use_bf16": True, "device": "gpu"}, False, "bfloat16"),
        ({"use_fp16": True}, True, "float32"),
        ({"use_fp16": True, "device": "gpu"}, False, "float16"),
    ],
)
def test_the_product_has_the_runs_format_where_the_device_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: dict, there: bool, wanted: str
) -> None:
    monkeypatch.setattr(peak, "has_bfloat16", lambda: there)
    assert peak.compute_dtype(make_params(**{"device": "cpu", **flags})) == wanted


def test_a_product_is_measured() -> None:
    assert peak.measured_peak_flops(64, seconds=0.01) > 0
