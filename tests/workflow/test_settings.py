"""settings.py fits the machine it is imported on: engine, GPU, user, mirror, parameters."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from checkout import CHECKOUT

from trainbench.ncf.benchmark import NCF

NVIDIA_RUNTIME = {"ServerVersion": "28.2.2", "Runtimes": {"runc": {}, "nvidia": {}}}
CPU_ENGINE = {"ServerVersion": "20.10.24", "Runtimes": {"runc": {}}}
NO_GPU: dict[str, Any] = {}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with settings.py as a clone has it, so that no test touches the real one."""
    folder = tmp_path / "clone"
    for name in ("containers/train", "containers/download", "scripts"):
        (folder / name).mkdir(parents=True)
    for name in ("settings.py", "wf.yml", "scripts/popper_twin.py"):
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


@pytest.fixture
def settings(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """settings.py imported where no Docker answers and no GPU is."""
    for name in ("PRESET", "RUNS", "SEED", "SETTINGS", "DATA_DIR", "MIRROR", "SHA256"):
        monkeypatch.delenv(name, raising=False)
    for name in ("RATINGS", "DATASET", "HASH_DECIDES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUIRE_GPU", "DROP_CACHES", "SUDO_UID", "SUDO_GID", "TRAINBENCH_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{checkout}/no.sock")
    return load(checkout)


def load(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings", checkout / "settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(settings: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The same with an NVIDIA GPU in the device tree and no toolkit on the PATH."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(settings, "NVIDIA_NODES", (f"{tmp_path}/nvidia[0-9]",))
    monkeypatch.setenv("PATH", str(tmp_path))
    return settings


def test_without_docker_the_import_gives_a_cpu_engine(settings: ModuleType, checkout: Path) -> None:
    engine = settings.ENGINE
    assert engine["volumes"] == [f"{checkout}/data:/data"]
    assert engine["environment"]["PRESET"] == "quick"
    assert engine["environment"]["TRAINBENCH_DATA_DIR"] == "/data"
    assert engine["init"] is True
    assert not {"runtime", "device_requests"} & set(engine)


def test_importing_twice_says_what_was_chosen_once(
    settings: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = load(checkout)
    assert again.ENGINE == settings.ENGINE
    assert capsys.readouterr().err.count("preset quick (no usable GPU)") <= 1
    assert (checkout / "data").is_dir()


def test_the_nvidia_runtime_is_asked_for_where_the_engine_has_it(gpu: ModuleType) -> None:
    request = gpu.gpu_request(NVIDIA_RUNTIME)
    engine = gpu.engine({}, request)
    assert engine["runtime"] == "nvidia"
    assert engine["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert engine["environment"]["PRESET"] == "mlperf"


def test_a_runtime_without_a_gpu_is_not_asked_for(settings: ModuleType, tmp_path: Path) -> None:
    settings.NVIDIA_NODES = (f"{tmp_path}/no-such-node",)
    assert settings.gpu_request(NVIDIA_RUNTIME) == NO_GPU


def test_a_gpu_that_the_engine_cannot_hand_on_is_not_asked_for(gpu: ModuleType) -> None:
    assert gpu.gpu_request(CPU_ENGINE) == NO_GPU


def test_a_device_request_is_made_where_the_toolkit_has_its_hook(
    gpu: ModuleType, tmp_path: Path
) -> None:
    hook = tmp_path / "nvidia-container-runtime-hook"
    hook.touch(mode=0o755)
    [request] = gpu.gpu_request(CPU_ENGINE)["device_requests"]
    assert request["Count"] == -1
    assert request["Capabilities"] == [["gpu"]]


@pytest.mark.parametrize("source", ["discovered", "specification"])
def test_cdi_names_are_used_where_the_engine_knows_them(
    gpu: ModuleType, tmp_path: Path, source: str
) -> None:
    info: dict[str, Any] = {**CPU_ENGINE, "CDISpecDirs": [str(tmp_path)]}
    if source == "discovered":
        info["DiscoveredDevices"] = [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]
    else:
        (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    [request] = gpu.gpu_request(info)["device_requests"]
    assert request["Driver"] == "cdi"
    assert request["DeviceIDs"] == ["nvidia.com/gpu=all"]


def test_cdi_devices_of_others_are_not_gpus(gpu: ModuleType) -> None:
    info = {**CPU_ENGINE, "DiscoveredDevices": [{"ID": "example.com/net=0"}]}
    assert gpu.gpu_request(info) == NO_GPU


@pytest.mark.parametrize(
    ("info", "found"),
    [({}, "Docker does not answer"), (CPU_ENGINE, "no NVIDIA GPU with a loaded driver")],
)
def test_require_gpu_stops_with_the_reason(
    settings: ModuleType,
    capsys: pytest.CaptureFixture[str],
    info: dict[str, Any],
    found: str,
) -> None:
    settings.NVIDIA_NODES = ()
    with pytest.raises(SystemExit) as stopped:
        settings.require_gpu({"REQUIRE_GPU": "1"}, info, NO_GPU)
    assert stopped.value.code == 6
    assert found in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "", "false"])
def test_require_gpu_can_be_switched_off(settings: ModuleType, value: str) -> None:
    settings.require_gpu({"REQUIRE_GPU": value}, {}, NO_GPU)


def test_the_marker_of_the_train_image_changes_only_with_the_machine(settings: ModuleType) -> None:
    marker: Path = settings.ACCELERATOR
    assert not marker.exists()
    settings.mark(marker, "cuda")
    assert marker.read_text() == "cuda\n"
    os.utime(marker, (1, 1))
    settings.mark(marker, "cuda")
    assert marker.stat().st_mtime == 1
    settings.mark(marker, "")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("asked", "marked"),
    [
        ({"RATINGS": "mine.parquet"}, True),
        ({"RATINGS": "mine.PARQUET"}, True),
        ({"RATINGS": "mine.dat", "RATINGS_FORMAT": "parquet"}, True),
        ({"RATINGS": "mine.parquet", "RATINGS_FORMAT": "csv"}, False),
        ({"RATINGS": "mine.csv.gz"}, False),
        ({}, False),
    ],
)
def test_the_image_of_download_reads_parquet_only_for_who_has_it(
    settings: ModuleType, tmp_path: Path, asked: dict[str, str], marked: bool
) -> None:
    settings.prepare({**asked, "DATA_DIR": str(tmp_path / "data")}, NO_GPU)
    assert settings.FORMATS.exists() == marked
    if marked:
        settings.prepare({"DATA_DIR": str(tmp_path / "data")}, NO_GPU)
        assert settings.FORMATS.exists(), "the image of a later run stays the same"


def test_parameters_reach_the_steps_and_unset_ones_do_not(settings: ModuleType) -> None:
    asked = {"RUNS": "3", "SEED": "7", "SETTINGS": "max_epochs=2 xla=false", "SHA256": ""}
    asked |= {"NOTE": "with the new cooler", "TAGS": "lab cooled"}
    found = settings.environment({**asked, "PRESET": "ml-1m", "HOME": "/root"}, NO_GPU)
    assert found["RUNS"] == "3"
    assert found["SEED"] == "7"
    assert found["TRAINBENCH_SET"] == "max_epochs=2 xla=false"
    assert found["TRAINBENCH_NOTE"] == "with the new cooler"
    assert found["TRAINBENCH_TAGS"] == "lab cooled"
    assert found["PRESET"] == "ml-1m"
    assert not {"SHA256", "HOME"} & set(found)


def test_a_local_mirror_is_mounted_read_only(settings: ModuleType, tmp_path: Path) -> None:
    for name in (str(tmp_path), f"file://{tmp_path}"):
        engine = settings.engine({"MIRROR": name}, NO_GPU)
        assert engine["volumes"][1:] == [f"{tmp_path}:/mirror:ro"]
        assert engine["environment"]["MIRROR"] == "file:///mirror"


def test_own_ratings_are_mounted_read_only_and_every_step_knows_their_name(
    settings: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv.gz").touch()
    asked = {"RATINGS": f"{tmp_path}/mine.csv.gz", "RATINGS_COLUMNS": "user=a,item=b"}
    engine = settings.engine(asked, NO_GPU)
    assert engine["volumes"][1:] == [f"{tmp_path}/mine.csv.gz:/ratings/mine.csv.gz:ro"]
    found = engine["environment"]
    assert found["RATINGS"] == "/ratings/mine.csv.gz"
    assert found["RATINGS_COLUMNS"] == "user=a,item=b"
    assert found["DATASET"] == "own"
    assert "PRESET" not in found
    named = settings.environment({**asked, "DATASET": "mine", "PRESET": "quick"}, NO_GPU)
    assert (named["DATASET"], named["PRESET"]) == ("mine", "quick")


@pytest.mark.parametrize(
    ("name", "told"), [("absent.csv", "no such file"), (".", "no such file"), ("a:b.csv", "colon")]
)
def test_own_ratings_that_cannot_be_mounted_stop(
    name: str, told: str, settings: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a:b.csv").touch()
    with pytest.raises(SystemExit) as stopped:
        settings.engine({"RATINGS": str(tmp_path / name)}, NO_GPU)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "RATINGS=" in said
    assert told in said


def test_every_option_of_own_ratings_is_handed_on(settings: ModuleType) -> None:
    of_source = {option.envvar for option in NCF.options if option.of_source}
    assert of_source - set(settings.HANDED_ON) == {"RATINGS"}


def test_a_mirror_on_the_network_is_handed_on(settings: ModuleType) -> None:
    engine = settings.engine({"MIRROR": "https://mirror.example/ml"}, NO_GPU)
    assert len(engine["volumes"]) == 1
    assert engine["environment"]["MIRROR"] == "https://mirror.example/ml"


def test_a_mirror_that_does_not_exist_stops(
    settings: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        settings.engine({"MIRROR": "/no/such/folder"}, NO_GPU)
    assert stopped.value.code == 2
    assert "MIRROR=/no/such/folder" in capsys.readouterr().err


def test_a_data_directory_that_is_a_file_stops(
    settings: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        settings.make_data_dir({"DATA_DIR": str(tmp_path / "file")})
    assert stopped.value.code == 6
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["DATA_DIR", "MIRROR"])
def test_a_folder_that_docker_cannot_mount_is_refused(
    settings: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = tmp_path / "at 10:30"
    folder.mkdir()
    with pytest.raises(SystemExit) as stopped:
        settings.engine({name: str(folder)}, NO_GPU)
    assert stopped.value.code == 2
    assert f"{name}={folder}: has a colon" in capsys.readouterr().err


def test_steps_have_the_users_of_the_host_in_an_engine_that_maps_them(
    settings: ModuleType,
) -> None:
    remapped = {**CPU_ENGINE, "SecurityOptions": ["name=userns"]}
    assert settings.engine({}, NO_GPU, remapped)["userns_mode"] == "host"
    assert "userns_mode" not in settings.engine({}, NO_GPU, CPU_ENGINE)


def test_containers_say_whose_they_are_and_what_they_work_on(
    settings: ModuleType, checkout: Path
) -> None:
    labels = settings.engine({}, NO_GPU)["labels"]
    assert labels[settings.DATA_LABEL] == f"{checkout}/data"
    assert settings.lives(labels[settings.POPPER_LABEL]) is True


def test_a_process_that_ended_does_not_live_and_one_of_another_machine_is_not_judged(
    settings: ModuleType,
) -> None:
    own = settings.process_identity(os.getpid())
    pid, started, boot = own.split()
    assert settings.lives(f"{pid} {int(started) + 1} {boot}") is False
    assert settings.lives(f"{2**22 + 1} {started} {boot}") is False
    assert settings.lives(f"{pid} {started} another-boot") is None
    assert settings.lives("") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for another user")
def test_under_sudo_files_belong_to_the_user(settings: ModuleType, tmp_path: Path) -> None:
    env = {"SUDO_UID": "12345", "SUDO_GID": "54321", "DATA_DIR": str(tmp_path / "a" / "data")}
    settings.make_data_dir(env)
    for folder in (tmp_path / "a", tmp_path / "a" / "data"):
        assert (folder.stat().st_uid, folder.stat().st_gid) == (12345, 54321)
    assert tmp_path.stat().st_uid != 12345


def test_the_revision_of_the_code_is_handed_on(settings: ModuleType, checkout: Path) -> None:
    assert settings.git_state() == {}
    commands = ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm first")
    for command in commands:
        subprocess.run(["git", *command.split()], cwd=checkout, check=True)
    clean = settings.git_state()
    assert len(clean["TRAINBENCH_GIT_REVISION"]) == 40
    (checkout / "new.py").touch()
    dirty = settings.git_state()
    assert (clean["TRAINBENCH_GIT_DIRTY"], dirty["TRAINBENCH_GIT_DIRTY"]) == ("0", "1")


def written(checkout: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What ``python settings.py`` does where no engine answers."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MIRROR", "DATA_DIR", "SUDO_UID")}
    return subprocess.run(
        [sys.executable, "settings.py", *arguments],
        cwd=checkout,
        env={**clean, "DOCKER_HOST": f"unix://{checkout}/no.sock", "PRESET": "quick", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_yaml_twin_mounts_and_leaves_the_workspace_alone(checkout: Path) -> None:
    engine = yaml.safe_load(written(checkout).stdout)["engine"]
    assert engine["name"] == "docker"
    assert "volumes" not in engine["options"]
    assert engine["options"]["mounts"] == [
        {"Type": "bind", "Source": f"{checkout}/data", "Target": "/data", "ReadOnly": False}
    ]
    assert engine["options"]["environment"]["PRESET"] == "quick"


def test_the_yaml_twin_asks_for_gpus_by_runtime(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(CHECKOUT / "scripts")
    twin = importlib.import_module("popper_twin").twin
    (tmp_path / "nvidia-container-runtime-hook").touch(mode=0o755)
    engine = gpu.engine({"MIRROR": str(tmp_path)}, gpu.gpu_request(CPU_ENGINE))
    options = yaml.safe_load(yaml.safe_dump(twin(gpu, engine)))["engine"]["options"]
    assert options["runtime"] == "nvidia"
    assert options["environment"]["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert "device_requests" not in options
    assert options["mounts"][1]["ReadOnly"] is True


def test_the_yaml_twin_has_the_same_steps_and_runs_from_any_folder(
    checkout: Path, tmp_path: Path
) -> None:
    done = written(checkout, "--popper-2.7", str(tmp_path / "a" / "twin"), RUNS="3")
    assert done.returncode == 0, done.stderr
    assert "in it: popper run -f wf.yml -c popper.yml" in done.stderr
    before = yaml.safe_load((checkout / "wf.yml").read_text())
    after = yaml.safe_load((tmp_path / "a" / "twin" / "wf.yml").read_text())
    assert set(after) == {"steps"}
    for old, new in zip(before["steps"], after["steps"], strict=True):
        name = old["uses"].removeprefix("./containers/")
        assert new == {**old, "uses": f"{checkout}/containers/./{name}"}
    options = yaml.safe_load((tmp_path / "a" / "twin" / "popper.yml").read_text())["engine"]
    found = options["options"]
    assert found["environment"]["RUNS"] == "3"
    assert found["environment"]["PYTHONPATH"] == "/checkout/src"
    code = {"Type": "bind", "Source": str(checkout), "Target": "/checkout", "ReadOnly": True}
    assert found["mounts"][-1] == code
    # Again, with other parameters.
    assert written(checkout, "--popper-2.7", str(tmp_path / "a" / "twin")).returncode == 0
    assert "RUNS" not in (tmp_path / "a" / "twin" / "popper.yml").read_text()


def test_the_yaml_twin_replaces_no_file_of_others(checkout: Path) -> None:
    before = (checkout / "wf.yml").read_text()
    done = written(checkout, "--popper-2.7", ".")
    assert done.returncode == 2
    assert "--popper-2.7 did not write it" in done.stderr
    assert (checkout / "wf.yml").read_text() == before
    assert not (checkout / "popper.yml").exists()


def test_other_arguments_of_settings_are_refused(checkout: Path) -> None:
    done = written(checkout, "--nonsense")
    assert done.returncode == 2
    assert "wanted no argument, or --popper-2.7 DIR" in done.stderr
