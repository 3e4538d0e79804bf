"""Bring one file here: over http or https, resuming what was broken off, or from a local folder.

What has arrived is in ``<name>.part``; ``<name>.part.json`` beside it holds the validator
(ETag or Last-Modified) without which a resumed download could be two files glued together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

from trainbench.display.secrets import without_credentials
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import object_or_empty, read_block, write_json, writing
from trainbench.movielens import answer, connection
from trainbench.movielens.connection import Patience, TryAgainError
from trainbench.progress import Progress, log_line

MAX_BYTES = 4 << 30
"""The most that is taken of a file whose size nobody has published; ml-25m has 262 MB."""
_PROGRESS_BYTES = 64 << 10
_RETRIED = {408, 425, 429}


@dataclass(frozen=True)
class Retry:
    """How often in a row a server may fail, and the pauses between two attempts.

    An attempt that brought 64 KiB that were not here before does not count as a failure.

    Attributes:
        first_pause_s: doubles with each attempt, up to ``longest_pause_s``.
        longest_asked_s: the longest pause that a server may ask for (Retry-After).
    """

    attempts: int = 5
    first_pause_s: float = 1.0
    longest_pause_s: float = 30.0
    longest_asked_s: float = 120.0
    patience: Patience = field(default_factory=Patience)


def locate(mirror: str, name: str) -> str | Path:
    """Where a mirror has the file ``name``: a URL, or a path for ``file:`` URLs and folders.

    A query of the mirror's URL, an access token for example, stays behind the file's name.
    """
    try:
        parts = urlsplit(mirror)
        _ = parts.port
    except ValueError:
        shown = without_credentials(mirror)
        raise ConfigError(f"mirror {shown}: not an address; check --mirror") from None
    if parts.scheme in ("http", "https"):
        path = f"{parts.path.rstrip('/')}/{name}"
        return parts._replace(path=path, fragment="").geturl()
    if parts.scheme == "file":
        return Path(unquote(parts.path)) / name
    if "://" in mirror:
        shown = without_credentials(mirror)
        raise ConfigError(f"mirror {shown}: wanted http, https, file or a folder")
    return Path(mirror) / name


def copy(source: Path, part: Path) -> None:
    """Copy a local archive to ``part``.

    Raises:
        MachineError: the file is not there, or the disk is full; no part of it is left then.
    """
    if not source.is_file():
        raise MachineError(f"{source}: not found; check --archive or --mirror (MIRROR)")
    size = source.stat().st_size
    forget(part)
    try:
        with (
            writing(part, size),
            source.open("rb") as file,
            part.open("wb") as out,
            Progress(size, label=f"copy {source.name}") as progress,
        ):
            while block := read_block(source, file):
                out.write(block)
                progress.advance(len(block))
    except BaseException:  # Nothing resumes a copy.
        part.unlink(missing_ok=True)
        raise


def fetch(
    url: str,
    part: Path,
    *,
    expected_bytes: int | None = None,
    retry: Retry | None = None,
    hash_decides: bool = False,
) -> None:
    """Download ``url`` to ``part``, from where an earlier attempt broke off if the server can.

    With ``hash_decides`` a server whose certificate does not hold is asked all the same. The caller
    must then compare the SHA-256 of ``part`` and ``forget`` it if that differs: MD5 is no proof, as
    two files of one MD5 can be made in seconds. Such a part is not left for a later run to resume.

    Raises:
        MachineError: no answer, a refusal, a certificate that does not hold, a full disk; what has
            arrived is kept for the next run, unless the connection was unverified.
        DataIntegrityError: the server has another number of bytes than ``expected_bytes``, or more
            than ``MAX_BYTES`` where that is not given.
    """
    try:
        return _persevere(url, part, expected_bytes, retry or Retry(), verify=True)
    except connection.CertificateError as error:
        if not hash_decides:
            raise
        _require_no_secret(url, error)
        log_line(
            f"download: {without_credentials(url)}: the server's certificate: {error.fault}; goes "
            "on without verification (--hash-decides): the bytes count only if their SHA-256 fits"
        )
    arrived = False
    try:
        _persevere(url, part, expected_bytes, retry or Retry(), verify=False)
        arrived = True
    finally:
        if not arrived:
            forget(part)


def _require_no_secret(url: str, error: MachineError) -> None:
    """A password or token would be told to whoever answers."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise MachineError(
            f"{error}; it is not used here: the address holds a password or a token, which is not "
            "sent over an unverified connection"
        ) from None


def _persevere(url: str, part: Path, expected: int | None, retry: Retry, *, verify: bool) -> None:
    """Attempt until the file is whole, or until the server failed too often in a row."""
    failures, pause_s, most = 0, retry.first_pause_s, _size(part)
    while True:
        try:
            return _attempt(url, part, expected, retry.patience, verify)
        except TryAgainError as error:
            reason, asked_s = str(error), error.wait_s
        if _size(part) >= most + _PROGRESS_BYTES:
            failures, pause_s, most = 0, retry.first_pause_s, _size(part)
        failures += 1
        if failures >= retry.attempts:
            kept = f"{_size(part):,} bytes are kept and the next run resumes"
            raise MachineError(
                f"{without_credentials(url)}: {reason}, {failures} times in a row; "
                f"{kept if verify else 'nothing is kept'}; check the network, or "
                "pass --mirror or --archive"
            )
        wait_s = max(pause_s, min(asked_s, retry.longest_asked_s))
        log_line(f"download: {reason}; next attempt in {wait_s:.0f} s")
        time.sleep(wait_s)
        pause_s = min(2 * pause_s, retry.longest_pause_s)


