"""The split of the v0.5 reference (convert.py): dense ids, time order, last item held out.

Users are numbered in the order of their first appearance among the ratings that the filter leaves,
and so are items; both before any sorting.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import trainbench
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import DataIntegrityError
from trainbench.files import sha256_of
from trainbench.movielens.cache import (
    COMPLIANCE_LOG,
    CacheFiles,
    cache_key,
    new_cache,
    open_cache,
    require_manifest,
    write_cache,
)
from trainbench.movielens.datasets import Counts, Manifest, SplitSpec, dataset
from trainbench.movielens.formats import (
    Ratings,
    check_counts,
    check_pairs,
    rating_blocks,
    read_ratings,
    repeated_pair,
    require_counts,
)
from trainbench.movielens.large import outside
from trainbench.movielens.large.outside import PAIR, RATING, Outcome
from trainbench.progress import Progress, heartbeat, log_line, scaled
from trainbench.trials.paths import DataDir

IntArray = npt.NDArray[np.int64]
# Of a file of ratings: more is split on disk. ml-32m has 0.9 GB.
LARGEST_IN_MEMORY = 1 << 30


@dataclass(frozen=True)
class Split:
    """Training pairs and one held-out item per user; the arrays are those of ``RatingsCache``.

    tied_users: users whose last timestamp stands at two or more of their ratings, that is, whose
    held-out item the tie-break decided. dropped_users: users with fewer ratings than wanted.
    """

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    row_starts: IntArray
    test_items: npt.NDArray[np.int32]
    user_ids: IntArray
    item_ids: IntArray
    tied_users: int
    dropped_users: int

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by the names they have in a cache."""
        names = ("users", "items", "row_starts", "test_items", "user_ids", "item_ids")
        return {name: getattr(self, name) for name in names}


def split(ratings: Ratings, *, min_ratings: int, tie_break: str) -> Split:
    """``ratings`` of the users with at least ``min_ratings``, last item of each held out.

    ``tie_break`` orders a user's ratings of one second: ``stable`` by their position in the file,
    a total order; ``reference`` as the v0.5 reference's unstable sort of all ratings leaves them.
    An item that only ever is held out keeps its number.

    Raises:
        DataIntegrityError: no user has enough ratings.
    """
    user_of, user_ids = pd.factorize(ratings.users)
    per_user = np.bincount(user_of, minlength=len(user_ids))
    kept, most = per_user >= min_ratings, per_user.max(initial=0)
    items, times = ratings.items, ratings.timestamps
    if not kept.all():
        rows = kept[user_of]
        user_of = (np.cumsum(kept) - 1)[user_of[rows]]
        user_ids, per_user, items, times = user_ids[kept], per_user[kept], items[rows], times[rows]
    if not len(user_ids):
        raise _none_left(min_ratings, len(kept), most, len(ratings))
    item_of, item_ids = pd.factorize(items)
    order = _ORDERS[tie_break](user_of, times)
    ends = np.cumsum(per_user)
    last = order[ends - 1]
    before_last = order[np.maximum(ends - 2, 0)]
    in_training = np.ones(len(order), dtype=bool)
    in_training[ends - 1] = False
    train = order[in_training]
    return Split(
        users=np.repeat(np.arange(len(user_ids), dtype=np.int32), per_user - 1),
        items=item_of[train].astype(np.int32),
        row_starts=np.concatenate(([0], np.cumsum(per_user - 1))).astype(np.int64),
        test_items=item_of[last].astype(np.int32),
        user_ids=np.asarray(user_ids),
        item_ids=np.asarray(item_ids),
        tied_users=int(np.sum((times[before_last] == times[last]) & (per_user > 1))),
        dropped_users=int(np.sum(~kept)),
    )


def _none_left(min_ratings: int, users: int, most: int, ratings: int) -> DataIntegrityError:
    return DataIntegrityError(
        f"none of {users:,} users has {min_ratings} ratings, the most by one user are "
        f"{most:,} of {ratings:,}: nothing to train on; lower min_ratings, or use more ratings"
    )


def _stable_order(users: IntArray, times: IntArray) -> IntArray:
    """Positions of all ratings by (user, timestamp, position in the file)."""
    return np.lexsort((times, users))


def _reference_order(users: IntArray, times: IntArray) -> IntArray:
    """Positions by user, within a user as in the reference's sort of the whole frame.

    The reference sorts a frame by a datetime column with pandas' default, which is NumPy's
    quicksort of datetime64. The type matters: integers of the same value take vector paths that
    differ between processors and NumPy versions in what they do with ties.
    """
    by_time = np.argsort(times.astype("datetime64[s]"), kind="quicksort")
    return by_time[np.argsort(users[by_time], kind="stable")]


_ORDERS: dict[str, Callable[[IntArray, IntArray], IntArray]] = {
    "stable": _stable_order,
    "reference": _reference_order,
}


def held_out_sha256(split: Split | Outcome) -> str:
    """SHA-256 of the test set as int64 pairs (user id, item id), little-endian, in user order.

    The ids are the dataset's own, so that the hash does not depend on how they are numbered.
    """
    pairs = np.stack([split.user_ids, split.item_ids[split.test_items]], axis=1)
    return hashlib.sha256(pairs.astype("<i8").tobytes()).hexdigest()


