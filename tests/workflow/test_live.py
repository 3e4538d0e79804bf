"""The status line on a real terminal, and the same words from another one, while a trial runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import CHECKOUT

pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")

SETTINGS = (
    "synthetic=300x200x12000",
    "mf_dim=8",
    "mlp_layer_sizes=16,8",
    "batch_size=64",
    "steps_per_call=8",
    "target_hit_rate=0.99",
    "max_epochs=400",
    "division=open",
    "drop_caches=false",
)
IMAGES = (
    *("generated_train=60", "generated_eval=10", "batch_size=10", "eval_batch_size=10"),
    *("learning_rate=0.001", "warmup_epochs=0", "target_top_1=1.0", "max_epochs=400"),
    "drop_caches=false",
)
CASES = {
    "ncf": (
        SETTINGS,
        r"epoch (\d+)/400 (?:\d+ %)?.*?samples/s  HR@10 (-|0\.\d{4}) \(target 0\.99\)  "
        r"wait [\d.]+ s  ETA \w+.*? at most",
    ),
    "images": (
        IMAGES,
        r"epoch (\d+)/400 \d+ %.*?images/s  top-1 (-|[01]\.\d{4}) \(target 1\)  "
        r"ETA \w+.*? at most",
    ),
}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT / "src"), "TERM": "xterm", "COLUMNS": "200"}


def show(data: Path) -> str:
    command = [sys.executable, "-m", "trainbench", "runs", "show", "latest", "--data-dir", data]
    done = subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.parametrize("benchmark", CASES)
def test_a_terminal_has_a_status_line_and_another_one_shows_the_same(
    benchmark: str, tmp_path: Path
) -> None:
    data, log = tmp_path / "data", bytearray()
    settings, pattern = CASES[benchmark]
    wanted = re.compile(pattern)
    words = ["pipeline"] if benchmark == "ncf" else [benchmark, "pipeline"]
    command = [sys.executable, "-m", "trainbench", *words, "--preset", "quick"]
    command += ["--data-dir", str(data), "--note", "at night", "--tag", "lab"]
    command += [word for setting in settings for word in ("--set", setting)]
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    child = subprocess.Popen(
        command, env=environment(), stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    os.set_blocking(leader, False)
    elsewhere, deadline = "", time.monotonic() + 300
    try:
        while time.monotonic() < deadline and child.poll() is None:
            try:
                log += os.read(leader, 65_536)
            except BlockingIOError:
                time.sleep(0.2)
            if wanted.search(log.decode(errors="replace")) and not elsewhere:
                found = show(data)
                elsewhere = found if wanted.search(found) else ""
            if elsewhere:
                break
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)
        os.close(leader)
    text = log.decode(errors="replace")
    assert wanted.search(text), text[-2000:]
    # It is written over in its own line, and cut to the terminal's width.
    assert "\r\x1b[Kepoch " in text
    statuses = re.findall(r"\r\x1b\[K(epoch \d+/400[^\r\n\x1b]*)", text)
    assert statuses
    assert max(map(len, statuses)) < 160
    assert "trial 0  running  epoch " in elsewhere
    (run,) = (p for p in (data / "runs").iterdir() if not p.is_symlink())
    record = json.loads((run / "run.json").read_text())
    assert (record["note"], record["tags"]) == ("at night", ["lab"])
    assert "note     at night" in elsewhere
    # It ended, so nothing says that it runs.
    assert not (run / "trial_0" / "progress.json").exists()
    assert "running" not in show(data)
