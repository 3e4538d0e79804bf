"""The grammar of all_reduce_spec and the packing of small tensors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.train.reduce_spec import ALGORITHMS, Range, extract_ranges, packs, parse


@pytest.mark.parametrize(
    ("spec", "ranges"),
    [
        ("pscpu:2k:xring", [("pscpu", 2048), ("xring", -1)]),
        ("pscpu:32k:xring", [("pscpu", 32768), ("xring", -1)]),
        ("xring#2", [("xring", -1)]),
        ("nccl/xring", [("nccl/xring", -1)]),
        ("pscpu:100:psgpu#4:1M:nccl",
         [("pscpu", 100), ("psgpu", 1 << 20), ("nccl", -1)]),
        ("xring:1G:pscpu:1T:nccl", [("xring", 1 << 30), ("pscpu", 1 << 40), ("nccl", -1)]),
    ],
)  # fmt: skip
def test_a_specification_is_a_list_of_ranges(spec: str, ranges: list) -> None:
    assert parse(spec) == [Range(*each) for each in ranges]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("xring:2k", "all_reduce_spec not well formed: xring:2k"),
        ("xring:many:pscpu", "all_reduce_spec (xring:many:pscpu) contains non-integer range many"),
        ("xring:2x:pscpu", "all_reduce_spec (xring:2x:pscpu) contains non-integer range 2x"),
        ("ring", "all_reduce_spec (ring) contains invalid alg ring"),
        ("", "all_reduce_spec () contains invalid alg "),
        ("xring#a", "all_reduce_spec not well formed: xring#a"),
        ("xring:2k:pscpu:1k:nccl", "all_reduce_spec not well formed: xring:2k:pscpu:1k:nccl"),
    ],
)
def test_a_malformed_specification_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        parse(spec)
    assert str(caught.value) == message


@given(st.sampled_from(ALGORITHMS), st.integers(1, 9))
def test_every_algorithm_takes_shards(algorithm: str, shards: int) -> None:
    assert parse(f"{algorithm}#{shards}") == [Range(algorithm, -1)]


def test_runs_of_consecutive_numbers() -> None:
    assert extract_ranges([1, 3, 4, 6, 7, 8, 9]) == [[3, 4], [6, 9]]
    assert extract_ranges([1, 2, 3, 4, 6, 7, 8, 9]) == [[1, 4], [6, 9]]
    assert extract_ranges([1, 3, 6, 9]) == []
    assert extract_ranges([]) == []
    assert extract_ranges([1, 2, 3, 4, 5], longest=2) == [[1, 2], [3, 4]]


def test_tensors_up_to_the_limit_are_packed() -> None:
    sizes = [4, 4, 9, 9]
    assert packs(sizes, max_bytes=12, max_group=10) == [[0], [1], [2], [3]]
    assert packs(sizes, max_bytes=16, max_group=10) == [[0, 1], [2], [3]]
    assert packs(sizes, max_bytes=256, max_group=10) == [[0, 1, 2, 3]]
    assert packs(sizes, max_bytes=256, max_group=3) == [[0, 1, 2], [3]]


def test_large_tensors_part_the_packs() -> None:
    assert packs([8, 9, 12, 125], max_bytes=40, max_group=10) == [[0, 1], [2], [3]]


@given(st.lists(st.integers(1, 50)), st.integers(0, 200), st.integers(1, 5))
def test_every_tensor_is_in_one_pack_in_order(sizes: list, max_bytes: int, group: int) -> None:
    found = packs(sizes, max_bytes=max_bytes, max_group=group)
    assert [i for pack in found for i in pack] == list(range(len(sizes)))
    assert all(len(pack) <= group or len(pack) == 1 for pack in found)
