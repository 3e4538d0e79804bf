"""The packages that a plain installation lacks, and how to install them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import metadata

from trainbench.errors import MachineError
from trainbench.files import PACKAGE

DISTRIBUTION = "trainbench-ncf"
"""What pip calls this package: PyPI's ``trainbench`` is another project."""

EXTRAS: Mapping[str, str] = {
    "absl": "train",
    "jinja2": "report",
    "keras": "train",
    "matplotlib": "report",
    "mlperf_logging": "mllog",
    "pyarrow": "parquet",
    "scipy": "report",
    "tensorboardX": "tensorboard",
    "tensorflow": "train",
}
"""Module -> the extra that brings it (pyproject.toml)."""
BY_COMMAND: Mapping[str, str] = {
    # PyPI's package for Linux brings CUDA, some gigabytes, so it is no extra.
    "torch": "pip install torch --index-url https://download.pytorch.org/whl/cpu",
}
"""Module that no extra brings -> the command that installs it."""
REPORT = ("jinja2", "matplotlib")
"""What a report is drawn with."""


def require(*modules: str) -> None:
    """Raise unless all ``modules``, each of an extra, can be imported; nothing is imported.

    Raises:
        MachineError: with the missing ones and the command that installs them.
    """
    lacking = missing(modules)
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise MachineError(f"{', '.join(lacking)} {verb} not installed: {advice(*lacking)}")


def missing(modules: tuple[str, ...]) -> list[str]:
    """Those of ``modules`` that cannot be imported here."""
    return [name for name in dict.fromkeys(modules) if importlib.util.find_spec(name) is None]


def advice(*modules: str) -> str:
    """The command that installs ``modules``: into an installed package, or from the checkout."""
    commands = [BY_COMMAND[module] for module in modules if module in BY_COMMAND]
    extras = ",".join(dict.fromkeys(EXTRAS[module] for module in modules if module in EXTRAS))
    return " && ".join([*([_of_extras(extras)] if extras else []), *commands])


def _of_extras(extras: str) -> str:
    checkout = PACKAGE.parents[1]
    if _installed() or not (checkout / "pyproject.toml").is_file():
        return f"pip install '{DISTRIBUTION}[{extras}]'"
    return f"pip install -e '{checkout}[{extras}]'"


def _installed() -> bool:
    """Whether pip knows this package: it then needs no index to add an extra's packages."""
    try:
        metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return False
    return True
