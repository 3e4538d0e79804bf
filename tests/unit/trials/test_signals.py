"""A request to stop is heeded, whatever code the signal falls into."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainbench.trials import signals
from trainbench.trials.lock import locked
from trainbench.trials.paths import DataDir

PRELUDE = """
import os, signal, sys, time
import click
from trainbench.cli import main as cli
from trainbench.trials import signals

def stop():
    os.kill(os.getpid(), signal.SIGNUMBER)

def loop():
    for _ in range(600):
        signals.raise_if_requested()
        time.sleep(0.1)
"""

IN_A_FINALISER = """
class Ends:
    def __del__(self):
        stop()

@cli.cli.command("wait")
def wait():
    thing = Ends()
    del thing
    loop()
"""

IN_CODE_THAT_MAKES_ANOTHER_ERROR_OF_IT = """
@cli.cli.command("wait")
def wait():
    try:
        stop()
        time.sleep(60)
    except BaseException:
        raise TypeError("binding inputs failed") from None
"""

IN_PLAIN_CODE = """
@cli.cli.command("wait")
def wait():
    stop()
    time.sleep(60)
"""


def finding(modules: Path | None) -> dict[str, str]:
    """The environment of a process that finds ``modules`` before all others."""
    places = [str(modules)] if modules else []
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]),
    }


def ended(*words: str, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    """How Python ended with these ``words``, and what it printed."""
    command, environment = [sys.executable, *words], finding(modules)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )


def assert_interrupted_at_it(process: subprocess.Popen[str]) -> None:
    """Send SIGINT once ``process`` says that it imports, and then a line that it may wait for."""
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate("\n", timeout=60)[1] == "error: interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
@pytest.mark.parametrize(
    "code", [IN_PLAIN_CODE, IN_A_FINALISER, IN_CODE_THAT_MAKES_ANOTHER_ERROR_OF_IT]
)
def test_a_signal_ends_the_command_as_interrupted(code: str, number: str) -> None:
    script = PRELUDE.replace("SIGNUMBER", f"SIG{number}") + code
    script += "\nsys.argv = ['trainbench', 'wait']\ncli.main()\n"
    done = ended("-c", script)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "error: interrupted"


def test_a_signal_during_the_imports_ends_the_command_as_interrupted(tmp_path: Path) -> None:
    # The first package that the command line imports takes for ever.
    (tmp_path / "click.py").write_text("import time\nprint('at it', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainbench", "doctor"],
        env=finding(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert_interrupted_at_it(process)


IN_CODE_THAT_IS_GIVEN_AS_TEXT = """
@cli.cli.command("wait")
def wait():
    exec("stop(); time.sleep(60)")
"""


def test_a_signal_in_code_given_as_text_has_the_exit_code_of_an_interruption(
    tmp_path: Path,
) -> None:
    script = PRELUDE.replace("SIGNUMBER", "SIGTERM") + IN_CODE_THAT_IS_GIVEN_AS_TEXT
    (tmp_path / "waits.py").write_text(script + "\nsys.argv = ['trainbench', 'wait']\ncli.main()\n")
    done = ended("-m", "waits", modules=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "error: interrupted")


def test_a_signal_in_imported_code_given_as_text_has_that_exit_code_too(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "click.py").write_text(f"exec({text!r})\nimport time\ntime.sleep(60)\n")
    done = ended("-m", "trainbench", "doctor", modules=tmp_path)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


IN_ITS_LAST_MOMENTS = """
import atexit
atexit.register(stop)

@cli.cli.command("wait")
def wait():
    pass
"""


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
def test_a_signal_after_the_work_ends_the_process_without_a_word(number: str) -> None:
    script = PRELUDE.replace("SIGNUMBER", f"SIG{number}") + IN_ITS_LAST_MOMENTS
    script += "\nsys.argv = ['trainbench', 'wait']\ncli.main()\n"
    done = ended("-c", script)
    assert (-done.returncode, done.stderr) == (getattr(signal, f"SIG{number}"), "")


def test_ctrl_c_while_a_trial_still_imports_is_answered_once_it_listens(tmp_path: Path) -> None:
    imports = "print('at it', flush=True); input(); from trainbench.trials import child; "
    imports += f"import sys, pathlib; sys.exit(child.main(pathlib.Path({str(tmp_path)!r})))"
    with signals.kept_from_children():
        process = subprocess.Popen(
            [sys.executable, "-c", imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert_interrupted_at_it(process)


def test_ctrl_c_is_kept_from_children_alone() -> None:
    with pytest.raises(KeyboardInterrupt), signals.kept_from_children():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_broken_pipe_is_an_interruption() -> None:
    assert signals.caused(BrokenPipeError())


def test_a_step_that_was_stopped_is_recorded_as_interrupted_whatever_it_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_asked", True)
    with pytest.raises(TypeError), locked(DataDir(tmp_path), "train"):
        raise TypeError("binding inputs failed")
    line = json.loads(DataDir(tmp_path).steps.read_text())
    assert (line["exit_code"], line["message"]) == (130, "interrupted")


def test_what_waits_for_a_signal_is_not_raised_at_but_by_ctrl_c(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "_asked", None)
    with signals.waiting():
        signals._remember(signal.SIGTERM, None)
        assert signals.requested() == "SIGTERM"
        with pytest.raises(KeyboardInterrupt, match="SIGINT"):
            signals._remember(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt, match="SIGHUP"):
        signals._remember(signal.SIGHUP, None)


def test_evaluations_end_before_their_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainbench.cnn.train import evaluation

    class Work:
        """An input and a network that are asked for nothing more."""

        batches = 0

        def next(self) -> None:
            self.batches += 1
            signals._asked = "SIGTERM" if self.batches == 2 else None

        def score(self, batches: None) -> dict[str, list[int]]:
            return {"finite": [True], "top_1": [1], "top_5": [1], "label": [0], "answer": [0]}

    monkeypatch.setattr(signals, "_asked", None)
    work = Work()
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(work, work, num_batches=9, images_per_batch=1, display_every=9)  # type: ignore[arg-type]
    assert work.batches == 2
