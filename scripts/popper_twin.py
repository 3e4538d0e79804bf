"""The workflow for Popper 2.6 and 2.7, which read YAML: ``settings.py --popper-2.7 DIR``.

These refuse ``version:`` in wf.yml and a Python file as configuration. So both are written for them
with everything that settings.py found out. What settings.py does inside Popper 2.5.0 is missing
there: every step gets the engine's socket, a folder in use is not looked for, containers stay.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_WRITTEN = "# For Popper 2.6 and 2.7, written by settings.py from"
_CODE = "/checkout"


def main(settings: Any, engine: Mapping[str, Any], workflow: Path, arguments: list[str]) -> None:
    """Print the configuration, or write it with its workflow into ``--popper-2.7 DIR``.

    Args:
        settings: the module settings.py of the checkout.
        engine: its ENGINE, or that of the workflow at hand.
        workflow: the wf.yml for Popper 2.5.0.
        arguments: of the command line.
    """
    if not arguments:
        print(yaml.safe_dump(twin(settings, engine), sort_keys=True), end="")
    elif len(arguments) == 2 and arguments[0] == "--popper-2.7":
        folder = Path(arguments[1]).expanduser().resolve()
        write(settings, engine, workflow, folder)
        print(
            f"{folder}: ready for Popper 2.6 and 2.7; in it: popper run -f wf.yml -c popper.yml",
            file=sys.stderr,
        )
    else:
        settings.stop("wanted no argument, or --popper-2.7 DIR", code=2)


def twin(settings: Any, engine: Mapping[str, Any]) -> dict[str, Any]:
    """``engine`` as the content of popper.yml.

    The folders become mounts, so that the workspace's own volume stays. A device request does not
    survive Popper's parser, so GPUs come through the NVIDIA runtime. The process that writes it is
    not Popper's.
    """
    plain = {k: v for k, v in engine.items() if k not in ("volumes", "device_requests")}
    plain["labels"] = {k: v for k, v in engine["labels"].items() if k != settings.POPPER_LABEL}
    plain["mounts"] = [_mount(volume) for volume in engine["volumes"]]
    if "device_requests" in engine:
        gpu = settings.nvidia_runtime()
        plain["environment"] = {**engine["environment"], **gpu["environment"]}
        plain["runtime"] = gpu["runtime"]
    return {"engine": {"name": "docker", "options": plain}}


def write(settings: Any, engine: Mapping[str, Any], workflow: Path, folder: Path) -> None:
    """Write wf.yml and popper.yml into ``folder``, from which they run.

    Popper mounts the folder that it runs in, so the code comes in as /checkout.
    """
    code = f"{settings.CHECKOUT}:{_CODE}:ro"
    seen = {
        **engine,
        "volumes": list(dict.fromkeys([*engine["volumes"], code])),
        "environment": {**engine["environment"], "PYTHONPATH": f"{_CODE}/src"},
    }
    settings.make_folder(folder, os.environ, name="--popper-2.7")
    files = {"wf.yml": _without_version(workflow), "popper.yml": twin(settings, seen)}
    for name in files:
        if (folder / name).exists() and not (folder / name).read_text().startswith(_WRITTEN):
            settings.stop(f"{folder / name}: --popper-2.7 did not write it; name another", code=2)
    for name, content in files.items():
        part = folder / f"{name}.part"
        part.write_text(f"{_WRITTEN} {workflow}\n" + yaml.safe_dump(content, sort_keys=False))
        os.chown(part, *settings.caller(os.environ))
        part.replace(folder / name)
    _with_commit(folder, settings)


def _with_commit(folder: Path, settings: Any) -> None:
    """Give ``folder`` a commit: Popper 2.6 and 2.7 name images by it, and build none without."""
    uid, gid = settings.caller(os.environ)
    as_caller = {"user": uid, "group": gid} if os.getuid() == 0 and uid else {}
    who = ("-c", "user.name=trainbench", "-c", "user.email=trainbench@localhost")

    def git(*arguments: str) -> bool:
        command = ["git", "-C", str(folder), *who, *arguments]
        return not subprocess.run(command, capture_output=True, check=False, **as_caller).returncode

    try:
        if git("rev-parse", "HEAD") or (
            git("init", "--quiet") and git("commit", "--quiet", "--allow-empty", "--message=twin")
        ):
            return
    except OSError as error:
        settings.stop(f"git: {error.strerror}; Popper needs it, install it", code=6)
    settings.stop(f"{folder}: git makes no commit there, which Popper needs", code=6)


def _without_version(workflow: Path) -> dict[str, Any]:
    """The steps, with the images by absolute paths: ``./`` is how Popper knows one for a folder."""
    steps = yaml.safe_load(workflow.read_text())["steps"]
    for step in steps:
        image = (workflow.parent / step["uses"]).resolve()
        step["uses"] = f"{image.parent}/./{image.name}"
    return {"steps": steps}


def _mount(volume: str) -> dict[str, Any]:
    source, target, *mode = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": mode == ["ro"]}
