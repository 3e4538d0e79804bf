"""What a run of NCF looks at before it begins."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from trainbench.benchmark import Source
from trainbench.errors import ConfigError
from trainbench.ncf import steps
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import NcfConfig
from trainbench.trials.paths import DataDir


def prepared(data: DataDir, items: int) -> NcfConfig:
    """A configuration whose ratings are those of three users of all ``items``."""
    path = data.root / "own.zip"
    rows = "".join(f"{user},{item},4.0,{item}\n" for user in range(3) for item in range(items))
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("mine/ratings.csv", f"userId,movieId,rating,timestamp\n{rows}")
    config = replace(NCF.preset("reference"), division="open", min_ratings=2)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    steps.download(config, data, Source(archive=path, sha256=sha256))
    steps.prepare(config, data)
    return config


def test_a_task_of_ten_items_is_refused(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    with pytest.raises(ConfigError, match="10 items; among 10 candidates or fewer every item"):
        steps.inputs(prepared(data, 10), data)


def test_a_task_of_eleven_items_may_be_tried(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert steps.inputs(prepared(data, 11), data).cache_record.exists()
