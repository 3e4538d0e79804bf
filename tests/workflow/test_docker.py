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
        ["download"],
        entrypoint=["python", "-m", "trainbench.machine.privileges"],
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


# A step that waits for a server of the documentation's network, and its view of what it may do. The
# pattern is not found in this text, which is the command line of the shell that becomes the step.
PROBE = """
python -m trainbench.machine.privileges download --dataset ml-1m --mirror http://192.0.2.1/ &
until tr '\\0' ' ' < /proc/$!/cmdline | grep -q 'trainbench [d]ownload'; do sleep 0.1; done
grep -E '^(Uid|Gid|Groups|CapEff|CapPrm|NoNewPrivs):' /proc/$!/status
kill $!
"""


def test_a_step_that_reads_foreign_bytes_has_neither_root_nor_the_engine(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    engine = settings_for(clone(tmp_path / "clone"))
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    output = client.containers.run(
        "trainbench-download:local",
        ["-c", PROBE],
        entrypoint=["sh"],
        volumes=[f"{CHECKOUT}:/workspace:ro", socket, *engine.pop("volumes")],
        remove=True,
        **engine,
    )
    found = dict(line.split(":", 1) for line in output.decode().splitlines())
    owner = (tmp_path / "clone" / "data").stat()
    assert found["Uid"].split() == [str(owner.st_uid)] * 4
    assert found["Gid"].split() == [str(owner.st_gid)] * 4
    assert "0" not in (found["Uid"].split()[0], found["Gid"].split()[0])
    assert found["Groups"].split() == []
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0
    assert found["NoNewPrivs"].strip() == "1"


def popper(folder: Path) -> subprocess.Popen[str]:
    """Popper with a step that sleeps, when it does."""
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("popper"), "run", "--skip-pull"),
            *("-f", "wf.yml", "-c", "settings.py"),
        ],
        cwd=folder,
        env={**os.environ, "PRESET": "quick", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process


def until_asleep(process: subprocess.Popen[str]) -> list[str]:
    """The lines that Popper prints until its step sleeps, or ends."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "asleep" in line:
            break
    return lines


def test_a_terminated_popper_leaves_no_container(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    since = int(time.time())
    process = popper(clone(tmp_path / "clone"))
    lines = until_asleep(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130, lines
    # The step hears SIGTERM through its init; otherwise Docker's own SIGKILL would have ended it.
    assert exit_codes(client, "popper_sleeper_", since) == [str(128 + signal.SIGTERM)]
    assert client.containers.list(all=True, filters={"name": "popper_sleeper_"}) == []


def test_the_step_of_a_popper_that_was_killed_is_ended_by_the_next_one(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    folder = clone(tmp_path / "clone")
    killed = popper(folder)
    until_asleep(killed)
    killed.kill()
    killed.communicate(timeout=60)
    [orphan] = client.containers.list(filters={"name": "popper_sleeper_"})
    following = popper(folder)
    lines = until_asleep(following)
    assert f"{orphan.name}: its Popper is gone; ending it\n" in lines
    assert orphan.id not in {each.id for each in client.containers.list(all=True)}
    following.send_signal(signal.SIGHUP)
    following.communicate(timeout=60)
    assert following.returncode == 130
    assert client.containers.list(all=True, filters={"name": "popper_sleeper_"}) == []


def test_the_step_of_a_popper_that_lives_is_named_and_left_alone(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    folder, other = clone(tmp_path / "clone"), clone(tmp_path / "other")
    (other / "data").symlink_to(folder / "data")
    first = popper(folder)
    until_asleep(first)
    refused = popper(other)
    lines = refused.communicate(timeout=60)[0]
    [container] = client.containers.list(filters={"name": "popper_sleeper_"})
    assert refused.returncode == 6, lines
    assert f"container {container.name} of Popper, process {first.pid}," in lines
    assert f"kill {first.pid}" in lines
    first.terminate()
    first.communicate(timeout=60)


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
