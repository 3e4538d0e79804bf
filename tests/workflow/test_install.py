"""install_cuda_docker.sh on machines made of fake commands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from fake_machine import SCRIPT, Machine


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
    assert commands(done) == [
        "apt-get -o DPkg::Lock::Timeout=300 update -qq",
        "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq "
        "--no-install-recommends docker.io iptables",
        f"setsid nohup dockerd --log-level=warn >>'{machine.state}/dockerd.log' 2>&1 </dev/null &",
    ]


def commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    found = re.findall(r"^would run: (.*)$", done.stdout, re.MULTILINE)
    return [str(command) for command in found]


@pytest.mark.parametrize("version", ["debian:12", "debian:13", "ubuntu:24.04", "ubuntu:26.04"])
@pytest.mark.parametrize("systemd", [True, False])
def test_every_word_of_a_dry_run_is_a_program_and_none_a_function_of_the_script(
    machine: Machine, version: str, systemd: bool
) -> None:
    machine.system(*version.split(":"))
    machine.with_gpu()
    if systemd:
        machine.with_systemd()
    machine.fake("apt-cache", '[ "$2" != nvidia-container-toolkit ] && echo Package: $2')
    done = machine.run("--dry-run", "--with-driver")
    assert done.returncode == 0, done.stderr
    assert machine.calls == []
    functions = set(re.findall(r"^(\w+)\(\) ", SCRIPT.read_text(), re.MULTILINE))
    assert len(functions) > 30
    for command in commands(done):
        assert not functions & set(command.split())
        subprocess.run(["bash", "-n", "-c", command], check=True)
    programs = {command.split()[0].partition("=")[0] for command in commands(done)}
    started = "systemctl" if systemd else "setsid"
    assert programs >= {"apt-get", "DEBIAN_FRONTEND", "curl", "echo", "nvidia-ctk", started}
    assert ("ubuntu-drivers" in programs) == version.startswith("ubuntu")
    assert any("docker-cli" in command for command in commands(done)) == (version == "debian:13")


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
    assert f"nvidia-ctk cdi generate --output={machine.root}/etc/cdi/nvidia.yaml" in machine.calls
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
    wanted = "nvidia-kernel-dkms nvidia-smi libcuda1"
    assert any(wanted in call for call in machine.calls) != installed


def test_a_driver_that_can_be_loaded_at_once_needs_no_reboot(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("modprobe", "touch $STATE/loaded")
    machine.fake("nvidia-ctk", "touch $STATE/runtime")
    machine.fake("nvidia-smi", "[ -e $STATE/loaded ] && echo 550.1")
    (machine.fakes / "nvidia-smi").rename(machine.state / "nvidia-smi")
    machine.fake("apt-get", "cat $STATE/nvidia-smi >$FAKES/nvidia-smi; chmod +x $FAKES/nvidia-smi")
    done = machine.run("--with-driver")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did: installed the NVIDIA driver" in done.stdout


def test_ubuntus_driver_comes_with_the_nvidia_smi_of_its_branch(machine: Machine) -> None:
    machine.system("ubuntu", "26.04")
    machine.running()
    machine.with_gpu()
    machine.fake("ubuntu-drivers", "exit 0")
    machine.fake(
        "dpkg-query",
        r"printf 'nvidia-headless-no-dkms-580-server-open\t580.95-0ubuntu1\n"
        r"nvidia-headless-no-dkms-595-server\t\n'",
    )
    done = machine.run("--with-driver")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "ubuntu-drivers install --gpgpu" in machine.calls
    assert machine.calls[-1].endswith(" nvidia-utils-580-server")


def test_a_gpu_that_ubuntu_has_no_driver_for_is_told_and_no_reboot_advised(
    machine: Machine,
) -> None:
    machine.system("ubuntu", "24.04")
    machine.running()
    machine.with_gpu()
    machine.fake("ubuntu-drivers", "echo No drivers found for installation.")
    machine.fake("dpkg-query", "exit 1")
    done = machine.run("--with-driver")
    assert done.returncode == 1
    assert "no server driver for this GPU" in done.stderr
    assert "reboot" not in done.stdout


def test_debian_without_its_component_non_free_is_told_which_to_add(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("apt-cache", "exit 100")
    done = machine.run("--with-driver")
    assert done.returncode == 1
    assert "add the components contrib, non-free and non-free-firmware" in done.stderr


def test_no_linux_driver_is_installed_in_wsl2(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.with_wsl()
    machine.with_driver_of_windows()
    (machine.root / "usr/lib/wsl/lib/nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    done = machine.run("--with-driver", "--check")
    assert done.returncode == 1
    assert "missing: the NVIDIA driver of Windows: install or update it in Windows" in done.stdout
    done = machine.run("--with-driver")
    assert done.returncode == 1
    assert not any("libcuda1" in call or "dkms" in call for call in machine.calls)


def test_the_driver_of_windows_is_found_where_sudo_has_no_path_to_it(machine: Machine) -> None:
    machine.running()
    machine.with_wsl()
    machine.with_driver_of_windows()
    done = machine.run("--with-driver")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"NVIDIA driver +found 581.15 .* ok", done.stdout)
    assert "A container with the GPU" in done.stdout


def test_wsl2_without_an_nvidia_driver_of_windows_is_a_machine_without_a_gpu(
    machine: Machine,
) -> None:
    machine.running()
    machine.with_wsl()
    done = machine.run("--with-driver")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NVIDIA" not in done.stdout
    assert machine.calls == []


@pytest.mark.parametrize("tool", [True, False])
@pytest.mark.parametrize("installed", [True, False])
def test_secure_boot_wants_an_enrolment_and_no_mere_reboot(
    machine: Machine, tool: bool, installed: bool
) -> None:
    machine.running()
    machine.with_gpu()
    if installed:
        machine.fake("nvidia-smi", "exit 9")
    if tool:
        machine.fake("mokutil", 'case $1 in --sb-state) echo "SecureBoot enabled" ;; esac')
    else:
        variables = machine.root / "sys/firmware/efi/efivars"
        variables.mkdir(parents=True)
        name = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        (variables / name).write_bytes(bytes([6, 0, 0, 0, 1]))
    done = machine.run("--with-driver")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "enrol the driver's key" in done.stdout
    assert "mokutil --import /var/lib/dkms/mok.pub" in done.stdout
    assert "reboot this machine" not in done.stdout


@pytest.mark.parametrize("why", ["off", "enrolled", "signed by Ubuntu"])
def test_without_need_of_an_enrolment_none_is_advised(machine: Machine, why: str) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("nvidia-smi", "exit 9")
    key = machine.root / "var/lib/shim-signed/mok/MOK.der"
    key.parent.mkdir(parents=True)
    key.touch()
    state = "disabled" if why == "off" else "enabled"
    known = "is already enrolled" if why == "enrolled" else "is not enrolled"
    machine.fake("mokutil", f"[ $1 = --sb-state ] && echo SecureBoot {state} || echo $2 {known}")
    signer = "Canonical Ltd. Kernel Module Signing" if why.startswith("signed") else "DKMS"
    machine.fake("modinfo", f"echo {signer}")
    done = machine.run()
    assert done.returncode == 3, done.stdout + done.stderr
    assert "reboot this machine" in done.stdout
    assert "enrol" not in done.stdout


def test_a_driver_without_a_module_for_this_kernel_is_no_case_for_a_reboot(
    machine: Machine,
) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("nvidia-smi", "exit 9")
    machine.fake("modinfo", "exit 1")
    done = machine.run()
    assert done.returncode == 1
    assert "missing: the driver's module for kernel" in done.stdout
    assert "reboot" not in done.stdout


def test_a_toolkit_without_a_driver_is_not_called_ready_the_second_time(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    for _ in range(2):
        done = machine.run()
        assert done.returncode == 1
        assert "missing: the NVIDIA driver" in done.stdout
        assert not any("cdi" in call for call in machine.calls)
    machine.fake("nvidia-smi", "echo 570.10")
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did: wrote the CDI specification" in done.stdout


def test_a_cdi_specification_of_another_driver_is_written_anew(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("nvidia-smi", "echo 570.10")
    specification = machine.root / "etc/cdi/nvidia.yaml"
    specification.parent.mkdir()
    specification.write_text("hostPath: /usr/lib/libcuda.so.550.1\n")
    done = machine.run()
    assert "did: wrote the CDI specification" in done.stdout
    specification.write_text("hostPath: /usr/lib/libcuda.so.570.10\n")
    assert "CDI specification" not in machine.run().stdout.partition("did:")[2]


def test_a_driver_without_the_library_of_cuda_is_told(machine: Machine) -> None:
    machine.running()
    machine.with_gpu()
    machine.fake("nvidia-smi", "echo 550.1")
    machine.fake("ldconfig", "echo libc.so.6")
    assert "missing: libcuda.so.1" in machine.run().stdout
    machine.run("--with-driver")
    assert any(call.endswith("--no-install-recommends libcuda1") for call in machine.calls)


@pytest.mark.parametrize(("option", "code"), [("--help", 0), ("--nonsense", 2)])
def test_help_and_unknown_options(machine: Machine, option: str, code: int) -> None:
    done = machine.run(option)
    assert done.returncode == code
    assert ("Exit codes:" in done.stdout) == (code == 0)
    assert os.listdir(machine.state) == ["bin"]
