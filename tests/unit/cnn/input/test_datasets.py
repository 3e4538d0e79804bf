"""Data sets: synthetic, TFRecords, CIFAR-10's pickles, and what is wrong with files."""

from __future__ import annotations

import itertools
import pickle
import re

import numpy as np
import pytest
import small_images
import tensorflow as tf

from trainbench import cnn
from trainbench.cnn.flags.params import make_params
from trainbench.cnn.input import cifar10, datasets, tfrecords
from trainbench.errors import ConfigError, DataIntegrityError


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A folder with eight training and two validation files of small images."""
    folder = tmp_path_factory.mktemp("imagenet")
    small_images.generate(folder, train=32, validation=8, mixed=True)
    return folder


@pytest.fixture
def pickles(tmp_path):
    """CIFAR-10's files, five images each."""
    folder = tmp_path / "cifar10"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate((*cifar10.FILES["train"], *cifar10.FILES["validation"])):
        batch = {
            b"data": rng.integers(0, 256, (5, 3072), np.uint8),
            b"labels": [number] * 5,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def first(params, subset="train", batch_size=4, count=1):
    """The first batches of the data set that ``params`` name."""
    source = datasets.create(params).batches(subset, params, batch_size=batch_size)
    return list(itertools.islice(source, count))


# Names


def test_without_a_folder_images_are_synthetic_imagenet():
    dataset = datasets.create(make_params(model="lenet"))
    assert (dataset.name, dataset.is_synthetic, dataset.num_classes) == ("imagenet", True, 1001)
    assert dataset.num_examples_per_epoch("train") == 1_281_167
    assert dataset.num_examples_per_epoch("validation") == 50_000


def test_cifar10_has_eleven_classes_and_fifty_thousand_images():
    dataset = datasets.create(make_params(data_name="cifar10"))
    assert (dataset.name, dataset.num_classes, dataset.image_size) == ("cifar10", 11, 32)
    assert dataset.num_examples_per_epoch() == 50_000
    assert dataset.num_examples_per_epoch("validation") == 10_000


def test_the_images_that_are_there_are_counted(records, pickles):
    params = make_params(data_dir=str(records), data_name="imagenet", model="lenet")
    dataset = datasets.create(params)
    assert dataset.num_examples_per_epoch("validation") == 8
    assert dataset.partial() == "8 of 50,000 validation images"
    assert dataset.num_examples_per_epoch("train") == 32
    dataset = datasets.create(make_params(data_dir=str(pickles)))
    counts = [dataset.num_examples_per_epoch(subset) for subset in ("train", "validation")]
    assert counts == [25, 5]
    assert dataset.partial() == "25 of 50,000 training images, 5 of 10,000 validation images"


def test_the_whole_published_set_is_known_by_names_and_size_and_not_counted(tmp_path):
    for part in range(128):
        with (tmp_path / f"validation-{part:05d}-of-00128").open("wb") as stream:
            # Sparse: as large as a published file, with nothing in it that could be counted.
            stream.truncate(50_000_000)
    assert datasets.create(imagenet(tmp_path)).num_examples_per_epoch("validation") == 50_000


def test_files_named_as_the_whole_set_are_counted_where_they_are_small(tmp_path):
    small_images.generate(tmp_path, train=1, validation=130, shards=(1, 128))
    assert datasets.create(imagenet(tmp_path)).num_examples_per_epoch("validation") == 130


def test_the_name_is_guessed_from_the_folder(pickles):
    assert datasets.create(make_params(data_dir=str(pickles))).name == "cifar10"


def test_a_folder_that_says_nothing_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match=r"Could not identify name of dataset\. Please specify"):
        datasets.create(make_params(data_dir="/nonexistent/pictures"))
    with pytest.raises(ValueError, match=r"Unknown dataset\. Must be one of cifar10, coco, imag"):
        datasets.create(make_params(data_name="mnist"))


@pytest.mark.parametrize("name", ["coco", "librispeech"])
def test_data_of_other_tasks_is_refused(name):
    with pytest.raises(ConfigError, match=f"--data_name={name}: .* not part of this benchmark"):
        datasets.create(make_params(data_name=name))


