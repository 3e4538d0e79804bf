"""Bring one file here: over http or https, resuming what was broken off, or from a local folder.

What has arrived is in ``<name>.part``; ``<name>.part.json`` beside it holds the validator
(ETag or Last-Modified) without which a resumed download could be two files glued together.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import requests

from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import (
    BLOCK_BYTES,
    object_or_empty,
    space_for,
    write_json,
)
from trainbench.progress import Progress, log_line

_TIMEOUT_S = (15, 60)  # to connect, between two bytes
_CHUNK_BYTES = 64 << 10  # the most that a broken connection loses
_RETRIED = {408, 425, 429}


@dataclass(frozen=True)
class Retry:
    """How often in a row a server may fail, and the first pause between two attempts; it doubles.

    An attempt that brought a megabyte or more does not count as a failure.
    """

    attempts: int = 6
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0


class _TryAgainError(Exception):
    """A failure that another attempt may fix."""


def without_credentials(url: str) -> str:
    """``url`` as it may be shown and stored: without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def locate(mirror: str, name: str) -> str | Path:
    """Where a mirror has the file ``name``: a URL, or a path for ``file:`` URLs and folders."""
    scheme = urlsplit(mirror).scheme.lower()
    if scheme in ("http", "https"):
        return f"{mirror.rstrip('/')}/{name}"
    if scheme == "file":
        return Path(unquote(urlsplit(mirror).path)) / name
    if "://" in mirror:
        raise ConfigError(
            f"mirror {without_credentials(mirror)}: wanted http, https, file or a folder"
        )
    return Path(mirror) / name


def copy(source: Path, part: Path) -> None:
    """Copy a local archive to ``part``.

    Raises:
        MachineError: the file is not there, or the disk is full; no part of it is left then.
    """
    if not source.is_file():
        raise MachineError(f"{source}: not found; check --archive or --mirror (MIRROR)")
    size = source.stat().st_size
    with space_for(part.parent, size), source.open("rb") as file:
        forget(part)
        try:
            with part.open("wb") as out, Progress(size, label=f"copy {source.name}") as progress:
                while block := file.read(BLOCK_BYTES):
                    out.write(block)
                    progress.advance(len(block))
        except BaseException:  # Nothing resumes a copy.
            part.unlink(missing_ok=True)
            raise


def fetch(
    url: str, part: Path, *, expected_bytes: int | None = None, retry: Retry | None = None
) -> None:
    """Download ``url`` to ``part``, from where an earlier attempt broke off if the server can.

    Raises:
        MachineError: no answer, a refusal, a full disk; what has arrived is kept for the next run.
        DataIntegrityError: the server has another number of bytes than ``expected_bytes``.
    """
    retry = retry or Retry()
    shown = without_credentials(url)
    failures, pause_s = 0, retry.first_pause_s
    with requests.Session() as session:
        while True:
            before = _size(part)
            try:
                return _attempt(session, url, part, expected_bytes)
            except (requests.RequestException, _TryAgainError) as error:
                reason = _reason(error)
            failures = failures + 1 if _size(part) - before < 1 << 20 else 1
            if failures >= retry.attempts:
                raise MachineError(
                    f"{shown}: {reason}, {failures} times in a row; {_size(part):,} bytes are kept "
                    "and the next run resumes; check the network, or pass --mirror or --archive"
                )
            log_line(f"download: {reason}; next attempt in {pause_s:.0f} s")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, retry.longest_pause_s)


def forget(part: Path) -> None:
    """Remove ``part`` and its validator."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _attempt(session: requests.Session, url: str, part: Path, expected: int | None) -> None:
    state = _read_state(part, url)
    have = _size(part) if state else 0
    headers = {"Accept-Encoding": "identity"}
    if have and state:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        start, total = _start_and_total(response, part, have, expected)
        if start == 0:
            _write_state(part, url, response)
        if total is None or start < total:
            _receive(response, part, start, total)
    if total is not None and _size(part) != total:
        raise _TryAgainError(f"broken off after {_size(part):,} of {total:,} bytes")
    _state_path(part).unlink(missing_ok=True)


def _start_and_total(
    response: requests.Response, part: Path, have: int, expected: int | None
) -> tuple[int, int | None]:
    """From which byte on the answer continues ``part``, and how many bytes the file has."""
    status = response.status_code
    shown = without_credentials(response.url)
    if status >= 500 or status in _RETRIED:
        raise _TryAgainError(f"the server answers {status} {response.reason}")
    if status == 206:
        start, total = _content_range(response)
        if start != have:
            forget(part)
            raise _TryAgainError(f"asked for bytes from {have:,}, got them from {start}")
    elif status == 416 and have:
        start, (_, total) = have, _content_range(response)
        if total != have:
            forget(part)
            raise _TryAgainError(f"the file has {total} bytes, {have:,} were here; starting again")
    elif status == 200:
        length = response.headers.get("Content-Length", "")
        start, total = 0, int(length) if length.isdigit() else None
    else:
        raise MachineError(
            f"{shown}: the server answers {status} {response.reason}, wanted 200; check --mirror, "
            "or get the archive by other means and pass --archive PATH"
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise MachineError(f"{shown}: the server encodes the archive; use another --mirror")
    if expected and total and total != expected:
        forget(part)
        raise DataIntegrityError(
            f"{shown}: has {total:,} bytes, published are {expected:,}; use another --mirror, or "
            "state the SHA-256 of this archive with --sha256 if you trust it"
        )
    return start, total


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total of ``bytes 5-9/10``, ``bytes 5-9/*`` or ``bytes */10``."""
    text = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", text.strip())
    if not found:
        return None, None
    start, total = (int(group) if group else None for group in found.groups())
    return start, total


def _receive(response: requests.Response, part: Path, start: int, total: int | None) -> None:
    missing = (total or 0) - start
    label = f"download {part.name.removesuffix('.part')}"
    with (
        space_for(part.parent, max(missing, 0)),
        part.open("r+b" if start else "wb") as file,
        Progress(total, label=label, done=start) as progress,
    ):
        file.seek(start)
        for block in response.iter_content(_CHUNK_BYTES):
            file.write(block)
            progress.advance(len(block))


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path, url: str) -> dict[str, str] | None:
    """What was written about ``part``, if it is about this ``url`` and has a validator."""
    state = object_or_empty(_state_path(part))
    same = state.get("url") == without_credentials(url) and isinstance(state.get("validator"), str)
    return state if same else None


def _write_state(part: Path, url: str, response: requests.Response) -> None:
    """Keep the validator before the first byte; forget an older one if there is none now."""
    part.unlink(missing_ok=True)
    etag = response.headers.get("ETag", "")
    # A weak ETag promises equal meaning, not equal bytes; If-Range does not accept it.
    strong = etag if etag and not etag.startswith("W/") else None
    validator = strong or response.headers.get("Last-Modified")
    if validator:
        state = {"url": without_credentials(url), "validator": validator}
        write_json(_state_path(part), state)
    else:
        _state_path(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"no secure connection ({error})"[:200]
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "connection broken off"
    if isinstance(error, requests.ConnectionError):
        return "connection failed"
    return str(error)[:200]
