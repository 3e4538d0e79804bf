"""The container images of a workflow: digests, and the version of every package in them.

An image's Python packages are pinned by hash, its base image and Debian packages are not: a mirror
decides which ones there are. So they are recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainbench.files import object_or_empty, write_json
from trainbench.machine.privileges import ENGINE_SOCKET, in_step
from trainbench.progress import log_line

TITLE = "org.opencontainers.image.title"
OURS = "trainbench "
"""How the title of each image of the workflow begins."""
BASE = "debian:bookworm-slim"
TIMEOUT_S = 30
_LIST = (
    "dpkg-query -W -f '${Package} ${Version}\\n'; echo; pip list --format=freeze "
    "--disable-pip-version-check 2>/dev/null | tr -s = ' '"
)


def images(remembered: Path) -> list[dict[str, Any]]:
    """The workflow's images that the engine has, by title; empty where it cannot be asked.

    Each has ``name``, ``digest``, ``base`` (the digests of its base image), ``debian`` and
    ``python`` (versions by package). To list the packages of an image takes a container of it, so
    they are remembered.

    Args:
        remembered: folder of a JSON file per image, made where it is missing.
    """
    if not (in_step() and ENGINE_SOCKET.exists()):
        return []
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=TIMEOUT_S)
        with contextlib.closing(client):
            return [_described(client, image, remembered) for image in _newest(client)]
    except (DockerException, OSError):
        return []


def _newest(client: Any) -> Iterator[Any]:
    found: dict[str, Any] = {}
    for image in client.images.list(filters={"label": TITLE}):
        title = image.labels[TITLE]
        if title.startswith(OURS) and image.tags:
            created = found[title].attrs["Created"] if title in found else ""
            if image.attrs["Created"] > created:
                found[title] = image
    return (found[title] for title in sorted(found))


def _described(client: Any, image: Any, remembered: Path) -> dict[str, Any]:
    digest = str(image.id)
    file = remembered / f"{digest.partition(':')[2]}.json"
    known = object_or_empty(file)
    if known.get("digest") != digest:
        log_line(f"listing the packages of image {image.labels[TITLE]} (once)")
        debian, python = _packages(client, image)
        base = _base_digests(client, image)
        known = {"digest": digest, "base": base, "debian": debian, "python": python}
        remembered.mkdir(parents=True, exist_ok=True)
        write_json(file, known, sort_keys=False)
    return {"name": image.labels[TITLE], **known}


def _packages(client: Any, image: Any) -> list[dict[str, str]]:
    output = client.containers.run(
        image.id,
        ["-c", _LIST],
        entrypoint="/bin/sh",
        user="65534:65534",
        network_disabled=True,
        remove=True,
    )
    parts = output.decode().split("\n\n")
    return [dict(line.split(" ", 1) for line in part.splitlines() if line) for part in parts]


def _base_digests(client: Any, image: Any) -> list[str]:
    from docker.errors import ImageNotFound

    try:
        base = client.images.get(BASE)
    except ImageNotFound:
        return []
    layers = base.attrs["RootFS"]["Layers"]
    if image.attrs["RootFS"]["Layers"][: len(layers)] != layers:
        return []
    return [str(base.id), *base.attrs["RepoDigests"]]
