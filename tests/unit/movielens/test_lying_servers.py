"""Downloads from servers that stall, drip, never end or answer nonsense, over real sockets.

Time limits are short, and a server waits for its client: no test depends on how fast anything is.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from lying_server import LyingServer, head, lying_server

from trainbench.errors import ConfigError, DataIntegrityError, MachineError, TrainbenchError
from trainbench.movielens import transfer
from trainbench.movielens.connection import Patience

CONTENT = random.Random(0).randbytes(300_000)
QUICK = Patience(connect_s=60, answer_s=60, silence_s=60, window_s=0.3)
FAST = transfer.Retry(attempts=2, first_pause_s=0.01, longest_asked_s=0.02, patience=QUICK)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "ml.zip.part"


def says(raw: bytes) -> Callable[[socket.socket, str, int], None]:
    return lambda connection, request, number: connection.sendall(raw)


def start_of(request: str) -> int:
    """The first byte that a request asks for."""
    asked = [line for line in request.splitlines() if line.startswith("Range: bytes=")]
    return int(asked[0].removeprefix("Range: bytes=").rstrip("-")) if asked else 0


def rest_from(start: int) -> bytes:
    """The head of a good answer that goes on from ``start``."""
    span, length = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", len(CONTENT) - start
    if not start:
        return head(Content_Length=length, ETag='"v1"')
    return head("206 Partial Content", Content_Length=length, Content_Range=span, ETag='"v1"')


def fails(answer: bytes, part: Path, message: str, **more: object) -> LyingServer:
    """The server whose ``answer`` ended a download with ``message``, and left no part."""
    with lying_server(says(answer)) as server:
        with pytest.raises(TrainbenchError, match=message) as caught:
            transfer.fetch(server.url, part, retry=FAST, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert list(part.parent.iterdir()) == []
        return server


@pytest.mark.parametrize("limit", ["published", "stated"])
def test_a_body_without_end_is_cut_at_the_size_that_the_file_may_have(
    part: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 100_000 if limit == "stated" else 1 << 30)
    expected = 100_000 if limit == "published" else None

    def endless(connection: socket.socket, request: str, number: int) -> None:
        connection.sendall(head(Transfer_Encoding="chunked"))
        server.drip(connection, b"1000\r\n" + b"x" * 4096 + b"\r\n", 0)

    with lying_server(endless) as server:
        message = "sends more than the 100,000 bytes that the file may have"
        with pytest.raises(DataIntegrityError, match=message):
            transfer.fetch(server.url, part, expected_bytes=expected, retry=FAST)
    assert list(part.parent.iterdir()) == []
    assert len(server.requests) == 1


def test_a_length_that_no_file_here_may_have_is_refused_before_the_first_byte(part: Path) -> None:
    fails(head(Content_Length=10**17), part, "has 100,000,000,000,000,000 bytes, more than the 4,")


def test_ten_bytes_a_second_are_given_up_and_resumed_later(part: Path) -> None:
    def dripping(connection: socket.socket, request: str, number: int) -> None:
        connection.sendall(rest_from(start_of(request)))
        if number > 2:
            connection.sendall(CONTENT[start_of(request) :])
        else:
            server.drip(connection, CONTENT[start_of(request) :][:1], 0.1)

    with lying_server(dripping) as server:
        message = r"only \d+ bytes in \d+ s, wanted 1,000 a second, 2 times in a row.*are kept"
        with pytest.raises(MachineError, match=message):
            transfer.fetch(server.url, part, retry=FAST)
        kept = part.stat().st_size
        assert kept > 0
        # What the drip repeated is not the file: the checksum would say so.
        part.write_bytes(CONTENT[:kept])
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert start_of(server.requests[-1]) == kept


def test_a_head_that_comes_byte_by_byte_is_no_answer(part: Path) -> None:
    def dripping(connection: socket.socket, request: str, number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        server.drip(connection, b"x", 0.02)

    hurried = transfer.Retry(2, 0.01, patience=Patience(answer_s=0.3, silence_s=60))
    message = r"no answer within 0\.3 s, 2 times in a row"
    with lying_server(dripping) as server, pytest.raises(MachineError, match=message):
        transfer.fetch(server.url, part, retry=hurried)


@pytest.mark.parametrize("sent", [b"", head(Content_Length=10), head(Content_Length=10) + b"abc"])
def test_a_server_that_falls_silent_is_told_so(part: Path, sent: bytes) -> None:
    def silent(connection: socket.socket, request: str, number: int) -> None:
        connection.sendall(sent)
        server.ended.wait()

    hurried = transfer.Retry(2, 0.01, patience=Patience(silence_s=0.1))
    with lying_server(silent) as server:
        message = r"no byte from the server for 0\.1 s, 2 times in a row"
        with pytest.raises(MachineError, match=message):
            transfer.fetch(server.url, part, retry=hurried)


def test_the_limits_of_a_real_download_give_up_on_a_stall_within_two_minutes() -> None:
    retry = transfer.Retry()
    pauses = [retry.first_pause_s * 2**n for n in range(retry.attempts - 1)]
    assert retry.attempts * retry.patience.silence_s + sum(pauses) <= 120


def test_redirects_in_a_circle_end_without_another_attempt(part: Path) -> None:
    server = fails(head("302 Found", Location="/ml.zip"), part, "redirects more than 10 times")
    assert len(server.requests) == 11


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file:///etc/passwd", "redirects to file:///etc/passwd, wanted http or https"),
        ("ftp://bob:S3CRET@host/x", "redirects to ftp://host/x, wanted http or https"),
        ("http://[::1/", r"redirects to http://\[::1/, not an address"),
        ("http://host:99999/", "not an address"),
        ("http://host:x/", "not an address"),
        ("http://.host/", "not an address"),
        ("http://" + "a" * 70 + "/", "not an address"),
    ],
)
def test_a_redirect_to_where_no_file_is_is_not_tried_again(
    part: Path, target: str, message: str
) -> None:
    server = fails(head("302 Found", Location=target), part, message)
    assert len(server.requests) == 1


def test_the_body_of_a_redirect_is_not_read(part: Path) -> None:
    def endless(connection: socket.socket, request: str, number: int) -> None:
        if "/there" in request.splitlines()[0]:
            connection.sendall(rest_from(0) + CONTENT)
            return
        connection.sendall(head("302 Found", Location="/there", Transfer_Encoding="chunked"))
        server.drip(connection, b"1\r\nx\r\n", 0.001)

    with lying_server(endless) as server:
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(("asked", "waited_s"), [("1", 1), ("3600", 1.2), ("soon", 0)])
def test_the_pause_that_a_server_asks_for_is_kept_within_bounds(
    part: Path, asked: str, waited_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    def busy(connection: socket.socket, request: str, number: int) -> None:
        refusal = head("503 Busy", Retry_After=asked, Content_Length=0)
        connection.sendall(refusal if number == 1 else rest_from(0) + CONTENT)

    with lying_server(busy) as server:
        retry = transfer.Retry(2, 0.01, longest_asked_s=1.2, patience=QUICK)
        transfer.fetch(server.url, part, retry=retry)
    assert part.read_bytes() == CONTENT
    assert server.times_s[1] - server.times_s[0] >= waited_s
    assert f"next attempt in {waited_s:.0f} s" in capsys.readouterr().err


def test_a_connection_that_drops_every_70_kb_still_ends_with_the_whole_file(part: Path) -> None:
    def dropping(connection: socket.socket, request: str, number: int) -> None:
        start = start_of(request)
        connection.sendall(rest_from(start) + CONTENT[start : start + 70_000])

    with lying_server(dropping) as server:
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 5


def test_a_server_that_always_starts_again_makes_no_progress(part: Path) -> None:
    def starting_again(connection: socket.socket, request: str, number: int) -> None:
        answer = head(Content_Length=len(CONTENT), ETag=f'"v{number}"')
        connection.sendall(answer + CONTENT[:70_000])

    again = "2 times in a row"
    with lying_server(starting_again) as server, pytest.raises(MachineError, match=again):
        transfer.fetch(server.url, part, retry=FAST)
    assert len(server.requests) == 2


@pytest.mark.parametrize("answer", [head(Content_Length=0), head()])
def test_an_empty_answer_is_called_empty(part: Path, answer: bytes) -> None:
    server = fails(answer, part, "the answer is empty")
    assert len(server.requests) == 1


def test_an_empty_answer_for_a_file_of_known_size_has_the_wrong_size(part: Path) -> None:
    message = "has 0 bytes, published are 300,000"
    fails(head(Content_Length=0), part, message, expected_bytes=300_000)


NONSENSE = [b"\xb2\xb3", "²³".encode(), b"9" * 5_000, b"-1", b"0x10", b"1e3", b" ", b"\xd9\xa3"]


@pytest.mark.parametrize("length", NONSENSE)
def test_a_length_that_is_no_number_says_nothing(part: Path, length: bytes) -> None:
    with lying_server(says(head(Content_Length=length) + CONTENT)) as server:
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("number", NONSENSE)
def test_a_range_that_is_no_number_is_not_believed(part: Path, number: bytes) -> None:
    def answer(connection: socket.socket, request: str, count: int) -> None:
        span = b"bytes " + number + b"-" + number + b"/" + number
        bad = head("206 Partial Content", Content_Length=3, Content_Range=span) + b"abc"
        connection.sendall(bad if count == 1 else rest_from(0) + CONTENT)

    part.write_bytes(CONTENT[:1_000])
    with lying_server(answer) as server:
        state = {"url": server.url, "validator": '"v1"'}
        transfer.write_json(part.with_name("ml.zip.part.json"), state)
        transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"220 ftp ready\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        head(Transfer_Encoding="chunked") + b"xyz\r\nabc",
        head(Transfer_Encoding="chunked") + b"-5\r\nabc",
        head(Transfer_Encoding="chunked") + b"f" * 70_000,
        head(Content_Length=5) + b"abc",
        head("302 Found", Location="\udcff".encode(errors="surrogatepass")),
        head("418 \x1b[31mteapot"),
        head("200 OK", Content_Encoding="gzip", Content_Length=3) + b"abc",
    ],
)
def test_an_answer_that_is_none_is_one_clear_line(part: Path, raw: bytes) -> None:
    with lying_server(says(raw)) as server, pytest.raises(TrainbenchError) as caught:
        transfer.fetch(server.url, part, retry=FAST)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "mirror",
    ["http://[::1/", "http://host:x/", "https://alice:S3/CRET@host/d", "http://host:99999/d"],
)
def test_a_mirror_that_is_no_address_is_a_wrong_option(mirror: str) -> None:
    with pytest.raises(ConfigError, match="not an address") as caught:
        transfer.locate(mirror, "ml.zip")
    assert "S3" not in str(caught.value)
    assert "CRET" not in str(caught.value)


def test_the_query_of_a_mirror_stays_behind_the_name_of_the_file() -> None:
    found = transfer.locate("https://host/sets/?token=S3CRET&x=1#top", "ml.zip")
    assert found == "https://host/sets/ml.zip?token=S3CRET&x=1"
    assert transfer.locate("http://host", "ml.zip") == "http://host/ml.zip"
    assert transfer.locate("HTTP://host?key=1", "ml.zip") == "http://host/ml.zip?key=1"
