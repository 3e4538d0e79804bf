"""The datasets in one table, and the manifest that says which of them is in a data directory."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainbench.configuration import record, unknown
from trainbench.errors import ConfigError
from trainbench.files import damage_told, read_record, write_record
from trainbench.trials.paths import DataDir

CHANGES = "no fixed checksum: the publisher replaces this archive from time to time"
NO_SUM = "no checksum of this archive is known"
PUBLISHER = "https://files.grouplens.org/datasets/movielens"
MANIFEST_SCHEMA = 1


@dataclass(frozen=True)
class SyntheticSize:
    """Geometry of generated ratings."""

    users: int
    items: int
    ratings: int
    seed: int = 0


@dataclass(frozen=True)
class Expansion:
    """A fractal expansion: so many times the users and the items, by seed (large/expansion.py)."""

    users: int
    items: int
    seed: int = 0

    @property
    def text(self) -> str:
        """The factor as it is written."""
        return f"{self.users}x{self.items}"


@dataclass(frozen=True)
class Expanded:
    """What was expanded: the dataset and the hash of its ratings, how, and the held-out rule."""

    dataset: str
    ratings_sha256: str
    factor: Expansion
    version: int
    held_out: str


@dataclass(frozen=True)
class SplitSpec:
    """Which ratings are split and how: all that a cache depends on, its compliance log included."""

    dataset: str
    synthetic: SyntheticSize | None = None
    min_ratings: int = 20
    tie_break: str = "stable"
    eval_negatives: int = 999
    expand: Expansion | None = None

    @property
    def raw(self) -> str:
        """The name of the raw folder, and what a cache's name begins with."""
        return f"{self.dataset}-by-{self.expand.text}" if self.expand else self.dataset

    @property
    def options(self) -> dict[str, Any]:
        """The part that is part of a cache's key beside the ratings themselves."""
        return {
            "min_ratings": self.min_ratings,
            "tie_break": self.tie_break,
            "eval_negatives": self.eval_negatives,
        }


@dataclass(frozen=True)
class Layout:
    """How a ratings file is written: one rating per line, four fields."""

    ratings_file: str
    separator: str
    header: bool


TABS = Layout("u.data", "\t", header=False)
COLONS = Layout("ratings.dat", "::", header=False)
CSV = Layout("ratings.csv", ",", header=True)


@dataclass(frozen=True)
class Counts:
    """Users and items that have a rating, and ratings; items are None where nobody states them.

    Of pairs in shards: items up to the last that has a pair, and training pairs.
    """

    users: int
    items: int | None
    ratings: int


@dataclass(frozen=True)
class Dataset:
    """One row of the table. ``url`` is None for the dataset that is generated here.

    ``changes``: the publisher replaces the archive from time to time, so it has no fixed checksum.
    ``own``: somebody's own ratings, of which no table knows anything. ``sharded``: a tar of pairs,
    split into training and test set (large/shards.py); it is not unpacked and has no layout.
    """

    name: str
    layout: Layout
    url: str | None = None
    md5: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    counts: Counts | None = None
    changes: bool = False
    own: bool = False
    sharded: bool = False

    @property
    def stated(self) -> bool:
        """Whether a checksum of the archive is known."""
        return bool(self.md5 or self.sha256)

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return (self.url or f"{self.name}.zip").rsplit("/", 1)[-1]


def _published(
    name: str, layout: Layout, counts: tuple[int, int | None, int], **known: Any
) -> Dataset:
    return Dataset(name, layout, f"{PUBLISHER}/{name}.zip", counts=Counts(*counts), **known)


# The publisher states MD5 sums. The SHA-256 sums are of archives with those MD5 sums, and each is
# found alike in several public repositories (docs/sources.md).
_TABLE = (
    _published(
        "ml-100k",
        TABS,
        (943, 1_682, 100_000),
        md5="0e33842e24a9c977be4e0107933c0723",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        bytes=4_924_029,
    ),
    _published(
        "ml-1m",
        COLONS,
        (6_040, 3_706, 1_000_209),
        md5="c4d9eecfca2ab87c1945afe126590906",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        bytes=5_917_549,
    ),
    _published(
        "ml-10m",
        COLONS,
        (69_878, 10_677, 10_000_054),
        md5="ce571fd55effeba0271552578f2648bd",
        sha256="813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
        bytes=65_566_137,
    ),
    _published(
        "ml-20m",
        CSV,
        (138_493, 26_744, 20_000_263),
        md5="cd245b17a1ae2cc31bb14903e1204af3",
        sha256="96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        bytes=198_702_078,
    ),
    _published(
        "ml-25m",
        CSV,
        (162_541, 59_047, 25_000_095),
        md5="6b51fb2759a8657d3bfcbfc42b592ada",
        sha256="8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        bytes=261_978_986,
    ),
    # Its README counts 87,585 movies, and not those that have a rating.
    _published(
        "ml-32m",
        CSV,
        (200_948, None, 32_000_204),
        md5="d472be332d4daa821edc399621853b57",
        sha256="e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
        bytes=238_950_008,
    ),
    # Their publisher replaces these from time to time, so they have no lasting checksum.
    _published("ml-latest-small", CSV, (610, 9_724, 100_836), changes=True),
    Dataset("ml-latest", CSV, f"{PUBLISHER}/ml-latest.zip", changes=True),
    # No checksum of it is known.
    Dataset(
        "ml-20mx16x32",
        CSV,
        f"{PUBLISHER}/ml-20mx16x32.tar",
        counts=Counts(2_210_078, 855_776, 1_223_962_043),
        sharded=True,
    ),
    Dataset("synthetic", CSV),
    Dataset("rehearsal", CSV),  # Generated too, and harder to learn.
)

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in _TABLE}


