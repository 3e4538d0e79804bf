"""Builds the four images with visible, timed output; Popper's own hidden build then hits the cache.

Usage: python scripts/build_images.py [NAME ...]      (default: all of containers/)

The first one alone, because the others share its layers; these then at the same time. The
parameters are Popper's (``docker_build`` in its Docker runner), because another builder or another
parameter would fill another cache.
Exit codes: 0 built; 1 a build failed; 2 usage; 6 no Docker; 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import docker
from docker.errors import DockerException

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from trainbench.errors import MachineError
from trainbench.machine.engine.context import same_bytes
from trainbench.machine.engine.endpoint import choose

CONTAINERS = Path(__file__).resolve().parents[1] / "containers"
NAMES = ("download", "preprocess", "train", "stitch")
QUIET_S = 15.0


def main(names: list[str]) -> int:
    """Build the named images, one after the other, and print their sizes."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"unknown image {unknown[0]!r} (known: {', '.join(NAMES)})", file=sys.stderr)
        return 2
    same_bytes()
    try:
        choose()
        client = docker.from_env(timeout=3600)
        client.ping()
    except (DockerException, MachineError) as error:
        print(f"Docker does not answer: {error}; run ./install_cuda_docker.sh", file=sys.stderr)
        return 6
    first, *others = names or NAMES
    return 0 if build(client, first) and all(at_once(client, others)) else 1


def at_once(client: docker.DockerClient, names: list[str]) -> list[bool]:
    """Build the named images in a thread each; which are built.

    The threads do not hold up the end of this process, as those of a pool would on Ctrl-C.
    """
    built = [False] * len(names)

    def one(place: int) -> None:
        built[place] = build(client, names[place])

    threads = [Thread(target=one, args=(place,), daemon=True) for place in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return built


def build(client: docker.DockerClient, name: str) -> bool:
    """Build ``containers/<name>`` as ``trainbench-<name>:local``; say what failed otherwise."""
    tag = f"trainbench-{name}:local"
    start = time.monotonic()
    log: list[str] = []
    error = follow(
        client.api.build(path=str(CONTAINERS / name), tag=tag, rm=True, pull=True, decode=True),
        name,
        log,
    )
    seconds = time.monotonic() - start
    if error:
        print("\n".join(log[-30:]), file=sys.stderr)
        print(f"[image {name}] failed after {seconds:.0f} s: {error}", file=sys.stderr)
        return False
    size = client.images.get(tag).attrs["Size"]
    cached = "built" if any("Running in" in line for line in log) else "from the cache"
    print(f"[image {name}] {cached} in {seconds:.0f} s, {size / 1e6:,.0f} MB", flush=True)
    return True


def follow(stream: Any, name: str, log: list[str]) -> str | None:
    """Print the steps that are not in the cache, with a sign of life; return a build's error."""
    said, step = time.monotonic(), ""
    for event in stream:
        if "error" in event:
            return str(event["error"]).strip()
        line = str(event.get("stream", "")).strip()
        if not line:
            continue
        log.append(line)
        if line.startswith("Step "):
            step = line
        elif line.startswith("---> Running in"):
            print(f"[image {name}] {' '.join(step.split())[:110]}", flush=True)
            said = time.monotonic()
        elif time.monotonic() - said > QUIET_S:
            print(f"[image {name}] {line[:110]}", flush=True)
            said = time.monotonic()
    return None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
