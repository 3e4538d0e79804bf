"""Trained parameters on disk: ``weights.npz`` by name, and ``model.keras``, the model itself.

The names and shapes are those of ``Geometry.shapes``. In the Keras model the embedding layers have
the tables' names; the layer ``mlp_1`` holds ``mlp_1_kernel`` and ``mlp_1_bias``, and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf

from trainbench.errors import DataIntegrityError
from trainbench.files import whole_file
from trainbench.ncf.model import Geometry, Weights

NPZ, KERAS, RANKS = "weights.npz", "model.keras", "ranks.npy"
_DAMAGE = (OSError, EOFError, ValueError, AttributeError, KeyError, TypeError, BadZipFile)


def save_weights(folder: Path, geometry: Geometry, weights: Weights) -> Path:
    """Write both files into ``folder``, each appears whole; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / NPZ) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)
    # Keras wants its suffix at the end.
    with whole_file(folder / KERAS, folder / f".part.{KERAS}") as part:
        keras_model(geometry, weights).save(part)
    return folder / NPZ


def save_ranks(folder: Path, ranks: np.ndarray) -> None:
    """Write what the last evaluation found with the weights in ``folder``, for ``prove``.

    Args:
        ranks: of each user's held-out item, from 0.
    """
    with whole_file(folder / RANKS) as part, part.open("wb") as file:
        np.save(file, ranks.astype("<i4"), allow_pickle=False)


def read_weights(path: Path, geometry: Geometry) -> Weights:
    """The parameters in ``path``, either file of ``save_weights``, as ``geometry`` shapes them.

    Raises:
        DataIntegrityError: the file cannot be read, or a parameter is missing or has another shape.
    """
    try:
        weights = _keras_weights(path) if path.suffix == ".keras" else _npz_weights(path)
    except _DAMAGE as error:
        raise _unreadable(path, error) from None
    for name, shape in geometry.shapes.items():
        found = weights[name].shape if name in weights else "nothing"
        if found != shape:
            raise DataIntegrityError(
                f"{path}: {name} is {found}, wanted {shape}; "
                "evaluate with the dataset and the layer sizes that the weights were trained with"
            )
    return weights


def keras_model(geometry: Geometry, weights: Weights) -> Any:
    """NeuMF as a Keras model: int32 ``user`` and ``item`` [batch] to logits [batch, 1]."""
    layers = tf.keras.layers
    with tf.device("CPU:0"):
        user = layers.Input((), dtype="int32", name="user")
        item = layers.Input((), dtype="int32", name="item")
        rows = {
            name: layers.Embedding(*shape, embeddings_initializer="zeros", name=name)(
                user if name.startswith("user") else item
            )
            for side in ("user", "item")
            for name, shape in geometry.table_shapes(side).items()
        }
        mf = layers.Multiply(name="mf")([rows["user_mf"], rows["item_mf"]])
        hidden = layers.Concatenate(name="mlp_input")([rows["user_mlp"], rows["item_mlp"]])
        for number, size in enumerate(geometry.mlp_layer_sizes[1:], start=1):
            hidden = _dense(size, f"mlp_{number}", activation="relu")(hidden)
        joined = layers.Concatenate(name="final_input")([mf, hidden])
        model = tf.keras.Model([user, item], _dense(1, "final")(joined), name="neumf")
        for layer in model.layers:
            names = _parameters_of(layer)
            if names:
                layer.set_weights([weights[name] for name in names])
    return model


def _dense(size: int, name: str, activation: str | None = None) -> Any:
    return tf.keras.layers.Dense(size, activation=activation, kernel_initializer="zeros", name=name)


def _parameters_of(layer: Any) -> list[str]:
    """The names, in Geometry's words, of a layer's weights in Keras's order."""
    if isinstance(layer, tf.keras.layers.Embedding):
        return [layer.name]
    if isinstance(layer, tf.keras.layers.Dense):
        return [f"{layer.name}_kernel", f"{layer.name}_bias"]
    return []


def _keras_weights(path: Path) -> Weights:
    with tf.device("CPU:0"):
        layers = tf.keras.models.load_model(path, compile=False).layers
    return {
        name: values
        for layer in layers
        for name, values in zip(_parameters_of(layer), layer.get_weights(), strict=False)
    }


def _npz_weights(path: Path) -> Weights:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _unreadable(path: Path, error: Exception) -> DataIntegrityError:
    return DataIntegrityError(
        f"{path}: cannot be read as weights ({error}); wanted the {NPZ} or {KERAS} of a trial"
    )
