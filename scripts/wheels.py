"""Which of the pinned packages have a wheel for a Python and a processor, and which have none.

Usage: python scripts/wheels.py [--python 3.13 ...] [--machine aarch64 ...] [FILE ...]

FILE is a requirements file with hashes (default: those of test.sh, of run.sh and of the images).
The names of the wheels come from the package index, through uv; nothing is installed. A package
without a wheel that is published as source code alone is built by pip where it is pure Python.
Exit codes: 0 printed; 1 the index does not answer; 2 usage.
Example: python scripts/wheels.py --python 3.13 --machine aarch64 requirements.lock
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomllib
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

CHECKOUT = Path(__file__).resolve().parents[1]
FILES = (
    "requirements.lock",
    "scripts/requirements-popper.txt",
    "scripts/requirements-popper-2-7.txt",
    "containers/download/requirements.txt",
    "containers/preprocess/requirements.txt",
    "containers/train/requirements.txt",
    "containers/stitch/requirements.txt",
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
IN_IMAGES = ("3.11",)
"""Debian 12's, which the images are made of."""
GLIBC = (2, 35)
"""Ubuntu 22.04's: the oldest of the systems that install_cuda_docker.sh knows."""


def main(arguments: list[str]) -> int:
    """Print a line for each file, Python and processor."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=__doc__, add_help=True,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="*", default=FILES, metavar="FILE")
    parser.add_argument("--python", action="append", metavar="VERSION")
    parser.add_argument("--machine", action="append", choices=MACHINES)
    asked = parser.parse_args(arguments)
    for file in asked.files:
        of_images = Path(file).is_relative_to("containers")
        pythons = asked.python or (IN_IMAGES if of_images else PYTHONS)
        try:
            # A file is resolved for every Python that it is meant for.
            ours = file in FILES and not of_images
            packages = published(file, oldest=PYTHONS[0] if ours else pythons[0])
        except subprocess.CalledProcessError as error:
            print(f"{file}: {error.stderr.strip()}", file=sys.stderr)
            return 1
        for machine in asked.machine or MACHINES:
            for python in pythons:
                print(f"{file}, Python {python}, {machine}: {said(packages, python, machine)}")
    return 0


def published(file: str, *, oldest: str) -> list[dict[str, Any]]:
    """The pinned packages of ``file`` with the names of all their files (a pylock.toml)."""
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pylock.toml"
        command = [uv, "pip", "compile", "--quiet", "--universal", "--no-deps"]
        options = ["--python-version", oldest, "--format", "pylock.toml", "--output-file", target]
        subprocess.run(
            [*command, *options, CHECKOUT / file], check=True, capture_output=True, text=True
        )
        return list(tomllib.loads(target.read_text())["packages"])


def said(packages: list[dict[str, Any]], python: str, machine: str) -> str:
    """``all 90 have wheels``, or the names of those that have none."""
    wanted = [each for each in packages if applies(each, python, machine)]
    tags = frozenset(tags_of(python, machine))
    missing = [each for each in wanted if not has_wheel(each, tags)]
    if not missing:
        return f"all {len(wanted)} have wheels"
    names = [f"{each['name']} {each['version']}" for each in missing]
    source = [n for n, each in zip(names, missing, strict=True) if not each.get("wheels")]
    others = [name for name in names if name not in source]
    told = [f"none for {', '.join(others)}"] if others else []
    told += [f"source alone of {', '.join(source)}"] if source else []
    return f"{len(wanted) - len(missing)} of {len(wanted)} have wheels; {'; '.join(told)}"


def applies(package: dict[str, Any], python: str, machine: str) -> bool:
    """Whether ``package`` is installed there at all."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_machine": machine, "platform_system": "Linux", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    marker = package.get("marker")
    return marker is None or Marker(marker).evaluate(environment)


def has_wheel(package: dict[str, Any], tags: frozenset[Tag]) -> bool:
    """Whether one of its wheels fits."""
    files = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", ())]
    return any(tags & parse_wheel_filename(name)[3] for name in files)


def tags_of(python: str, machine: str) -> Iterator[Tag]:
    """The tags that CPython accepts on Linux with glibc."""
    major, minor = map(int, python.split("."))
    platforms = [f"manylinux_2_{n}_{machine}" for n in range(GLIBC[1], 4, -1)]
    # The names that these had before.
    platforms += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")]
    platforms.append(f"linux_{machine}")
    yield from cpython_tags((major, minor), [f"cp{major}{minor}"], platforms)
    yield from compatible_tags((major, minor), f"cp{major}{minor}", platforms)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
