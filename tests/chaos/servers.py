"""A server that lies in another way at each request, and then is honest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lying_server import LyingServer, head, lying_server
from undisturbed import Undisturbed, scratch

from trainbench.errors import TrainbenchError
from trainbench.movielens import archive
from trainbench.movielens.connection import Patience
from trainbench.movielens.datasets import CSV, Dataset
from trainbench.movielens.transfer import Retry
from trainbench.trials.paths import DataDir

COUNT = 40
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{item},{(user * item) % 9 / 2 + 0.5},{user * item * 7919 % 1_000_003}\n"
    for user in range(1, 101)
    for item in range(1, 101)
)
HURRIED = Retry(
    attempts=2,
    first_pause_s=0.01,
    longest_asked_s=0.02,
    patience=Patience(connect_s=60, answer_s=0.5, silence_s=0.3, window_s=0.3),
)
CALM = Retry(attempts=2, first_pause_s=0.01)
STATUSES = (
    "200 OK", "200 OK", "206 Partial Content", "206 Partial Content", "302 Found", "304 Not",
    "404 Not Found", "416 Range", "429 Slow down", "500 Error", "503 Busy", "999 \x1b[31m", "20 x",
)  # fmt: skip
LENGTHS = ("true", "true", "absent", "short", "long", "huge", "none", "chunked")
BODIES = ("right", "right", "cut", "flipped", "other", "longer", "empty", "silent")
LOCATIONS = ("/ml.zip", "file:///etc/passwd", "http://[::1/", "//", "\udc80", "http://127.0.0.1:1/")


@dataclass(frozen=True)
class Case:
    """A server, told by the seed of its lies."""

    seed: int

    def __str__(self) -> str:
        return f"a server that lies at random, {self.seed}"


def drawn(chance: random.Random, index: int) -> Case:
    """Another server."""
    return Case(chance.getrandbits(32))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Download from the server while it lies, and again while it does not."""
    content = _zip()
    tiny = Dataset(
        "tiny", CSV, "https://publisher.invalid/tiny.zip", hashlib.md5(content).hexdigest()
    )
    liar = Liar(random.Random(case.seed), content)
    with scratch() as name, lying_server(liar.answer) as server:
        liar.server, data = server, DataDir(Path(name) / "data")
        data.root.mkdir()
        mirror = server.url.rsplit("/", 1)[0]
        yield f"lies: {_download(tiny, data, mirror, HURRIED)}"
        liar.honest = True
        told = _download(tiny, data, mirror, CALM)
        # What a liar gave as the file's beginning is found at its end, and thrown away.
        again = told != "ratings" and _download(tiny, data, mirror, CALM)
        assert "ratings" in (told, again), f"{case}: an honest server: {told}; then {again}"
        yield "then the ratings" if told == "ratings" else "then refused, then the ratings"


def _download(tiny: Dataset, data: DataDir, mirror: str, retry: Retry) -> str:
    folder = data.raw("tiny")
    try:
        archive.download(tiny, data, mirror=mirror, retry=retry)
    except TrainbenchError as error:
        assert str(error).isprintable(), f"not one clean line: {str(error)!r}"
        left = {path.name for path in folder.iterdir()} - {"tiny.zip.part", "tiny.zip.part.json"}
        assert not left, f"{error}, and left {left}"
        return type(error).__name__
    assert (folder / CSV.ratings_file).read_text() == RATINGS, "other ratings"
    return "ratings"


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr(zipfile.ZipInfo("tiny/ratings.csv"), RATINGS)
    return out.getvalue()


class Liar:
    """Answers with parts that do not fit together, until it is ``honest``."""

    server: LyingServer
    honest = False

    def __init__(self, chance: random.Random, content: bytes) -> None:
        self._chance, self._content = chance, content

    def answer(self, connection: socket.socket, request: str, number: int) -> None:
        """Whatever comes next."""
        asked = [line for line in request.splitlines() if line.startswith("Range: bytes=")]
        start = int(asked[0].removeprefix("Range: bytes=").rstrip("-")) if asked else 0
        if self.honest:
            connection.sendall(self._truth(start))
            return
        body, told = self._body(start)
        with contextlib.suppress(OSError):
            connection.sendall(self._head(start, len(told)) + body)
            if body != told and not body:
                self.server.ended.wait(1)

    def _truth(self, start: int) -> bytes:
        rest, size = self._content[start:], len(self._content)
        if not start:
            return head(Content_Length=size, ETag='"v1"') + rest
        span = f"bytes {start}-{size - 1}/{size}"
        more = {"Content_Length": len(rest), "Content_Range": span, "ETag": '"v1"'}
        return head("206 Partial Content", **more) + rest

    def _body(self, start: int) -> tuple[bytes, bytes]:
        """What is sent, and what is said to be sent."""
        kind, right = self._chance.choice(BODIES), self._content[start:]
        at = self._chance.randrange(len(right)) if right else 0
        sent = {
            "cut": right[:at],
            "flipped": right[:at] + bytes([self._chance.randrange(256)]) + right[at + 1 :],
            "other": self._chance.randbytes(2_000),
            "longer": right + b"x" * 70_000,
            "empty": b"",
            "silent": b"",
        }.get(kind, right)
        return sent, b"" if kind == "empty" else right if kind in ("cut", "silent") else sent

    def _head(self, start: int, length: int) -> bytes:
        chance, size = self._chance, len(self._content)
        fields: dict[str, str | int | bytes] = {}
        kind = chance.choice(LENGTHS)
        if kind == "chunked":
            fields["Transfer_Encoding"] = "chunked"
        elif kind != "absent":
            lie = {"short": length // 2, "long": length + 9, "huge": 10**17, "none": b"\xb2"}
            fields["Content_Length"] = lie.get(kind, length)
        if chance.random() < 0.7:
            fields["ETag"] = chance.choice(('"v1"', '"v1"', '"v2"', "W/x", ""))
        if chance.random() < 0.5:
            first = chance.choice((start, start, 0, start + 1, size))
            total = chance.choice((size, size, "*", size + 1, 10**17, "x"))
            fields["Content_Range"] = f"bytes {first}-{size - 1}/{total}"
        if chance.random() < 0.2:
            fields["Retry_After"] = chance.choice(("0", "99999", "soon", "-1"))
        if chance.random() < 0.2:
            fields["Location"] = chance.choice(LOCATIONS).encode("utf-8", "surrogateescape")
        return head(chance.choice(STATUSES), **fields)
