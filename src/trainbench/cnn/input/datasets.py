"""The data sets of the CNN benchmark: ImageNet and CIFAR-10, read or synthetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.input import cifar10, imagenet, synthetic
from trainbench.cnn.models import registry
from trainbench.cnn.places import check_data_dir

NAMES = ("cifar10", "coco", "imagenet", "librispeech")
REFUSED = {
    "coco": "object detection is not part of this benchmark",
    "librispeech": "speech recognition is not part of this benchmark",
}
EXAMPLES: Mapping[str, Mapping[str, int]] = {
    "imagenet": {"train": 1_281_167, "validation": 50_000},
    "cifar10": {"train": 50_000, "validation": 10_000},
}
"""Images of each subset as published."""
CLASSES = {"imagenet": 1001, "cifar10": 11}
"""Classes, with one for the background."""


@dataclass(frozen=True)
class Dataset:
    """One data set for one model.

    Attributes:
        image_size: pixels of each side of the images that ``batches`` gives.
        data_dir: folder of the files, ``None`` for synthetic images.
        counted: images of each subset in the files, as far as they have been counted.
    """

    name: str
    image_size: int
    data_dir: Path | None = None
    counted: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_classes(self) -> int:
        """Classes, with one for the background."""
        return CLASSES[self.name]

    @property
    def is_synthetic(self) -> bool:
        """Whether images are made on the device instead of read."""
        return self.data_dir is None

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """Images of ``subset``, train or validation: those in the files, where there are files.

        Raises:
            ParamError: another subset.
            DataIntegrityError: no folder, no files, or a file that ends within a record.
        """
        if subset not in EXAMPLES[self.name]:
            raise ParamError(f'Invalid data subset "{subset}"')
        if self.data_dir is None:
            return EXAMPLES[self.name][subset]
        if subset not in self.counted:
            check_data_dir(self.data_dir)
            self.counted[subset] = self._count(self.data_dir, subset)
        return self.counted[subset]

    def _count(self, folder: Path, subset: str) -> int:
        if self.name == "cifar10":
            return cifar10.count(folder, subset)
        return imagenet.count(folder, subset, published=EXAMPLES[self.name][subset])

    def partial(self) -> str | None:
        """What the files lack of the published data set, in words, as far as they were counted."""
        return partial(self.name, self.counted)

    def batches(self, subset: str, params: Params, *, batch_size: int) -> Iterator[Any]:
        """Images float[batch_size, image_size, image_size, 3] and labels int32[batch_size].

        Without end; training images are shuffled and distorted as ``params`` say.

        Raises:
            DataIntegrityError: no files, or files that are not what they should be.
        """
        self.num_examples_per_epoch(subset)
        if self.data_dir is None:
            return synthetic.batches(
                self.image_size,
                self.num_classes,
                device_batch=batch_size,
                seed=params.tf_random_seed,
                dtype=_dtype(params),
            )
        read = cifar10.batches if self.name == "cifar10" else imagenet.batches
        return read(self.data_dir, subset, params, size=self.image_size, device_batch=batch_size)


def create(params: Params, *, image_size: int | None = None) -> Dataset:
    """The data set that ``params`` name, with images for their model.

    Args:
        image_size: taken in place of the size of ``params.model``.

    Raises:
        ParamError: an unknown data set, or one that the folder's name does not tell.
    """
    name = name_of(params)
    if image_size is None:
        image_size = registry.get_model(params.model, name).image_size
    folder = Path(params.data_dir).expanduser() if params.data_dir else None
    return Dataset(name, image_size, folder)


def partial(name: str, counts: Mapping[str, int]) -> str | None:
    """What ``counts`` of subsets lack of the published data set ``name``, in words."""
    words = {"train": "training images", "validation": "validation images"}
    fewer = [
        f"{counts[subset]:,} of {published:,} {words[subset]}"
        for subset, published in EXAMPLES.get(name, {}).items()
        if counts.get(subset, published) < published
    ]
    return ", ".join(fewer) or None


def name_of(params: Params) -> str:
    """The name of the data set: as it is given, or as the folder's name tells.

    Raises:
        ParamError: an unknown data set, or one that the folder's name does not tell.
    """
    name = params.data_name
    if not name and params.data_dir:
        folder = str(params.data_dir)
        name = next((known for known in NAMES if known in folder), None)
        if name is None:
            raise ParamError(
                "Could not identify name of dataset. Please specify with --data_name option."
            )
    name = name or "imagenet"
    if name not in NAMES:
        raise ParamError(f"Unknown dataset. Must be one of {', '.join(NAMES)}")
    if name in REFUSED:
        raise ParamError(f"--data_name={name}: {REFUSED[name]}; use imagenet or cifar10")
    return name


def _dtype(params: Params) -> str:
    if params.use_fp16:
        return "float16"
    return "bfloat16" if params.use_bf16 else "float32"