def test_a_missing_folder_is_named(tmp_path):
    folder = tmp_path / "imagenet"
    with pytest.raises(DataIntegrityError, match=f"--data_dir {folder}: no such folder"):
        datasets.create(make_params(data_dir=str(folder))).num_examples_per_epoch()


def test_an_unknown_subset_is_refused():
    with pytest.raises(ValueError, match='Invalid data subset "test"'):
        datasets.create(make_params()).num_examples_per_epoch("test")


# Synthetic images


def test_synthetic_images_stay_and_labels_are_drawn_again():
    (images, labels), (later, other) = first(make_params(model="lenet"), batch_size=64, count=2)
    assert later is images
    assert images.shape == (64, 28, 28, 3)
    assert labels.dtype == tf.int32
    assert not np.array_equal(labels, other)


def test_synthetic_images_are_normal_around_127_and_not_normalized():
    [(images, _)] = first(make_params(model="lenet"), batch_size=64)
    assert np.abs(images - 127.0).max() <= 120
    assert np.mean(images) == pytest.approx(127, abs=1)
    # A normal of deviation 60 cut at two deviations has 0.8796 of it.
    assert np.std(images) == pytest.approx(60 * 0.8796, rel=0.02)


def test_the_last_class_is_never_drawn():
    params = make_params(data_name="cifar10", model="trivial")
    labels = np.concatenate([pair[1] for pair in first(params, batch_size=100, count=100)])
    assert set(labels.tolist()) == set(range(10))


def test_synthetic_images_follow_the_seed_and_the_precision():
    a, b, c = (first(make_params(model="lenet", tf_random_seed=seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])
    half = first(make_params(model="lenet", use_fp16=True))[0][0]
    assert half.dtype == tf.float16


# TFRecords


def imagenet(folder, **changes):
    return make_params(model="lenet", data_name="imagenet", data_dir=str(folder), **changes)


def test_generated_training_images_are_black_and_validation_images_white(tmp_path):
    small_images.generate(tmp_path, train=8, validation=4, shards=(2, 1))
    params = imagenet(tmp_path, distortions=False)
    [(images, labels)] = first(params)
    np.testing.assert_allclose(images, -1, atol=0.02)
    assert set(labels.numpy()) == {small_images.BLACK}
    [(images, labels)] = first(params, "validation")
    np.testing.assert_allclose(images, 1, atol=0.02)
    assert set(labels.numpy()) == {small_images.WHITE}


def test_generated_files_are_named_and_sized_as_imagenets(records):
    names = sorted(path.name for path in records.iterdir())
    assert names[0] == "train-00000-of-00008"
    assert names[-1] == "validation-00001-of-00002"
    assert len(names) == 10
    encoded, label, boxes = tfrecords.parse(
        next(iter(tf.data.TFRecordDataset(str(records / names[0]))))
    )
    height, width, channels = tf.io.extract_jpeg_shape(encoded).numpy()
    assert min(height, width) >= 30
    assert (max(height, width) < 300, channels) == (True, 3)
    assert label in (small_images.BLACK, small_images.WHITE)
    np.testing.assert_allclose(boxes, [[[0.1, 0.1, 0.9, 0.9]]], rtol=1e-6)


def test_the_same_seed_generates_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        small_images.generate(tmp_path / name, train=4, validation=2, shards=(2, 1))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_label_and_colour_stay_together(records):
    for images, labels in first(imagenet(records), batch_size=8, count=8):
        bright = tf.reduce_mean(images, (1, 2, 3)) > 0
        np.testing.assert_array_equal(bright, labels == small_images.WHITE)


def test_same_seed_same_batches_whatever_the_threads(records):
    runs = [
        first(imagenet(records, datasets_num_private_threads=threads), batch_size=8, count=3)
        for threads in (1, 4)
    ]
    for (images, labels), (again, as_well) in zip(*runs, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, as_well)


def test_validation_is_read_in_order_once_an_epoch(records):
    batches = first(imagenet(records), "validation", batch_size=4, count=4)
    labels = [pair[1].numpy().tolist() for pair in batches]
    assert labels[:2] == labels[2:]


def test_mlperf_subtracts_the_mean_pixel(tmp_path):
    small_images.generate(tmp_path, train=2, validation=2, shards=(1, 1))
    params = imagenet(tmp_path, ml_perf=True)
    [(images, _)] = first(params, "validation", batch_size=2)
    np.testing.assert_allclose(images[0, 0, 0], 255 - np.array([123.68, 116.78, 103.94]), rtol=1e-4)


def test_one_record_can_be_repeated_for_ever(records):
    params = imagenet(records, datasets_repeat_cached_sample=True, distortions=False)
    [(_, labels)] = first(params, batch_size=16)
    assert len(set(labels.numpy())) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets_use_caching": True},
        {"datasets_sloppy_parallel_interleave": True},
        {
            "datasets_parallel_interleave_cycle_length": 2,
            "datasets_parallel_interleave_prefetch": 3,
        },
        {"datasets_prefetch_buffer_size": 4},
        {"use_fp16": True, "resize_method": "round_robin"},
    ],
)
def test_input_options_leave_the_batches_whole(records, changes):
    for images, labels in first(imagenet(records, **changes), batch_size=8, count=6):
        assert images.shape == (8, 28, 28, 3)
        assert np.isfinite(images).all()
        assert set(labels.numpy()) <= {small_images.BLACK, small_images.WHITE}


