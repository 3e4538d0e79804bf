"""The cache: published whole, bound to its inputs, damage found."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.movielens import cache, split, synthetic
from trainbench.movielens.datasets import SyntheticSize, read_manifest
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import NcfConfig
from trainbench.trials.paths import DataDir

SIZE = SyntheticSize(users=50, items=80, ratings=1_200)


@pytest.fixture(scope="module")
def config() -> NcfConfig:
    return replace(NCF.preset("quick"), synthetic=SIZE)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    folder = DataDir(tmp_path)
    synthetic.generate(SIZE, folder)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file but the compliance log, whose lines carry the time, and its sum."""
    files = (p for p in folder.iterdir() if not p.name.startswith(cache.COMPLIANCE_LOG))
    return {p.name: p.read_bytes() for p in files}


def test_a_cache_has_the_split_as_read_only_maps(config: NcfConfig, data: DataDir) -> None:
    folder = split.run(config.split_spec, data)
    opened = cache.open_cache(folder, verify=True)
    path = data.raw("synthetic") / "ratings.csv"
    ratings = split.read_ratings(path, split.dataset("synthetic").layout)
    wanted = split.split(ratings, min_ratings=20, tie_break="stable")
    for name, array in wanted.arrays().items():
        assert np.array_equal(getattr(opened, name), array)
        assert not getattr(opened, name).flags.writeable
    assert (opened.num_users, opened.num_items, opened.num_train) == (50, 80, 1_150)
    assert opened.record["test_set_sha256"] == split.held_out_sha256(wanted)
    assert opened.record["counts"]["ratings_read"] == 1_200
    assert {opened.users.dtype, opened.items.dtype, opened.test_items.dtype} == {np.dtype("i4")}


def test_equal_inputs_give_equal_bytes(config: NcfConfig, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        data = DataDir(tmp_path / name)
        synthetic.generate(SIZE, data)
        found.append(bytes_of(split.run(config.split_spec, data)))
    assert found[0] == found[1]
    assert "cache.json" in found[0]


def test_a_whole_cache_is_left_alone(config: NcfConfig, data: DataDir) -> None:
    folder = split.run(config.split_spec, data)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert split.run(config.split_spec, data) == folder == cache.find_cache(config.split_spec, data)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    "change", [{"min_ratings": 21}, {"tie_break": "reference"}, {"eval_negatives": 100}]
)
def test_other_options_are_another_cache(
    change: dict[str, object], config: NcfConfig, data: DataDir
) -> None:
    folder = split.run(config.split_spec, data)
    other = replace(config, **change)
    with pytest.raises(MachineError, match="run preprocess with the same --preset"):
        cache.find_cache(other.split_spec, data)
    assert split.run(other.split_spec, data) != folder


def test_other_ratings_or_another_format_are_another_cache(
    config: NcfConfig, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(data.manifest("synthetic"))
    assert manifest is not None
    options = config.split_spec.options
    key = cache.cache_key(manifest, options)
    assert cache.cache_key(replace(manifest, ratings_sha256="0" * 64), options) != key
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert cache.cache_key(manifest, options) != key


def test_training_options_do_not_change_the_cache(config: NcfConfig, data: DataDir) -> None:
    folder = split.run(config.split_spec, data)
    other = replace(config, batch_size=7, learning_rate=1.0, max_epochs=1)
    assert cache.find_cache(other.split_spec, data) == folder


def test_another_size_of_generated_ratings_is_asked_for(config: NcfConfig, data: DataDir) -> None:
    other = replace(config, synthetic=dataclasses.replace(SIZE, seed=1))
    with pytest.raises(MachineError, match="run download with the same --preset"):
        split.run(other.split_spec, data)
    with pytest.raises(MachineError, match=r"manifest\.json: not found; run download"):
        split.run(NCF.preset("ml-1m").split_spec, data)
    with pytest.raises(ConfigError, match="unknown dataset 'ml-2m'; did you mean"):
        split.run(replace(config, dataset="ml-2m").split_spec, data)


def flip(path: Path, at: int = -1) -> None:
    text = bytearray(path.read_bytes())
    text[at] ^= 1
    path.write_bytes(text)


def edit(folder: Path, **values: object) -> None:
    record = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps({**record, **values}))


