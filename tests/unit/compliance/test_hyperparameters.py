"""What logs say of how their runs were set."""

from __future__ import annotations

import json

from v05_log import run, valued, without

from trainbench.compliance.event import Event
from trainbench.compliance.hyperparameters import MOST_VALUES, hyperparameters
from trainbench.compliance.tags import ncf as tags


def test_each_value_of_each_tag_is_listed_once() -> None:
    found = hyperparameters([run(), valued(tags.OPT_LR, 0.1)(run(seed=5))])
    assert found["opt_learning_rate"] == (0.00281936, 0.1)
    assert found["eval_target"] == (0.635,)
    assert found["model_hp_mlp_layer_sizes"] == ([256, 256, 128, 64],)
    assert not found.keys() & {"seed", "run_start", "eval_accuracy", "train_epoch"}


def test_what_no_log_says_is_absent() -> None:
    bare = valued(tags.MODEL_HP_MF_DIM, None)(without(tags.PRECISION)(run()))
    assert not hyperparameters([bare]).keys() & {"model_hp_mf_dim", "precision"}


def test_values_are_such_that_any_reader_of_json_takes_them() -> None:
    odd = [
        float("nan"),
        float("inf"),
        "\ud800\x00",
        {"a": float("nan")},
        [1, float("nan")],
        10**400,
    ]
    found = hyperparameters([[Event("opt_x", value) for value in odd]])["opt_x"]
    json.dumps(found, allow_nan=False)
    assert found[:2] == ("NaN", "Infinity")
    "".join(map(str, found)).encode()


def test_a_schedule_of_many_values_is_told_by_its_hash() -> None:
    rates = [0.1 / step for step in range(1, 2 * MOST_VALUES)]
    first, rest = hyperparameters([[Event(tags.OPT_LR, rate) for rate in rates]])[tags.OPT_LR]
    other = hyperparameters([[Event(tags.OPT_LR, rate) for rate in rates[:-1]]])[tags.OPT_LR]
    assert (first, other[0]) == (0.1, 0.1)
    assert rest.startswith("... 199 values, sha256 ")
    assert rest != other[1]
