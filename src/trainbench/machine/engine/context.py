"""Build contexts with the same bytes wherever the checkout comes from.

An engine builds an image anew when the mode of a file in its context has changed, and a clone under
another umask, or an unpacked archive, has other modes.
"""

from __future__ import annotations

import tarfile
import tempfile
from typing import IO, Any


def same_bytes() -> None:
    """Let docker-py, in this process, send a context whose modes say only what is executable."""
    from docker.utils import build

    original = build.create_archive

    def archive(*arguments: Any, **options: Any) -> Any:
        context: Any = original(*arguments, **options)
        return context if options.get("gzip") else normalised(context)

    if original.__module__ == build.__name__:  # once is enough
        build.create_archive = archive


def normalised(context: IO[bytes]) -> IO[bytes]:
    """A tar with the members of another: mode 755 or 644, of root, without a time."""
    context.seek(0)
    target = tempfile.NamedTemporaryFile()  # noqa: SIM115  the caller sends and closes it
    with (
        tarfile.open(fileobj=context) as source,
        tarfile.open(mode="w", fileobj=target) as changed,
    ):
        for member in source:
            runs = member.isdir() or member.mode & 0o100
            member.mode, member.mtime = 0o755 if runs else 0o644, 0
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            changed.addfile(member, source.extractfile(member) if member.isreg() else None)
    context.close()
    target.seek(0)
    return target
