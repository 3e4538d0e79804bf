"""Archives: what is accepted, what is refused and why, what is left on disk."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import stat
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from small_disk import files_no_longer_than

from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.movielens import archive
from trainbench.movielens.datasets import CSV, Counts, Dataset, dataset, read_manifest
from trainbench.movielens.unpack import ratings_member, unpack
from trainbench.trials.paths import DataDir

HEADER = "userId,movieId,rating,timestamp\n"
ROWS = "".join(f"{u},{i},3.5,{1_000 + i}\n" for u in (1, 2) for i in (10, 20, 30))


def a_zip(path: Path, members: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, text in (members or {"tiny/ratings.csv": HEADER + ROWS}).items():
            out.writestr(name, text)
    return path


def described(path: Path) -> Dataset:
    """The dataset whose publisher states the checksum of ``path``."""
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    url = "https://publisher.invalid/tiny.zip"
    return Dataset("tiny", CSV, url, md5=md5, counts=Counts(2, 3, 6))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


def left_in(data: DataDir) -> list[str]:
    return sorted(str(p.relative_to(data.root)) for p in data.root.rglob("*") if p.is_file())


def test_the_published_archive_from_a_mirror_is_accepted(mirror: Path, data: DataDir) -> None:
    tiny = described(a_zip(mirror / "tiny.zip"))
    manifest = archive.download(tiny, data, mirror=mirror.as_uri())
    assert manifest.published
    assert manifest.counts == Counts(2, 3, 6)
    assert left_in(data) == [
        "raw/tiny/manifest.json",
        "raw/tiny/ratings.csv",
        "raw/tiny/tiny.zip",
    ]
    assert read_manifest(data.manifest("tiny")) == manifest
    assert (data.raw("tiny") / "ratings.csv").read_text() == HEADER + ROWS
    assert manifest.ratings_sha256 == sha256(data.raw("tiny") / "ratings.csv")


def test_an_archive_comes_over_http_and_a_wrong_one_leaves_nothing(
    mirror: Path, data: DataDir, httpserver: HTTPServer
) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = described(path)
    httpserver.expect_request("/sets/tiny.zip").respond_with_data(path.read_bytes())
    httpserver.expect_request("/wrong/tiny.zip").respond_with_data(path.read_bytes()[:-1])
    with pytest.raises(DataIntegrityError, match=r"/wrong/tiny\.zip: md5 is \w+, published is"):
        archive.download(tiny, data, mirror=httpserver.url_for("/wrong"))
    assert left_in(data) == []
    manifest = archive.download(tiny, data, mirror=httpserver.url_for("/sets/"))
    assert manifest.published
    assert manifest.source == httpserver.url_for("/sets/tiny.zip")


def test_the_password_of_a_mirror_is_used_and_kept_nowhere(
    mirror: Path, data: DataDir, httpserver: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_zip(mirror / "tiny.zip")
    address = httpserver.url_for("/sets").replace("://", "://alice:S3CRET@") + "?token=S3CRET"
    basic = {"Authorization": "Basic " + base64.b64encode(b"alice:S3CRET").decode()}
    httpserver.expect_ordered_request("/sets/tiny.zip", headers=basic).respond_with_data(
        status=302, headers={"Location": f"{address}&again=1".replace("/sets", "/there")}
    )
    httpserver.expect_ordered_request(
        "/there", headers=basic, query_string="token=S3CRET&again=1"
    ).respond_with_data(path.read_bytes())
    manifest = archive.download(described(path), data, mirror=address)
    assert manifest.source == httpserver.url_for("/sets/tiny.zip")
    with pytest.raises(TrainbenchError) as caught:
        archive.download(dataset("ml-1m"), data, mirror=address)
    said = capsys.readouterr().err + str(caught.value)
    kept = b"".join(p.read_bytes() for p in data.root.rglob("*") if p.is_file())
    assert "S3CRET" not in said
    assert b"S3CRET" not in kept


def test_another_archive_needs_the_users_word_and_is_marked(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = replace(described(path), md5="0" * 32)
    with pytest.raises(DataIntegrityError, match=f"published is 0000.*--sha256 {sha256(path)}"):
        archive.download(tiny, data, mirror=str(mirror))
    assert left_in(data) == []
    manifest = archive.download(tiny, data, mirror=str(mirror), sha256=sha256(path).upper())
    assert not manifest.published
    assert manifest.counts is None


def test_an_archive_with_no_published_checksum_needs_the_users_word(
    mirror: Path, data: DataDir
) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = replace(described(path), md5=None)
    with pytest.raises(DataIntegrityError, match="none is published to compare with"):
        archive.download(tiny, data, archive=path)
    assert not archive.download(tiny, data, archive=path, sha256=sha256(path)).published


def test_an_archive_that_differs_from_the_stated_checksum_is_refused(
    mirror: Path, data: DataDir
) -> None:
    path = a_zip(mirror / "tiny.zip")
    with pytest.raises(DataIntegrityError, match=f"sha256 is {sha256(path)}, stated .* is aaaa"):
        archive.download(described(path), data, archive=path, sha256="a" * 64)
    assert left_in(data) == []


def test_what_is_verified_is_not_fetched_again(
    mirror: Path, data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = described(path)
    first = archive.download(tiny, data, archive=path)
    path.unlink()
    capsys.readouterr()
    assert archive.download(tiny, data, archive=path) == first
    assert "complete and unchanged" in capsys.readouterr().err


def test_an_unpublished_archive_is_not_reused_when_the_published_one_is_asked_for(
    mirror: Path, data: DataDir
) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = replace(described(path), md5="0" * 32)
    archive.download(tiny, data, archive=path, sha256=sha256(path))
    before = left_in(data)
    with pytest.raises(DataIntegrityError, match="--sha256"):
        archive.download(tiny, data, archive=path)
    assert left_in(data) == before


def test_damaged_ratings_are_unpacked_anew_from_the_kept_archive(
    mirror: Path, data: DataDir
) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = described(path)
    first = archive.download(tiny, data, archive=path)
    path.unlink()
    ratings = data.raw("tiny") / "ratings.csv"
    ratings.write_text(ratings.read_text().replace("3.5", "4.5", 1))
    assert archive.download(tiny, data, archive=path) == replace(first, source="local file")
    assert ratings.read_text() == HEADER + ROWS


HOSTILE = {
    "traversal": ("../ratings.csv", 0, "leads out of"),
    "hidden traversal": ("tiny/../../ratings.csv", 0, "leads out of"),
    "backslash traversal": ("..\\ratings.csv", 0, "leads out of"),
    "absolute": ("/etc/ratings.csv", 0, "absolute name"),
    "drive": ("C:\\ratings.csv", 0, "absolute name"),
    "symlink": ("tiny/link", stat.S_IFLNK | 0o777, "a link or a device"),
    "device": ("tiny/device", stat.S_IFCHR | 0o600, "a link or a device"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_member_condemns_the_archive(case: str, mirror: Path, data: DataDir) -> None:
    name, mode, message = HOSTILE[case]
    path = a_zip(mirror / "tiny.zip")
    with zipfile.ZipFile(path, "a") as out:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        out.writestr(member, "x")
    with pytest.raises(DataIntegrityError, match=rf"tiny.zip: refused: .*{message}"):
        archive.download(described(path), data, archive=path)
    assert left_in(data) == []
    assert not (mirror.parent / "ratings.csv").exists()


def refused(path: Path, data: DataDir, message: str) -> None:
    with pytest.raises(DataIntegrityError, match=message):
        archive.download(described(path), data, archive=path)
    assert left_in(data) == []


def test_a_zip_bomb_is_refused_before_it_goes_off(mirror: Path, data: DataDir) -> None:
    bomb = a_zip(mirror / "tiny.zip", {"tiny/ratings.csv": "0" * (64 << 20)})
    refused(bomb, data, r"unpacks .*67,108,864 bytes")


def test_a_member_twice_is_refused(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as out:
        warnings.simplefilter("ignore")
        out.writestr("tiny/ratings.csv", "other")
    refused(path, data, "two members of one name")


def test_a_size_that_lies_is_found_by_the_checksum(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    true_size = len(HEADER + ROWS).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(true_size, (20).to_bytes(4, "little")))
    refused(path, data, "tiny.zip")


def test_a_truncated_zip_is_refused(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, data, "not a whole zip archive")


def test_a_flipped_bit_in_any_member_is_found(mirror: Path, data: DataDir) -> None:
    path = mirror / "tiny.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("tiny/ratings.csv", HEADER + ROWS)
        out.writestr("tiny/README", "plain text here")
    path.write_bytes(path.read_bytes().replace(b"plain text", b"plaim text"))
    refused(path, data, "member 'tiny/README' is damaged")


def test_a_web_page_instead_of_a_zip_is_refused(mirror: Path, data: DataDir) -> None:
    path = mirror / "tiny.zip"
    path.write_text("<html>Please log in</html>")
    refused(path, data, "not a whole zip archive")


def test_an_archive_of_another_dataset_is_refused(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip", {"ml-1m/ratings.dat": "1::2::3::4\n"})
    refused(path, data, r"found 0 members called ratings.csv, wanted one")


METHODS = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damaged", [False, True])
def test_a_member_packed_in_a_way_that_costs_memory_is_refused(
    method: str, damaged: bool, mirror: Path, data: DataDir
) -> None:
    path = mirror / "tiny.zip"
    with zipfile.ZipFile(path, "w", METHODS[method]) as out:
        out.writestr("tiny/ratings.csv", HEADER + ROWS)
    if damaged:
        raw = bytearray(path.read_bytes())
        raw[60:80] = b"\xff" * 20
        path.write_bytes(raw)
    refused(path, data, "refused: member 'tiny/ratings.csv' is packed in another way")


def test_a_dictionary_of_4_gib_is_never_made(mirror: Path, data: DataDir) -> None:
    path = mirror / "tiny.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("tiny/ratings.csv", HEADER + ROWS)
    raw = bytearray(path.read_bytes())
    properties = 30 + len("tiny/ratings.csv") + 4
    raw[properties + 1 : properties + 5] = b"\xff" * 4
    path.write_bytes(raw)
    refused(path, data, "packed in another way")


def test_a_name_that_is_not_utf_8_is_refused(mirror: Path, data: DataDir) -> None:
    path = mirror / "tiny.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("tiny/ratings.csv", HEADER + ROWS)
        out.writestr("tiny/\u00e9", "x")
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xfe"))
    refused(path, data, "not a whole zip archive")


def test_an_offset_of_2_to_the_63_is_refused(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    raw = path.read_bytes()
    first = raw.index(b"PK\x01\x02")
    entry = bytearray(raw[first : raw.index(b"PK\x05\x06")])
    name = int.from_bytes(entry[28:30], "little")
    entry[30:32] = (12).to_bytes(2, "little")  # an extra field: zip64, of one offset
    entry[42:46] = b"\xff" * 4
    entry[46 + name : 46 + name] = b"\x01\x00\x08\x00" + (2**63).to_bytes(8, "little")
    end = bytearray(raw[raw.index(b"PK\x05\x06") :])
    end[12:16] = len(entry).to_bytes(4, "little")
    path.write_bytes(raw[:first] + entry + end)
    refused(path, data, "not a whole zip archive")


def test_a_folder_called_like_the_ratings_file_is_not_that_file(
    mirror: Path, data: DataDir
) -> None:
    path = mirror / "tiny.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("ratings.csv/", "")
    refused(path, data, "found 0 members called ratings.csv")
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("ratings.csv/README", "x")
        out.writestr("tiny/ratings.csv", HEADER + ROWS)
    archive.download(described(path), data, archive=path)
    assert (data.raw("tiny") / "ratings.csv").read_text() == HEADER + ROWS


def test_a_zip_with_backslashes_in_its_names_is_read(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip", {"tiny\\": "", "tiny\\ratings.csv": HEADER + ROWS})
    archive.download(described(path), data, archive=path)
    assert (data.raw("tiny") / "ratings.csv").read_text() == HEADER + ROWS


def test_flipped_bits_in_a_zip_never_end_in_anything_but_one_clear_line(tmp_path: Path) -> None:
    chance = random.Random(16)
    path, ratings = tmp_path / "tiny.zip", tmp_path / "ratings.csv"
    refusals = []
    for number in range(150):
        method = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2]
        with zipfile.ZipFile(path, "w", method) as out:
            out.writestr("tiny/", "")
            out.writestr("tiny/ratings.csv", HEADER + ROWS)
            out.writestr("tiny/R\u00c9ADME", "text")
        raw = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 1, 2, 8))):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        if number % 10 == 0:
            del raw[chance.randrange(len(raw)) :]
        path.write_bytes(raw)
        try:
            unpack(path, ratings_member(path, CSV), ratings)
        except DataIntegrityError as error:
            refusals.append(str(error))
            assert not ratings.exists()
        else:
            assert ratings.read_text() == HEADER + ROWS
            ratings.unlink()
        assert os.listdir(tmp_path) == ["tiny.zip"]
    assert len(refusals) > 50
    assert "\n" not in "".join(refusals)


def test_options_that_contradict_each_other_are_told(data: DataDir) -> None:
    tiny = Dataset("tiny", CSV, "https://publisher.invalid/tiny.zip")
    with pytest.raises(ConfigError, match="wanted one of them"):
        archive.download(tiny, data, mirror="x", archive=Path("y"))
    with pytest.raises(ConfigError, match="wanted 64 hexadecimal digits"):
        archive.download(tiny, data, sha256="abc")
    with pytest.raises(ConfigError, match="is generated"):
        archive.download(dataset("synthetic"), data)
    with pytest.raises(MachineError, match=r"gone\.zip: not found"):
        archive.download(tiny, data, archive=data.root / "gone.zip")


def test_a_limit_of_the_files_size_is_told_with_the_bytes_needed_and_leaves_nothing_half(
    mirror: Path, data: DataDir
) -> None:
    rows = "".join(f"{u},{u * 7919 % 10_007},3.5,{u * 31}\n" for u in range(20_000))
    path = a_zip(mirror / "tiny.zip", {"tiny/ratings.csv": HEADER + rows})
    size = path.stat().st_size
    for limit, file, needed, left in (
        (size - 1, "tiny.zip.part", size, []),
        (size + 4_096, "ratings.csv", len(HEADER + rows), ["raw/tiny/tiny.zip"]),
    ):
        message = rf"/{file}: File too large: {needed:,} bytes needed; .*ulimit"
        with files_no_longer_than(limit), pytest.raises(MachineError, match=message):
            archive.download(described(path), data, archive=path)
        assert left_in(data) == left
    assert archive.download(described(path), data, archive=path).published


def test_a_disk_with_too_little_room_is_refused_before_a_byte_is_written(
    mirror: Path, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_zip(mirror / "tiny.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 7})())
    with pytest.raises(MachineError, match=r"\.zip\.part: disk full: .* needed, 7 bytes free"):
        archive.download(described(path), data, archive=path)
    assert left_in(data) == []


def test_verify_says_what_holds_and_what_does_not(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = described(path)
    assert [check.ok for check in archive.verify(tiny, data)] == [False]
    archive.download(tiny, data, archive=path)
    assert all(check.ok for check in archive.verify(tiny, data))
    with (data.raw("tiny") / "ratings.csv").open("a") as file:
        file.write("1,99,oops,5\n")
    failed = {check.name for check in archive.verify(tiny, data) if not check.ok}
    assert failed == {"ratings file sha256", "ratings"}


def test_verify_counts_what_the_publisher_counted(mirror: Path, data: DataDir) -> None:
    path = a_zip(mirror / "tiny.zip")
    tiny = replace(described(path), counts=Counts(2, 3, 7))
    archive.download(tiny, data, archive=path)
    last = archive.verify(tiny, data)[-1]
    assert not last.ok
    assert "found 2 users, 3 items, 6 ratings; published are 2, 3 and 7" in last.found


def test_a_dataset_whose_publisher_replaces_it_has_no_binding_counts(
    mirror: Path, data: DataDir, httpserver: HTTPServer
) -> None:
    path = a_zip(mirror / "tiny.zip")
    httpserver.expect_request("/tiny.zip").respond_with_data(path.read_bytes())
    tiny = Dataset("tiny", CSV, httpserver.url_for("/tiny.zip"), counts=Counts(9, 9, 9))
    manifest = archive.download(tiny, data)
    assert (manifest.published, manifest.counts) == (True, None)
    assert all(check.ok for check in archive.verify(tiny, data))


REAL = {
    "ml-1m": (Counts(6_040, 3_706, 1_000_209), "4c91224c6e8acd09066220fd6a900582"),
    "ml-latest-small": (Counts(610, 9_724, 100_836), "b8aad1ba19d36ec359c8e77bebb5385b"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_ratings_arrive_from_a_mirror_with_their_stated_checksum(
    name: str, shared_dir: Path, data: DataDir
) -> None:
    counts, begins = REAL[name]
    source = dataset(name)
    stated = sha256(shared_dir / "data" / source.archive)
    assert stated.startswith(begins)
    manifest = archive.download(
        source, data, mirror=(shared_dir / "data").resolve().as_uri(), sha256=stated
    )
    assert not manifest.published
    ratings = archive.read_ratings(data.raw(name) / manifest.ratings_file, source.layout)
    archive.check_counts(data.raw(name), ratings, counts)
    assert source.counts == counts
