"""Downloads against a real HTTP server on this machine that misbehaves as told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trainbench.errors import ConfigError, DataIntegrityError, MachineError
from trainbench.movielens import transfer

CONTENT = bytes(range(256)) * 400
FAST = transfer.Retry(attempts=3, first_pause_s=0.01)


@dataclass
class Server:
    """A file server with ranges and the requests it got; ``misbehave`` may answer instead."""

    content: bytes = CONTENT
    validator: str | None = '"v1"'
    ranges: bool = True
    misbehave: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, number: False
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(dict(handler.headers.items()))
        if self.misbehave(handler, len(self.requests)):
            return
        wanted = handler.headers.get("Range")
        same = handler.headers.get("If-Range") in (None, self.validator)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same else 0
        if not (self.ranges and wanted and same):
            send(handler, 200, self.content, ETag=self.validator)
        elif start >= len(self.content):
            send(handler, 416, b"", **{"Content-Range": f"bytes */{len(self.content)}"})
        else:
            span = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            send(handler, 206, self.content[start:], **{"Content-Range": span})


def send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, cut: int | None = None, **headers
) -> None:
    handler.send_response(status)
    headers.setdefault("Content-Length", str(len(body)))
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(body[:cut])


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/ml.zip"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "ml.zip.part"


def broken_off(server: Server, part: Path, size: int) -> None:
    """Leave what a download that was killed after ``size`` bytes leaves."""
    part.write_bytes(CONTENT[:size])
    transfer.write_json(
        part.with_name("ml.zip.part.json"), {"url": server.url, "validator": '"v1"'}
    )


def first_answer(status: int, body: bytes = b"", **headers: str):
    """A server that answers the first request like this and the others well."""

    def misbehave(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if number == 1:
            send(handler, status, body, **headers)
        return number == 1

    return misbehave


def test_a_whole_file_arrives_and_leaves_no_validator_behind(server: Server, part: Path) -> None:
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT
    assert [p.name for p in part.parent.iterdir()] == [part.name]


def test_a_broken_download_resumes_at_its_last_byte(server: Server, part: Path) -> None:
    broken_off(server, part, 1_000)
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT
    assert server.requests[0]["Range"] == "bytes=1000-"
    assert server.requests[0]["If-Range"] == '"v1"'


def test_a_connection_cut_in_the_middle_is_resumed_within_the_same_run(
    server: Server, part: Path
) -> None:
    def cut_first(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if number == 1:
            send(handler, 200, CONTENT, cut=70_000, ETag='"v1"')
        return number == 1

    server.misbehave = cut_first
    transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=70000-"


def test_a_file_that_changed_on_the_server_is_downloaded_anew(server: Server, part: Path) -> None:
    broken_off(server, part, 1_000)
    server.content, server.validator = CONTENT[::-1], '"v2"'
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_is_downloaded_from_the_start(server: Server, part: Path) -> None:
    broken_off(server, part, 1_000)
    server.ranges = False
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("validator", [None, 'W/"weak"'])
def test_bytes_without_a_strong_validator_are_not_resumed(
    server: Server, part: Path, validator: str | None
) -> None:
    server.validator = validator

    def cut_first(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if number == 1:
            send(handler, 200, CONTENT, cut=70_000, ETag=validator)
        return number == 1

    server.misbehave = cut_first
    transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_the_remains_of_another_url_are_not_resumed(server: Server, part: Path) -> None:
    broken_off(server, part, 1_000)
    transfer.fetch(server.url + "?mirror", part)
    transfer.forget(part)
    part.write_bytes(b"other")
    transfer.write_json(part.with_name("ml.zip.part.json"), {"url": "x", "validator": '"v1"'})
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_complete_part_is_recognised_by_416(server: Server, part: Path) -> None:
    broken_off(server, part, len(CONTENT))
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_part_longer_than_the_file_is_downloaded_anew(server: Server, part: Path) -> None:
    broken_off(server, part, 5)
    part.write_bytes(CONTENT + b"more")
    transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("span", ["bytes 7-9/10", "bytes 900-102399/102400", "gibberish", ""])
def test_a_206_for_other_bytes_than_asked_for_is_not_believed(
    server: Server, part: Path, span: str
) -> None:
    broken_off(server, part, 1_000)
    server.misbehave = first_answer(206, b"abc", **{"Content-Range": span})
    transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_error_is_tried_again(server: Server, part: Path, status: int) -> None:
    server.misbehave = first_answer(status)
    transfer.fetch(server.url, part, retry=FAST)
    assert part.read_bytes() == CONTENT


def test_a_server_that_stays_broken_ends_in_one_clear_line(server: Server, part: Path) -> None:
    server.misbehave = lambda handler, number: send(handler, 503, b"") is None
    with pytest.raises(MachineError, match=r"answers 503 .*3 times in a row.*--mirror"):
        transfer.fetch(server.url, part, retry=FAST)
    assert len(server.requests) == 3


def test_what_arrived_before_the_network_failed_is_kept(server: Server, part: Path) -> None:
    broken_off(server, part, 1_000)
    server.misbehave = lambda handler, number: send(handler, 503, b"") is None
    with pytest.raises(MachineError, match="1,000 bytes are kept"):
        transfer.fetch(server.url, part, retry=FAST)
    server.misbehave = lambda handler, number: False
    transfer.fetch(server.url, part)
    assert server.requests[-1]["Range"] == "bytes=1000-"


def test_no_server_at_all_is_one_clear_line(part: Path) -> None:
    with pytest.raises(MachineError, match="connection failed, 2 times in a row"):
        transfer.fetch("http://127.0.0.1:9/x.zip", part, retry=transfer.Retry(2, 0.01))


def test_a_missing_file_is_told_at_once(server: Server, part: Path) -> None:
    server.misbehave = lambda handler, number: send(handler, 404, b"") is None
    with pytest.raises(MachineError, match=r"answers 404 .*--archive"):
        transfer.fetch(server.url, part, retry=FAST)
    assert len(server.requests) == 1
    assert not part.exists()


def test_a_redirect_is_followed(server: Server, part: Path) -> None:
    server.misbehave = first_answer(302, Location="/elsewhere/ml.zip")
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT


def test_endless_redirects_end(server: Server, part: Path) -> None:
    server.misbehave = lambda h, n: send(h, 302, b"", Location="/ml.zip") is None
    with pytest.raises(MachineError, match="redirects"):
        transfer.fetch(server.url, part, retry=transfer.Retry(1, 0.01))


def test_a_wrong_length_is_refused_before_the_first_byte(server: Server, part: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"has 102,400 bytes, published are 5;.*--sha256"):
        transfer.fetch(server.url, part, expected_bytes=5)
    assert list(part.parent.iterdir()) == []


def test_an_encoded_answer_is_refused(server: Server, part: Path) -> None:
    server.misbehave = first_answer(200, b"abc", **{"Content-Encoding": "gzip"})
    with pytest.raises(MachineError, match="encodes the archive"):
        transfer.fetch(server.url, part, retry=FAST)


def test_a_file_without_a_length_arrives_too(server: Server, part: Path) -> None:
    server.misbehave = lambda h, n: send(h, 200, CONTENT, **{"Content-Length": None}) is None
    transfer.fetch(server.url, part)
    assert part.read_bytes() == CONTENT


def test_a_mirror_is_a_url_or_a_folder() -> None:
    assert transfer.locate("https://m.example/sub/", "a.zip") == "https://m.example/sub/a.zip"
    assert transfer.locate("file:///data%20sets", "a.zip") == Path("/data sets/a.zip")
    assert transfer.locate("../shared", "a.zip") == Path("../shared/a.zip")
    with pytest.raises(ConfigError, match="wanted http, https, file or a folder"):
        transfer.locate("ftp://m.example", "a.zip")
