"""The command line's grammar, its refusals and its help."""

from __future__ import annotations

import pytest

from trainbench import cnn
from trainbench.cnn.flags import FLAGS
from trainbench.cnn.flags.arguments import parse
from trainbench.cnn.flags.params import ParamError


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--batch_size=32"], "batch_size", 32),
        (["--batch_size", "32"], "batch_size", 32),
        (["-batch_size", "32"], "batch_size", 32),
        (["--eval"], "eval", True),
        (["--noeval"], "eval", False),
        (["--nodistortions"], "distortions", False),
        (["--eval=true"], "eval", True),
        (["--eval=False"], "eval", False),
        (["--eval=1"], "eval", True),
        (["--weight_decay=1e-4"], "weight_decay", 1e-4),
        (["--weight_decay=0"], "weight_decay", 0.0),
        (["--eval_during_training_at_specified_steps=2,3"],
         "eval_during_training_at_specified_steps", ("2", "3")),
        (["--piecewise_learning_rate_schedule=1;3;.1"],
         "piecewise_learning_rate_schedule", "1;3;.1"),
        (["--batch_size=1", "--batch_size=2"], "batch_size", 2),
        (["--num_gpus=2"], "num_gpus", 2),
    ],
)  # fmt: skip
def test_a_flag_is_written_in_any_of_the_usual_ways(words: list, name: str, value: object) -> None:
    assert getattr(parse(words).params, name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--distortions", "False"], "Received unknown positional arguments: ['False']"),
        (["resnet50"], "Received unknown positional arguments: ['resnet50']"),
        (["--eval", "--", "x"], "Received unknown positional arguments: ['x']"),
        (["--batchsize=3"], "Unknown flag --batchsize; did you mean --batch_size?"),
        (["--nodistortion"], "Unknown flag --nodistortion; did you mean --distortions?"),
        (["--zzzzzz"], "Unknown flag --zzzzzz"),
        (["--batch_size"], "Flag --batch_size needs a value: --batch_size=INTEGER"),
        (["--batch_size=a"], "Param batch_size value of 'a' is not of type integer"),
        (["--momentum=a"], "Param momentum value of 'a' is not of type float"),
        (["--eval=maybe"], "Param eval value of 'maybe' is not true or false"),
        (["--optimizer=adagrad"],
         "Param optimizer of value adagrad is not in ('momentum', 'sgd', 'rmsprop', 'adam', "
         "'lars')"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_in_one_line(words: list, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        parse(words)
    assert str(caught.value) == message


def test_main_reports_wrong_flags_with_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    assert cnn.main(["--modle=trivial"]) == 2
    assert capsys.readouterr().err == "error: Unknown flag --modle; did you mean --model?\n"


def test_help_names_every_flag_once_by_concern(capsys: pytest.CaptureFixture) -> None:
    assert cnn.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in FLAGS:
        starts = (f"  --{name}\n", f"  --[no]{name}\n")
        assert sum(text.count(start) for start in starts) == 1, name
    assert "Learning rate:\n" in text
    assert max(len(line) for line in text.splitlines()) <= 100
