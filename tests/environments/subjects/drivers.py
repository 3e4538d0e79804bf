"""What install_cuda_docker.sh installs on each release: a dry run carried out by ``apt-get -s``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from environment import CHECKOUT, Ended, Environment, sh
from roots import BOOKWORM, JAMMY, NOBLE, RESOLUTE, TRIXIE, Release, made, within

COMMAND = "install_cuda_docker.sh --dry-run --with-driver"
H100 = "pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00"
SIMULATED = """#!/bin/bash
[[ " $* " == *" install "* ]] || exec /usr/bin/apt-get "$@"
exec /usr/bin/apt-get -s "$@" | tee -a /selected
"""
# The driver's own package is there once it is installed; here it only would be.
INSTALLED = """#!/bin/bash
sed -n 's/^Inst \\(nvidia-headless-[^ ]*\\) (\\([^ ]*\\).*/\\1\\t\\2/p' /selected
"""
# Ubuntu's tool asks for the running kernel and for the files of its devices.
DRIVERS = """#!/usr/bin/python3
import os, runpy, sys
real = os.uname()
os.uname = lambda: os.uname_result((*real[:2], "KERNEL", *real[3:]))
sys.argv[0] = "ubuntu-drivers"
runpy.run_path("/usr/bin/ubuntu-drivers", run_name="__main__")
"""
KERNEL = """
kernel=$(apt-cache depends linux-image-generic |
  sed -n 's/.*Depends: linux-image-\\([0-9].*-generic\\).*/\\1/p' | head -n 1)
sed -i "s/KERNEL/$kernel/" /usr/local/sbin/ubuntu-drivers
for name in linux-generic linux-image-generic "linux-image-$kernel" "linux-headers-$kernel"; do
  printf 'Package: %s\\nStatus: install ok installed\\nMaintainer: nobody\\n' "$name"
  printf 'Architecture: amd64\\nSource: linux\\nVersion: %s\\nDescription: -\\n\\n' \\
    "$(apt-cache policy "$name" | sed -n 's/ *Candidate: //p')"
done >>/var/lib/dpkg/status
"""
CARRY_OUT = """
cd / && bash /install_cuda_docker.sh --dry-run --with-driver >/plan || exit
sed '/^NVIDIA Container Toolkit/,$d' /plan | sed -n 's/^would run: //p' |
  grep -v '^setsid' >/commands
set -o pipefail
while read -r command; do
  echo "$command"
  bash -c "$command" </dev/null || exit
done </commands
awk '/^Inst/ { print $2 }' /selected | sort -u >/names
for wanted in nvidia-smi libcuda1; do
  while read -r name; do
    apt-cache show "$name" | grep -E '^(Package|Provides):' | grep -qE "[ ]$wanted(,| |\\$)" &&
      echo "$wanted: $name" && break
  done < <(grep -E 'nvidia|libcuda' /names)
done | paste -sd ' '
echo "X.org: $(grep -c xserver /names)"
"""


def simulated(release: Release, folder: Path) -> Ended:
    """A machine of ``release`` with a GPU in its device tree and no driver."""
    root = folder / "root"
    # Not by shutil, which reads devices: /dev/full never ends.
    sh(["cp", "-a", made(release), root], check=True)
    shutil.copy(CHECKOUT / "install_cuda_docker.sh", root)
    _program(root / "usr/local/sbin/apt-get", SIMULATED)
    gpu = root / "machine/sys/bus/pci/devices/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "vendor").write_text("0x10de\n")
    (gpu / "class").write_text("0x030200\n")
    (root / "machine/etc").mkdir()
    shutil.copy(root / "usr/lib/os-release", root / "machine/etc/os-release")
    prepared = ":"
    if release.is_ubuntu:
        devices = root / "machine/sys/devices/pci0000:00/0000:01:00.0"
        devices.mkdir(parents=True)
        (devices / "modalias").write_text(H100 + "\n")
        within(root, "/usr/bin/apt-get install -y -qq --no-install-recommends "
               "ubuntu-drivers-common", check=True)  # fmt: skip
        _program(root / "usr/local/sbin/ubuntu-drivers", DRIVERS)
        _program(root / "usr/local/sbin/dpkg-query", INSTALLED)
        prepared = KERNEL
    env = {"TRAINBENCH_ROOT": "/machine", "UBUNTU_DRIVERS_SYS_DIR": "/machine/sys"}
    ended = within(root, prepared + CARRY_OUT, **env)
    kept = re.sub(r"^(Inst|Conf|udevadm).*\n", "", ended.output, flags=re.MULTILINE)
    return Ended(ended.code, kept)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def driver(
    release: Release, name: str, title: str, *, selected: str, ci: bool = False
) -> Environment:
    """The environment of one release."""
    how = " Ubuntu's `ubuntu-drivers` chooses for an H100." if release.is_ubuntu else ""
    made_of = f"A root of {release.suite} by debootstrap; the GPU is simulated by files."
    return Environment(
        name=f"driver-{name}",
        what=f"{title} with an NVIDIA GPU and no driver: what would be installed",
        made=f"{made_of} The commands of the dry run are carried out by `apt-get -s`.{how}",
        command=COMMAND,
        expected=selected,
        run=lambda folder: simulated(release, folder),
        missing=release.missing,
        ci=ci,
    )


_DEBIAN = "nvidia-smi: nvidia-smi libcuda1: libcuda1"
_UBUNTU = "nvidia-smi: nvidia-utils-...-server libcuda1: libnvidia-compute-...-server"
ENVIRONMENTS = [
    driver(BOOKWORM, "debian-12", "Debian 12", selected=_DEBIAN),
    driver(TRIXIE, "debian-13", "Debian 13", selected=_DEBIAN, ci=True),
    driver(JAMMY, "ubuntu-22-04", "Ubuntu 22.04", selected=_UBUNTU),
    driver(NOBLE, "ubuntu-24-04", "Ubuntu 24.04", selected=_UBUNTU),
    driver(RESOLUTE, "ubuntu-26-04", "Ubuntu 26.04", selected=_UBUNTU),
]
