"""The system record says what a reviewer needs and nothing that names the owner."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
from pathlib import Path

import pytest

from trainbench.machine import system


def test_the_record_has_the_documented_fields() -> None:
    record = system.record(git={"revision": "abc", "dirty": False}, device="CPU:0")
    assert record["cpu"]["cores"] >= 1
    assert record["memory_bytes"] > 1 << 28
    assert record["packages"]["numpy"]
    assert record["git"] == {"revision": "abc", "dirty": False}
    assert record["device"] == "CPU:0"


def test_no_host_name_and_no_user_name() -> None:
    text = json.dumps(system.record(git={"revision": None, "dirty": None}))
    for secret in (platform.node(), getpass.getuser()):
        assert f'"{secret}"' not in text


def test_git_state_sees_uncommitted_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        name = ["-c", "user.name=t", "-c", "user.email=t@t.invalid"]
        subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True)

    assert system.git_state(tmp_path) == {"revision": None, "dirty": None}
    git("init")
    git("commit", "--allow-empty", "-m", "start")
    assert system.git_state(tmp_path)["dirty"] is False
    (tmp_path / "new").touch()
    assert system.git_state(tmp_path)["dirty"] is True
    # An installed package in the environment of another project has no revision of its own.
    (tmp_path / ".venv").mkdir()
    assert system.git_state(tmp_path / ".venv") == {"revision": None, "dirty": None}


def test_slug_names_the_processor_or_the_accelerators() -> None:
    cpu = {"model": "Intel(R) Xeon(R) Platinum 8180 CPU @ 2.50GHz", "cores": 56}
    assert system.slug({"cpu": cpu, "gpus": []}) == "intel-xeon-platinum-8180-56c"
    gpu = {"name": "NVIDIA A100-SXM4-40GB"}
    assert system.slug({"cpu": cpu, "gpus": [gpu] * 8, "device": "GPU:0"}) == "a100-sxm4-40gb-x8"


@pytest.mark.parametrize(
    ("flags", "limit", "told"),
    [
        ("fpu avx512f avx512_bf16", "", None),
        ("fpu amx_bf16", "DEFAULT", None),
        ("fpu avx512_bf16", "AVX512_CORE_BF16", None),
        ("fpu avx512f", "", "this CPU has no avx512_bf16 or amx_bf16"),
        ("fpu avx512_bf16", "AVX512_CORE", "ONEDNN_MAX_CPU_ISA=AVX512_CORE leaves out"),
        ("fpu avx512_bf16", "avx2", "ONEDNN_MAX_CPU_ISA=avx2 leaves out"),
    ],
)
def test_bfloat16_is_the_cpus_own_where_it_has_it_and_onednn_may_use_it(
    flags: str, limit: str, told: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(system, "CPU_INFO", info)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    found = system.bfloat16_obstacle()
    assert (found or "").startswith(told or "")
    assert system.has_bfloat16() == (told is None) == (found is None)
