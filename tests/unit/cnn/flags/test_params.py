"""Parameters: types, bounds, immutability."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from checkout import CHECKOUT

from trainbench import cnn
from trainbench.cnn.flags import DROP, FLAGS, GROUPS, MAP, NOTE, OURS, VERDICTS
from trainbench.cnn.flags.__main__ import page
from trainbench.cnn.flags.params import ParamError
from trainbench.errors import ConfigError


def test_there_are_the_138_flags_of_tf_cnn_benchmarks_with_their_types() -> None:
    theirs = [flag for flag in FLAGS.values() if flag.verdict != OURS]
    assert len(theirs) == 138
    kinds = Counter(f.kind for f in theirs if f.name != "ml_perf_compliance_logging")
    assert kinds == {"boolean": 40, "integer": 37, "string": 26, "float": 22, "enum": 10, "list": 2}
    assert len(FLAGS) == sum(len(group.flags) for group in GROUPS)


def test_every_verdict_that_changes_something_says_what() -> None:
    for flag in FLAGS.values():
        assert flag.verdict in VERDICTS
        assert flag.help.endswith((".", "?")), flag.name
        if flag.verdict in (MAP, NOTE, DROP):
            assert flag.remark, flag.name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"job_name": "foo"},
         "Param job_name of value foo is not in ('ps', 'worker', 'controller', '')"),
        ({"gpu_memory_frac_for_testing": -1},
         "Param gpu_memory_frac_for_testing value of -1.0 is lower than the lower bound of 0"),
        ({"display_perf_ewma": 1.5},
         "Param display_perf_ewma value of 1.5 is higher than the upper bound of 1"),
        ({"display_perf_ewma": -0.5},
         "Param display_perf_ewma value of -0.5 is lower than the lower bound of 0"),
        ({"eval_during_training_every_n_steps": 0},
         "Param eval_during_training_every_n_steps value of 0 is lower than the lower bound of 1"),
        ({"gradient_repacking": -1},
         "Param gradient_repacking value of -1 is lower than the lower bound of 0"),
        ({"device": "tpu"}, "Param device of value tpu is not in ('cpu', 'gpu', 'CPU', 'GPU')"),
        ({"batch_size": "many"}, "Param batch_size value of 'many' is not of type integer"),
        ({"eval": 3}, "Param eval value of 3 is not of type boolean"),
        ({"batchsize": 3}, "Unknown flag --batchsize; did you mean --batch_size?"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_a_value_error(values: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared whole
        cnn.make_params(**values)
    assert str(caught.value) == message
    assert isinstance(caught.value, ConfigError)


def test_defaults_are_those_of_tf_cnn_benchmarks_but_for_the_layout() -> None:
    params = cnn.make_params()
    assert (params.model, params.optimizer, params.weight_decay) == ("trivial", "sgd", 4e-5)
    assert (params.distortions, params.tf_random_seed, params.display_every) == (True, 1234, 10)
    assert params.data_format == "NHWC"
    assert params.changed() == {}


def test_numbers_of_numpy_and_lists_become_plain_values() -> None:
    params = cnn.make_params(
        batch_size=np.int64(4),
        weight_decay=np.float32(0.5),
        eval_during_training_at_specified_steps=[2, 3],
        eval_during_training_at_specified_epochs="1, 2.5",
    )
    assert type(params.batch_size) is int
    assert type(params.weight_decay) is float
    assert params.eval_during_training_at_specified_steps == (2, 3)
    assert params.eval_during_training_at_specified_epochs == ("1", "2.5")


def test_parameters_are_immutable_and_replaceable() -> None:
    params = cnn.make_params(batch_size=4)
    with pytest.raises(AttributeError):
        params.batch_size = 5
    assert params.replace(batch_size=5).batch_size == 5
    assert params.batch_size == 4
    assert pickle.loads(pickle.dumps(params)) == params
    assert repr(params) == "Params(batch_size=4)"
    with pytest.raises(ParamError):
        params.replace(batch_sise=5)
    with pytest.raises(AttributeError, match="did you mean --batch_size"):
        _ = params.batch_sise


def test_the_page_of_flags_is_the_table() -> None:
    written = CHECKOUT / "docs" / "cnn_flags.md"
    assert written.read_text() == page(), "run: python -m trainbench.cnn.flags > docs/cnn_flags.md"
