"""wf.yml and settings.py as Popper 2.5.0 itself reads and runs them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import popper_runs
import pytest
import yaml
from checkout import CHECKOUT
from processes import PATIENCE_S, wait_until

STEPS = ["download", "preprocess", "train", "stitch", "report"]
Popper = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def popper(tmp_path: Path) -> Popper:
    clone = popper_runs.copied(tmp_path / "clone", "containers", "wf.yml", "settings.py")

    def start(*options: str, **env: str) -> subprocess.Popen[str]:
        return popper_runs.popper(clone, tmp_path / "notes", *options, PRESET="quick", **env)

    return start


def notes(tmp_path: Path, did: str) -> list[dict[str, Any]]:
    return popper_runs.noted(tmp_path / "notes", did)


def started(tmp_path: Path, step: str) -> bool:
    return any(step in note["name"] for note in notes(tmp_path, "start"))


def test_the_five_steps_run_in_order_in_four_images(popper: Popper, tmp_path: Path) -> None:
    process = popper()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    created = notes(tmp_path, "create")
    assert [note["name"].split("_")[1] for note in created] == STEPS
    built = [Path(note["path"]).name for note in notes(tmp_path, "build")]
    assert built == ["download", "preprocess", "train", "stitch", "stitch"]
    assert output.index("preset quick (as asked)") < output.index("download says hello")


def test_every_step_gets_the_code_and_the_data_and_training_the_engine(
    popper: Popper, tmp_path: Path
) -> None:
    popper().communicate(timeout=PATIENCE_S)
    clone = tmp_path / "clone"
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    for step, note in zip(STEPS, notes(tmp_path, "create"), strict=True):
        trains = step == "train"
        module = "trainbench" if trains else "trainbench.machine.privileges"
        assert note["entrypoint"] == ["python", "-m", module]
        assert note["command"][0] == step
        engine = [socket] if trains else []
        assert note["volumes"] == [f"{clone}:/workspace:ro", *engine, f"{clone}/data:/data"]
        assert note["environment"]["TRAINBENCH_DATA_DIR"] == "/data"
        assert note["environment"]["PRESET"] == "quick"
        assert note["init"] is True


@pytest.mark.parametrize("socket", ["/run/user/7/docker.sock", ""])
def test_training_gets_the_socket_of_the_engine_that_runs_it_or_none(
    popper: Popper, tmp_path: Path, socket: str
) -> None:
    popper(ENGINE_SOCKET=socket).communicate(timeout=PATIENCE_S)
    mounted = {
        step: [volume for volume in note["volumes"] if "docker.sock" in volume]
        for step, note in zip(STEPS, notes(tmp_path, "create"), strict=True)
    }
    assert mounted.pop("train") == ([f"{socket}:/var/run/docker.sock"] if socket else [])
    assert not any(mounted.values())


def test_the_engine_is_probed_before_the_first_build(popper: Popper, tmp_path: Path) -> None:
    popper().communicate(timeout=PATIENCE_S)
    [probed] = notes(tmp_path, "probe")
    assert probed["data"] == f"{tmp_path}/clone/data"
    order = [line.split('"')[3] for line in (tmp_path / "notes").read_text().splitlines()]
    assert order.index("probe") < order.index("build")


def test_a_failed_step_ends_the_workflow_and_leaves_no_container(
    popper: Popper, tmp_path: Path
) -> None:
    process = popper(STEP_CODES="preprocess=3")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, output
    created = [note["name"] for note in notes(tmp_path, "create")]
    assert [name.split("_")[1] for name in created] == ["download", "preprocess"]
    assert [note["name"] for note in notes(tmp_path, "remove")] == created


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_step_removes_its_container_and_exits_130(
    popper: Popper, tmp_path: Path, number: signal.Signals
) -> None:
    process = popper(HANGS="train")
    wait_until(lambda: started(tmp_path, "train"))
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    for did in ("stop", "remove"):
        assert any("train" in note["name"] for note in notes(tmp_path, did))


def test_a_second_run_in_the_same_checkout_is_refused(popper: Popper, tmp_path: Path) -> None:
    first = popper(HANGS="train")
    wait_until(lambda: started(tmp_path, "train"))
    second = popper()
    output, _ = second.communicate(timeout=PATIENCE_S)
    first.terminate()
    first.communicate(timeout=PATIENCE_S)
    assert second.returncode == 6
    assert "a run is going on here" in output


def test_one_step_runs_alone(popper: Popper, tmp_path: Path) -> None:
    process = popper("train")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert [note["name"].split("_")[1] for note in notes(tmp_path, "create")] == ["train"]


def test_a_dry_run_touches_nothing(popper: Popper, tmp_path: Path) -> None:
    process = popper("--dry-run")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert not (tmp_path / "notes").exists()
    assert [step for step in STEPS if f"DRYRUN: [{step}] docker create" in output] == STEPS


def test_the_steps_are_commands_of_the_command_line() -> None:
    from trainbench.cli.main import cli

    steps = yaml.safe_load((CHECKOUT / "wf.yml").read_text())["steps"]
    for step in steps:
        command = cli.commands[step["args"][0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(step["args"][1:]) <= known


@pytest.mark.parametrize("name", ["download", "preprocess", "train", "stitch"])
def test_an_image_pins_what_the_lock_pins(name: str) -> None:
    lock = set((CHECKOUT / "requirements.lock").read_text().split())
    for requirements in (CHECKOUT / "containers" / name).glob("requirements*.txt"):
        lines = requirements.read_text().splitlines()
        pins = {line.split()[0] for line in lines if "==" in line and not line.startswith(" ")}
        ours = {pin for pin in pins if not pin.startswith("nvidia-")}
        assert ours <= lock
        assert ("tensorflow" in {pin.split("==")[0] for pin in pins}) == (name == "train")
        assert all("--hash=sha256:" in line for line in lines if line.startswith(" "))


def test_cuda_wheels_are_in_their_own_list_alone() -> None:
    folder = CHECKOUT / "containers" / "train"
    assert "nvidia-cudnn" in (folder / "requirements-cuda.txt").read_text()
    assert "nvidia-" not in (folder / "requirements.txt").read_text()
