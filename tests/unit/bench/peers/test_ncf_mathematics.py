"""The peers of NCF compute what ours computes: from our weights, the same logits and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from trainbench.bench.peers.tensorflow_ncf import compiled_model
from trainbench.ncf import config as configs
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.batches import MemoryBatches, random_batches
from trainbench.ncf.model import Geometry, Weights, initial_weights
from trainbench.ncf.train import build

GEOMETRY, STEPS, SEED = (90, 70), 12, 1
# Keras's Adam adds epsilon to another root; one as small as this matters in neither.
CONFIG = replace(
    configs.reference(),
    mf_dim=8,
    mlp_layer_sizes=(16, 16, 8),
    batch_size=32,
    learning_rate=0.01,
    epsilon=1e-14,
    steps_per_call=1,
    xla=False,
    devices="cpu",
)
DATA = random_batches(GEOMETRY, steps=STEPS, batch=CONFIG.batch_size)
SHAPE = Geometry.of(CONFIG, *GEOMETRY)
Losses = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
TOLERANCE = 2e-5


def our_losses(data: MemoryBatches = DATA, config: NcfConfig = CONFIG) -> list[float]:
    trainer = build(config, *GEOMETRY, seed=SEED)
    steps = [MemoryBatches(*(a[i : i + 1] for a in arrays(data))) for i in range(STEPS)]
    return [trainer.train_epoch(step).mean_loss for step in steps]


def arrays(data: MemoryBatches = DATA) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return data.users, data.items, data.labels


def without_repeats() -> MemoryBatches:
    """The same labels, for batches in which no user and no item stands twice."""
    rng = np.random.default_rng(0)
    ids = [
        np.stack([rng.permutation(rows)[: CONFIG.batch_size] for _ in range(STEPS)])
        for rows in GEOMETRY
    ]
    return MemoryBatches(*(side.astype(np.int32) for side in ids), DATA.labels)


def our_weights() -> Weights:
    return initial_weights(SHAPE, seed=SEED)


def our_logits(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """NeuMF in NumPy, float64 (He et al. 2017), which ours is tested against elsewhere."""
    weights = {name: values.astype(np.float64) for name, values in our_weights().items()}
    hidden = np.concatenate([weights["user_mlp"][users], weights["item_mlp"][items]], axis=1)
    for layer in range(1, len(CONFIG.mlp_layer_sizes)):
        sums = hidden @ weights[f"mlp_{layer}_kernel"] + weights[f"mlp_{layer}_bias"]
        hidden = np.maximum(sums, 0)
    both = np.concatenate([weights["user_mf"][users] * weights["item_mf"][items], hidden], axis=1)
    return np.asarray((both @ weights["final_kernel"] + weights["final_bias"])[:, 0])


def keras_losses(data: MemoryBatches) -> list[float]:
    model, losses = compiled_model(CONFIG, SHAPE, our_weights()), []
    for users, items, labels in zip(*arrays(data), strict=True):
        truth = labels.astype(np.float32)[:, None]
        history = model.fit([users, items], truth, batch_size=len(users), verbose=0)
        losses += history.history["loss"]
    return losses


def test_keras_has_our_logits() -> None:
    model = compiled_model(CONFIG, SHAPE, our_weights())
    found = model([tf.constant(DATA.users[0]), tf.constant(DATA.items[0])]).numpy()[:, 0]
    assert found == pytest.approx(our_logits(DATA.users[0], DATA.items[0]), abs=1e-6)


def test_keras_fits_with_our_losses_where_no_row_is_named_twice() -> None:
    data = without_repeats()
    assert keras_losses(data) == pytest.approx(our_losses(data), abs=TOLERANCE)


def test_keras_squares_each_samples_gradient_of_a_row_and_ours_their_sum() -> None:
    # If Keras comes to do as Adam's authors, the note in its row of the table is to go.
    assert keras_losses(DATA) == pytest.approx(our_losses(), abs=5e-3)
    assert keras_losses(DATA) != pytest.approx(our_losses(), abs=TOLERANCE)


@pytest.mark.parametrize("compiled", [False, True])
def test_pytorch_has_our_logits_and_trains_with_our_losses(compiled: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from trainbench.bench.peers.torch_ncf import Training

    trainer = Training(CONFIG, GEOMETRY, sparse=False, compiled=compiled)
    trainer.model.take(our_weights())
    users, items, labels = (torch.from_numpy(a.astype(np.int64)) for a in arrays())
    found = trainer.model(users[0], items[0]).detach().numpy()
    assert found == pytest.approx(our_logits(DATA.users[0], DATA.items[0]), abs=1e-6)
    batches = zip(users, items, labels.float(), strict=True)
    losses = [float(trainer.step(*batch)) for batch in batches]
    assert losses == pytest.approx(our_losses(), abs=TOLERANCE)


@pytest.mark.parametrize("compiled", [False, True])
def test_sparse_adam_of_pytorch_trains_with_the_losses_of_our_lazy_adam(compiled: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from trainbench.bench.peers.torch_ncf import Training

    ours = our_losses(config=replace(CONFIG, optimizer="lazy_adam"))
    trainer = Training(CONFIG, GEOMETRY, sparse=True, compiled=compiled)
    trainer.model.take(our_weights())
    users, items, labels = (torch.from_numpy(a.astype(np.int64)) for a in arrays())
    batches = zip(users, items, labels.float(), strict=True)
    assert [float(trainer.step(*batch)) for batch in batches] == pytest.approx(ours, abs=TOLERANCE)


def test_pytorch_ranks_as_the_scores_say() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from trainbench.bench.peers.torch_ncf import NeuMF, ranking

    model = NeuMF(CONFIG, *GEOMETRY, sparse=False)
    model.take(our_weights())
    items = np.random.default_rng(0).integers(0, GEOMETRY[1], (5, 20))
    with torch.inference_mode():
        found = ranking(model, bf16=False)(torch.arange(5), torch.from_numpy(items)).numpy()
    scores = our_logits(np.repeat(np.arange(5), 20), items.ravel()).reshape(5, 20)
    assert found.tolist() == (scores[:, :-1] > scores[:, -1:] + 1e-7).sum(1).tolist()
