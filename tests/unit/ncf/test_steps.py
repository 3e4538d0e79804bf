"""What a run of NCF looks at before it begins."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from trainbench.benchmark import Source
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.movielens import split
from trainbench.ncf import steps
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import NcfConfig
from trainbench.trials.paths import DataDir
from trainbench.trials.spec import SetSpec
from trainbench.trials.trial_set import trial_seed


def downloaded(data: DataDir, items: int, *, of_each: int = 1) -> NcfConfig:
    """A configuration whose ratings are those of three users of every ``of_each``-th item."""
    path = data.root / "own.zip"
    rows = "".join(
        f"{user},{item},4.0,{item}\n"
        for user in range(3)
        for item in range(user % of_each, items, of_each)
    )
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("mine/ratings.csv", f"userId,movieId,rating,timestamp\n{rows}")
    config = replace(NCF.preset("reference"), division="open", min_ratings=2)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    steps.download(config, data, Source(archive=path, sha256=sha256))
    return config


def test_a_task_of_ten_items_is_refused_before_a_cache_is_made(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    config = downloaded(data, 10)
    told = r"ratings\.csv: 10 items of 3 users, wanted 11 items or more"
    with pytest.raises(DataIntegrityError, match=told):
        steps.prepare(config, data)
    assert not data.caches.exists()


def test_a_cache_of_ten_items_that_is_there_is_refused_too(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    config = downloaded(data, 10)
    split.run(config.split_spec, data)
    with pytest.raises(ConfigError, match="10 items; among 10 candidates or fewer every item"):
        steps.inputs(config, data)


def test_a_task_in_which_no_user_has_ten_items_left_is_refused(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with pytest.raises(DataIntegrityError, match="none of 3 users has 10 items that it did not"):
        steps.prepare(downloaded(data, 11), data)
    assert not data.caches.exists()


def test_a_task_in_which_users_have_ten_items_left_may_be_tried(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    config = downloaded(data, 20, of_each=2)
    steps.prepare(config, data)
    assert steps.inputs(config, data).cache_record.exists()


def test_workers_of_one_number_in_one_folder_read_what_each_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of two trials of an array have it, each of which trains on several machines."""
    monkeypatch.setattr(steps, "inputs", lambda config, data: None)
    where = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    options = {"tf_config": json.dumps(where), "slurm": False}
    first = SetSpec(NCF, NCF.preset("quick"), DataDir(tmp_path), runs=1, seed=1, options=options)
    read: list[str] = []

    def follow(command: list[str], log_file: Path, **_: object) -> int:
        if not read:
            read.append("")
            steps.work(replace(first, seed=2))
        read.append(json.loads(Path(command[-1]).read_text())["arguments"]["seed"])
        return 0

    monkeypatch.setattr(steps.trial_set, "follow", follow)
    steps.work(first)
    assert read[1:] == [str(trial_seed(2, 0)), str(trial_seed(1, 0))]
    assert [path.name for path in (tmp_path / "workers").iterdir()] == ["worker_1.json"]
