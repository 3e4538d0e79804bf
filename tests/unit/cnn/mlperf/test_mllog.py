"""ResNet logs in the dialect of MLPerf 0.7 and later, judged by MLCommons' own checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainbench.cnn import make_params
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.plan import BatchSize
from trainbench.compliance.dialects import mllog
from trainbench.compliance.dialects.mllog_resnet import Submission
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.event import Event
from trainbench.compliance.parse import read_log
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags

pytest.importorskip("mlperf_logging.compliance_checker")
CLOSED = Submission(platform="two-cores", division="closed", status="onprem")
OPEN = Submission(platform="two-cores")


class Built:
    """As much of a session as the lines of its optimizer look at."""

    def __init__(self, **params: Any) -> None:
        self.params = make_params(model="resnet50_v1.5", device="cpu", **params)
        self.plan = type("Plan", (), {"train_batch": BatchSize(1_632, 1, 1), "warmup": 0})
        self.plan.length = type("Length", (), {"num_batches": 29_000})
        self.dataset = type(
            "Data", (), {"num_examples_per_epoch": lambda self, subset: 1_281_167}
        )()
        self.model = None
        self.step = type("Step", (), {"copies": [None]})


LATER = {
    "learning_rate_decay": "polynomial",
    "end_learning_rate": 1e-4,
    "num_learning_rate_warmup_epochs": 5,
    "weight_decay": 1e-4,
    "init_learning_rate": 6.4,
}
LARS = {**LATER, "optimizer": "lars", "init_learning_rate": 7.4}
SGD = {**LATER, "optimizer": "momentum"}


def events(folder: Path, params: dict[str, Any], accuracy: float) -> list[Event]:
    """A log as a run with ``params`` writes it, with evaluations that end at ``accuracy``."""
    path = folder / "raw.txt"
    with logging_to(path, root_dir=folder, benchmark="resnet", raw_prefix=""):
        emit(tags.RUN_CLEAR_CACHES)
        mlperf.start()
        emit(resnet_tags.RUN_SET_RANDOM_SEED, 1234)
        emit(tags.INPUT_BATCH_SIZE, 1_632)
        emit(resnet_tags.PREPROC_NUM_TRAIN_EXAMPLES, 1_281_167)
        emit(resnet_tags.INPUT_BN_SPAN, 204)
        mlperf.optimizer(Built(**params))  # type: ignore[arg-type]
        emit(resnet_tags.PREPROC_NUM_EVAL_EXAMPLES, 50_000)
        emit(tags.TRAIN_LOOP)
        for epoch, value in ((4, 0.31), (8, accuracy)):
            emit(tags.EVAL_START)
            emit(tags.EVAL_STOP)
            emit(tags.EVAL_ACCURACY, {"epoch": epoch, "value": value})
        emit(tags.RUN_STOP, {"success": True})
        emit(tags.RUN_FINAL)
    return list(read_log(path).events)


def verdict(path: Path, ruleset: str) -> tuple[int, str]:
    """Exit code and output of the checker's command line."""
    command = [sys.executable, "-m", "mlperf_logging.compliance_checker", "--ruleset", ruleset]
    done = subprocess.run(
        [*command, "--log_output", str(path.with_suffix(".checked")), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def translated(folder: Path, lines: list[str]) -> Path:
    path = folder / "result_0.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("ruleset", ["0.7.0", "4.0.0"])
@pytest.mark.parametrize("params", [SGD, LARS], ids=["sgd", "lars"])
def test_a_run_by_the_later_rules_passes_the_closed_division(
    tmp_path: Path, params: dict[str, Any], ruleset: str
) -> None:
    path = translated(tmp_path, mllog.format_lines(events(tmp_path, params, 0.7601), CLOSED))
    code, output = verdict(path, ruleset)
    assert code == 0, output


# 0.7.0 wants the closed division's accuracy of the open one as well.
@pytest.mark.parametrize(("ruleset", "accuracy"), [("0.7.0", 0.7601), ("4.0.0", 0.4)])
def test_a_run_with_the_steps_of_v05_passes_the_open_division(
    tmp_path: Path, ruleset: str, accuracy: float
) -> None:
    events_of_steps = events(tmp_path, {"optimizer": "momentum"}, accuracy)
    path = translated(tmp_path, mllog.format_lines(events_of_steps, OPEN))
    code, output = verdict(path, ruleset)
    assert code == 0, output


@pytest.mark.parametrize(
    ("params", "accuracy"),
    [
        (SGD, 0.749),
        ({**SGD, "weight_decay": 4e-5}, 0.7601),
        ({**SGD, "end_learning_rate": 0.0}, 0.7601),
    ],
    ids=["accuracy of v0.5", "weight decay of v0.5", "end at zero"],
)
def test_what_the_later_rules_refuse_is_refused(
    tmp_path: Path, params: dict[str, Any], accuracy: float
) -> None:
    path = translated(tmp_path, mllog.format_lines(events(tmp_path, params, accuracy), CLOSED))
    code, output = verdict(path, "4.0.0")
    assert code == 1
    assert "failed" in output.lower()