def run(spec: SplitSpec, data: DataDir, *, least_items: int = 1) -> Path:
    """The folder of the cache that ``spec`` describes: built, or left as it is if it is whole.

    With fewer than ``least_items`` items there is nothing that training could find out, nor where
    no user's ranking has as many.

    Raises:
        ConfigError, MachineError: the dataset is unknown, absent, or the disk is full.
        DataIntegrityError: the ratings changed since the download, are damaged, or too few.
    """
    manifest = require_manifest(spec, data)
    options = spec.options
    folder = data.cache(cache_key(manifest, options))
    if folder.exists():
        try:
            record = open_cache(folder, verify=True).record
            log_line(f"preprocess: {folder} is complete and unchanged ({_summary(record)})")
            return folder
        except DataIntegrityError as error:
            log_line(f"preprocess: rebuilding the cache, because it is damaged: {error}")
    record = _build(spec, data, manifest, folder, least_items)
    log_line(f"preprocess: wrote {folder} ({_summary(record)})")
    return folder


def _build(
    spec: SplitSpec, data: DataDir, manifest: Manifest, folder: Path, least_items: int
) -> dict[str, Any]:
    path = data.raw(manifest.dataset) / manifest.ratings_file
    if not path.exists():
        raise DataIntegrityError(f"{path}: not found; run download again")
    on_disk = manifest.sharded or (
        manifest.ratings_bytes > LARGEST_IN_MEMORY and spec.tie_break == "stable"
    )
    if not on_disk:
        return _build_in_memory(spec, manifest, path, folder, least_items)
    record: dict[str, Any] = {}
    least: list[int | None] = [None]
    needed = _bytes_on_disk(manifest)
    log_line(f"preprocess: at most {scaled(needed, 'B')} on disk: the cache, and rows by user")
    with new_cache(
        folder, record, needed, finish=lambda part: _log_compliance(part, spec, least[0])
    ) as files:
        scratch = files.folder / "rows"
        if manifest.sharded:
            outcome = _of_pairs(path, manifest, files, scratch)
        else:
            outcome = _of_ratings(spec, path, manifest, files, scratch)
        shutil.rmtree(scratch)
        _require_task(path, outcome, least_items)
        if manifest.sharded:
            least[0] = int(np.diff(outcome.row_starts).min()) + 1
        record.update(_record(spec, manifest, outcome))
    return record


def _bytes_on_disk(manifest: Manifest) -> int:
    """Most bytes that a split on disk takes: ranges of rows are removed while the cache grows."""
    counts = manifest.counts
    # A line of a file of ratings has 20 bytes or more, a packed pair 2.5.
    of_file = manifest.ratings_bytes * 2 // 5 if manifest.sharded else manifest.ratings_bytes // 20
    rows = counts.ratings if counts else of_file
    size = (RATING if not manifest.sharded else PAIR).itemsize
    return rows * max(size, 8) + (rows >> 3) * size


def _build_in_memory(
    spec: SplitSpec, manifest: Manifest, path: Path, folder: Path, least_items: int
) -> dict[str, Any]:
    ratings = _load(path, manifest)
    with heartbeat("splitting the ratings"):
        result = split(ratings, min_ratings=spec.min_ratings, tie_break=spec.tie_break)
    outcome = Outcome(
        ratings_read=len(ratings),
        user_ids=result.user_ids,
        item_ids=result.item_ids,
        row_starts=result.row_starts,
        test_items=result.test_items,
        dropped_users=result.dropped_users,
        tied_users=result.tied_users,
    )
    del ratings
    _require_task(path, outcome, least_items)
    record = _record(spec, manifest, outcome)
    with heartbeat("writing the cache"):
        write_cache(folder, result.arrays(), record, finish=partial(_log_compliance, spec=spec))
    return record


def _of_pairs(path: Path, manifest: Manifest, files: CacheFiles, scratch: Path) -> Outcome:
    with heartbeat(f"comparing {path.name} with its manifest"):
        _require_sha256(path, sha256_of(path), manifest)
    pairs = manifest.counts.ratings + manifest.counts.users if manifest.counts else None
    expanded = manifest.expanded is not None
    outcome = outside.of_pairs(path, files, scratch, expected=pairs, expanded=expanded)
    if manifest.counts:
        users, items = len(outcome.user_ids), len(outcome.item_ids)
        found = Counts(users, items, int(outcome.row_starts[-1]))
        require_counts(path, found, manifest.counts)
    return outcome


