"""A command line and its parameters say the same, whatever the values."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trainbench.cnn.flags import FLAGS, Flag
from trainbench.cnn.flags.arguments import argv_of, parse
from trainbench.cnn.flags.params import make_params


def values_of(flag: Flag) -> st.SearchStrategy[Any]:
    """Values as a command line can give them."""
    # The command wants a share; parameters made by a program may be out of reach.
    high = 1.0 if flag.name == "stop_at_top_1_accuracy" else flag.high
    kinds = {
        "boolean": st.booleans(),
        "integer": st.integers(min_value=flag.low, max_value=high),
        "float": st.floats(
            min_value=flag.low, max_value=high, allow_nan=False, allow_infinity=False
        ),
        "string": st.text(),
        "enum": st.sampled_from(flag.values or ("",)),
        "list": st.lists(st.from_regex(r"[a-z0-9.]+", fullmatch=True)),
    }
    return kinds[flag.kind] | st.none() if flag.optional else kinds[flag.kind]


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({}, optional={f.name: values_of(f) for f in FLAGS.values()}))
def test_arguments_of_parameters_are_parsed_to_the_same_parameters(values: dict) -> None:
    params = make_params(**values)
    assert parse(argv_of(params)).params == params