def test_a_folder_without_records_names_the_pattern(tmp_path):
    with pytest.raises(ValueError, match=r"Found no files in --data_dir matching: .*train-\*-of-"):
        first(imagenet(tmp_path))


def test_an_empty_file_is_named(tmp_path):
    small_images.generate(tmp_path, train=4, validation=1, shards=(2, 1))
    (tmp_path / "train-00001-of-00002").write_bytes(b"")
    with pytest.raises(DataIntegrityError, match="train-00001-of-00002: the file is empty"):
        first(imagenet(tmp_path))


def record_bytes(file) -> list[int]:
    """Bytes of each record of ``file``, its frame included."""
    return [len(record.numpy()) + 16 for record in tf.data.TFRecordDataset(str(file))]


def test_a_damaged_record_is_named_with_its_file_and_offset(tmp_path):
    files = small_images.generate(tmp_path, train=12, validation=1, shards=(2, 1))
    lengths = record_bytes(files[1])
    content = bytearray(files[1].read_bytes())
    content[sum(lengths[:2]) + 40] ^= 0xFF
    files[1].write_bytes(content)
    wanted = f"{files[1].name}: record 2 at byte {sum(lengths[:2])} is damaged"
    with pytest.raises(DataIntegrityError, match=wanted) as raised:
        first(imagenet(tmp_path), count=10)
    assert not re.search(r"\n|node", str(raised.value))


def test_a_truncated_file_is_named_with_its_offset(tmp_path):
    files = small_images.generate(tmp_path, train=6, validation=1, shards=(1, 1))
    lengths = record_bytes(files[0])
    files[0].write_bytes(files[0].read_bytes()[:-5])
    wanted = f"{files[0].name}: record 5 at byte {sum(lengths[:-1])} is damaged"
    with pytest.raises(DataIntegrityError, match=wanted):
        first(imagenet(tmp_path), count=10)


def test_a_record_that_is_no_image_is_named(tmp_path):
    files = small_images.generate(tmp_path, train=1, validation=1, shards=(1, 1))
    tfrecords.write(files[0], [tfrecords.example(b"not a picture", 1, (0, 0, 1, 1))])
    with pytest.raises(DataIntegrityError, match="train-00000-of-00001: record 0 at byte 0 is not"):
        first(imagenet(tmp_path), batch_size=1)


def test_a_truncated_image_is_named(tmp_path):
    files = small_images.generate(tmp_path, train=2, validation=1, shards=(1, 1))
    whole = [record.numpy() for record in tf.data.TFRecordDataset(str(files[0]))]
    encoded = tf.io.encode_jpeg(np.zeros((40, 40, 3), np.uint8)).numpy()[:300]
    tfrecords.write(files[0], [whole[0], tfrecords.example(encoded, 1, (0, 0, 1, 1))])
    wanted = f"train-00000-of-00001: record 1 at byte {len(whole[0]) + 16} is not an image"
    with pytest.raises(DataIntegrityError, match=wanted):
        first(imagenet(tmp_path), batch_size=2, count=4)


