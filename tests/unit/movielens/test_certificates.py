"""Servers whose certificate does not hold: each fault in one clear line, and ``--hash-decides``."""

from __future__ import annotations

import hashlib
import io
import json
import ssl
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import CHECKOUT
from lying_server import LyingServer, head

from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.movielens import archive, transfer
from trainbench.movielens.datasets import CSV, Dataset, dataset
from trainbench.trials.paths import DataDir

FAST = transfer.Retry(attempts=3, first_pause_s=0.01)
FIXTURES = CHECKOUT / "tests" / "fixtures"


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as members:
        members.writestr("mine/ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.0,4\n")
    return out.getvalue()


CONTENT = zipped()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def served(certificate: str, content: bytes = CONTENT, cut: int | None = None, **more: str):
    """A server that has this certificate and sends ``content``, or its first ``cut`` bytes."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(FIXTURES / certificate)

    def answer(connection, asked: str, number: int) -> None:
        connection.sendall(head(Content_Length=len(content), **more) + content[:cut])

    server = LyingServer(answer, tls)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "ml.zip.part"


def trusted(monkeypatch: pytest.MonkeyPatch, certificate: str) -> None:
    """This machine trusts who signed ``certificate``."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(FIXTURES / certificate))


FAULTS = {
    "expired.pem": r"certificate: expired on 2020-02-14; check the clock of this machine",
    "future.pem": r"certificate: not valid before 2100-01-01; check the clock of this machine",
    "other_host.pem": r"certificate: is of another host \(.*127\.0\.0\.1.*\); check the address",
}


@pytest.mark.parametrize("certificate", FAULTS)
def test_a_certificate_that_does_not_hold_is_named_and_not_tried_again(
    certificate: str, part: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    trusted(monkeypatch, certificate)
    told = FAULTS[certificate] + r".*--archive PATH.*--hash-decides$"
    with served(certificate) as server, pytest.raises(MachineError, match=told):
        transfer.fetch(server.url, part, retry=FAST)
    assert server.requests == []
    assert "next attempt" not in capsys.readouterr().err


@pytest.mark.parametrize("certificate", ["valid.pem", "expired.pem"])
def test_a_certificate_that_nobody_vouches_for_is_not_tried_again(
    certificate: str, part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = r"self-signed certificate: nobody that this machine trusts .*REQUESTS_CA_BUNDLE"
    with served(certificate) as server, pytest.raises(MachineError, match=told):
        transfer.fetch(server.url, part, retry=FAST)
    assert "next attempt" not in capsys.readouterr().err


def test_a_certificate_that_holds_needs_no_hash(
    part: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted(monkeypatch, "valid.pem")
    with served("valid.pem") as server:
        transfer.fetch(server.url, part, retry=FAST, hash_decides=True)
    assert part.read_bytes() == CONTENT
    assert "without verification" not in capsys.readouterr().err


def known(url: str, **stated: str | None) -> Dataset:
    """The dataset whose publisher is at ``url``, with the checksums of ``CONTENT``."""
    sums = {"md5": hashlib.md5(CONTENT).hexdigest(), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return replace(Dataset("tiny", CSV, url, **sums), **stated)


@pytest.mark.parametrize("certificate", ["expired.pem", "future.pem", "other_host.pem"])
def test_the_known_sha256_decides_about_what_an_unverified_connection_brings(
    certificate: str, data: DataDir, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    trusted(monkeypatch, certificate)
    with served(certificate) as server:
        manifest = archive.download(known(server.url), data, hash_decides=True)
    assert manifest.published
    said = capsys.readouterr().err
    assert said.count("without verification (--hash-decides)") == 1


def test_the_hash_that_the_user_states_decides_too(data: DataDir) -> None:
    with served("expired.pem") as server:
        unknown = known(server.url, md5=None, sha256=None)
        stated = hashlib.sha256(CONTENT).hexdigest()
        assert archive.download(unknown, data, sha256=stated, hash_decides=True).sha256 == stated


@pytest.mark.parametrize("stated", [{}, {"md5": None}])
def test_of_other_bytes_nothing_is_kept(data: DataDir, stated: dict[str, None]) -> None:
    forged = CONTENT[:-1] + b"x"
    told = r"known is .*: not the archive that was asked for, and nothing of it is kept"
    with (
        served("expired.pem", forged) as server,
        pytest.raises(DataIntegrityError, match=told) as caught,
    ):
        archive.download(known(server.url, **stated), data, hash_decides=True)
    assert "--sha256" not in str(caught.value)
    assert [p for p in data.root.rglob("*") if p.is_file()] == []


def test_md5_alone_decides_nothing(data: DataDir) -> None:
    with served("expired.pem") as server:
        for dataset_ in (known(server.url, sha256=None), known(server.url, sha256=None, md5=None)):
            with pytest.raises(ConfigError, match=r"no SHA-256 of tiny is known.*--sha256"):
                archive.download(dataset_, data, hash_decides=True)
    assert server.requests == []


def test_a_broken_unverified_download_leaves_nothing_to_resume(part: Path) -> None:
    with (
        served("expired.pem", cut=50, ETag='"v1"') as server,
        pytest.raises(MachineError, match=r"3 times in a row; nothing is kept"),
    ):
        transfer.fetch(server.url, part, retry=FAST, hash_decides=True)
    assert list(part.parent.iterdir()) == []


def test_what_a_killed_unverified_download_left_is_not_continued_by_a_verified_one(
    part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted(monkeypatch, "valid.pem")
    with served("valid.pem", ETag='"v1"') as server:
        state = {"url": server.url, "validator": '"v1"', "unverified": True}
        part.write_bytes(b"forged")
        part.with_name("ml.zip.part.json").write_text(json.dumps(state))
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert "Range" not in server.requests[0]


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login alice password S3CRET\n")
    monkeypatch.setenv("NETRC", str(path))


def test_no_password_is_sent_over_an_unverified_connection(part: Path, netrc: None) -> None:
    with served("expired.pem") as server:
        transfer.fetch(server.url, part, retry=FAST, hash_decides=True)
        assert "Authorization" not in server.requests[-1]
        asked = len(server.requests)
        for secret in (server.url.replace("//", "//alice:S3CRET@"), f"{server.url}?token=S3CRET"):
            with pytest.raises(MachineError, match="holds a password or a token") as caught:
                transfer.fetch(secret, part, retry=FAST, hash_decides=True)
            assert "S3CRET" not in str(caught.value)
        assert len(server.requests) == asked


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m"])
def test_the_sha256_of_every_set_that_does_not_change_is_pinned(name: str) -> None:
    found = dataset(name)
    assert found.sha256 is not None
    assert (len(found.sha256), found.bytes is not None) == (64, True)


@pytest.mark.parametrize("name", ["ml-latest", "ml-latest-small"])
def test_a_set_that_its_publisher_replaces_has_no_checksum_and_says_so(
    name: str, data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data.root / "a.zip"
    path.write_bytes(CONTENT)
    manifest = archive.download(
        dataset(name), data, archive=path, sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    assert (
        manifest.note == "no fixed checksum: the publisher replaces this archive from time to time"
    )
    assert manifest.note in capsys.readouterr().err
