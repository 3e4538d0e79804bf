"""Passwords and tokens in addresses: left out of whatever is shown or stored.

``without_secrets`` is for a text, such as a message; ``without_credentials`` is for one address or
one word of a command, whatever characters its password has.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MARK = "***"
_DECODINGS = 3
_WORD = re.compile(r"[^\s\"'<>]+")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//")
# alice:S3CRET@host without a scheme; name:tag@sha256:digest is an image.
_BARE = re.compile(r"[^\s/@:=,;()\[\]{}\"'<>|]*:[^@]+@(?!sha(?:256|512):)(?=[\w\[])")
_QUERY = re.compile(r"\?[^?=&]+=.*")
_SENTENCE_ENDS = ".,;:)]}"


def without_secrets(text: str) -> str:
    """``text`` with every address in it as it may be shown: no user, password, query or fragment.

    Also found are addresses without a scheme (``alice:S3CRET@host/x``) and percent-encoded ones.
    """
    if not any(mark in text for mark in "@?%#"):
        return text
    return _WORD.sub(lambda word: without_credentials(word[0]), text)


def without_credentials(word: str) -> str:
    """One address or one word of a command, ``--mirror=URL`` for example, as it may be shown."""
    found = _URL.search(word)
    if found:
        # What an address ends with in a sentence is no part of it.
        address = word[found.end() :].rstrip(_SENTENCE_ENDS)
        end = word[found.end() + len(address) :]
        return f"{_bare(word[: found.start()])}{found[0]}{_host_and_path(address)}{end}"
    plain = _bare(word)
    if plain != word:
        return plain
    for _ in range(_DECODINGS if "%" in word else 0):
        word = unquote(word)
        shown = without_credentials(word)
        if shown != word:
            return shown
    return plain


def _bare(text: str) -> str:
    return _QUERY.sub(f"?{MARK}", _BARE.sub(f"{MARK}@", text))


def _host_and_path(rest: str) -> str:
    """What stands behind ``//``, without user, password, query and fragment."""
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in host and "%40" in host:
        return _host_and_path(unquote(host) + rest[len(host) :])
    cut = host.rfind("@") + 1
    # A password with a slash in it that was not percent-encoded: what looks like a port is none.
    if not cut and "@" in rest and re.search(r":(?![0-9]*$)(?!.*\])", host):
        cut = rest.rfind("@") + 1
    host, slash, path = re.split(r"[?#]", rest[cut:], maxsplit=1)[0].partition("/")
    return host + slash + (without_credentials(path) if path else "")
