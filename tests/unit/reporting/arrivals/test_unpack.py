"""Archives from anybody: read in memory, bounded, and what is not read is named with a reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trainbench.reporting.arrivals import unpack
from trainbench.reporting.arrivals.unpack import Arrived, arrived

CONTENT = b":::MLPv0.5.0 ncf 1.0 (a.py:1) run_start\n" * 50


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def old_tar(files: dict[str, bytes]) -> bytes:
    """As tar wrote it before its format had a name."""
    content = bytearray(tarred(files))
    content[257:265] = bytes(8)
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def found(path: Path) -> dict[str, Arrived]:
    return {item.name: item for item in arrived([path])}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.zip", zipped({"s/ncf/result_0.txt": CONTENT})),
        ("stored.zip", zipped({"s/ncf/result_0.txt": CONTENT}, zipfile.ZIP_STORED)),
        ("a.tar", tarred({"s/ncf/result_0.txt": CONTENT})),
        ("old.tar", old_tar({"s/ncf/result_0.txt": CONTENT})),
        ("a.tar.gz", tarred({"s/ncf/result_0.txt": CONTENT}, "w:gz")),
        ("a.tar.xz", tarred({"s/ncf/result_0.txt": CONTENT}, "w:xz")),
        ("a.tgz.no-ending", tarred({"s/ncf/result_0.txt": CONTENT}, "w:gz")),
        ("a.tar.bz2", tarred({"s/ncf/result_0.txt": CONTENT}, "w:bz2")),
    ],
)
def test_archives_are_told_by_their_first_bytes(name: str, packed: bytes, tmp_path: Path) -> None:
    (item,) = arrived([written(tmp_path, name, packed)])
    assert item == Arrived(f"{name}/s/ncf/result_0.txt", CONTENT)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_compressed_log_is_unpacked(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    two = pack(CONTENT) + pack(CONTENT)
    assert found(written(tmp_path, "log", pack(CONTENT)))["log"].content == CONTENT
    assert found(written(tmp_path, "two", two))["two"].content == 2 * CONTENT


@pytest.mark.parametrize(
    ("pack", "kind"), [(gzip.compress, "gzip"), (lzma.compress, "xz"), (bz2.compress, "bzip2")]
)
def test_damage_is_named_and_what_comes_before_it_is_read(
    pack: Callable[[bytes], bytes], kind: str, tmp_path: Path
) -> None:
    text = os.urandom(200_000).hex().encode()
    packed = pack(text)
    for number, damaged in enumerate(
        (packed[:-30], packed[: len(packed) // 2], packed[:-4] + b"\0" * 4)
    ):
        (item,) = arrived([written(tmp_path, f"log{number}", damaged)])
        assert item.reason.startswith(f"damaged {kind} (")
        assert item.content is not None
        assert text.startswith(item.content)


def test_archives_in_archives_are_opened_to_a_depth(tmp_path: Path) -> None:
    packed = zipped({"log": CONTENT})
    for depth in range(1, 7):
        (item,) = arrived([written(tmp_path, "a", packed)])
        if depth <= unpack.MAX_DEPTH:
            assert item.content == CONTENT
        else:
            assert item.content is None
            assert "archives in archives" in item.reason
        packed = zipped({"inner.zip": packed}) if depth % 2 else tarred({"inner.tar": packed})


def test_nothing_is_written_and_no_name_leads_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("../outside", "/etc/outside", "a/../../outside", "..\\outside", "fine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for packed in (zipped(dict.fromkeys(names, CONTENT)), tarred(dict.fromkeys(names, CONTENT))):
        path = written(tmp_path, "a", packed)
        items = [*arrived([path])]
        path.unlink()
        assert [item.name for item in items if item.content] == ["a/fine"]
        refused = [item for item in items if not item.content]
        assert len(refused) == 4
        assert {item.reason for item in refused} == {"its name leads out of the archive"}
    assert sorted(tmp_path.rglob("*")) == before


def test_names_of_a_zip_archive_may_have_the_separators_of_windows(tmp_path: Path) -> None:
    path = written(tmp_path, "a.zip", zipped({"sub\\result_0.txt": CONTENT}))
    assert {name: item.content for name, item in found(path).items()} == {
        "a.zip/sub/result_0.txt": CONTENT
    }


def test_links_pipes_and_devices_are_named_and_not_followed(tmp_path: Path) -> None:
    secret = written(tmp_path, "secret", CONTENT)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "link.txt").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"member-{kind.decode()}")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
    written(folder, "a.tar", buffer.getvalue())
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "a.zip", "w") as packed:
        packed.writestr(link, str(secret))
    items = found(folder)
    assert len(items) == 8
    assert all(item.content is None for item in items.values())
    assert {item.reason for item in items.values()} == set(unpack.IRREGULAR)


def test_a_pipe_that_the_user_names_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(CONTENT),))
    writer.start()
    (item,) = arrived([pipe])
    writer.join()
    assert (item.content, item.named) == (CONTENT, True)


def test_bombs_end_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_LOG_BYTES", 2**20)
    monkeypatch.setattr(unpack, "MAX_ARCHIVE_BYTES", 2**20)
    bomb = bytes(8 * 2**20)
    packings = {
        "gz": gzip.compress(bomb),
        "xz": lzma.compress(bomb, preset=0),
        "zip": zipped({"log": bomb}),
        "tar.gz": tarred({"log": bomb}, "w:gz"),
    }
    for name, packed in packings.items():
        items = [*arrived([written(tmp_path, f"bomb.{name}", packed)])]
        assert all(len(item.content or b"") <= 2**21 for item in items)
        assert any("more than 1 MiB, the rest was not read" in item.reason for item in items)


def test_many_bombs_end_at_the_limit_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 2**20)
    packed = zipped({f"log{i}": bytes(2**18) for i in range(50)})
    items = [*arrived([written(tmp_path, "a.zip", packed)])]
    assert sum(len(item.content or b"") for item in items) < 3 * 2**20
    assert items[-1].reason.startswith("all files together have more than 1 MiB")


def test_files_without_number_end_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "MAX_FILES", 10)
    packed = zipped({f"log{i}": b"" for i in range(30)})
    items = [*arrived([written(tmp_path, "a.zip", packed)])]
    assert sum(item.content is not None for item in items) == 10
    assert items[-1].reason == "more than 10 files"


def test_members_that_cannot_be_unpacked_are_named(tmp_path: Path) -> None:
    encrypted = bytearray(zipped({"log": CONTENT}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    flipped = bytearray(zipped({"log": CONTENT}, zipfile.ZIP_STORED))
    flipped[100] ^= 1
    files = {
        "encrypted.zip": (bytes(encrypted), "encrypted"),
        "lzma.zip": (zipped({"log": CONTENT}, zipfile.ZIP_LZMA), "compression method 14"),
        "sum.zip": (bytes(flipped), "damaged zip (Bad CRC-32"),
        "cut.zip": (zipped({"log": CONTENT})[:-30], "damaged zip (File is not a zip file"),
        "cut.tar": (tarred({"log": CONTENT})[:700], "damaged tar ("),
        "cut.tar.gz": (tarred({"log": CONTENT}, "w:gz")[:-20], "damaged gzip ("),
    }
    for name, (content, wanted) in files.items():
        reasons = [item.reason for item in arrived([written(tmp_path, name, content)])]
        assert any(reason.startswith(wanted) for reason in reasons), (name, reasons)


def test_names_without_end_are_refused(tmp_path: Path) -> None:
    long = ".txt" * 16_000
    for packed in (zipped({long: CONTENT}), tarred({long: CONTENT})):
        (item,) = arrived([written(tmp_path, "a", packed)])
        assert item.reason == "its name has more than 4,096 characters"
        assert len(item.name) < 5_000


def test_random_damage_ends_in_a_reason_and_never_in_a_traceback(tmp_path: Path) -> None:
    generator = random.Random(5)
    packings = [
        zipped({"a": CONTENT, "b": CONTENT}),
        tarred({"a": CONTENT, "b": CONTENT}),
        tarred({"a": CONTENT}, "w:gz"),
        tarred({"a": CONTENT}, "w:xz"),
        zipped({"inner.tar.gz": tarred({"a": CONTENT}, "w:gz")}),
    ]
    for number in range(300):
        content = bytearray(packings[number % len(packings)])
        for _ in range(generator.randint(1, 8)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        if generator.random() < 0.3:
            del content[generator.randrange(len(content)) :]
        for item in arrived([written(tmp_path, "a", bytes(content))]):
            assert item.content is not None or item.reason


def test_a_name_that_arrives_twice_has_a_number(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "results").mkdir(parents=True)
        written(tmp_path / folder / "results", "log", folder.encode())
    paths = [tmp_path / "a" / "results", tmp_path / "b" / "results"]
    assert [item.name for item in arrived(paths)] == ["results (1)/log", "results (2)/log"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("log", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("log", b"two")
    items = [*arrived([written(tmp_path, "a.zip", buffer.getvalue())])]
    assert [item.name for item in items] == ["a.zip/log", "a.zip/log (2)"]
    assert [item.content for item in items] == [b"one", b"two"]


def test_of_the_folder_of_a_run_only_its_results_are_read(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20260101"
    for name in ("run.json", "trial_0/compliance_raw.log", "results/s/ncf/result_0.txt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    items = found(tmp_path / "runs")
    assert list(items) == ["runs/20260101/results/s/ncf/result_0.txt"]
