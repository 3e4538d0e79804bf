"""What only a real Docker engine can show: ownership, interruption, what the images hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import docker
import pytest
from checkout import CHECKOUT

pytestmark = pytest.mark.docker

# Popper prints the arguments before it makes the container; only the step says the word whole.
WORKFLOW = """
version: '1'
steps:
- id: sleeper
  uses: docker://trainbench-download:local
  runs: [python, -c]
  args: ["import time; print('as' 'leep', flush=True); time.sleep(300)"]
"""


def settings_for(folder: Path, **env: str) -> dict[str, Any]:
    """ENGINE as settings.py gives it to a caller with this environment."""
    code = "import json, settings; print(json.dumps(settings.ENGINE))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PRESET": "quick", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    engine: dict[str, Any] = json.loads(done.stdout)
    return engine


def clone(folder: Path) -> Path:
    (folder / "containers" / "train").mkdir(parents=True)
    shutil.copy(CHECKOUT / "settings.py", folder)
    (folder / "wf.yml").write_text(WORKFLOW)
    return folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for another user")
def test_a_step_leaves_files_of_the_caller_and_no_other(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    engine = settings_for(clone(tmp_path / "clone"), SUDO_UID="12345", SUDO_GID="12345")
    volumes = [f"{CHECKOUT}:/workspace:ro", *engine.pop("volumes")]
    client.containers.run(
        "trainbench-download:local",
        ["-m", "trainbench", "download"],
        entrypoint=["python"],
        volumes=volumes,
        remove=True,
        **engine,
    )
    data = tmp_path / "clone" / "data"
    written = [data, *data.rglob("*")]
    assert len(written) > 3
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(12345, 12345)}


def exit_codes(client: docker.DockerClient, name: str, since: int) -> list[str]:
    """With what the containers ended whose names begin with ``name``, as the engine recorded it."""
    events = client.events(
        since=since, until=int(time.time()) + 1, filters={"event": "die"}, decode=True
    )
    ended = [event["Actor"]["Attributes"] for event in events]
    return [each["exitCode"] for each in ended if each["name"].startswith(name)]


def test_a_terminated_popper_leaves_no_container(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    folder = clone(tmp_path / "clone")
    popper = Path(sys.executable).with_name("popper")
    since = int(time.time())
    process = subprocess.Popen(
        [popper, "run", "--skip-pull", "-f", "wf.yml", "-c", "settings.py"],
        cwd=folder,
        env={**os.environ, "PRESET": "quick", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "asleep" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130, lines
    # The step hears SIGTERM through its init; otherwise Docker's own SIGKILL would have ended it.
    assert exit_codes(client, "popper_sleeper_", since) == [str(128 + signal.SIGTERM)]
    assert client.containers.list(all=True, filters={"name": "popper_sleeper_"}) == []


@pytest.mark.parametrize("name", ["download", "preprocess", "train", "stitch"])
def test_an_image_starts_the_command_line(client: docker.DockerClient, name: str) -> None:
    output = client.containers.run(
        f"trainbench-{name}:local",
        ["-m", "trainbench", "--help"],
        entrypoint=["python"],
        volumes=[f"{CHECKOUT}:/workspace:ro"],
        remove=True,
    )
    assert b"Usage:" in output
