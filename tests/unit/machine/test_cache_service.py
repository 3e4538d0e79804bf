"""A trial has the page cache dropped by the process that started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainbench.machine import cache_service, page_cache
from trainbench.trials.trial_set import follow

ASK = "import json; from trainbench.machine import page_cache as p; print(p.{})"


def test_the_parent_drops_where_it_was_told_whatever_the_trial_says(tmp_path: Path) -> None:
    told, other = tmp_path / "told", tmp_path / "other"
    code = ASK.format(f"drop_page_cache({str(other)!r}).method")
    log = tmp_path / "log"
    assert follow([sys.executable, "-c", code], log, drop_cache_location=str(told)) == 0
    assert log.read_text().strip() in ("direct write", "None")
    assert told.read_text() == "3\n"
    assert not other.exists()


def test_every_question_has_an_answer_and_nothing_else_has() -> None:
    answers = iter([{"dropped": True}, {"dropped": False}])
    code = (
        "import json, os, socket; from trainbench.machine.cache_service import ask, CHANNEL;"
        "socket.socket(fileno=os.dup(int(os.environ[CHANNEL]))).send(b'drop /etc/passwd\\n');"
        "print(json.dumps([ask(), ask()]))"
    )
    with cache_service.answering(lambda: next(answers)) as channel:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, **channel
        )
    assert json.loads(done.stdout) == [{"dropped": True}, {"dropped": False}]


def test_a_parent_that_is_gone_is_an_interruption() -> None:
    code = (
        "from trainbench.machine.cache_service import ask\n"
        "try: ask()\n"
        "except BrokenPipeError: print('gone')"
    )

    def break_down() -> dict[str, Any]:
        raise OSError

    with cache_service.answering(break_down) as channel:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, **channel
        )
    assert done.stdout.strip() == "gone"


def test_without_a_parent_to_ask_the_cache_is_dropped_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cache_service.CHANNEL, raising=False)
    location = tmp_path / "drop_caches"
    page_cache.drop_page_cache(str(location))
    assert location.read_text() == "3\n"
