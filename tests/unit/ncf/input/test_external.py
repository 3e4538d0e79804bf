"""Who is in the folder in which trainer and generator meet, and how each sees the other's end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainbench.ncf.input.external import SILENT_AFTER_S, Presence, _Peer
from trainbench.ncf.input.heartbeat import Pulse

OWN = Presence.here()


def test_a_process_that_lives_is_not_gone_and_one_that_ended_is() -> None:
    assert not OWN.gone(OWN)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert replace(OWN, process=child.pid).gone(OWN)


def test_another_process_of_the_same_number_is_another() -> None:
    assert replace(OWN, created_unix_s=OWN.created_unix_s - 5).gone(OWN)


def test_of_another_machine_only_its_silence_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, now_s = tmp_path / "heartbeat", 0.0
    beat.touch()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    peer = _Peer(replace(OWN, process=1, machine="another"), OWN, beat)
    while now_s < SILENT_AFTER_S:
        assert peer.lost() == ""
        now_s += 1
    os.utime(beat, ns=(1, 1))
    assert peer.lost() == ""
    for _ in range(round(SILENT_AFTER_S) + 1):
        now_s += 1
        lost = peer.lost()
    assert lost == "no sign of life for 46 s"


def test_only_a_change_is_a_sign_of_life(tmp_path: Path) -> None:
    beat = tmp_path / "heartbeat"
    beat.touch()
    pulse = Pulse(beat)
    pulse.silent_s()
    assert not pulse.heard
    os.utime(beat, ns=(1, 1))  # Also one that goes back: clocks of two machines differ.
    assert pulse.silent_s() == 0
    assert pulse.heard
