"""The image of the probe: this Python and ``inside.py``, imported into the engine as a tar.

Before the first build an engine has no image, and without a registry it gets none. A program for a
container needs no distribution: Python's own file, the libraries that it is linked with, and the
few modules that it starts with, some ten megabytes in all.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from trainbench.errors import MachineError

NAME = "trainbench-probe:local"
LABEL = "org.trainbench.probe"
PROGRAM = "/probe.py"
_OPTIONS = ("-I", "-S", "-X", "utf8")
_LOADED = """
import sys, posix, _socket, os
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""


def command() -> list[str]:
    """How ``inside.py`` is started in the image."""
    return [os.path.realpath(sys.executable), *_OPTIONS, PROGRAM]


def ensure(client: Any) -> str:
    """The image's id, imported where the engine does not have it as it would be now.

    It is found by its label: engines differ in how they complete a name.
    """
    content, libraries = packed()
    version = f"{LABEL}={hashlib.sha256(content).hexdigest()}"
    for older in client.images.list(filters={"label": LABEL}):
        if f"{LABEL}={older.labels[LABEL]}" == version:
            return str(older.id)
        client.images.remove(older.id, force=True)
    repository, tag = NAME.split(":")
    client.api.import_image_from_data(
        content,
        repository=repository,
        tag=tag,
        changes=[f"LABEL {version}", f"ENV LD_LIBRARY_PATH={libraries}"],
    )
    found = client.images.list(filters={"label": version})
    if not found:
        raise MachineError(
            f"{NAME}: the engine did not keep this image; look at its free disk space"
        )
    return str(found[0].id)


def packed() -> tuple[bytes, str]:
    """The tar, the same bytes for the same files, and the folders of its libraries (with colons).

    Raises:
        MachineError: this Python cannot be packed.
    """
    python = os.path.realpath(sys.executable)
    try:
        modules = _lines([python, *_OPTIONS, "-c", _LOADED])
        shared = [path for path in modules if ".so" in Path(path).name]
        libraries = sorted(set(_libraries([python, *shared])))
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError(
            f"{python}: cannot be packed for a probe of the engine; use another Python ({error})"
        ) from error
    files = {path: Path(path) for path in (python, *modules, *libraries)}
    files[PROGRAM] = Path(__file__).with_name("inside.py")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name in ("data", "workspace", "tmp", "proc"):
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            entry = _entry(name.lstrip("/"), tarfile.REGTYPE, 0o755)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target.getvalue(), ":".join(sorted({os.path.dirname(path) for path in libraries}))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _libraries(programs: list[str]) -> list[str]:
    """What the programs are linked with, the loader too; a static program has none."""
    done = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False)
    found = re.findall(r"(?:=>\s+|^\s+)(/\S+)\s+\(0x", done.stdout, re.MULTILINE)
    return [path for path in found if Path(path).is_file()]


def _lines(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line for line in done.stdout.splitlines() if os.path.isfile(line)]
