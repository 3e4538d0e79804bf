"""Steps killed with SIGKILL at work: nothing half passes for whole, and the next run ends well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from processes import wait_until

from trainbench.movielens import cache, split, synthetic, transfer
from trainbench.movielens.datasets import SyntheticSize
from trainbench.movielens.own import bring, options
from trainbench.ncf.benchmark import NCF
from trainbench.trials.paths import DataDir

CONTENT = os.urandom(3 << 20)
SIZE = SyntheticSize(users=100, items=100, ratings=4_000)


def killed_when(code: str, argument: str, ready: Callable[[], bool]) -> None:
    """Run ``code`` in a Python process and kill it as soon as ``ready``."""
    process = subprocess.Popen([sys.executable, "-c", code, argument], stderr=subprocess.DEVNULL)
    try:
        wait_until(ready, process=process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def stalling_server() -> Iterator[tuple[str, list[str | None]]]:
    """A server whose first answer stops half-way; the later ones honour Range."""
    ranges: list[str | None] = []
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            ranges.append(wanted)
            start = int(wanted[6:-1]) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Length", str(len(CONTENT) - start))
            if wanted:
                span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
                self.send_header("Content-Range", span)
            self.end_headers()
            if wanted:
                self.wfile.write(CONTENT[start:])
                return
            self.wfile.write(CONTENT[: 1 << 20])
            self.wfile.flush()
            released.wait(30)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/ml.zip", ranges
    released.set()
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_killed_download_goes_on_where_it_was(
    stalling_server: tuple[str, list[str | None]], tmp_path: Path
) -> None:
    url, ranges = stalling_server
    part = tmp_path / "ml.zip.part"
    code = (
        "import pathlib, sys; from trainbench.movielens.transfer import fetch\n"
        f"fetch({url!r}, pathlib.Path(sys.argv[1]))"
    )
    killed_when(code, str(part), lambda: part.exists() and part.stat().st_size >= 1 << 19)
    kept = part.stat().st_size
    transfer.fetch(url, part)
    assert part.read_bytes() == CONTENT
    assert ranges == [None, f"bytes={kept}-"]


# The kill must come at a certain moment: the system call named stalls there.
PREPROCESS = f"""
import os, pathlib, sys, time
os.STALLING = lambda *a: time.sleep(60)
from dataclasses import replace
from trainbench.movielens.datasets import SyntheticSize
from trainbench.ncf.benchmark import NCF
from trainbench.movielens import split
from trainbench.trials.paths import DataDir
config = replace(NCF.preset("quick"), synthetic={SIZE!r})
split.run(config.split_spec, DataDir(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("call", "file"),
    [
        pytest.param("fsync", "users.npy", id="in the first array"),
        pytest.param("rename", "compliance_raw.log", id="before the rename"),
    ],
)
def test_a_killed_preprocess_leaves_no_cache_and_the_next_one_builds_it(
    call: str, file: str, tmp_path: Path
) -> None:
    data = DataDir(tmp_path)
    config = replace(NCF.preset("quick"), synthetic=SIZE)
    synthetic.generate(SIZE, data)
    killed_when(
        PREPROCESS.replace("STALLING", call),
        str(tmp_path),
        lambda: any(data.caches.glob(f".unfinished-*/{file}")),
    )
    assert not [p for p in data.caches.iterdir() if not p.name.startswith(".")]
    with pytest.raises(Exception, match="run preprocess"):
        cache.find_cache(config.split_spec, data)
    folder = split.run(config.split_spec, data)
    cache.open_cache(folder, verify=True)
    assert [p.name for p in data.caches.iterdir()] == [folder.name]


GENERATE = f"""
import os, pathlib, sys, time
os.fsync = lambda *a: time.sleep(60)
from trainbench.movielens.datasets import SyntheticSize
from trainbench.movielens import synthetic
from trainbench.trials.paths import DataDir
synthetic.generate({SIZE!r}, DataDir(pathlib.Path(sys.argv[1])))
"""


def test_a_killed_generation_is_never_taken_for_a_dataset(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    part = data.raw("synthetic") / "ratings.csv.part"
    killed_when(GENERATE, str(tmp_path), lambda: part.exists() and part.stat().st_size > 0)
    assert not data.manifest("synthetic").exists()
    assert synthetic.generate(SIZE, data).counts is not None
    assert sorted(p.name for p in data.raw("synthetic").iterdir()) == [
        "manifest.json",
        "ratings.csv",
    ]


OWN = """
import os, pathlib, sys, time
os.STALLING = lambda *a: time.sleep(60)
from trainbench.movielens.own import bring, options
from trainbench.trials.paths import DataDir
root = pathlib.Path(sys.argv[1])
bring.bring("mine", options.request({"ratings": root / "mine.csv"}), DataDir(root))
"""


@pytest.mark.parametrize(
    ("call", "file"),
    [
        pytest.param("fsync", "ratings.csv", id="before the manifest"),
        pytest.param("rename", "manifest.json", id="before the rename"),
    ],
)
@pytest.mark.parametrize("before", [False, True], ids=["nothing there", "another version there"])
def test_killed_own_ratings_are_never_taken_for_a_dataset(
    before: bool, call: str, file: str, tmp_path: Path
) -> None:
    data, path = DataDir(tmp_path), tmp_path / "mine.csv"
    path.write_text("user,item\na,1\na,2\n")
    if before:
        asked = options.request({"ratings": path, "held_out": "random"})
        assert asked is not None
        bring.bring("mine", asked, data)
    there = {p.name: p.read_bytes() for p in data.raw("mine").glob("*")}
    part = data.raw(".unfinished-mine")
    killed_when(OWN.replace("STALLING", call), str(tmp_path), (part / file).exists)
    assert {p.name: p.read_bytes() for p in data.raw("mine").glob("*")} == there
    assert (bring.whole("mine", data) is not None) == before
    asked = options.request({"ratings": path})
    assert asked is not None
    assert bring.bring("mine", asked, data) == bring.whole("mine", data)
    assert [p.name for p in data.raw("mine").parent.iterdir()] == ["mine"]
