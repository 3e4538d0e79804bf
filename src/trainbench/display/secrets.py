"""Passwords and tokens in addresses: left out of whatever is shown or stored.

``without_secrets`` is for a text, such as a message; ``without_credentials`` is for one address or
one word of a command, whatever characters its password has.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_DECODINGS = 3
# Addresses within the path of an address; what is behind more is left out.
_NESTED = 5
_WORD = re.compile(r"[^\s\"'<>]+")
# A path has one slash of https:// only.
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//+|https?:/", re.IGNORECASE)
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
    return _without_credentials(word, _NESTED)


def _without_credentials(word: str, nested: int) -> str:
    form = word
    for _ in range(_DECODINGS + 1):
        shown = _shown(form, nested)
        if shown != form:
            return shown
        form, former = unquote(form), form
        if form == former:
            break
    return word


def _shown(word: str, nested: int) -> str:
    # What an address ends with in a sentence is no part of it.
    text = word.rstrip(_SENTENCE_ENDS)
    end, found = word[len(text) :], _URL.search(text)
    if not found:
        return _bare(text) + end
    rest = _host_and_path(text[found.end() :], nested) if nested else "..."
    return _bare(text[: found.start()]) + found[0] + rest + end


def _bare(text: str) -> str:
    return _QUERY.sub("", _BARE.sub("", text))


def _host_and_path(rest: str, nested: int) -> str:
    """What stands behind ``//``, without user, password, query and fragment."""
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in host and "%40" in host:
        return _host_and_path(unquote(host) + rest[len(host) :], nested)
    cut = host.rfind("@") + 1
    # A password with a slash in it that was not percent-encoded: what looks like a port is none.
    if not cut and "@" in rest and re.search(r":(?![0-9]*$)(?!.*\])", host):
        cut = rest.rfind("@") + 1
    host, slash, path = re.split(r"[?#]", rest[cut:], maxsplit=1)[0].partition("/")
    return host + slash + (_without_credentials(path, nested - 1) if path else "")