# CIFAR-10


def cifar(folder, **changes):
    return make_params(model="trivial", data_name="cifar10", data_dir=str(folder), **changes)


def test_all_five_files_are_read_channel_by_channel(pickles):
    pixels, labels = cifar10.read(pickles, "train")
    assert pixels.shape == (25, 32, 32, 3)
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3, 4]
    with (pickles / "data_batch_1").open("rb") as stream:
        flat = pickle.load(stream, encoding="bytes")[b"data"][0]
    assert pixels[0, 3, 7].tolist() == [flat[3 * 32 + 7 + 1024 * plane] for plane in range(3)]


def test_validation_images_are_only_scaled(pickles):
    pixels, _ = cifar10.read(pickles, "validation")
    [(images, labels)] = first(cifar(pickles), "validation", batch_size=5)
    np.testing.assert_allclose(images, pixels / 127.5 - 1, atol=1e-5)
    assert set(labels.numpy()) == {5}


def test_the_archives_own_folder_is_found(pickles):
    inner = pickles / cifar10.ARCHIVE_FOLDER
    inner.mkdir()
    for file in list(pickles.iterdir()):
        if file.is_file():
            file.rename(inner / file.name)
    assert len(cifar10.read(pickles, "train")[1]) == 25


def test_distortion_moves_by_up_to_four_pixels_and_mirrors():
    image = np.zeros((32, 32, 3), np.uint8)
    image[10, 12] = 255
    places = set()
    for seed in range(60):
        found = cifar10.train_image(tf.constant(image), (seed, 0)).numpy()[..., 0]
        places.add(tuple(np.argwhere(found == 255)[0].tolist()))
    rows, columns = zip(*places, strict=True)
    assert set(rows) == set(range(6, 15))
    assert set(columns) <= {*range(8, 17), *range(15, 24)}


def test_undistorted_training_images_are_those_of_the_files(pickles):
    pixels, _ = cifar10.read(pickles, "train")
    [(images, _)] = first(cifar(pickles, distortions=False), batch_size=25)
    wanted = {image.tobytes() for image in pixels}
    found = {np.rint((image + 1) * 127.5).astype(np.uint8).tobytes() for image in images.numpy()}
    assert found == wanted


def test_a_missing_pickle_is_named(pickles):
    (pickles / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"Found no files in --data_dir matching: .*data_batch_4"):
        first(cifar(pickles))


@pytest.mark.parametrize("content", [b"", b"rubbish", pickle.dumps({b"data": np.zeros((2, 5))})])
def test_a_damaged_pickle_is_named(pickles, content):
    (pickles / "test_batch").write_bytes(content)
    with pytest.raises(DataIntegrityError, match="test_batch: not a batch of CIFAR-10"):
        first(cifar(pickles), "validation")


def test_images_without_labels_are_refused(pickles):
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}
    (pickles / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataIntegrityError, match=r"test_batch: images of shape \(2, 3072\) for 1"):
        first(cifar(pickles), "validation")


class _Hostile:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_would_run_code_is_refused(pickles, capsys):
    (pickles / "test_batch").write_bytes(pickle.dumps(_Hostile()))
    with pytest.raises(DataIntegrityError, match=r"it asks for builtins\.print"):
        first(cifar(pickles), "validation")
    assert "executed" not in capsys.readouterr().out


# Records that no run can use


def rewritten(file, *, put):
    """``file`` with some of its records replaced: number to (image bytes, label)."""
    whole = [record.numpy() for record in tf.data.TFRecordDataset(str(file))]
    for number, (encoded, label) in put.items():
        if encoded is None:
            encoded = tfrecords.fields(whole[number])[0].numpy()
        whole[number] = tfrecords.example(encoded, label, (0.1, 0.1, 0.9, 0.9))
    tfrecords.write(file, whole)
    return [sum(len(record) + 16 for record in whole[:number]) for number in range(len(whole))]


PNG = tf.io.encode_png(np.zeros((40, 40, 3), np.uint8)).numpy()


