"""What an HTTP answer says of a file, and what a failure to get one means: pure functions.

Headers come from strangers. A number that is none, or that no file could have, says nothing.
"""

from __future__ import annotations

import http.client
import re
import ssl
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

import requests
from urllib3 import exceptions as urllib3

# X509_V_ERR_*
NOT_YET_VALID, EXPIRED = 9, 10
_SELF_SIGNED, _OTHER_HOST = (18, 19), (62, 64)
_NOBODY_KNOWN = (2, 20, 21)
SILENT = "no byte from the server"
_WHOLE = re.compile(r"[0-9]{1,18}")
_SPAN = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/(?:([0-9]{1,18})|\*)")
_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (requests.ConnectTimeout, "no connection in time"),
    ((urllib3.ReadTimeoutError, TimeoutError), SILENT),
    (requests.exceptions.ProxyError, "no connection through the proxy"),
    (ssl.SSLError, "no secure connection"),
    ((urllib3.IncompleteRead, http.client.IncompleteRead), "connection broken off"),
    ((urllib3.InvalidChunkLength, urllib3.ProtocolError), "connection broken off"),
    ((requests.ConnectionError, urllib3.HTTPError), "connection failed"),
)


def content_length(response: requests.Response) -> int | None:
    """The number of bytes that the answer announces, if it announces one."""
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if _WHOLE.fullmatch(text) else None


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total of ``bytes 5-9/10``, ``bytes 5-9/*`` or ``bytes */10``."""
    found = _SPAN.fullmatch(response.headers.get("Content-Range", "").strip())
    if not found:
        return None, None
    start, total = (int(group) if group else None for group in found.groups())
    return start, total


def retry_after_s(response: requests.Response) -> float:
    """How long the server asks to wait, in seconds; 0 where it does not."""
    text = response.headers.get("Retry-After", "").strip()
    if _WHOLE.fullmatch(text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        until = until if until.tzinfo else until.replace(tzinfo=timezone.utc)
        return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """What the check of the server's certificate said, if that is why there is no connection."""
    found = (cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError))
    return next(found, None)


def certificate_fault(code: int, said: str, date: datetime | None) -> tuple[str, str]:
    """What is wrong with a server's certificate, and what to do about it.

    Args:
        code: of OpenSSL's check. said: OpenSSL's own words.
        date: until when it was valid, or from when on it will be, where that is known.
    """
    clock = "check the clock of this machine"
    vouch = "if it is your own, name the file of its authority in REQUESTS_CA_BUNDLE"
    if code == EXPIRED:
        return (f"expired on {date:%Y-%m-%d}" if date else "has expired"), clock
    if code == NOT_YET_VALID:
        return (f"not valid before {date:%Y-%m-%d}" if date else "is not yet valid"), clock
    if code in _OTHER_HOST:
        return f"is of another host ({said})", "check the address"
    if code in _SELF_SIGNED:
        return f"{said}: nobody that this machine trusts vouches for it", vouch
    if code in _NOBODY_KNOWN:
        return "nobody that this machine trusts vouches for it", vouch
    return said, "ask who runs the server"


def reason(error: Exception) -> str:
    """``error`` in a few words."""
    causes = _causes(error)
    for kind, words in _WORDS:
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return str(error)[:300]


def _causes(error: BaseException) -> list[BaseException]:
    """``error`` and what it was made from: requests wraps urllib3, which wraps the system."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(found) < 20:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found
