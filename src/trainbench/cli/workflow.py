"""``trainbench init``: the workflow in a folder of its own, with the code that its steps run."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from trainbench.errors import ConfigError, MachineError
from trainbench.files import PACKAGE, UNFINISHED, whole_folder, writing

FILES = (
    ".gitignore",
    "LICENSE",
    "containers",
    "image_classification",
    "install_cuda_docker.sh",
    "scripts/build_images.py",
    "scripts/environment.sh",
    "scripts/local_registry.sh",
    "scripts/popper_2_7.sh",
    "scripts/popper_twin.py",
    "scripts/requirements-popper-2-7.txt",
    "scripts/registry.py",
    "scripts/requirements-popper.txt",
    "scripts/run.sh",
    "scripts/run_and_time.sh",
    "scripts/verify_dataset.sh",
    "settings.py",
    "wf.yml",
)
"""What a workflow has beside the code. An installed package carries it (pyproject.toml)."""
_CARRIED = PACKAGE / "workflow"
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", "accelerator", "formats", _CARRIED.name)


@click.command("init", epilog="Example: trainbench init my-benchmark")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--force",
    is_flag=True,
    help="Write into a folder that is not empty: the workflow's files are replaced, others stay.",
)
def init(folder: Path, force: bool) -> None:
    """Write a workflow that is ready to run into FOLDER: wf.yml, settings.py, images and code.

    The steps run the code in FOLDER/src, a copy of this package: call init --force again after the
    package was updated.
    """
    write(folder, force=force)
    click.echo(
        f"{folder}: ready. In it, ./scripts/run.sh sets up what is missing and runs the workflow; "
        "with Docker and Popper 2.5.0 there: popper run -f wf.yml -c settings.py"
    )


def write(folder: Path, *, force: bool = False) -> None:
    """Write the workflow into ``folder``, which is whole or as it was when this ends.

    Raises:
        ConfigError: ``folder`` is a file, or not empty without ``force``.
        MachineError: it cannot be written, or this package carries no workflow.
    """
    source = _source()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a file; name a folder")
    there = [path.name for path in folder.iterdir()] if folder.exists() else []
    if any(not name.startswith(UNFINISHED) for name in there) and not force:
        raise ConfigError(
            f"{folder}: not empty; name a new folder, or add --force to replace what a workflow "
            "has and keep all else"
        )
    with writing(folder, option="the argument FOLDER"):
        if not folder.exists():
            with whole_folder(folder, durable=False) as part:
                _copy(source, part)
            return
        # The folder itself stays: it may be where a shell stands, or a mount.
        part = folder / f"{UNFINISHED}workflow"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            _copy(source, part)
            _require_places(part, folder)
            _move(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def checkout() -> Iterator[Path]:
    """The checkout that this code is of, or one that is made of the installed package."""
    if _is_checkout():
        yield PACKAGE.parents[1]
        return
    with tempfile.TemporaryDirectory() as folder:
        _copy(_source(), Path(folder))
        yield Path(folder)


def _is_checkout() -> bool:
    return PACKAGE.parent.name == "src" and (PACKAGE.parents[1] / "wf.yml").is_file()


def _source() -> Path:
    """Where FILES are: in the installed package, or in the checkout (or workflow) of this code."""
    if (_CARRIED / "wf.yml").is_file():
        return _CARRIED
    if _is_checkout():
        return PACKAGE.parents[1]
    raise MachineError(
        f"{PACKAGE}: this copy of the package has no workflow; install it with pip, or use a clone"
    )


def _copy(source: Path, target: Path) -> None:
    """FILES and the package, readable for the users of containers, scripts executable."""
    for name in FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=_NOT_CODE)
        else:
            shutil.copyfile(source / name, target / name)
    shutil.copytree(PACKAGE, target / "src" / PACKAGE.name, ignore=_NOT_CODE)
    # As a clone has them: an installer may drop the bit, and a umask forbid containers to read.
    target.chmod(0o755)
    for path in target.rglob("*"):
        is_program = path.is_dir() or path.read_bytes().startswith(b"#!")
        path.chmod(0o755 if is_program else 0o644)


def _require_places(part: Path, folder: Path) -> None:
    """Raise a ``ConfigError`` unless everything in ``part`` can be put into ``folder``."""
    for path in part.rglob("*"):
        target = folder / path.relative_to(part)
        if path.is_dir() and (target.is_symlink() or (target.exists() and not target.is_dir())):
            raise ConfigError(f"{target}: in the way of a folder of the workflow; move it")
        if path.is_file() and target.is_dir() and not target.is_symlink():
            raise ConfigError(f"{target}: a folder, in the way of a file of the workflow; move it")


def _move(part: Path, folder: Path) -> None:
    """Put what is in ``part`` into ``folder``, and remove ``part``.

    The package is exchanged as a whole: a module of another version would be imported. All else
    goes file by file, so that what a user keeps beside it stays.
    """
    package = Path("src", PACKAGE.name)
    (folder / package.parent).mkdir(exist_ok=True)
    with whole_folder(folder / package, durable=False) as place:
        place.rmdir()
        os.rename(part / package, place)
    for path in sorted(path for path in part.rglob("*") if path.is_file()):
        target = folder / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
