"""Checkpoints ``model.ckpt-<global step>``: written whole, found again after a move, checked.

A checkpoint holds one copy of the variables under the model's names, the optimizer's state and the
global step, so that what was trained on several devices is evaluated or resumed on one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainbench.cnn.places import names_checkpoint, step_of
from trainbench.errors import DataIntegrityError
from trainbench.files import writing

_NAME = "model.ckpt"
_RULE = "update_rule"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class CheckpointNotFoundException(DataIntegrityError):
    """There is no checkpoint in the folder."""


def find(path: str) -> str:
    """The checkpoint that ``path`` names: itself, or the newest in the folder ``path``.

    Raises:
        CheckpointNotFoundException: the folder holds none.
        DataIntegrityError: the files of the one that is named are not there.
    """
    state = None if names_checkpoint(path) else tf.train.get_checkpoint_state(path)
    if state is None and not names_checkpoint(path):
        raise CheckpointNotFoundException(f"No checkpoint file found in dir:{path}")
    found = str(state.model_checkpoint_path) if state else path
    if not Path(f"{found}.index").is_file():
        there = sorted(Path(found).parent.glob("*.index"), key=lambda file: step_of(file.stem))
        others = ", ".join(file.stem for file in there) or "no checkpoint"
        raise DataIntegrityError(
            f"{found}: this checkpoint is not there; {Path(found).parent} has {others}: name one "
            "that is there"
        )
    return found


class Checkpoints:
    """The checkpoints of one folder.

    Args:
        folder: where they are; made on the first save.
        variables: name to variable, the model's own.
        state: the same for what training needs to continue: optimizer and loss scale.
        optimizer: name of the update rule that the state belongs to.
        keep: how many to keep; 0 keeps all.
    """

    def __init__(
        self,
        folder: str,
        variables: Mapping[str, Any],
        state: Mapping[str, Any],
        *,
        optimizer: str,
        keep: int = 5,
    ) -> None:
        self.folder, self._optimizer = folder, optimizer
        self._model, self._training = dict(variables), dict(state)
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="global_step")
        parts = {"model": self._model, "global_step": self._step}
        # Rules may have variables of the same names, as momentum and lars do.
        named = tf.Variable(optimizer, trainable=False, name=_RULE)
        whole = {**parts, "training": {**self._training, _RULE: named}}
        self._checkpoint, self._keep = tf.train.Checkpoint(**whole), keep or None
        self._model_only = tf.train.Checkpoint(**parts)
        self._manager: Any = None
        self.saved_s = time.monotonic()
        self.loaded: str | None = None
        self.step = 0

    def require_space(self) -> None:
        """Look whether there is space for a checkpoint beside those that are there.

        Raises:
            MachineError: there is not.
        """
        variables = [*self._model.values(), *self._training.values()]
        needed = sum(v.shape.num_elements() * v.dtype.size for v in variables)
        with writing(Path(self.folder), needed, option="--train_dir"):
            pass

    def save(self, global_step: int) -> str:
        """Write ``model.ckpt-<global_step>`` and delete what is older than the newest few."""
        if self._manager is None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            self._manager = tf.train.CheckpointManager(
                self._checkpoint, self.folder, max_to_keep=self._keep, checkpoint_name=_NAME
            )
        self._step.assign(global_step)
        self.saved_s = time.monotonic()
        return str(self._manager.save(checkpoint_number=global_step, options=_here()))

    def load(self, *, training: bool) -> int:
        """Take the values of the newest checkpoint and return its global step.

        Raises:
            CheckpointNotFoundException: there is none.
            DataIntegrityError: it belongs to another model, or is damaged.
        """
        path = find(self.folder)
        _check(path, self._model, "model", "another model")
        if training:
            self._check_optimizer(path)
            _check(path, self._training, "training", "another optimizer")
        chosen = self._checkpoint if training else self._model_only
        try:
            chosen.read(path, options=_here()).expect_partial()
        except (tf.errors.OpError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataIntegrityError(f"{path}: cannot be read ({reason}); delete it") from None
        self.loaded, self.step = path, step_of(path)
        return self.step

    def _check_optimizer(self, path: str) -> None:
        """Look whether the state in the checkpoint is that of this optimizer, and all of it."""
        stored = _shapes(path, "training")
        kept = {name for name in stored if name.startswith("optimizer/")}
        if _RULE in stored:
            value = tf.train.load_checkpoint(path).get_tensor(f"training/{_RULE}{_SUFFIX}")
            found = value.decode()
        else:
            # Of an older version, which did not write the name.
            found = self._optimizer if kept <= set(self._training) else "another one"
        if found != self._optimizer:
            raise DataIntegrityError(
                f"{path}: a checkpoint of another optimizer ({found}), from whose state "
                f"--optimizer={self._optimizer} cannot go on; name the flags it was "
                "trained with, or another --train_dir"
            )


def _here() -> Any:
    """Files are read and written by this process, wherever the variables lie."""
    own = tf.DeviceSpec.from_string(tf.constant(0).device).replace(device_type="CPU")
    return tf.train.CheckpointOptions(experimental_io_device=own.to_string())


def _check(path: str, variables: Mapping[str, Any], part: str, other: str) -> None:
    """Compare names and shapes first: TensorFlow itself silently skips what does not match."""
    found = _shapes(path, part)
    for name, variable in variables.items():
        wanted = variable.shape.as_list()
        if found.get(name) != wanted:
            has = f"it has {found[name]}" if name in found else "it has none"
            raise DataIntegrityError(
                f"{path}: a checkpoint of {other}: {name} of shape {wanted} is wanted and {has}; "
                "name the flags it was trained with, or another --train_dir"
            )


def _shapes(path: str, part: str) -> dict[str, list[int]]:
    try:
        stored = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataIntegrityError(f"{path}: cannot be read ({reason}); delete it") from None
    prefix = f"{part}/"
    return {
        # TensorFlow writes "/" in a key as ".S".
        name[len(prefix) : -len(_SUFFIX)].replace(".S", "/").replace("..", "."): list(shape)
        for name, shape in stored.items()
        if name.startswith(prefix) and name.endswith(_SUFFIX)
    }
