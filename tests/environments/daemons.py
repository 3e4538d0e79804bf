"""Engines beside the one that runs: a second dockerd, a rootless one, Podman's service."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from environment import sh

STARTS_S = 60
ROOTLESS = "/usr/share/docker.io/contrib/dockerd-rootless.sh"


@contextlib.contextmanager
def dockerd(
    folder: Path,
    *options: str,
    spaces: Sequence[str] = ("--net",),
    setup: str = "",
    root: Path | None = None,
) -> Iterator[str]:
    """A second Docker daemon with everything of its own, stopped at the end; yields DOCKER_HOST.

    Args:
        folder: for its files.
        options: of dockerd.
        spaces: namespaces of its own (options of unshare); always the network, because a daemon
            makes, or removes, the bridge docker0.
        setup: commands of bash in these namespaces before it starts.
        root: its data root, elsewhere than in ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    socket = f"unix://{folder}/docker.sock"
    command = [
        *("dockerd", "--log-level=warn", "--data-root", str(root or folder / "root")),
        *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"), "-H", socket),
        *options,
    ]
    script = f"set -e\nip link set lo up || true\n{setup}\nexec {shlex.join(command)}"
    with process(
        ["unshare", *spaces, "bash", "-c", script], folder, until=f"docker -H {socket} info"
    ):
        yield socket
    shutil.rmtree(root or folder / "root", ignore_errors=True)


@contextlib.contextmanager
def user(folder: Path) -> Iterator[str]:
    """A user with subordinate users and a runtime folder, removed at the end; yields the name."""
    name = "env-rootless"
    sh(f"userdel -f {name}; useradd -m -d {folder}/home {name}", check=True)
    runtime = folder / "runtime"
    runtime.mkdir()
    shutil.chown(runtime, name)
    # As distributions have them: rootless networks and file systems need both.
    sh("chmod 666 /dev/net/tun /dev/fuse")
    try:
        yield name
    finally:
        sh(f"pkill -KILL -u {name}; sleep 1; userdel -f {name}")


def as_user(name: str, command: str, folder: Path) -> list[str]:
    """A command of bash in the session of ``user(folder)``."""
    session = f"export XDG_RUNTIME_DIR={folder}/runtime HOME={folder}/home; cd {folder}/home"
    return ["setpriv", "--reuid", name, "--regid", name, "--init-groups", "bash", "-c",
            f"{session}; {command}"]  # fmt: skip


@contextlib.contextmanager
def rootless(folder: Path, name: str) -> Iterator[str]:
    """Debian's rootless Docker of ``user(folder)``; yields DOCKER_HOST."""
    host = f"unix://{folder}/runtime/docker.sock"
    with process(as_user(name, ROOTLESS, folder), folder, until=f"docker -H {host} info"):
        yield host


@contextlib.contextmanager
def podman(folder: Path, name: str) -> Iterator[str]:
    """Podman's service of ``user(folder)``, with runc: its crun refuses hybrid cgroups."""
    socket = f"{folder}/runtime/podman.sock"
    command = f"podman --runtime runc --cgroup-manager=cgroupfs system service -t 0 unix://{socket}"
    ready = f"docker -H unix://{socket} version"
    with process(as_user(name, command, folder), folder, until=ready):
        yield f"unix://{socket}"


@contextlib.contextmanager
def process(command: Sequence[str], folder: Path, *, until: str) -> Iterator[None]:
    """A process in a session of its own, ready when the command ``until`` succeeds."""
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        end = time.monotonic() + STARTS_S
        while sh(until).code != 0:
            log_text = (folder / "log").read_text()[-1_000:]
            assert running.poll() is None, f"it ended by itself: {log_text}"
            assert time.monotonic() < end, f"not ready after {STARTS_S} s: {log_text}"
            time.sleep(0.2)
        yield
    finally:
        # dockerd ends its containerd; a session that goes on is ended whole.
        running.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
