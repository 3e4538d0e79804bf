"""Root file systems of other releases, made by debootstrap, and commands that run in them."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from environment import CHECKOUT, Ended, sh, without

UBUNTU = os.environ.get("UBUNTU_MIRROR", "http://archive.ubuntu.com/ubuntu")
_SITE = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Release:
    """A release of a distribution, by the name of its archive."""

    suite: str
    components: str = "main contrib non-free non-free-firmware"
    is_ubuntu: bool = False

    def missing(self) -> str:
        """Why no root of it can be made here; empty where one can."""
        if needs := without("debootstrap", "unshare"):
            return needs
        return no_answer(UBUNTU, self.suite) if self.is_ubuntu else ""


BOOKWORM, TRIXIE = Release("bookworm"), Release("trixie")
_ALL = "main restricted universe multiverse"
JAMMY, NOBLE, RESOLUTE = (Release(s, _ALL, is_ubuntu=True) for s in ("jammy", "noble", "resolute"))


@functools.cache
def no_answer(mirror: str, suite: str) -> str:
    """Why a release's archive cannot be used; empty where it answers."""
    try:
        with urllib.request.urlopen(f"{mirror}/dists/{suite}/Release", timeout=20):
            return ""
    except OSError:
        return "Ubuntu's archive does not answer"


@functools.cache
def debian() -> str:
    """The mirror that this machine's apt uses."""
    script = "source <(sed '$d' scripts/local_registry.sh); debian_mirror"
    return sh(script, check=True).output.strip()


@functools.cache
def made(release: Release) -> Path:
    """The root of ``release`` as debootstrap makes it, with all components; gone at the end."""
    root = Path(tempfile.mkdtemp(prefix=f"{release.suite}-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    root.chmod(0o755)
    mirror = UBUNTU if release.is_ubuntu else debian()
    options = ["--variant=minbase", *(["--no-check-gpg"] if release.is_ubuntu else [])]
    script = "/usr/share/debootstrap/scripts/" + ("gutsy" if release.is_ubuntu else "sid")
    sh(["debootstrap", *options, release.suite, root, mirror, script], check=True)
    suites = [release.suite, f"{release.suite}-updates"]
    lines = [f"deb {mirror} {suite} {release.components}\n" for suite in suites]
    (root / "etc/apt/sources.list").write_text("".join(lines))
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    _trust_as_here(root)
    within(root, "apt-get update -qq", check=True)
    return root


def _trust_as_here(root: Path) -> None:
    """pip reaches its index as this machine's does, at a site with its own authority."""
    if _CERTIFICATES.exists():
        (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
        shutil.copy(_CERTIFICATES, root / "etc/ssl/certs/site.crt")
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/site.crt\n")


def within(root: Path, command: str, *shared: Path, check: bool = False, **env: str) -> Ended:
    """Run a command of bash in ``root``; ``shared`` are folders and files of this machine.

    Mounts are private to it: nothing has to be undone.
    """
    mounts = [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
    for path in shared:
        made = "mkdir -p" if path.is_dir() else f"mkdir -p {root}{path.parent} && touch"
        mounts.append(f"{made} {root}{path} && mount --bind {path} {root}{path}")
    variables = {
        "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C",
        **_SITE,
        **env,
    }
    words = " ".join(f"{name}={value!r}" for name, value in variables.items())
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    enter = f'exec chroot {root} /usr/bin/env -i {path} {words} bash -c "$COMMAND"'
    script = " && ".join([*mounts, enter])
    return sh(["unshare", "--mount", "bash", "-c", script], CHECKOUT, check=check, COMMAND=command)
