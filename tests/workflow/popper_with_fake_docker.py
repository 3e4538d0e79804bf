"""The real Popper against a Docker that only takes notes; run as a program by test_wf.py.

Notes go to the file NOTES as JSON lines. STEP_CODES ("train=4") gives steps their exit codes; the
step named HANGS prints a line and then never ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import docker

CODES = dict(pair.split("=") for pair in os.environ.get("STEP_CODES", "").split())


def note(**facts: Any) -> None:
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(facts, default=str) + "\n")


class Container:
    def __init__(self, name: str) -> None:
        self.name = name
        self.step = name.split("_")[1]

    def start(self) -> None:
        note(did="start", name=self.name)

    def logs(self, stream: bool) -> Iterator[bytes]:
        yield f"{self.step} says hello\n".encode()
        while os.environ.get("HANGS") == self.step:
            time.sleep(0.05)

    def wait(self) -> dict[str, int]:
        return {"StatusCode": int(CODES.get(self.step, 0))}

    def stop(self) -> None:
        note(did="stop", name=self.name)

    def remove(self, force: bool) -> None:
        note(did="remove", name=self.name)


class Containers:
    def list(self, **filters: Any) -> list[Container]:
        return []

    def create(self, **options: Any) -> Container:
        note(did="create", **options)
        return Container(options["name"])


class Images:
    def build(self, **options: Any) -> None:
        note(did="build", **options)


class Client:
    containers = Containers()
    images = Images()

    def version(self) -> dict[str, str]:
        return {}

    def info(self) -> dict[str, Any]:
        return {"ServerVersion": "1.2.3", "Runtimes": {"runc": {}}}

    def close(self) -> None:
        pass


if __name__ == "__main__":
    docker.from_env = lambda **_: Client()
    from popper.cli import cli

    sys.argv[0] = "popper"
    cli()
