"""The chaos test has its parts, and the same seed makes the same cases."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from checkout import CHECKOUT


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(CHECKOUT / "tests" / "chaos")
    return importlib.import_module("parts")


def test_a_seed_makes_the_same_cases_and_another_seed_others(parts: Any) -> None:
    named = {"signals", "faults", "bits", "servers", "archives", "folders", "fuzz"}
    assert set(parts.PARTS) == named
    for name, part in parts.PARTS.items():
        cases = [str(parts.drawn(name, 1, index)) for index in range(part.COUNT)]
        assert cases == [str(parts.drawn(name, 1, index)) for index in range(part.COUNT)]
        assert cases != [str(parts.drawn(name, 2, index)) for index in range(part.COUNT)]


def test_thirty_moments_and_all_four_errors_have_their_turn(parts: Any) -> None:
    moments = [parts.drawn("signals", 1, n).moments for n in range(parts.PARTS["signals"].COUNT)]
    assert sum(map(len, moments)) == 30
    faults = {parts.drawn("faults", 1, n).error for n in range(parts.PARTS["faults"].COUNT)}
    assert faults == {"ENOSPC", "EMFILE", "EFBIG", "EIO"}
