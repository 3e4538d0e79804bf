"""The command line's grammar, its refusals and its help."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainbench import cnn
from trainbench.cnn.flags import FLAGS
from trainbench.cnn.flags.arguments import parse
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.flags.retired import RETIRED


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
        (["--flagfil=x"], "Unknown flag --flagfil; did you mean --flagfile?"),
        (["--flagfile"], "--flagfile with no argument"),
        (["--noeval=1"], "--noeval=1 does not take an argument"),
        (["--undefok=batchsize", "--batch_sise=3"],
         "Unknown flag --batch_sise; did you mean --batch_size?"),
        (["--nodistortion"], "Unknown flag --nodistortion; did you mean --distortions?"),
        (["--zzzzzz"], "Unknown flag --zzzzzz; --help lists all of them"),
        (["--learning_rate=0.1"],
         "--learning_rate is a flag of earlier versions of tf_cnn_benchmarks; use "
         "--init_learning_rate"),
        (["--noenable_layout_optimizer"],
         "--noenable_layout_optimizer is a flag of earlier versions of tf_cnn_benchmarks; use "
         """--rewriter_config='{"layout_optimizer": true}'"""),
        (["--flush_stdout=maybe"],
         "flag --flush_stdout=maybe: ('Non-boolean argument to boolean flag', 'maybe')"),
        (["--batch_size"], "Missing value for flag --batch_size"),
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


def test_a_retired_flag_names_flags_of_today_and_no_retired_one() -> None:
    for name, text in RETIRED.items():
        assert name not in FLAGS
        for named in re.findall(r"--(\w+)", text):
            assert named in FLAGS
        with pytest.raises(ParamError, match="earlier versions"):
            cnn.make_params(**{name: 1})
    params = parse(["--undefok=learning_rate", "--learning_rate=0.1"]).params
    assert params.changed() == {}


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


def test_a_flagfile_may_hold_comments_and_name_another_one(tmp_path: Path) -> None:
    machine, run = tmp_path / "machine.flags", tmp_path / "run.flags"
    machine.write_text("# This machine\n--device=cpu\n\n// threads\n--num_intra_threads=2\n")
    run.write_text(f"--batch_size=8\n--flagfile={machine}\n--nodistortions\n")
    params = parse([f"--flagfile={run}", "--batch_size=16"]).params
    assert params.changed() == {
        "batch_size": 16,
        "distortions": False,
        "device": "cpu",
        "num_intra_threads": 2,
    }
    assert parse(["--batch_size=16", "--flagfile", str(run)]).params.batch_size == 8


def test_a_flagfile_that_cannot_be_read_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    missing = tmp_path / "missing.flags"
    assert cnn.main([f"--flagfile={missing}"]) == 2
    assert capsys.readouterr().err == (
        f"error: Unable to open flagfile: [Errno 2] No such file or directory: '{missing}'\n"
    )


def test_undefok_names_flags_that_are_no_error_although_unknown() -> None:
    words = ["--undefok=theirs,switch", "--theirs=3", "--noswitch", "--batch_size=4"]
    assert parse(words).params.changed() == {"batch_size": 4}


def test_the_short_help_is_the_help_and_the_full_one_adds_what_absl_has() -> None:
    text = parse(["--help"]).help
    assert text is not None
    assert parse(["--helpshort"]).help == parse(["-h"]).help == text
    full = parse(["--helpfull"]).help
    assert full is not None
    assert full.startswith(text)
    assert "--flagfile: " in full
    assert "--undefok: " in full


def test_help_is_given_even_beside_a_wrong_flag() -> None:
    assert parse(["--batchsize=3", "--help"]).help == parse(["--help"]).help


def test_parsing_imports_no_tensorflow_and_leaves_the_flags_of_absl_alone() -> None:
    program = (
        "import sys\n"
        "from absl import flags\n"
        "from trainbench.cnn.flags.arguments import parse\n"
        "before = set(flags.FLAGS)\n"
        "assert parse(['--batch_size=4']).params.batch_size == 4\n"
        "assert set(flags.FLAGS) == before and not flags.FLAGS.is_parsed()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
