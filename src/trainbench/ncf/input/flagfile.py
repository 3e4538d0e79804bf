"""The flagfile between trainer and producer: one ``--key=value`` per line, every option, once.

It appears by a rename, so the producer never reads half of it, and it is the signal to begin: until
it is there the producer touches no data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from trainbench.configuration import unknown
from trainbench.errors import ConfigError
from trainbench.files import write_atomically
from trainbench.machine import allotment
from trainbench.ncf.config import CHOICES, NcfConfig
from trainbench.ncf.input.former import FORMER
from trainbench.ncf.input.stream.slices import SLICES

Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class GenerationOptions:
    """Everything that the producer needs to know, under the names of the flagfile."""

    cache_folder: str
    compliance_file: str
    seed: Annotated[int, Meta(ge=0)]
    batch_size: Count
    train_negatives: Count
    eval_negatives: Count
    max_epochs: Count
    epochs_per_cycle: Count
    cycles_ahead: Count
    last_batch: str
    generator_workers: Count | Literal["auto"]
    stream_format: Annotated[int, Meta(ge=1, le=2)]
    # Of the 64 slices of a batch (docs/input.md), those that are made.
    first_slice: Annotated[int, Meta(ge=0, lt=SLICES)]
    num_slices: Annotated[int, Meta(ge=1, le=SLICES)]

    @classmethod
    def of(
        cls,
        config: NcfConfig,
        *,
        cache_folder: Path,
        compliance_file: Path,
        seed: int,
        slices: range = range(SLICES),
    ) -> GenerationOptions:
        """The options of a run with ``config``, or of a worker's ``slices`` of it."""
        own = {"cache_folder", "compliance_file", "seed", "first_slice", "num_slices"}
        names = [field.name for field in dataclasses.fields(cls) if field.name not in own]
        return cls(
            cache_folder=str(cache_folder.resolve()),
            compliance_file=str(compliance_file.resolve()),
            seed=seed,
            first_slice=slices.start,
            num_slices=len(slices),
            **{name: getattr(config, name) for name in names},
        )

    @property
    def slices(self) -> range:
        """The slices of every batch that are made."""
        return range(self.first_slice, self.first_slice + self.num_slices)

    def inside(self, data: Path) -> GenerationOptions:
        """The same with paths from the folder ``data``, which may be elsewhere for the generator.

        A path outside of it stays as it is.
        """
        root = data.resolve()

        def short(path: str) -> str:
            inside = Path(path).is_relative_to(root)
            return str(Path(path).relative_to(root)) if inside else path

        return self._with_paths(short)

    def under(self, data: Path) -> GenerationOptions:
        """The options whose paths are from the folder ``data`` on."""
        return self._with_paths(lambda path: str(data / path))

    def _with_paths(self, change: Callable[[str], str]) -> GenerationOptions:
        return replace(
            self,
            cache_folder=change(self.cache_folder),
            compliance_file=change(self.compliance_file),
        )

    def threads(self) -> int:
        """How many threads draw samples here: the same samples, whatever their number.

        ``auto`` is three quarters of the CPUs that this process may keep busy, at least one.
        """
        if self.generator_workers == "auto":
            return max(1, allotment.cpus() * 3 // 4)
        return self.generator_workers


def write_flagfile(path: Path, options: GenerationOptions) -> None:
    """Write ``options`` to ``path`` atomically."""
    lines = [f"--{key}={value}" for key, value in vars(options).items()]
    if any("\n" in line for line in lines):
        raise ConfigError(f"{path}: a path with a line break in it; rename the folder")
    write_atomically(path, "\n".join(lines) + "\n")


def read_flagfile(path: Path) -> GenerationOptions:
    """The options in ``path``.

    Raises:
        ConfigError: a line that is not ``--key=value``, a key that is unknown, missing or there
            twice, or a value of the wrong type.
    """
    kinds = get_type_hints(GenerationOptions, include_extras=True)
    values: dict[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            key, value = _option(line, kinds)
            if key in values:
                raise ValueError(f"key {key!r} is there twice; remove one")
            values[key] = value
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    missing = [key for key in kinds if key not in values]
    if missing:
        raise ConfigError(f"{path}: no line for {', '.join(missing)}; add --{missing[0]}=VALUE")
    return GenerationOptions(**values)


def _option(line: str, kinds: dict[str, Any]) -> tuple[str, Any]:
    key, equals, text = line.removeprefix("--").partition("=")
    if not line.startswith("--") or not equals:
        raise ValueError(f"found {line!r}, wanted --key=value")
    if key in FORMER and key not in kinds:
        raise ValueError(f"--{key} is no key any more: {FORMER[key]}")
    if key not in kinds:
        raise ValueError(unknown("key", key, kinds))
    if key in CHOICES and text not in CHOICES[key]:
        raise ValueError(unknown(key, text, CHOICES[key]))
    try:
        return key, msgspec.convert(text, kinds[key], strict=False)
    except msgspec.ValidationError:
        or_auto = " or auto" if key == "generator_workers" else ""
        raise ValueError(f"found {line}, wanted a whole number above 0{or_auto}") from None
