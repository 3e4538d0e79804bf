"""What a file is by its first bytes: formats that text is often in, and that are not read here."""

from __future__ import annotations

LENGTH = 64
"""First bytes that are looked at."""
_ARCHIVE = "unpack it, or pack it as zip or tar"
_PACKED = "unpack it, or pack it with gzip"
_CONVERT = "{0}; convert it: iconv -f {0} -t UTF-8 FILE > NEW"
# The longer of two that begin alike comes first.
_KNOWN = (
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_ARCHIVE}"),
    (b"Rar!\x1a\x07", f"a rar archive; {_ARCHIVE}"),
    (b"!<arch>\n", f"an ar archive; {_ARCHIVE}"),
    (b"070701", f"a cpio archive; {_ARCHIVE}"),
    (b"PK\x05\x06", "a zip archive without files"),
    (b"\x28\xb5\x2f\xfd", f"packed with zstd; {_PACKED}"),
    (b"\x04\x22\x4d\x18", f"packed with lz4; {_PACKED}"),
    (b"LZIP", f"packed with lzip; {_PACKED}"),
    (b"\x5d\x00\x00", f"packed with lzma; {_PACKED}"),
    (b"\x1f\x9d", f"packed with compress; {_PACKED}"),
    (b"\xff\xfe\x00\x00", _CONVERT.format("UTF-32")),
    (b"\x00\x00\xfe\xff", _CONVERT.format("UTF-32")),
    (b"\xff\xfe", _CONVERT.format("UTF-16")),
    (b"\xfe\xff", _CONVERT.format("UTF-16")),
)


def unread_format(begin: bytes) -> str:
    """What a file that begins so is, and what to do; empty where it is none of these."""
    found = next((said for magic, said in _KNOWN if begin.startswith(magic)), "")
    return found or _without_mark(begin[: LENGTH // 2 * 2])


def _without_mark(begin: bytes) -> str:
    """Text in UTF-16 without a byte order mark has a null byte beside each Latin letter."""
    even, odd = begin[::2], begin[1::2]
    for name, nulls, letters in (("UTF-16LE", odd, even), ("UTF-16BE", even, odd)):
        if len(nulls) > 3 and not any(nulls) and all(0 < letter < 0x80 for letter in letters):
            return _CONVERT.format(name)
    return ""
