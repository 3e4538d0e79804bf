"""Characters that steer a terminal, a page or a spreadsheet, made visible.

A file name, an HTTP reason or a log's line may hold them; shown as they are, they could hide text,
turn its direction round or run a formula.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO

from trainbench.display.secrets import without_secrets

# Control characters but tab and newline; direction marks and overrides; zero-width characters but
# the two joiners that scripts need; line and paragraph separators; tags; halves of pairs;
# U+FFFE and U+FFFF, which XML cannot hold.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def visible(text: str) -> str:
    """``text`` with each character that steers as its number: ``\\x1b``, ``\\u202e``.

    Tabs and newlines stay.
    """
    return _STEERING.sub(_number, text)


def one_line(text: str) -> str:
    """``text`` visible and in one line: the name of a file may hold a line of its own."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def cell(value: object) -> object:
    """``value`` for a CSV file: a text that a spreadsheet would run gets a ``'`` in front."""
    if not isinstance(value, str):
        return value
    runs = value.startswith(_FORMULA) and not _is_number(value)
    return f"'{visible(value)}" if runs else visible(value)


def presentable(text: str) -> str:
    """``text`` as people may see it: visible, and without the passwords in its addresses."""
    return visible(without_secrets(text))


class VisibleStream(io.TextIOWrapper):
    """A stream to people: what steers a terminal arrives as its number.

    ``steer`` writes what the program itself steers the terminal with.
    """

    def write(self, text: str) -> int:
        """Write ``text`` made visible; the number of its own characters."""
        super().write(visible(text))
        return len(text)

    def steer(self, text: str) -> None:
        """Write ``text`` as it is."""
        super().write(text)


class PresentableStream(VisibleStream):
    """The same for messages and tracebacks, whose addresses may hold passwords."""

    def write(self, text: str) -> int:
        """Write ``text`` made presentable; the number of its own characters."""
        super().write(without_secrets(text))
        return len(text)


def steer(stream: TextIO, text: str) -> None:
    """Write a control sequence of our own to ``stream``."""
    if isinstance(stream, VisibleStream):
        stream.steer(text)
    else:
        stream.write(text)


def guard_terminal() -> None:
    """Make standard output visible and standard error presentable in this process.

    What the encoding of the terminal lacks is written as a number and never an error. Streams that
    are not ordinary ones, as in tests, stay as they are.
    """
    sys.stdout = _guarded(sys.stdout, VisibleStream)
    sys.stderr = _guarded(sys.stderr, PresentableStream)


def _guarded(stream: TextIO, kind: type[VisibleStream]) -> TextIO:
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, by_line, at_once = stream.encoding, stream.line_buffering, stream.write_through
    stream.flush()
    return kind(
        stream.detach(),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=by_line,
        write_through=at_once,
    )


def _number(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
