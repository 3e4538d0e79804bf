"""Every model by its name: ``get_model("resnet50", "imagenet").build(1001)``."""

from __future__ import annotations

from collections.abc import Mapping

from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.models import applications
from trainbench.cnn.models.applications import KerasModel
from trainbench.cnn.models.cifar import CIFAR10
from trainbench.cnn.models.imagenet import IMAGENET
from trainbench.cnn.models.spec import CnnModel
from trainbench.configuration import nearest

MODELS: Mapping[str, Mapping[str, CnnModel]] = {"imagenet": IMAGENET, "cifar10": CIFAR10}
"""Dataset to name to model."""

REFUSED = {
    "ssd300": "object detection is not part of this benchmark; see MLPerf's single_stage_detector",
    "deepspeech2": "speech recognition is not part of this benchmark; see MLPerf's rnnt",
    "ncf": "recommendation is a benchmark of its own; run: python -m trainbench train --help",
}


def get_model(name: str, dataset_name: str) -> CnnModel | KerasModel:
    """The model that ``--model=name`` means for a dataset.

    Raises:
        ParamError: (a ``ConfigError``) an unknown dataset or model, or one that is not offered.
    """
    if name in REFUSED:
        raise ParamError(f"--model={name}: {REFUSED[name]}")
    if dataset_name not in MODELS:
        raise ParamError(f"Invalid dataset name: {dataset_name}")
    if name.startswith(applications.PREFIX):
        return applications.model(name, dataset_name)
    known = MODELS[dataset_name]
    if name not in known:
        raise ParamError(f"Invalid model name '{name}' for dataset '{dataset_name}'" + _hint(name))
    return known[name]


def _hint(name: str) -> str:
    names = [model for models in MODELS.values() for model in models]
    near = nearest(name, names)
    if near is None:
        known = ", ".join(dict.fromkeys(names))
        any_model = f"--model={applications.PREFIX}NAME takes any model of keras.applications"
        return f"; {any_model} (known: {known})"
    homes = " and ".join(dataset for dataset, models in MODELS.items() if near in models)
    if near == name:
        return f"; it is a model for {homes}: pass --data_name={homes}"
    return f"; did you mean '{near}' ({homes})?"
