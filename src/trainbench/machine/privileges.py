"""What a step in a container may do: ``python -m trainbench.machine.privileges STEP ...``.

Popper gives every step of a workflow root, the workspace and the engine's socket, and who holds
that socket is root on the host. So a step that reads foreign bytes starts here: it becomes the
owner of the data folder, for good, and then runs ``trainbench STEP ...``. The training step keeps
the socket, because it drops the page cache; its trials do not (``own_user``, ``unprivileged``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import trainbench
from trainbench.errors import MachineError, system_text
from trainbench.machine.system import in_container

ENGINE_SOCKET = Path("/var/run/docker.sock")
DATA_DIR = "TRAINBENCH_DATA_DIR"
STEP = "TRAINBENCH_HOST_DATA_DIR"
"""Environment variable that the workflow's settings.py alone gives, to every step."""
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38


class User(NamedTuple):
    """A user and a group by number."""

    uid: int
    gid: int


NOBODY = User(65534, 65534)
"""Who works on a data folder that belongs to root."""
UID_MAP = Path("/proc/self/uid_map")


def own_user(data: Path) -> None:
    """Act as the owner of ``data`` from now on, and keep a way back to root and the socket's group.

    Nothing happens where this process is not root in a container. Files get the owner of the data
    folder; ``unprivileged`` starts processes that have no way back.
    """
    if not in_step() or os.geteuid() != 0:
        return
    user = worker(data)
    if user.uid == 0:
        _drop_capabilities()
        return
    socket = _socket_group()
    os.setgroups([] if socket is None else [socket])
    os.setegid(user.gid)
    os.seteuid(user.uid)


@contextlib.contextmanager
def unprivileged() -> Iterator[dict[str, Any]]:
    """The arguments of ``subprocess.Popen`` for a process without root and the socket's group.

    They are empty where this process has neither. Popen needs root for it, so the process is to be
    started in the body.
    """
    if not hasattr(os, "getuid") or os.getuid() != 0 or os.geteuid() == 0:  # Windows has none.
        yield {}
        return
    user = User(os.geteuid(), os.getegid())
    os.seteuid(0)
    try:
        yield {"user": user.uid, "group": user.gid, "extra_groups": []}
    finally:
        os.seteuid(user.uid)


def give_up(user: User) -> None:
    """Become ``user`` for good: no root, no further group, and no way to gain either.

    Root of a rootless engine is the user who called it; it keeps its number and nothing else.
    """
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if user.uid == 0:
        _drop_capabilities()
    gain_nothing()


def gain_nothing() -> None:
    """No program that this process starts gains privileges (``no_new_privs``), where Linux runs."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def of_this_process() -> dict[str, Any]:
    """What this process may do, for system.json: user, groups, no_new_privs, use of the engine."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    found = re.search(r"^NoNewPrivs:\s+(\d)", status, re.MULTILINE)
    return {
        "root": _is_root() if hasattr(os, "getuid") else None,
        "groups": len(os.getgroups()) if hasattr(os, "getgroups") else None,
        "no_new_privileges": found[1] == "1" if found else None,
        "engine": os.access(ENGINE_SOCKET, os.W_OK),
    }


def worker(data: Path) -> User:
    """Who works on ``data``: its owner, or ``NOBODY`` to whom it is handed over if root owns it.

    The group is never the one that may use the engine. In a rootless engine, root is the user who
    called it, and works on what that user owns: any other number would be a stranger to the host.
    """
    found = data.stat()
    owner = User(found.st_uid, found.st_gid)
    if owner.uid == 0 and rootless():
        return User(0, 0)
    if owner.uid == 0:
        owner = NOBODY
    if owner.gid in (0, _socket_group()):
        owner = User(owner.uid, NOBODY.gid)
    _hand_over(data, owner)
    return owner


def _hand_over(folder: Path, user: User) -> None:
    """Give everything of root's in ``folder`` to ``user``; links are not followed."""
    for place, folders, files in os.walk(folder):
        for path in (place, *(os.path.join(place, name) for name in (*folders, *files))):
            if os.lstat(path).st_uid == 0:
                os.lchown(path, *user)


def _socket_group() -> int | None:
    try:
        found = ENGINE_SOCKET.stat()
    except OSError:
        return None
    return found.st_gid if stat.S_ISSOCK(found.st_mode) else None


def _is_root() -> bool:
    return 0 in (os.geteuid(), os.getuid()) and not rootless()


def rootless() -> bool:
    """Whether root is no more than one user of the machine: the caller of a rootless engine."""
    try:
        first = UID_MAP.read_text(encoding="utf-8").split()[:3]
    except OSError:
        return False
    return len(first) == 3 and first[0] == "0" and first[1] != "0" and first[2] == "1"


def _drop_capabilities() -> None:
    """Root keeps no capability in the programs that this process starts."""
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if library.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break  # past the kernel's last


def in_step() -> bool:
    """Whether this process runs in the container of a workflow's step."""
    return STEP in os.environ and in_container()


def main(arguments: list[str]) -> int:
    """Give up what a step does not need and become ``trainbench`` with these arguments."""
    try:
        if os.geteuid() == 0 and in_step():
            give_up(worker(Path(os.environ[DATA_DIR])))
        if os.access(ENGINE_SOCKET, os.W_OK):
            print(f"warning: this step could use the engine ({ENGINE_SOCKET})", file=sys.stderr)
        _require_readable_code()
        os.execv(sys.executable, [sys.executable, "-m", "trainbench", *arguments])
    except OSError as error:
        print(f"error: {system_text(error)}", file=sys.stderr)
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
    return MachineError.exit_code


def _require_readable_code() -> None:
    code = Path(trainbench.__file__).parent
    if not os.access(code / "cli" / "main.py", os.R_OK):
        raise MachineError(
            f"{code}: not readable for user {os.getuid()}, who runs this step; on the host: "
            "chmod -R o+rX in the checkout"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
