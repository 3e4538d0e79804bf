"""What a container sees of this machine: the program of the probe, run by a Python without library.

Arguments: the name of a file in /data, then paths of sockets. It acts as a step does: as root it
asks the sockets, then it becomes the owner of /data, reads the code and writes beside the file.
Prints a line ``NAME VALUE`` for each thing seen; an error is its number.
"""

import _socket  # the part of ``socket`` that is built in
import posix
import sys

TYPE_CHECKING = False  # as in ``typing``, which is library
if TYPE_CHECKING:
    from collections.abc import Callable

CODE = "/workspace/settings.py"
NOBODY = 65534


def main(token: str, sockets: list[str]) -> None:
    """Print what is seen."""
    for path in sockets:
        say("socket", path, attempt(ask, path))
    owner = posix.stat("/data")
    if owner.st_uid != 0:
        attempt(posix.setgroups, [])
        attempt(posix.setgid, owner.st_gid or NOBODY)
        attempt(posix.setuid, owner.st_uid)
    say("user", str(posix.getuid()))
    say("users", attempt(mapped))
    say("token", attempt(read, f"/data/{token}"))
    say("code", attempt(fingerprint, CODE))
    say("write", attempt(write, f"/data/{token}-seen"))


def ask(path: str) -> str:
    """Whether the engine at a socket is the one that runs this container: HTTP's status, "200"."""
    own = posix.uname().nodename
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(10)
    connection.connect(path)
    connection.send(f"GET /containers/{own}/json HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
    return connection.recv(64).split()[1].decode()


def mapped() -> str:
    """How users of the container are numbered outside: the first range of the kernel's map."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return " ".join(file.readline().split())


def read(path: str) -> str:
    """That a file can be read."""
    with open(path, "rb") as file:
        file.read(1)
    return "done"


def fingerprint(path: str) -> str:
    """Enough to tell two versions of a file apart, without a library."""
    with open(path, "rb") as file:
        content = file.read()
    return f"{len(content)}-{sum(content)}"


def write(path: str) -> str:
    """Make a file."""
    with open(path, "wb") as file:
        file.write(b"seen\n")
    return "done"


def attempt(action: "Callable[..., object]", *arguments: object) -> str:
    """What ``action`` returns, or the number of its error."""
    try:
        return str(action(*arguments))
    except OSError as error:
        return f"error-{error.errno or 0}"
    except IndexError:  # no answer
        return "error-0"


def say(*words: str) -> None:
    """One line."""
    print(*words, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
