"""Pairs that come in shards are trained on as any ratings are: an expansion, and a tar of npz."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import PATIENCE_S
from tiny_ncf import TINY_NCF

from trainbench.files import sha256_of
from trainbench.movielens.datasets import read_manifest
from trainbench.trials.paths import DataDir, TrialDir

SETTINGS = {**TINY_NCF, "max_epochs": "2", "target_hit_rate": "none"}
# A run that kept its page cache is not compliant.
CACHES_KEPT = 5


def trained(data: Path, *words: str) -> TrialDir:
    """The trial of a pipeline with ``words``, which has run to its end."""
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    command = [sys.executable, "-m", "trainbench", "pipeline", "--data-dir", str(data)]
    done = subprocess.run(
        [*command, "--preset=quick", "--seed=3", *settings, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == CACHES_KEPT, done.stderr
    run = DataDir(data).run("latest")
    assert (run.report / "report.html").stat().st_size > 0
    return run.trial(0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def require_learned(trial: TrialDir, pairs: int, users: int) -> None:
    """Both epochs have every pair with its negatives, every user is ranked, the loss falls."""
    epochs = lines(trial.epochs)
    assert [epoch["samples"] for epoch in epochs] == [5 * pairs] * 2
    assert [epoch["users"] for epoch in epochs] == [users] * 2
    assert epochs[1]["mean_loss"] < epochs[0]["mean_loss"] < 0.7
    status = json.loads(trial.status.read_text())
    assert (status["state"], status["num_users"]) == ("completed", users)


def marks(trial: TrialDir) -> set[str]:
    return {note["code"] for note in json.loads(trial.status.read_text())["degraded"]}


def test_an_expansion_is_made_split_and_trained_on_by_one_command(tmp_path: Path) -> None:
    trial = trained(tmp_path, "--expand", "2x3x1")
    manifest = read_manifest(DataDir(tmp_path).manifest("synthetic-by-2x3"))
    assert manifest is not None
    assert manifest.counts is not None
    require_learned(trial, manifest.counts.ratings, manifest.counts.users)
    assert "expanded_data" in marks(trial)


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, int, int]:
    """A tar of packed shards as MLPerf's is published; its training pairs and its users."""
    rng, parts, users, items = np.random.default_rng(2), 3, 40, 90
    path, pairs = tmp_path / "some.tar", 0
    with tarfile.open(path, "w") as tar:
        for part in range(parts):
            train, test = [], []
            for user in range(part * users, (part + 1) * users):
                # Users like a third of the items.
                liked = rng.permutation(np.arange(user % 3, items, 3))[: rng.integers(5, 25)]
                train += [(user, item) for item in np.sort(liked[1:])]
                test.append((user, liked[0]))
            pairs += len(train)
            for kind, found in (("train", train), ("test", test)):
                packed = BytesIO()
                np.savez_compressed(packed, np.array(found))
                member = tarfile.TarInfo(f"ml-20mx16x32/{kind}x{parts}x2_{part}.npz")
                member.size = len(packed.getvalue())
                tar.addfile(member, BytesIO(packed.getvalue()))
    return path, pairs, parts * users


def test_a_tar_of_shards_is_split_as_given_and_trained_on_by_one_command(
    tmp_path: Path, shards: tuple[Path, int, int]
) -> None:
    path, pairs, users = shards
    words = ["--dataset", "ml-20mx16x32", "--archive", str(path), "--sha256", sha256_of(path)]
    trial = trained(tmp_path / "data", *words)
    require_learned(trial, pairs, users)
    assert "not_published_archive" in marks(trial)
