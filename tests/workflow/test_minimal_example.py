"""The plain example beside the product: for one seed the same draws, losses and ranks."""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from checkout import CHECKOUT
from small_cache import on_disk, random_cache

from trainbench.movielens import split, synthetic
from trainbench.movielens.cache import RatingsCache, open_cache
from trainbench.movielens.datasets import SyntheticSize
from trainbench.ncf.config import NcfConfig, quick, reference
from trainbench.ncf.evaluation.evaluator import Evaluator
from trainbench.ncf.input.producer import Producer, start_producer
from trainbench.ncf.tables import RowTables, SweptTables
from trainbench.ncf.train import Trainer, build
from trainbench.trials.paths import DataDir

EXAMPLE = CHECKOUT / "examples" / "ncf_minimal.py"
SEED = 7


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    """The example as a module; it is no package."""
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[EXAMPLE.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generated(size: SyntheticSize, folder: Path) -> RatingsCache:
    """The cache that ``download`` and ``preprocess`` make of generated ratings."""
    config, data = replace(quick(), synthetic=size), DataDir(folder)
    synthetic.generate(size, data)
    return open_cache(split.run(config.split_spec, data), verify=True)


def started(cache: RatingsCache, config: NcfConfig, folder: Path) -> Producer:
    """A producer of its own process that has begun."""
    producer = start_producer(
        cache,
        config,
        seed=SEED,
        work_dir=folder / "work",
        log_file=folder / "generator.log",
        compliance_file=folder / "compliance_generator.log",
    )
    producer.release()
    return producer


def settings(plain: ModuleType, config: NcfConfig) -> Any:
    """``config`` in the words of the example; no evaluation reaches its target."""
    same = {field.name for field in fields(plain.Settings)} - {"target", "epochs"}
    values = {name: getattr(config, name) for name in same}
    return plain.Settings(**values, target=2.0, epochs=config.max_epochs)


def projections(trainer: Trainer) -> list[bool | None]:
    """Of users and items: whether whole tables are multiplied; none where rows are caught up."""
    found: list[bool | None] = []
    for tables in trainer.step.tables:  # type: ignore[union-attr]
        assert isinstance(tables, RowTables | SweptTables)
        found.append(None if isinstance(tables, RowTables) else tables.project)
    return found


def test_the_example_is_short_and_stands_alone() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 350
    nodes = list(ast.walk(ast.parse(text)))
    modules = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not [module for module in modules if module.startswith("trainbench")]


def test_its_defaults_are_the_references(plain: ModuleType) -> None:
    expected, found = reference(), plain.Settings()
    names = {"target": "target_hit_rate", "epochs": "max_epochs"}
    for field in fields(found):
        name = names.get(field.name, field.name)
        assert getattr(found, field.name) == getattr(expected, name), field.name


def test_it_draws_the_products_candidates_and_samples(plain: ModuleType, tmp_path: Path) -> None:
    several_parts = generated(SyntheticSize(1_200, 400, 30_000), tmp_path / "data")
    rated_nearly_all = on_disk(random_cache(60, 20, seed=4), tmp_path / "cache" / "small")
    for cache in (several_parts, rated_nearly_all):
        config = replace(reference(), max_epochs=2, generator_workers=2, eval_negatives=99)
        ratings, given = plain.load_split(cache.folder), settings(plain, config)
        with started(cache, config, tmp_path) as producer:
            candidates = plain.draw_candidates(ratings, given, SEED)
            np.testing.assert_array_equal(candidates, producer.eval_candidates().items)
            for epoch in range(2):
                batches = plain.draw_epoch(ratings, given, SEED, epoch)
                assert plain.epoch_sha256(batches) == producer.next_piece().record.epoch_sha256
    assert len(plain.load_split(several_parts.folder).chunks(1 << 22)) > 1


@pytest.mark.parametrize(
    ("batch_size", "forms"), [(64, [None, False]), (512, [True, True])], ids=["rows", "projected"]
)
def test_its_losses_and_ranks_are_the_products(
    plain: ModuleType, tmp_path: Path, batch_size: int, forms: list[bool | None]
) -> None:
    # Small on purpose: with enough samples, one input of a rectifier is so near to 0 that rounding
    # decides its sign, and from there on even the product's own forms part (docs/performance.md).
    cache = on_disk(random_cache(270, 200, seed=4, most=4), tmp_path / "cache" / "small")
    config = replace(reference(), batch_size=batch_size, max_epochs=2, devices="cpu", xla=False)
    expected = []
    with started(cache, config, tmp_path) as producer:
        trainer = build(config, cache.num_users, cache.num_items, seed=SEED)
        assert projections(trainer) == forms
        evaluator = Evaluator(trainer, producer.eval_candidates())
        for _ in range(2):
            batches = producer.next_piece()
            trained, quality = trainer.train_epoch(batches), evaluator.evaluate()
            expected.append(
                (batches.record.epoch_sha256, trained.mean_loss, quality.hits, quality.ndcg)
            )
    found = list(plain.train(plain.load_split(cache.folder), settings(plain, config), SEED))
    samples, losses, hits, gains = zip(*found, strict=True)
    expected_samples, expected_losses, expected_hits, expected_gains = zip(*expected, strict=True)
    assert samples == expected_samples
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert hits == expected_hits
    assert gains == pytest.approx(expected_gains, rel=1e-9)


def test_its_command_says_one_line_per_epoch(
    plain: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_disk(random_cache(40, 30, seed=4, most=4), tmp_path / "cache" / "small")
    words = ["--data-dir", str(tmp_path), "--seed", "7", "--epochs", "2", "--batch-size", "128"]
    monkeypatch.setattr(sys, "argv", ["ncf_minimal.py", *words])
    plain.main()
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first.endswith("training pairs, seed 7")
    assert [line.split()[:3] for line in epochs] == [["epoch", f"{n}/2", "hr@10"] for n in (1, 2)]


def test_help_shows_an_example(
    plain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ncf_minimal.py", "--help"])
    with pytest.raises(SystemExit):
        plain.main()
    assert "python examples/ncf_minimal.py --data-dir data" in capsys.readouterr().out