@pytest.mark.parametrize("subset", ["train", "validation"])
@pytest.mark.parametrize(
    ("encoded", "label", "words"),
    [
        (None, 5000, "has label 5000, wanted 0 to 1000"),
        (None, -1, "has label -1, wanted 0 to 1000"),
        (None, 2**32 + 1, "has label 4294967297, wanted 0 to 1000"),
        (PNG, 1, r"is not an image as wanted \(PNG; wanted JPEG\)"),
        (b"", 1, r"is not an image as wanted \(no JPEG; wanted JPEG\)"),
    ],
)
def test_a_record_that_does_not_suit_is_named_in_training_and_evaluation(
    tmp_path, subset, encoded, label, words
):
    small_images.generate(tmp_path, train=3, validation=3, shards=(1, 1))
    file = tmp_path / f"{subset}-00000-of-00001"
    offsets = rewritten(file, put={2: (encoded, label)})
    wanted = f"{file.name}: record 2 at byte {offsets[2]} {words}; write the file again"
    with pytest.raises(DataIntegrityError, match=wanted):
        first(imagenet(tmp_path), subset, batch_size=3)


def check_data(folder, capsys, *flags):
    code = cnn.main([f"--check_data={folder}", *flags])
    return code, capsys.readouterr().out.splitlines()


def test_every_bad_record_is_listed(tmp_path, capsys):
    folder = tmp_path / "imagenet"
    small_images.generate(folder, train=12, validation=4, shards=(2, 1))
    assert check_data(folder, capsys) == (0, [f"{folder}: every record can be used"])
    one, two = folder / "train-00000-of-00002", folder / "train-00001-of-00002"
    last = folder / "validation-00000-of-00001"
    at = rewritten(one, put={0: (None, 5000), 3: (PNG, 1), 5: (b"\xff\xd8\xffno", 2)})
    content, lengths = bytearray(two.read_bytes()), record_bytes(two)
    # The image of record 1, and then the length of record 4.
    content[lengths[0] + 40] ^= 0xFF
    content[sum(lengths[:4]) + 2] ^= 0xFF
    two.write_bytes(content)
    last.write_bytes(last.read_bytes()[:-3])
    code, lines = check_data(folder, capsys)
    assert code == 3
    found = [line.partition(" is not an image (")[0] for line in lines]
    assert found == [
        f"{one}: record 0 at byte 0 has label 5000, wanted 0 to 1000",
        f"{one}: record 3 at byte {at[3]} is not an image as wanted (PNG; wanted JPEG)",
        f"{one}: record 5 at byte {at[5]}",
        f"{two}: record 1 at byte {lengths[0]} is damaged (it does not fit its checksum)",
        f"{two}: record 4 at byte {sum(lengths[:4])} is damaged (its length), so that nothing "
        "after it can be read",
        f"{last}: record 3 at byte {sum(record_bytes_of_whole(last)[:3])} is damaged (the file "
        "ends within it)",
    ]


def record_bytes_of_whole(file):
    """The same of a file whose last record is cut off."""
    lengths, offset, content = [], 0, file.read_bytes()
    while offset + 8 < len(content):
        lengths.append(int.from_bytes(content[offset : offset + 8], "little") + 16)
        offset += lengths[-1]
    return lengths


def test_missing_files_and_every_wrong_label_of_cifar10_are_listed(pickles, capsys):
    batch = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [1, 10, 3, -1]}
    (pickles / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    (pickles / "test_batch").unlink()
    code, lines = check_data(pickles, capsys)
    assert code == 3
    assert lines == [
        f"{pickles}/data_batch_2: image 1 has label 10, wanted 0 to 9",
        f"{pickles}/data_batch_2: image 3 has label -1, wanted 0 to 9",
        f"Found no files in --data_dir matching: {pickles}/test_batch",
    ]
    with pytest.raises(DataIntegrityError, match="data_batch_2: image 1 has label 10, wanted 0 to"):
        first(cifar(pickles))


def test_a_folder_that_says_nothing_wants_a_name_to_be_checked(tmp_path, capsys):
    assert check_data(tmp_path, capsys)[0] == 2
    assert check_data(tmp_path, capsys, "--data_name=imagenet")[0] == 3
