"""Parameters: types, bounds, immutability."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from checkout import CHECKOUT
from mypy import api

import trainbench
from trainbench import cnn
from trainbench.cnn.flags import DROP, FLAGS, GROUPS, MAP, NOTE, OURS, VERDICTS
from trainbench.cnn.flags.__main__ import page
from trainbench.cnn.flags.params import ParamError, Params
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


@pytest.mark.parametrize(
    "text",
    [
        "batch_size=-4", "eval_batch_size=-1", "num_batches=-4", "num_epochs=-1",
        "num_warmup_batches=-1", "gradient_clip=-1", "stop_at_top_1_accuracy=75.9",
        "stop_at_top_1_accuracy=1.5", "stop_at_top_1_accuracy=-0.5", "num_eval_batches=-1",
        "num_eval_epochs=-0.5", "weight_decay=nan", "init_learning_rate=inf",
        "init_learning_rate=-0.1", "momentum=-1", "save_model_steps=-1", "max_ckpts_to_keep=-1",
        "num_gpus=0", "display_every=0", "tf_random_seed=-1", "num_epochs=1e300", "adam_beta2=-1",
        "num_intra_threads=-1", "task_index=-1", "eval_during_training_every_n_epochs=-1",
    ],
)  # fmt: skip
def test_a_number_that_is_none_ends_the_command_in_one_line(
    text: str, capsys: pytest.CaptureFixture
) -> None:
    assert cnn.main([f"--{text}", "--device=cpu"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert text.split("=")[0] in shown.err
    assert shown.err.count("\n") == 1


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


def test_every_flag_is_a_field_of_one_frozen_dataclass() -> None:
    assert [field.name for field in fields(Params)] == list(FLAGS)
    assert Params(batch_size=4) == cnn.make_params(batch_size=4)
    assert not hasattr(Params, "__getattr__")
    with pytest.raises(AttributeError):
        _ = cnn.make_params().batch_sise


@pytest.mark.parametrize("value", [None, "4", 4.5])
def test_a_value_of_another_type_is_refused_however_the_parameters_are_made(value: object) -> None:
    message = f"Param batch_size value of {value!r} is not of type integer"
    for make in (Params, cnn.make_params, cnn.make_params().replace):
        with pytest.raises(ParamError) as caught:
            make(batch_size=value)
        assert str(caught.value) == message


def test_mypy_knows_the_name_type_and_choices_of_every_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPYPATH", str(Path(trainbench.__file__).parents[1]))
    program = tmp_path / "program.py"
    program.write_text(
        "from trainbench.cnn.flags.params import make_params\n"
        "params = make_params(batch_size=4)\n"
        "params.batch_size + 1\n"
        "params.batch_sise\n"
        "params.num_batches + 1\n"
        "params.device == 'tpu'\n"
    )
    options = ("--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={tmp_path}")
    found, _, exit_code = api.run([*options, str(program)])
    errors = [line.split(":", 1)[1] for line in found.splitlines() if ": error:" in line]
    assert [error.split(":")[0] for error in errors] == ["4", "5", "6"], found
    assert "batch_sise" in errors[0]
    assert exit_code == 1


def test_the_page_of_flags_is_the_table() -> None:
    written = CHECKOUT / "docs" / "cnn_flags.md"
    assert written.read_text() == page(), "run: python -m trainbench.cnn.flags > docs/cnn_flags.md"
