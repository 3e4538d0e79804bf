"""Zip archives damaged at random: refused in one line, or the ratings that are in them."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from undisturbed import Undisturbed, scratch

from trainbench.errors import DataIntegrityError
from trainbench.movielens import archive
from trainbench.movielens.datasets import CSV, Dataset
from trainbench.trials.paths import DataDir

COUNT = 150
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{item},3.5,{1_000 + item}\n" for user in range(1, 9) for item in range(10, 40)
)
DAMAGES = ("bits", "bytes", "cut", "doubled", "removed", "field")
_SIGNATURES = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Case:
    """How an archive is damaged."""

    damage: str
    seed: int

    def __str__(self) -> str:
        return f"a zip with damage of kind {self.damage}, {self.seed}"


def drawn(chance: random.Random, index: int) -> Case:
    """Each kind of damage in turn."""
    return Case(DAMAGES[index % len(DAMAGES)], chance.getrandbits(32))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Take the damaged archive for the one that is wanted."""
    content = damaged(random.Random(case.seed), case.damage)
    with scratch() as name:
        path, data = Path(name) / "tiny.zip", DataDir(Path(name) / "data")
        path.write_bytes(content)
        data.root.mkdir()
        tiny = Dataset("tiny", CSV, "https://publisher.invalid/tiny.zip")
        try:
            archive.download(tiny, data, archive=path, sha256=hashlib.sha256(content).hexdigest())
        except DataIntegrityError as error:
            assert str(error).isprintable(), f"{case}: not one clean line: {str(error)!r}"
            assert path.name in str(error), f"{case}: {error} names no archive"
            left = [p.name for p in data.root.rglob("*") if p.is_file() and p != path]
            assert left in ([], ["tiny.zip"]), f"{case}: left {left}"
            yield "refused"
        else:
            assert (data.raw("tiny") / CSV.ratings_file).read_text() == RATINGS, f"{case}: others"
            yield "same ratings"


def damaged(chance: random.Random, damage: str) -> bytes:
    """An archive that a publisher could have made, with this damage."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as z:
        z.writestr("tiny/", "")
        z.writestr("tiny/README", "plain text")
        z.writestr("tiny/ratings.csv", RATINGS)
        z.writestr("tiny/R\u00c9SUM\u00c9", "text")
    raw = bytearray(out.getvalue())
    at = chance.randrange(len(raw))
    length = chance.choice((1, 4, 30, 300))
    if damage == "bits":
        for _ in range(chance.choice((1, 2, 8))):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    elif damage == "bytes":
        raw[at : at + length] = chance.randbytes(length)
    elif damage == "cut":
        del raw[at:]
    elif damage == "doubled":
        raw[at:at] = raw[at : at + length]
    elif damage == "removed":
        del raw[at : at + length]
    else:
        _field(chance, raw)
    return bytes(raw)


def _field(chance: random.Random, raw: bytearray) -> None:
    """Another number in a header: a size, an offset, a method, a length."""
    signature = chance.choice(_SIGNATURES)
    places = [i for i in range(len(raw)) if raw.startswith(signature, i)]
    at = chance.choice(places) + 4 + 2 * chance.randrange(20)
    width = chance.choice((2, 4))
    value = chance.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(32)))
    if at + width <= len(raw):
        raw[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