def _of_ratings(
    spec: SplitSpec, path: Path, manifest: Manifest, files: CacheFiles, scratch: Path
) -> Outcome:
    layout, digest = dataset(manifest.dataset).layout, hashlib.sha256()

    def first_time() -> Iterator[tuple[IntArray, ...]]:
        with Progress(path.stat().st_size, label=f"read {path.name}") as progress:
            yield from rating_blocks(path, layout, digest.update, on_block=progress.advance)
        _require_sha256(path, digest.hexdigest(), manifest)

    passes = iter([first_time])

    def blocks() -> Iterator[tuple[IntArray, ...]]:
        yield from next(passes, partial(rating_blocks, path, layout))()

    def repeated(user: int, item: int, count: int) -> DataIntegrityError:
        return repeated_pair(path, outside.found_twice(blocks, user, item), user, item, count)

    outcome = outside.of_ratings(
        blocks,
        files,
        scratch,
        min_ratings=spec.min_ratings,
        none_left=partial(_none_left, spec.min_ratings),
        repeated=repeated,
    )
    if manifest.counts and not outcome.dropped_users:
        found = Counts(len(outcome.user_ids), len(outcome.item_ids), outcome.ratings_read)
        require_counts(path, found, manifest.counts)
    return outcome


def _require_sha256(path: Path, found: str, manifest: Manifest) -> None:
    if found != manifest.ratings_sha256:
        raise DataIntegrityError(
            f"{path}: sha256 is {found}, wanted {manifest.ratings_sha256} "
            "(manifest.json); the file changed after the download, run download again"
        )


def _require_task(path: Path, result: Outcome, least_items: int) -> None:
    """Raise a ``DataIntegrityError`` if nothing is left that training could learn."""
    users, items = len(result.user_ids), len(result.item_ids)
    if not users:
        raise DataIntegrityError(f"{path}: no pair in it, wanted one or more; use another archive")
    if not result.row_starts[-1]:
        raise DataIntegrityError(
            f"{path}: each of {users:,} users has 1 rating, which is held out: no pair is left to "
            "train on; use users with 2 ratings or more"
        )
    if items < least_items:
        raise DataIntegrityError(
            f"{path}: {items:,} items of {users:,} users, wanted {least_items} items or more: with "
            "fewer every item is among the first of the ranking without training; use more items"
        )
    # A ranking has the held-out item and those without a training pair of the user.
    most = items - int(np.diff(result.row_starts).min())
    if most < least_items:
        raise DataIntegrityError(
            f"{path}: none of {users:,} users has {least_items - 1:,} items that it did not rate, "
            f"the most are {most - 1:,} of {items:,}: every held-out item is among the first of "
            "the ranking without training; use more items"
        )


def _load(path: Path, manifest: Manifest) -> Ratings:
    """The ratings that the manifest promises, checked against it."""
    with Progress(path.stat().st_size, label=f"read {path.name}") as progress:
        ratings = read_ratings(path, dataset(manifest.dataset).layout, on_block=progress.advance)
    _require_sha256(path, ratings.sha256, manifest)
    with heartbeat("checking the ratings"):
        check_pairs(path, ratings)
        if manifest.counts:
            check_counts(path, ratings, manifest.counts)
    return ratings


def _record(spec: SplitSpec, manifest: Manifest, result: Outcome) -> dict[str, Any]:
    """The content of cache.json that is not about the arrays: no time, no path, no machine."""
    return {
        "dataset": manifest.dataset,
        "options": spec.options,
        "manifest": {
            "ratings_sha256": manifest.ratings_sha256,
            "archive_sha256": manifest.sha256,
            "published": manifest.published,
            "generated": manifest.generated,
            **({"own": True} if manifest.own else {}),
            **({"expanded": asdict(manifest.expanded)} if manifest.expanded else {}),
            **({"split": "given"} if manifest.sharded else {}),
        },
        "counts": {
            "ratings_read": result.ratings_read,
            "users": len(result.user_ids),
            "items": len(result.item_ids),
            "train": int(result.row_starts[-1]),
            "test": len(result.test_items),
            "dropped_users": result.dropped_users,
            "tied_users": result.tied_users,
        },
        "tied_users": result.tied_users,
        "test_set_sha256": held_out_sha256(result),
        "versions": {
            "trainbench": trainbench.__version__,
            "numpy": np.__version__,
            "pandas": pd.__version__,
            "python": platform.python_version(),
        },
    }


def _log_compliance(folder: Path, spec: SplitSpec, least: int | None = None) -> None:
    """Log the preprocessing; ``least`` ratings are the fewest of a user in a split that is given.

    There nobody was left out here, so the setting says nothing of these data.
    """
    with logging_to(folder / COMPLIANCE_LOG):
        emit(tags.PREPROC_HP_MIN_RATINGS, spec.min_ratings if least is None else least)
        emit(tags.PREPROC_HP_NUM_EVAL, spec.eval_negatives)
        emit(tags.PREPROC_HP_SAMPLE_EVAL_REPLACEMENT, True)


def _summary(record: dict[str, Any]) -> str:
    counts, least = record["counts"], record["options"]["min_ratings"]
    few = f"{counts['dropped_users']:,} users with fewer than {least} ratings are left out; "
    return (
        f"{few if counts['dropped_users'] else ''}{counts['users']:,} users, "
        f"{counts['items']:,} items, {counts['train']:,} training "
        f"pairs, {counts['tied_users']:,} users with a tied last rating, "
        f"test set {record['test_set_sha256'][:12]}"
    )
