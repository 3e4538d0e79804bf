"""install_cuda_docker.sh on machines made of fake commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from checkout import CHECKOUT

SCRIPT = CHECKOUT / "install_cuda_docker.sh"

# Each fake notes its call. The machine's state is files in STATE: engine, runtime, driver.
FAKES = {
    "id": "echo 0",
    "docker": """case "$1 $2" in
        version*) [ -e $STATE/engine ] && echo 20.10.24 ;;
        "info "*) [ -e $STATE/runtime ] && echo '{"nvidia":{}}' || echo '{"runc":{}}' ;;
        "run --rm") case "$*" in *nvidia-smi*) echo "GPU 0: Fake" ;; *) echo ready ;; esac ;;
        "import "*) cat >/dev/null ;;
      esac""",
    "apt-get": """for word in "$@"; do
        case $word in
          docker.io)
            printf '#!/bin/sh\\ntouch $STATE/engine\\n' > $FAKES/dockerd
            chmod +x $FAKES/dockerd ;;
          nvidia-container-toolkit)
            printf '#!/bin/sh\\necho nvidia-ctk "$@" >> $STATE/calls\\n
                   [ "$1" = runtime ] && touch $STATE/runtime; exit 0\\n' > $FAKES/nvidia-ctk
            chmod +x $FAKES/nvidia-ctk ;;
        esac
      done""",
    "apt-cache": "exit 0",
    "systemctl": '[ -n "$BROKEN" ] || touch $STATE/engine',
    "journalctl": "echo the daemon says why",
}

PROGRAMS = (
    *("sh", "bash", "cat", "chmod", "cut", "dpkg", "grep", "head", "ldd", "nohup", "rm", "sed"),
    *("setsid", "sleep", "sort", "tail", "tar", "timeout", "touch", "tr", "uname"),
)


class Machine:
    """A root file system, a PATH of fakes and a record of what was called."""

    def __init__(self, folder: Path) -> None:
        self.root, self.state, self.fakes = folder / "root", folder / "state", folder / "fakes"
        for path in (self.root / "etc", self.root / "var/run", self.state, self.fakes):
            path.mkdir(parents=True)
        self.system("debian", "12")
        for name, body in FAKES.items():
            self.fake(name, body)

    def system(self, name: str, version: str) -> None:
        (self.root / "etc/os-release").write_text(f'ID={name}\nVERSION_ID="{version}"\n')

    def fake(self, name: str, body: str) -> None:
        program = self.fakes / name
        note = "" if name in ("id", "docker") else f'echo {name} "$@" >> $STATE/calls\n'
        program.write_text(f"#!/bin/sh\n{note}{body}\n")
        program.chmod(0o755)

    def with_systemd(self) -> None:
        (self.root / "run/systemd/system").mkdir(parents=True)

    def with_gpu(self) -> None:
        device = self.root / "sys/bus/pci/devices/0000:01:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text("0x030200\n")

    def running(self) -> None:
        (self.state / "engine").touch()

    def run(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", SCRIPT, *options],
            env={
                "PATH": f"{self.fakes}:{self.programs()}",
                "STATE": str(self.state),
                "FAKES": str(self.fakes),
                "TRAINBENCH_ROOT": str(self.root),
                "TRAINBENCH_DAEMON_WAIT_S": "20",
                "DOCKERD_LOG": str(self.state / "dockerd.log"),
                **env,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def programs(self) -> Path:
        """The few real programs the script needs; this machine's own Docker is not among them."""
        folder = self.state / "bin"
        if not folder.exists():
            folder.mkdir()
            for name in PROGRAMS:
                found = next(p for d in ("/usr/bin", "/bin") if (p := Path(d, name)).exists())
                (folder / name).symlink_to(found)
        return folder

    @property
    def calls(self) -> list[str]:
        path = self.state / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_ready_machine_is_left_as_it_is(machine: Machine) -> None:
    machine.running()
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("ready\n")
    assert "did:" not in done.stdout
    assert machine.calls == []


def test_docker_is_installed_and_started_by_systemd(machine: Machine) -> None:
    machine.with_systemd()
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert any("docker.io" in call for call in machine.calls)
    assert "systemctl enable --now docker" in machine.calls
    assert "did: installed Docker" in done.stdout


def test_docker_is_started_without_systemd(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(call.startswith("systemctl") for call in machine.calls)
    assert "did: started the Docker daemon" in done.stdout


def test_a_second_run_does_nothing(machine: Machine) -> None:
    machine.run()
    first = machine.calls
    done = machine.run()
    assert done.returncode == 0
    assert machine.calls == first


def test_an_installed_daemon_is_only_started(machine: Machine) -> None:
    machine.fake("dockerd", "touch $STATE/engine")
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any("install" in call for call in machine.calls)


def test_check_changes_nothing_and_says_what_is_missing(machine: Machine) -> None:
    done = machine.run("--check")
    assert done.returncode == 1
    assert machine.calls == []
    assert "Docker engine" in done.stdout
    assert "missing: not installed Docker" in done.stdout


def test_dry_run_prints_the_commands(machine: Machine) -> None:
    done = machine.run("--dry-run")
    assert done.returncode == 0
    assert machine.calls == []
    assert "would run: apt_install docker.io" in done.stdout


def test_a_daemon_that_does_not_start_is_reported_with_its_last_words(machine: Machine) -> None:
    machine.with_systemd()
    done = machine.run(BROKEN="1", TRAINBENCH_DAEMON_WAIT_S="1")
    assert done.returncode == 1
    assert "the daemon says why" in done.stderr
    assert "missing: failed: not started the Docker daemon" in done.stdout


def test_an_unsupported_system_is_refused(machine: Machine) -> None:
    machine.system("fedora", "40")
    done = machine.run()
    assert done.returncode == 2
    assert "fedora 40" in done.stderr
    assert machine.calls == []


def test_an_unsupported_system_with_docker_is_welcome(machine: Machine) -> None:
    machine.system("fedora", "40")
    machine.running()
    assert machine.run().returncode == 0


def test_nothing_of_nvidia_is_touched_without_a_gpu(machine: Machine) -> None:
    machine.run()
    assert not any("nvidia" in call for call in machine.calls)


def test_the_toolkit_is_installed_and_configured_with_a_gpu(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.with_systemd()
    machine.fake("nvidia-smi", "echo 570.10")
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert any("install" in c and "nvidia-container-toolkit" in c for c in machine.calls)
    assert "nvidia-ctk runtime configure --runtime=docker" in machine.calls
    assert "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml" in machine.calls
    assert "systemctl restart docker" in machine.calls
    assert "A container with the GPU" in done.stdout


def test_a_missing_driver_is_named_and_not_installed_unasked(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    done = machine.run("--check")
    assert done.returncode == 1
    assert "missing: the NVIDIA driver: run again with --with-driver" in done.stdout


@pytest.mark.parametrize("installed", [True, False])
def test_a_driver_that_is_not_loaded_needs_a_reboot(machine: Machine, installed: bool) -> None:
    machine.running()
    machine.with_gpu()
    if installed:
        machine.fake("nvidia-smi", "exit 9")
    done = machine.run("--with-driver")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "reboot this machine" in done.stdout
    assert any("nvidia-driver" in call for call in machine.calls) != installed


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--nonsense", 2)])
def test_help_and_unknown_options(machine: Machine, option: str, code: int) -> None:
    done = machine.run(option)
    assert done.returncode == code
    assert ("Exit codes:" in done.stdout) == (code == 0)
    assert os.listdir(machine.state) == ["bin"]
