"""Forward passes with constant weights give the numbers of those that read variables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from cnn_standins import Listed, Trivial, step_rows

from trainbench import cnn
from trainbench.cnn import runs
from trainbench.cnn.train import executor

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3))


def forward(**values: object) -> cnn.BenchmarkCNN:
    params = cnn.make_params(
        device="cpu", batch_size=4, num_warmup_batches=1, num_batches=3, display_every=1,
        forward_only=True, **values,
    )  # fmt: skip
    dataset = Listed(IMAGES, [0, 1, 2, 3], num_classes=11)
    return cnn.BenchmarkCNN(params, dataset=dataset, model=Trivial())


def reads_variables(benchmark: cnn.BenchmarkCNN) -> bool:
    session = benchmark.session
    chosen = runs.executor(session, session.batches("train"), lambda step: 0.0)
    return chosen.infer is session.executor.infer


@pytest.mark.parametrize(
    "values",
    [{}, {"freeze_when_forward_only": True}, {"num_gpus": 2}],
)
def test_the_accuracies_are_those_of_the_plain_forward_pass(
    values: dict, capsys: pytest.CaptureFixture
) -> None:
    benchmark = forward(**values)
    benchmark.run()
    assert not reads_variables(benchmark)
    step = benchmark.session.step
    batches = benchmark.session.batches("train")
    plain = {name: float(value) for name, value in step.infer(batches.next()).items()}
    expected = [f"{plain[name]:.3f}" for name in ("top_1_accuracy", "top_5_accuracy")]
    rows = step_rows(capsys.readouterr().out)
    assert len(rows) == 3
    assert [row[9:] for row in rows] == [expected] * 3


@pytest.mark.parametrize("name", ["resnet20", "resnet20_v2"])
def test_constant_weights_give_the_logits_of_variables(name: str) -> None:
    params = cnn.make_params(
        device="cpu", model=name, data_name="cifar10", batch_size=2, forward_only=True
    )
    session = cnn.BenchmarkCNN(params).build()
    copy = session.step.copies[0]
    for index, variable in enumerate([*copy.trainable, *copy.state]):
        draw = tf.random.stateless_uniform(variable.shape, (1, index), 0.5, 1.5)
        # Means of 0 and variances of 1 would hide a normalization that is left out.
        variable.assign(variable * draw + (draw - 1) / 10)
    batches = session.batches("train").next()
    call = session.network.call
    plain = replace(
        session.executor,
        infer=tf.function(
            lambda batches: {"logits": call(copy, batches[0][0], training=False).logits}
        ),
    )
    expected = plain.infer(batches)["logits"].numpy()
    constant, _ = plain.frozen(batches)
    assert constant.infer(batches)["logits"].numpy() == pytest.approx(
        expected, abs=1e-5 * float(np.abs(expected).max())
    )


def test_weights_that_no_graph_can_hold_stay_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(executor, "LARGEST_BYTES", 100)
    benchmark = forward()
    benchmark.run()
    assert reads_variables(benchmark)
    assert len(step_rows(capsys.readouterr().out)) == 3