def forget(part: Path) -> None:
    """Remove ``part`` and its validator."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, expected: int | None, patience: Patience, verify: bool) -> None:
    state = _read_state(part, url, verify)
    have = _size(part) if state else 0
    headers = {"Accept-Encoding": "identity"}
    if have and state:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    with connection.ask(url, headers, patience, verify=verify) as response:
        start, total = _start_and_total(response, part, have)
        total = _agreed(response, part, total, expected)
        if start == 0:
            _write_state(part, url, response, verify)
        if total is None or start < total:
            _receive(response, part, start, total, patience)
    if total is not None and _size(part) != total:
        raise TryAgainError(f"broken off after {_size(part):,} of {total:,} bytes")
    if not _size(part):
        forget(part)
        raise MachineError(f"{without_credentials(url)}: the answer is empty; use another --mirror")
    _state_path(part).unlink(missing_ok=True)


def _start_and_total(response: requests.Response, part: Path, have: int) -> tuple[int, int | None]:
    """From which byte on the answer continues ``part``, and how many bytes the file has."""
    status, shown = response.status_code, without_credentials(response.url)
    if status >= 500 or status in _RETRIED:
        said = f"the server answers {status} {response.reason}"
        raise TryAgainError(said, answer.retry_after_s(response))
    if status == 206:
        start, total = answer.content_range(response)
        if start != have:
            forget(part)
            raise TryAgainError(f"asked for bytes from {have:,}, got them from {start}")
        return have, total
    if status == 416 and have:
        _, total = answer.content_range(response)
        if total != have:
            forget(part)
            raise TryAgainError(f"the file has {total} bytes, {have:,} were here; starting again")
        return have, total
    if status == 200:
        return 0, answer.content_length(response)
    raise MachineError(
        f"{shown}: the server answers {status} {response.reason}, wanted 200; check --mirror, "
        "or get the archive by other means and pass --archive PATH"
    )


def _agreed(
    response: requests.Response, part: Path, total: int | None, expected: int | None
) -> int | None:
    """The file's number of bytes, as announced or as published, where either is known."""
    shown = without_credentials(response.url)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise MachineError(f"{shown}: the server encodes the archive; use another --mirror")
    if expected is not None and total not in (None, expected):
        forget(part)
        raise DataIntegrityError(
            f"{shown}: has {total:,} bytes, published are {expected:,}; use another --mirror, or "
            "state the SHA-256 of this archive with --sha256 if you trust it"
        )
    if total is not None and total > max(MAX_BYTES, expected or 0):
        forget(part)
        raise _too_long(shown, f"has {total:,} bytes, more", MAX_BYTES)
    return expected if total is None else total


def _receive(
    response: requests.Response, part: Path, start: int, total: int | None, patience: Patience
) -> None:
    most, done = MAX_BYTES if total is None else total, start
    label = f"download {part.name.removesuffix('.part')}"
    with (
        writing(part, (total or start) - start),
        part.open("r+b" if start else "wb") as file,
        Progress(total, label=label, done=start) as progress,
    ):
        file.seek(start)
        for block in connection.blocks(response, patience):
            done += len(block)
            if done > most:
                break
            file.write(block)
            progress.advance(len(block))
    if done > most:
        forget(part)
        raise _too_long(without_credentials(response.url), "sends more", most)


def _too_long(shown: str, found: str, most: int) -> DataIntegrityError:
    return DataIntegrityError(
        f"{shown}: {found} than the {most:,} bytes that the file may have; use another --mirror"
    )


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path, url: str, verify: bool) -> dict[str, Any] | None:
    """What was written about ``part``, if it is about this ``url`` and has a validator.

    What an unverified connection brought is continued by none that is verified.
    """
    state = object_or_empty(_state_path(part))
    same = state.get("url") == without_credentials(url) and isinstance(state.get("validator"), str)
    return state if same and not (verify and state.get("unverified")) else None


def _write_state(part: Path, url: str, response: requests.Response, verify: bool) -> None:
    """Keep the validator before the first byte; forget an older one if there is none now."""
    part.unlink(missing_ok=True)
    etag = response.headers.get("ETag", "")
    # A weak ETag promises equal meaning, not equal bytes; If-Range does not accept it.
    strong = etag if etag and not etag.startswith("W/") else None
    validator = strong or response.headers.get("Last-Modified")
    if validator:
        state: dict[str, Any] = {"url": without_credentials(url), "validator": validator}
        write_json(_state_path(part), state if verify else {**state, "unverified": True})
    else:
        _state_path(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
