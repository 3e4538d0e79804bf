"""What a trial leaves of its model: weights by name, a Keras model, and a trace of its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_ncf import ITEMS, SMALL, USERS, some_epoch

from trainbench.distribution.cluster import cluster_of_workers
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.ncf.config import reference
from trainbench.ncf.devices import check_devices, connect_tpu
from trainbench.ncf.model import Geometry, Weights, first_layer, initial_weights, logits
from trainbench.ncf.train import TRACED, build
from trainbench.ncf.weights import keras_model, read_weights, save_weights

GEOMETRY = Geometry(num_users=40, num_items=30, mf_dim=6, mlp_layer_sizes=(12, 8, 4))


def our_logits(weights: Weights, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    kernel = weights["mlp_1_kernel"]
    first = first_layer(kernel, weights["user_mlp"][users], "user")
    first += first_layer(kernel, weights["item_mlp"][items], "item")
    dense = {name: weights[name] for name in GEOMETRY.dense_shapes}
    mf = (weights["user_mf"][users], weights["item_mf"][items])
    return np.asarray(logits(dense, mf, first))


def some_weights() -> Weights:
    weights = initial_weights(GEOMETRY, seed=3)
    # Embeddings of the size that training gives them, so that a swapped table would be seen.
    return {n: w * 30 if n.split("_")[0] in ("user", "item") else w for n, w in weights.items()}


def test_the_keras_file_gives_our_logits(tmp_path: Path) -> None:
    weights = some_weights()
    save_weights(tmp_path, GEOMETRY, weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "weights.npz"]
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 40, 500, np.int32), rng.integers(0, 30, 500, np.int32)
    model = tf.keras.models.load_model(tmp_path / "model.keras")
    found = np.asarray(model([users, items]))
    assert found.shape == (500, 1)
    expected = our_logits(weights, users, items)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_both_files_hold_the_same_weights(tmp_path: Path) -> None:
    weights = some_weights()
    save_weights(tmp_path, GEOMETRY, weights)
    for name in ("weights.npz", "model.keras"):
        found = read_weights(tmp_path / name, GEOMETRY)
        assert set(found) == set(weights)
        assert all((found[n] == weights[n]).all() for n in weights)


def test_the_keras_model_has_the_parameters_of_the_reference() -> None:
    weights = initial_weights(GEOMETRY, seed=0)
    assert keras_model(GEOMETRY, weights).count_params() == GEOMETRY.num_parameters


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off"])
def test_a_missing_or_damaged_keras_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match=r"model\.keras: cannot be read as weights"):
        read_weights(path, GEOMETRY)


def test_the_trace_of_a_profile_holds_our_steps(tmp_path: Path) -> None:
    trainer = build(replace(SMALL, steps_per_call=2), USERS, ITEMS, seed=1)
    trainer.train_epoch(some_epoch(5), profile=str(tmp_path))
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert TRACED.encode() in trace.read_bytes()


def test_a_tpu_that_is_not_there_is_named() -> None:
    for name in ("local", "grpc://127.0.0.1:9"):
        with pytest.raises(MachineError, match=f"--tpu {name}: no TPU answers"):
            connect_tpu(name)


def test_a_gpu_asked_for_and_absent_is_an_error_before_any_work() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(MachineError, match="devices=gpu: TensorFlow sees no GPU"):
        check_devices(replace(reference(), devices="gpu"))


def test_a_batch_for_a_cluster_is_checked_before_any_work() -> None:
    three = cluster_of_workers(("a:1", "b:1", "c:1"), 0)
    with pytest.raises(ConfigError, match="among 3 replicas; try --set batch_size=2049"):
        check_devices(replace(reference(), devices="cpu"), three)
