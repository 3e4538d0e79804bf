"""What workers compare before they train: each part by itself, so that what differs is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from trainbench.ncf import loop
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.loop import same_run

CONFIG = replace(NCF.preset("quick"), tables="mirrored")


def compared(config: Any = CONFIG, seed: int = 1, test_set: str = "a") -> dict[str, bytes]:
    cache: Any = SimpleNamespace(record={"test_set_sha256": test_set})
    return dict(same_run(config, seed, cache))


def differing(other: Iterable[tuple[str, bytes]]) -> set[str]:
    own = compared()
    return {what for what, value in other if own[what] != value}


def test_what_differs_between_workers_is_named_by_its_kind() -> None:
    assert differing(compared().items()) == set()
    assert differing(compared(seed=2).items()) == {"--seed"}
    assert differing(compared(test_set="b").items()) == {"data"}
    changed = replace(CONFIG, learning_rate=0.5)
    assert differing(compared(changed).items()) == {"settings or version"}


def test_a_worker_of_another_version_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = compared()
    monkeypatch.setattr(loop, "__version__", "0.0.1")
    assert {w for w, value in compared().items() if own[w] != value} == {"settings or version"}