DAMAGE = {
    "a flipped bit": lambda folder: flip(folder / "items.npy"),
    "a truncated array": lambda folder: (folder / "users.npy").write_bytes(b"\x93NUMPY"),
    "a missing array": lambda folder: (folder / "row_starts.npy").unlink(),
    "an empty record": lambda folder: (folder / "cache.json").write_text(""),
    "another test set in the record": lambda folder: edit(folder, test_set_sha256="0" * 64),
    "another count in the record": lambda folder: edit(folder, tied_users=0),
    "an array of objects": lambda folder: np.save(
        folder / "items.npy", np.array([{}], dtype=object), allow_pickle=True
    ),
    "a changed compliance log": lambda folder: flip(folder / cache.COMPLIANCE_LOG),
    "no compliance log": lambda folder: (folder / cache.COMPLIANCE_LOG).unlink(),
    "a changed sum of the log": lambda folder: flip(folder / cache.LOG_SUM, 0),
    "an array of another shape": lambda folder: np.save(folder / "items.npy", np.zeros(3, "<i4")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found_by_readers_and_mended_by_preprocess(
    case: str, config: NcfConfig, data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = split.run(config.split_spec, data)
    whole = bytes_of(folder)
    DAMAGE[case](folder)
    with pytest.raises(DataIntegrityError, match="run preprocess again"):
        cache.open_cache(folder, verify=True)
    assert split.run(config.split_spec, data) == folder
    assert "because it is damaged" in capsys.readouterr().err
    assert bytes_of(folder) == whole
    assert [p.name for p in data.caches.iterdir()] == [folder.name]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_fault_of_the_system_is_no_damage_of_the_cache(
    number: int, config: NcfConfig, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = split.run(config.split_spec, data)

    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "load", failing)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        split.run(config.split_spec, data)
    assert str(folder) in str(caught.value)


def test_a_record_of_an_older_format_is_refused(config: NcfConfig, data: DataDir) -> None:
    folder = split.run(config.split_spec, data)
    edit(folder, schema=0, record_sha256=None)
    with pytest.raises(DataIntegrityError, match="found cache format 0"):
        cache.open_cache(folder, verify=False)


@pytest.mark.parametrize(
    "values", [{"generated": False}, {"published": True}, {"ratings_sha256": "0" * 64}]
)
def test_a_manifest_that_was_changed_is_refused(
    config: NcfConfig, data: DataDir, values: dict[str, object]
) -> None:
    path = data.manifest("synthetic")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(DataIntegrityError, match=r"manifest\.json: not a manifest \(changed: "):
        split.run(config.split_spec, data)


def test_records_of_earlier_versions_have_no_sum_and_are_read(
    config: NcfConfig, data: DataDir
) -> None:
    folder = split.run(config.split_spec, data)
    for path in (data.manifest("synthetic"), folder / "cache.json"):
        record = json.loads(path.read_text())
        del record["record_sha256"]
        path.write_text(json.dumps(record))
    assert split.run(config.split_spec, data) == folder


def test_ratings_that_changed_after_the_download_are_refused(
    config: NcfConfig, data: DataDir
) -> None:
    path = data.raw("synthetic") / "ratings.csv"
    path.write_text(path.read_text().replace(",3.0,", ",3.5,", 1))
    with pytest.raises(DataIntegrityError, match="the file changed after the download"):
        split.run(config.split_spec, data)
    assert not data.caches.exists()


def test_remains_of_a_killed_run_are_removed(config: NcfConfig, data: DataDir) -> None:
    left = data.caches / ".unfinished-old"
    left.mkdir(parents=True)
    (left / "users.npy").write_bytes(b"half")
    folder = split.run(config.split_spec, data)
    assert [p.name for p in data.caches.iterdir()] == [folder.name]


def test_a_failure_while_writing_leaves_nothing_behind(config: NcfConfig, data: DataDir) -> None:
    folder = split.run(config.split_spec, data)
    whole = bytes_of(folder)
    opened = cache.open_cache(folder, verify=False)
    arrays = {name: getattr(opened, name) for name in cache.ARRAYS}

    def fail(part: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(MachineError, match=r"No space left.*[\d,]+ bytes needed"):
        cache.write_cache(folder, arrays, {}, finish=fail)
    assert bytes_of(folder) == whole
    assert [p.name for p in data.caches.iterdir()] == [folder.name]


def test_the_compliance_lines_of_the_step_are_in_the_cache(
    config: NcfConfig, data: DataDir
) -> None:
    lines = (split.run(config.split_spec, data) / cache.COMPLIANCE_LOG).read_text().splitlines()
    assert [line.split(") ", 1)[1] for line in lines] == [
        "preproc_hp_min_ratings: 20",
        "preproc_hp_num_eval: 999",
        "preproc_hp_sample_eval_replacement: true",
    ]
