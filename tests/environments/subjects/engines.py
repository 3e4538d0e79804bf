"""Docker engines of other kinds and in other places, and none."""

from __future__ import annotations

from pathlib import Path

from environment import Ended, Environment, clone, sh


def no_engine(folder: Path) -> Ended:
    """A socket at which nothing listens."""
    checkout = clone(folder / "clone")
    return sh("scripts/run.sh --dry-run", checkout, DOCKER_HOST=f"unix://{folder}/no.sock")


ENVIRONMENTS = [
    Environment(
        name="no-engine",
        what="no Docker engine answers",
        made="`DOCKER_HOST` names a socket at which nothing listens.",
        command="scripts/run.sh --dry-run",
        expected="error: Docker does not answer; run ./install_cuda_docker.sh",
        code=6,
        run=no_engine,
        ci=True,
    ),
]
