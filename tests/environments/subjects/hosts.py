"""Machines of other kinds: GPUs under Windows and Secure Boot, proxies, Poppers, processors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from environment import CHECKOUT, Ended, Environment, sh, without_engine
from fake_machine import Machine
from processes import DEAD_PROXY, free_addresses

SOURCES = {"PYTHONPATH": str(CHECKOUT / "src")}
INSTALL = "sudo ./install_cuda_docker.sh --with-driver"
_FLAGS = (
    "--model=trivial --data_name=cifar10 --device=cpu --batch_size=4 --num_warmup_batches=1 "
    "--num_batches=3 --variable_update=collective_all_reduce --all_reduce_spec=collective "
    "--job_name=worker"
)


def installed(machine: Machine, *options: str) -> Ended:
    """The end of install_cuda_docker.sh on a machine of fake commands."""
    done = machine.run(*options)
    return Ended(done.returncode, done.stdout + done.stderr)


def wsl2(folder: Path) -> Ended:
    """/dev/dxg, and a driver of Windows that does not work."""
    machine = Machine(folder)
    machine.running()
    machine.with_wsl()
    machine.with_driver_of_windows()
    (machine.root / "usr/lib/wsl/lib/nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    ended = installed(machine, "--with-driver")
    assert not [call for call in machine.calls if "nvidia-kernel" in call or "libcuda1" in call]
    return ended


def secure_boot(folder: Path) -> Ended:
    """A driver that is installed, and a firmware that does not know its key."""
    machine = Machine(folder)
    machine.running()
    machine.with_gpu()
    machine.fake("nvidia-smi", "exit 9")
    machine.fake("mokutil", '[ $1 = --sb-state ] && echo "SecureBoot enabled"')
    return installed(machine)


def toolkit_without_driver(folder: Path) -> Ended:
    """A GPU, and the script called a second time."""
    machine = Machine(folder)
    machine.running()
    machine.with_gpu()
    installed(machine)
    return installed(machine)


def behind_a_proxy(folder: Path) -> Ended:
    """Two workers, whose environment names a proxy that nothing comes through."""
    hosts = ",".join(free_addresses(2))
    command = f"{sys.executable} -m trainbench cnn {_FLAGS} --worker_hosts={hosts}"
    other = subprocess.Popen(
        ["bash", "-c", f"exec {command} --task_index=1"],
        env={"PATH": "/usr/bin:/bin", **SOURCES, **DEAD_PROXY},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return sh(f"exec {command} --task_index=0", folder, **SOURCES, **DEAD_PROXY)
    finally:
        other.kill()
        other.wait()


def popper_2_7(folder: Path) -> Ended:
    """The whole workflow in a folder of its own."""
    data = folder / "data"
    try:
        return sh(f"scripts/popper_2_7.sh {folder}/twin", PRESET="quick", DATA_DIR=str(data))
    finally:
        sh(f"docker ps -aq --filter label=org.trainbench.data={data} | xargs -r docker rm -f")


def wheels(python: str, machine: str) -> Ended:
    """The names of the wheels that the index has."""
    words = ["--python", python, "--machine", machine, "requirements.lock"]
    return sh([sys.executable, "scripts/wheels.py", *words])


ENVIRONMENTS = [
    Environment(
        name="wsl2",
        what="WSL2 whose Windows has an NVIDIA driver that does not work",
        made="Simulated by files (`/dev/dxg`, `/usr/lib/wsl/lib`) and commands on the PATH.",
        command=INSTALL,
        expected="missing: the NVIDIA driver of Windows: install or update it in Windows",
        code=1,
        run=wsl2,
        ci=True,
    ),
    Environment(
        name="secure-boot",
        what="Secure Boot, with a driver whose key is not enrolled",
        made="Simulated by commands on the PATH (`mokutil`, `nvidia-smi`).",
        command=INSTALL,
        expected="enrol the driver's key, which Secure Boot wants (a reboot alone does not help)",
        code=3,
        run=secure_boot,
        ci=True,
    ),
    Environment(
        name="toolkit-without-driver",
        what="the NVIDIA Container Toolkit without a driver, at the second call",
        made="Simulated by files and commands on the PATH.",
        command="sudo ./install_cuda_docker.sh",
        expected="missing: the NVIDIA driver: run again with --with-driver",
        code=1,
        run=toolkit_without_driver,
        ci=True,
    ),
    Environment(
        name="proxy",
        what="two workers behind a proxy that lets nothing through",
        made="Two processes with `http_proxy` and `https_proxy` of a port where nothing listens.",
        command="python -m trainbench cnn --job_name=worker --worker_hosts=... --task_index=0",
        expected="total images/sec:",
        run=behind_a_proxy,
        ci=True,
    ),
    Environment(
        name="popper-2-7",
        what="Popper 2.7.0 in an environment of its own",
        made="The engine of this machine; the whole preset `quick`.",
        command="PRESET=quick scripts/popper_2_7.sh DIR",
        expected="Workflow finished successfully",
        run=popper_2_7,
        missing=without_engine,
        ci=True,
    ),
    Environment(
        name="aarch64-wheels",
        what="the packages of aarch64 (Python 3.13): which have wheels",
        made="The names of the wheels in the package index. The images' files have them all.",
        command="python scripts/wheels.py --python 3.13 --machine aarch64 requirements.lock",
        expected="have wheels; source alone of popper",
        run=lambda _: wheels("3.13", "aarch64"),
    ),
    Environment(
        name="python-3-14-wheels",
        what="the packages of Python 3.14: which have none",
        made="The names of the wheels in the package index.",
        command="python scripts/wheels.py --python 3.14 --machine x86_64 requirements.lock",
        expected="none for h5py 3.14.0, tensorflow 2.21.0",
        run=lambda _: wheels("3.14", "x86_64"),
    ),
    Environment(
        name="aarch64",
        what="a machine with an aarch64 processor",
        made="Not made.",
        command="./scripts/run.sh",
        expected="finished with exit code 0",
        not_run="no such machine, and no emulation that TensorFlow runs in",
    ),
    Environment(
        name="wsl2-gpu",
        what="a real WSL2 with a GPU, and a real Secure Boot",
        made="Not made.",
        command="sudo ./install_cuda_docker.sh",
        expected="A container with the GPU",
        not_run="no Windows machine; simulated above",
    ),
]
