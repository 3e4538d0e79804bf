"""What the user says of a run: a note and tags, given when it starts or at any time later.

What ``train`` was told stands in run.json, which the sums of the run cover. What is said later
stands in notes.json beside it, which they do not cover, as it may change at any time: so it breaks
no sum, and the report says which of the two it shows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from trainbench.errors import ConfigError
from trainbench.files import is_own_file, object_or_empty, require_own_folder, write_json
from trainbench.trials.paths import RunDir

MOST_CHARACTERS = 2_000
KEPT = "keep"
"""The tag of runs that prune leaves alone."""
EXPECTED = "expected"
"""The tag of the first run of a new level that is meant to be: history raises no alarm there."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Notes:
    """A note and tags.

    Attributes:
        later: whether they were changed after the run had started, so that no sum covers them.
    """

    note: str = ""
    tags: tuple[str, ...] = ()
    later: bool = False


NONE = Notes()


def checked(note: str | None, tags: Iterable[str]) -> Notes:
    """What the user gave; a ``ConfigError`` says what cannot be kept."""
    note = (note or "").strip()
    if len(note) > MOST_CHARACTERS:
        raise ConfigError(
            f"--note: {len(note):,} characters; wanted at most {MOST_CHARACTERS:,}, put longer "
            "text into a file of its own"
        )
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise ConfigError(
                f"--tag {tag!r}: wanted letters, digits, dots, dashes and underscores, at most 40, "
                "a letter or digit first"
            )
    return Notes(note, found)


def notes_of(run: RunDir) -> Notes:
    """What is said of ``run``: the newest note and tags; never an error."""
    if is_own_file(run.notes, run.root):
        record = object_or_empty(run.notes)
        if record:
            return _read(record, later=True)
    return _read(object_or_empty(run.run_file), later=False)


def change(
    run: RunDir, *, note: str | None = None, add: Iterable[str] = (), remove: Iterable[str] = ()
) -> Notes:
    """Keep another note, further tags or fewer with ``run``; run.json stays as it is.

    Raises:
        ConfigError: a tag or a note that cannot be kept.
        DataIntegrityError: notes.json is a link.
    """
    before, away = notes_of(run), set(remove)
    tags = [tag for tag in (*before.tags, *checked(None, add).tags) if tag not in away]
    after = checked(before.note if note is None else note, tags)
    require_own_folder(run.notes, run.root)
    record = {"note": after.note, "tags": list(after.tags), "changed_unix_s": int(time.time())}
    write_json(run.notes, record, sort_keys=False)
    return Notes(after.note, after.tags, later=True)


def _read(record: dict[str, object], *, later: bool) -> Notes:
    note, tags = record.get("note"), record.get("tags")
    known = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return Notes(note if isinstance(note, str) else "", tuple(known), later)