_NEAR = 0.75  # of two names' letters: a slip of the hand, not a name of one's own
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
# Names that would pass for a published dataset, that another benchmark's data have, or the folder
# of an expansion.
_TAKEN = re.compile(
    r"ml[-_.]?([0-9]|latest|perf)|movielens|synthetic|generated|images?|cifar|.*-by-[0-9]+x[0-9]+$"
)


def dataset(name: str) -> Dataset:
    """The dataset called ``name``: one of the table, or somebody's own ratings.

    Raises:
        ConfigError: a name that is near one of the table (which is named), or no name at all.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=_NEAR)
    if near or _TAKEN.match(name.lower()):
        raise ConfigError(
            f"{unknown('dataset', name, DATASETS)}; own ratings need a name that is unlike these"
        )
    if not _OWN_NAME.fullmatch(name):
        raise ConfigError(
            f"dataset {name!r}: wanted up to 40 letters, digits and . _ - for own ratings, or one "
            f"of {', '.join(DATASETS)}"
        )
    return Dataset(name, CSV, own=True)


def no_own(name: str) -> ConfigError:
    """The error where ratings called ``name`` were to be there and are not."""
    return ConfigError(
        f"{unknown('dataset', name, DATASETS)}; if these are your own ratings, run download "
        f"--ratings FILE --dataset {name} first"
    )


@dataclass(frozen=True)
class OwnRatings:
    """What was made of somebody's own ratings: enough to name the data exactly.

    Attributes:
        file, bytes, sha256: name, size and hash of the file that was given. packed: with gzip.
        options: as they were given. columns: role -> column, as they were taken.
        held_out: the rule for each user's held-out item, in words.
        repeated_pairs, below_positive_from: rows that were read and not kept.
        user_ids, item_ids: whole numbers, kept as they are, or text, which ``mappings`` numbers.
        mappings: file beside the ratings -> its SHA-256.
    """

    file: str
    bytes: int
    sha256: str
    packed: bool
    options: dict[str, Any]
    columns: dict[str, str]
    held_out: str
    rows_read: int
    rows_kept: int
    repeated_pairs: int
    below_positive_from: int
    users: int
    items: int
    user_ids: str
    item_ids: str
    mappings: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """manifest.json: what is in a raw folder and where it came from.

    ``source`` is where the bytes were read: the publisher, a mirror, a local file or the generator.
    ``published`` is True only for the archive whose checksum the publisher states, or which came
    from the publisher itself. ``counts`` are what the ratings must have: the published ones of an
    archive with the published checksum, or the generated ones. ``note`` says what else a reader
    has to know of the archive.
    """

    dataset: str
    source: str
    ratings_file: str
    ratings_bytes: int
    ratings_sha256: str
    published: bool
    url: str | None = None
    archive: str | None = None
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    generated: bool = False
    generator: SyntheticSize | None = None
    generator_version: int | None = None
    counts: Counts | None = None
    note: str | None = None
    own: OwnRatings | None = None
    expanded: Expanded | None = None
    schema: int = MANIFEST_SCHEMA

    @property
    def sharded(self) -> bool:
        """Whether the ratings are pairs in shards, already split."""
        return self.ratings_file.endswith(".tar")


def write_manifest(manifest: Manifest, data: DataDir) -> None:
    """Write manifest.json, the last file of a download: with it the raw folder is complete."""
    write_record(data.manifest(manifest.dataset), manifest)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in ``path``; None where there is none or an older version wrote it.

    Raises:
        DataIntegrityError: the file is not a manifest.
    """
    if not path.exists():
        return None
    with damage_told(path, "a manifest", "delete it and run download again"):
        fields = read_record(path)
        return record(Manifest, fields) if fields["schema"] == MANIFEST_SCHEMA else None
