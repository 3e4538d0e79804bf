"""Image classification's own data: drawn, downloaded, converted; its configuration."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import pickle
import random
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small_images

from trainbench import configuration
from trainbench.benchmark import Source
from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.files import read_record, write_record
from trainbench.image_classification import config as configs
from trainbench.image_classification import convert, dataset, generated, source, trial
from trainbench.image_classification.benchmark import RESNET
from trainbench.trials.paths import DataDir
from trainbench.trials.status import applying

SMALL = replace(configs.quick(), generated_train=40, generated_eval=20)


def test_drawn_images_are_the_same_for_a_seed_and_different_for_another() -> None:
    images, labels = generated.draw(200, seed=3)
    again, same = generated.draw(200, seed=3)
    other, _ = generated.draw(200, seed=4)
    assert images.dtype == np.uint8
    assert images.shape == (200, 32, 32, 3)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(images, other)
    # Two of a class differ as much as two of different classes.
    assert len({image.tobytes() for image in images}) == 200


def test_each_class_is_drawn_as_often_as_the_others() -> None:
    _, labels = generated.draw(1_000, seed=0)
    assert np.bincount(labels).tolist() == [100] * generated.CLASSES


def test_no_linear_model_learns_the_drawn_classes() -> None:
    """Ridge regression on the pixels stays far below the target: the set is not trivial."""
    train, labels = generated.draw(2_000, seed=0)
    held, wanted = generated.draw(500, seed=1)
    pixels = np.c_[train[:, ::2, ::2].reshape(2_000, -1) / 255.0, np.ones(2_000)]
    gram = pixels.T @ pixels + 10 * np.eye(pixels.shape[1])
    weights = np.linalg.solve(gram, pixels.T @ np.eye(10)[labels])
    scores = np.c_[held[:, ::2, ::2].reshape(500, -1) / 255.0, np.ones(500)] @ weights
    assert np.mean(scores.argmax(1) == wanted) < 0.4


def test_a_second_download_and_a_second_conversion_do_nothing(
    data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    source.download(SMALL, data)
    folder = convert.convert(SMALL, data)
    before = {p: p.stat().st_mtime_ns for p in data.root.rglob("*") if p.is_file()}
    source.download(SMALL, data)
    assert convert.convert(SMALL, data) == folder
    assert {p: p.stat().st_mtime_ns for p in data.root.rglob("*") if p.is_file()} == before
    assert capsys.readouterr().err.count("is complete and unchanged") == 2


def test_images_of_an_older_generator_are_drawn_anew(
    data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    source.download(SMALL, data)
    manifest = data.manifest(source.raw_name(SMALL))
    write_record(manifest, {**read_record(manifest), "generator_version": 0})
    capsys.readouterr()
    source.download(SMALL, data)
    assert "is ready (drawn here)" in capsys.readouterr().err


def test_a_record_that_was_changed_by_hand_is_refused(data: DataDir) -> None:
    source.download(SMALL, data)
    folder = convert.convert(SMALL, data)
    for path, reader in (
        (folder / "cache.json", lambda: convert.read_record(folder)),
        (data.manifest(source.raw_name(SMALL)), lambda: source.download(SMALL, data)),
    ):
        whole = path.read_text()
        path.write_text(json.dumps({**json.loads(whole), "dataset": "imagenet"}))
        with pytest.raises(DataIntegrityError, match="changed: its fields have the sum"):
            reader()
        path.write_text(whole)


def test_a_cache_whose_bytes_changed_is_built_anew(data: DataDir) -> None:
    source.download(SMALL, data)
    labels = convert.convert(SMALL, data) / "train_labels.npy"
    good = labels.read_bytes()
    labels.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(MachineError, match="run the convert step"):
        convert.find(SMALL, data)
    convert.convert(SMALL, data)
    assert labels.read_bytes() == good


def test_other_images_have_another_cache(data: DataDir) -> None:
    larger = replace(SMALL, generated_train=50)
    for config in (SMALL, larger):
        source.download(config, data)
    assert convert.convert(SMALL, data) != convert.convert(larger, data)


def test_conversion_without_images_names_the_step_before(data: DataDir) -> None:
    with pytest.raises(MachineError, match="run the download step"):
        convert.convert(SMALL, data)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with an archive like CIFAR-10's, of twelve images."""
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (2, 3 * 32 * 32), dtype=np.uint8)
        (batches / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": [3, 7]}))
    folder = tmp_path / "mirror"
    folder.mkdir()
    with tarfile.open(folder / source.ARCHIVE, "w:gz") as archive:
        archive.add(batches, batches.name)
    return folder


@pytest.fixture
def served(mirror: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(mirror))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def stated(mirror: Path) -> str:
    return hashlib.sha256((mirror / source.ARCHIVE).read_bytes()).hexdigest()


def test_cifar_10_of_a_mirror_is_taken_with_a_stated_checksum_and_converted(
    data: DataDir, mirror: Path, served: str
) -> None:
    config = configs.cifar10()
    manifest = source.download(config, data, Source(mirror=served, sha256=stated(mirror)))
    assert manifest["published"] is False
    folder = convert.convert(config, data)
    assert convert.read_record(folder)["counts"] == {"train": 10, "validation": 2}
    assert np.load(folder / "train_images.npy").shape == (10, 32, 32, 3)
    assert np.load(folder / "validation_labels.npy").tolist() == [3, 7]


def test_an_archive_that_is_not_the_published_one_is_refused_and_removed(
    data: DataDir, mirror: Path
) -> None:
    with pytest.raises(DataIntegrityError, match="wanted 6d958be0"):
        source.download(configs.cifar10(), data, Source(mirror=str(mirror)))
    assert list(data.raw("cifar10").iterdir()) == []


def test_damaged_images_end_in_one_clear_line_and_leave_nothing(
    data: DataDir, mirror: Path
) -> None:
    chance, path = random.Random(7), mirror / source.ARCHIVE
    whole = path.read_bytes()
    empty = gzip.compress(b"")
    bomb = gzip.compress(a_tar({"data_batch_1": b"\0" * (65 << 20)}))
    other = gzip.compress(a_tar({"data_batch_1": b"cos\nsystem\n(S'false'\ntR."}))
    zeroes = whole[:1_000] + bytes(20_000) + whole[21_000:]
    noise = whole[:1_000] + chance.randbytes(len(whole) - 1_000)
    for raw in (b"", b"<html>", whole[: len(whole) // 2], empty, bomb, other, zeroes, noise):
        path.write_bytes(raw)
        source.download(configs.cifar10(), data, Source(mirror=str(mirror), sha256=stated(mirror)))
        with pytest.raises(DataIntegrityError, match=r"cifar-10-python\.tar\.gz: ") as caught:
            convert.convert(configs.cifar10(), data)
        assert "\n" not in str(caught.value)
        assert list(data.caches.iterdir()) == []


def test_images_that_changed_after_their_download_are_not_converted(data: DataDir) -> None:
    source.download(SMALL, data)
    path = data.raw(source.raw_name(SMALL)) / "train.npz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    for damaged in (b"", raw, b"\x80\x05garbage"):
        path.write_bytes(damaged)
        with pytest.raises(DataIntegrityError, match=r"train\.npz: not as it was downloaded"):
            convert.convert(SMALL, data)


def a_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_imagenet_is_never_fetched(data: DataDir, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--mirror DIR"):
        source.download(configs.imagenet(), data)
    with pytest.raises(DataIntegrityError, match="validation"):
        source.download(configs.imagenet(), data, Source(mirror=str(tmp_path)))


def test_the_images_of_tfrecord_files_are_counted_and_watched(
    data: DataDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_images.generate(tmp_path / "images", train=8, validation=4, shards=(2, 1))
    config = configs.imagenet()
    source.download(config, data, Source(mirror=str(tmp_path / "images")))
    folder = convert.convert(config, data)
    assert "8 train, 4 validation" in capsys.readouterr().err
    counts = {"train": 8, "validation": 4}
    assert json.loads((folder / "cache.json").read_text())["counts"] == counts
    images = dataset.opened(convert.find(config, data), 224)
    assert {subset: images.num_examples_per_epoch(subset) for subset in counts} == counts
    assert images.partial() == "8 of 1,281,167 training images, 4 of 50,000 validation images"
    small_images.generate(tmp_path / "images", train=9, validation=4, shards=(2, 1))
    with pytest.raises(MachineError, match="other files than when they were counted"):
        convert.find(config, data)


def test_a_file_that_ends_within_a_record_is_named(data: DataDir, tmp_path: Path) -> None:
    *_, last = small_images.generate(tmp_path, train=2, validation=2, shards=(1, 1))
    last.write_bytes(last.read_bytes()[:-3])
    source.download(configs.imagenet(), data, Source(mirror=str(tmp_path)))
    with pytest.raises(DataIntegrityError, match="validation-00000-of-00001: record 1 at byte"):
        convert.convert(configs.imagenet(), data)


def test_the_cache_itself_says_how_many_images_there_are(data: DataDir) -> None:
    source.download(SMALL, data)
    folder = convert.convert(SMALL, data)
    record = read_record(folder / "cache.json")
    record["counts"] = {"train": 1_281_167, "validation": 50_000}
    write_record(folder / "cache.json", record)
    images = dataset.opened(folder, 32)
    assert images.num_examples_per_epoch("train") == 40
    assert images.num_examples_per_epoch("validation") == 20
    assert images.partial() is None


def test_a_target_that_one_answer_for_all_images_reaches_is_refused(data: DataDir) -> None:
    source.download(SMALL, data)
    folder = convert.convert(SMALL, data)
    # Two of twenty images of each of the ten classes.
    with pytest.raises(ConfigError, match=r"gets 0\.1000; wanted a target above it"):
        trial.check_target(folder, replace(SMALL, target_top_1=0.1))
    trial.check_target(folder, replace(SMALL, target_top_1=0.11))


def test_a_part_of_a_published_set_degrades_the_result() -> None:
    text = "8 of 1,281,167 training images"
    notes = trial.degradations(configs.imagenet(), {"device": "/gpu:0"}, text)
    assert ("partial_data", text) in applying(notes)
    whole = trial.degradations(configs.imagenet(), {"device": "/gpu:0"}, None)
    assert "partial_data" not in dict(applying(whole))


def test_a_configuration_survives_its_file() -> None:
    for name in configs.PRESETS:
        config = RESNET.preset(name)
        assert configs.from_json(configuration.to_json(config)) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("target_topp_1=0.5", "did you mean 'target_top_1'"),
        ("batch_size=many", "wanted a value of type int"),
        ("batch_size", "wanted key=value"),
        ("max_epochs=0", "wanted a number above 0"),
        ("precision=fp8", "fp32"),
        ("target_top_1=2", "wanted a share"),
        ("learning_rate=nan", "wanted a finite number"),
        ("learning_rate=-1", "wanted a number above 0"),
        ("momentum=1", "from 0 to below 1"),
        ("weight_decay=-0.1", "wanted 0 or more"),
        ("warmup_epochs=inf", "wanted a finite number"),
    ],
)
def test_a_wrong_setting_says_what_was_wanted(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.with_settings(configs.quick(), [setting])


def test_a_damaged_manifest_is_named(data: DataDir) -> None:
    source.download(SMALL, data)
    data.manifest(source.raw_name(SMALL)).write_text(json.dumps([1]))
    with pytest.raises(DataIntegrityError, match="not a manifest"):
        source.download(SMALL, data)
