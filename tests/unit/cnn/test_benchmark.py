"""Making a benchmark decides; starting it acts, once."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from cnn_standins import Synthetic, Trivial

from trainbench import cnn
from trainbench.compliance.emit import logging_to
from trainbench.compliance.parse import read_log


def options() -> dict:
    return dict(tf.config.optimizer.get_experimental_options())


def test_only_the_first_start_acts_and_making_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before, log = options(), tmp_path / "log"
    params = cnn.make_params(
        device="cpu", batch_size=4, rewriter_config='{"remapping": false}',
        use_numa_affinity=True, eval_during_training_every_n_epochs=2,
    )  # fmt: skip
    try:
        with logging_to(log, root_dir=tmp_path, benchmark="resnet", raw_prefix=""):
            benchmark = cnn.BenchmarkCNN(params, dataset=Synthetic(), model=Trivial())
            assert options() == before
            assert not read_log(log).events
            assert capsys.readouterr() == ("", "")
            benchmark.start()
            assert options()["remapping"] is False
            assert "--use_numa_affinity has no effect" in capsys.readouterr().err
            benchmark.print_info()
            benchmark.build()
            assert "no effect" not in capsys.readouterr().err
        keys = [event.key for event in read_log(log).events]
        assert keys[:2] == ["run_start", "eval_offset"]
        assert keys.count("run_start") == 1
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": True, **before})


def test_what_cannot_be_run_is_refused_before_anything_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        logging_to(log, root_dir=tmp_path, benchmark="resnet", raw_prefix=""),
        pytest.raises(ValueError, match="not a JSON object"),
    ):
        cnn.BenchmarkCNN(cnn.make_params(device="cpu", rewriter_config="{"))
    assert not read_log(log).events
