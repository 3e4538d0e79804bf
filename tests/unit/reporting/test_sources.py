"""Lines of records are read in two ways, which give the same."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainbench.reporting import sources
from trainbench.reporting.sources import Source


@dataclass(frozen=True)
class Measured:
    """One field of each type that a record has."""

    name: str | None
    epoch: int | None
    rate: float | None
    timed: bool | None
    parts: tuple[float, ...] | None


VALUES: list[Any] = [
    None, True, 0, -3, 7, 2**64, 2**64 + 1, 10**30, 1.5, 1e19, 1e21, 1e-7, 0.1 + 0.2,
    float("nan"), float("inf"), "", "train", "a\u202eb", "https://u:p@h/x?token=1", "\ud800",
    [], [1, 2.5], [1, None], [1e30], ["x"], {}, {"a": 1},
]  # fmt: skip
records = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(VALUES)
        for name in ("name", "epoch", "rate", "timed", "parts", "of a later version")
    },
)
lines = records.map(json.dumps) | st.sampled_from(["", "{", "[]", "null", '{"epoch": 1} x', "é"])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=3))
def test_the_quick_reader_gives_what_the_careful_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_text("\n".join(texts))
    quick, careful = Source(tmp_path), Source(tmp_path)
    found = quick.records(path, Measured)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "UNUSUAL", re.compile(""))
        wanted = careful.records(path, Measured)
    assert repr(found) == repr(wanted)
    assert quick.missing == careful.missing


@pytest.mark.parametrize("deep", ["[" * 60_000, '{"a":' * 60_000, '{"epoch": ' + "[" * 60_000])
def test_a_line_of_brackets_is_noted_and_the_next_one_read(deep: str, tmp_path: Path) -> None:
    path = tmp_path / "epochs.jsonl"
    path.write_text(f'{deep}\n{{"epoch": 1}}\n')
    source = Source(tmp_path)
    assert [record.epoch for record in source.records(path, Measured)] == [1]
    assert source.missing[0] == "epochs.jsonl line 1: not JSON"
