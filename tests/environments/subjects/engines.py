"""Docker engines of other kinds and in other places, and none."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path

from daemons import ROOTLESS, as_user, dockerd, podman, rootless, user
from environment import Ended, Environment, clone, sh, without, without_engine

PROBE = "python settings.py --probe"
READY = "sees this machine as you do; training ... drop the page cache"
OWNER = 12345  # of the data folder, as an ordinary user would be
SOCKET = "/var/run/docker.sock"
IMAGE = "trainbench-train:local"
IMAGES = " ".join(f"trainbench-{n}:local" for n in ("download", "preprocess", "train", "stitch"))
# An engine without a network builds nothing, so the steps name the images that were loaded.
WITH_LOADED_IMAGES = (
    "sed -i 's|uses: ./containers/\\(.*\\)|uses: docker://trainbench-\\1:local|' wf.yml && "
    "popper run --skip-pull -f wf.yml -c settings.py"
)


def place(folder: Path) -> tuple[Path, Path]:
    """A fresh clone and a data folder of an ordinary user."""
    checkout, data = clone(folder / "clone"), folder / "data"
    data.mkdir()
    os.chown(data, OWNER, OWNER)
    return checkout, data


def probe(checkout: Path, data: Path, **env: str) -> Ended:
    """The probe; nothing of it is left in the data folder."""
    ended = sh([sys.executable, "settings.py", "--probe"], checkout, DATA_DIR=str(data), **env)
    assert list(data.iterdir()) == [], f"left behind in {data}: {list(data.iterdir())}"
    return ended


def with_images() -> str:
    """Why it cannot be made here: no engine, or no images in it."""
    if without_engine():
        return without_engine()
    return "" if sh(f"docker image inspect {IMAGE}").code == 0 else "needs the built images"


def default(folder: Path) -> Ended:
    """The engine at the default socket."""
    return probe(*place(folder))


def no_engine(folder: Path) -> Ended:
    """A socket at which nothing listens."""
    checkout = clone(folder / "clone")
    return sh("scripts/run.sh --dry-run", checkout, DOCKER_HOST=f"unix://{folder}/no.sock")


def no_context(folder: Path) -> Ended:
    """A context that was removed."""
    return probe(*place(folder), DOCKER_CONTEXT="gone", DOCKER_CONFIG=str(folder))


def second(folder: Path) -> Ended:
    """A second engine that a context names."""
    checkout, data = place(folder)
    with dockerd(folder / "engine") as host:
        config = {"DOCKER_CONFIG": str(folder / "config")}
        sh(f"docker context create second --docker host={host}", check=True, **config)
        return probe(checkout, data, DOCKER_CONTEXT="second", **config)


def remapping(folder: Path) -> contextlib.AbstractContextManager[str]:
    """An engine whose containers have users of their own."""
    (folder / "users").write_text("nobody:300000:65536\nnogroup:300000:65536\n")
    setup = "\n".join(f"mount --bind {folder}/users /etc/{name}" for name in ("subuid", "subgid"))
    spaces = ("--net", "--mount")
    options = ("--userns-remap=nobody:nogroup",)
    return dockerd(folder / "engine", *options, spaces=spaces, setup=setup)


def remapped(folder: Path) -> Ended:
    """The probe in such an engine."""
    checkout, data = place(folder)
    with remapping(folder) as host:
        return probe(checkout, data, DOCKER_HOST=host)


def remapped_workflow(folder: Path) -> Ended:
    """The whole workflow in such an engine; every file has to be the owner's."""
    checkout, data = place(folder)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with remapping(folder) as host:
        sh(f"docker save {IMAGES} | docker -H {host} load -q", check=True)
        env = {"DOCKER_HOST": host, "DATA_DIR": str(data), "PRESET": "quick", "PATH": path}
        ended = sh(WITH_LOADED_IMAGES, checkout, **env)
    foreign = sh(f"find {data} ! -user {OWNER}").output
    assert not foreign, f"not of {OWNER}: {foreign}"
    return ended


def beside(folder: Path, *options: str, here: str = "") -> Ended:
    """The probe in a container that holds the socket of the engine beside it."""
    checkout, data = place(folder)
    at = {checkout: here or str(checkout), data: f"{here}-data" if here else str(data)}
    mounts = [word for host, inside in at.items() for word in ("-v", f"{host}:{inside}")]
    ended = sh(
        [
            *("docker", "run", "--rm", "-v", f"{SOCKET}:{SOCKET}", *mounts, "-w", at[checkout]),
            *("-e", f"DATA_DIR={at[data]}", "-e", "PYTHONPATH=", *options, IMAGE),
            *("python", "settings.py", "--probe"),
        ]
    )
    assert list(data.iterdir()) == []
    assert not here or not Path(here).exists(), f"{here} was made on the host"
    return ended


def beside_elsewhere(folder: Path) -> Ended:
    """The checkout is at another path than on the host."""
    return beside(folder, here="/elsewhere")


def no_member(folder: Path) -> Ended:
    """A user who is not in the socket's group."""
    return beside(folder, "--user", f"{OWNER}:{OWNER}")


def snap(folder: Path) -> Ended:
    """dockerd with the snap's data root, in a mount namespace where /tmp is another one."""
    checkout, data = place(folder)
    root = Path("/var/snap/docker/common/env")
    root.mkdir(parents=True, exist_ok=True)
    # Its own files have to stay visible.
    keep = f"mount --bind {folder}/engine /mnt; mount -t tmpfs none {folder.parent}"
    keep += f"; mkdir -p {folder}/engine; mount --move /mnt {folder}/engine"
    with dockerd(folder / "engine", spaces=("--net", "--mount"), setup=keep, root=root) as host:
        ended = probe(checkout, data, DOCKER_HOST=host)
    sh("rmdir -p /var/snap/docker/common")
    return ended


def remote(folder: Path) -> Ended:
    """An engine on TCP that has its own view of the files."""
    return on_tcp(folder, ("--net", "--mount"), empty=True)


def on_tcp(folder: Path, spaces: tuple[str, ...] = ("--net",), *, empty: bool = False) -> Ended:
    """An engine of this machine on TCP, asked from inside of its network."""
    checkout, data = place(folder)
    setup = f"mount -t tmpfs none {data}; mount -t tmpfs none {checkout}" if empty else ""
    address = "tcp://127.0.0.1:2375"
    with dockerd(folder / "engine", "--tls=false", "-H", address, spaces=spaces, setup=setup):
        pid = (folder / "engine" / "pid").read_text()
        inside = f"nsenter --net=/proc/{pid}/ns/net {sys.executable} settings.py --probe"
        ended = sh(inside, checkout, DATA_DIR=str(data), DOCKER_HOST=address)
    assert list(data.iterdir()) == []
    return ended


def data_of_others(folder: Path) -> Ended:
    """A data folder that its owner may not write."""
    checkout, data = place(folder)
    data.chmod(0o555)
    return probe(checkout, data)


def data_read_only(folder: Path) -> Ended:
    """A data folder on a disk that is mounted read-only."""
    checkout, data = place(folder)
    sh(f"mount -t tmpfs -o ro none {data}", check=True)
    try:
        return probe(checkout, data)
    finally:
        sh(f"umount {data}")


def private_code(folder: Path) -> Ended:
    """A clone made under umask 077."""
    checkout, data = place(folder)
    sh("chmod -R go= .", checkout, check=True)
    return probe(checkout, data)


def own_python(folder: Path, name: str, checkout: Path) -> str:
    """An environment with Popper that ``name`` may use."""
    requirements = f"{checkout}/scripts/requirements-popper.txt"
    install = "/usr/bin/python3 -m venv v && v/bin/pip install -qq --require-hashes --no-deps -r"
    sh(as_user(name, f"{install} {requirements}", folder), check=True)
    return f"{folder}/home/v/bin"


def of_user(
    folder: Path, name: str, host: str, command: str = "python settings.py --probe"
) -> Ended:
    """A command of an ordinary user in a clone of that user, with the engine at ``host``."""
    checkout, data = clone(folder / "home" / "clone"), folder / "home" / "data"
    data.mkdir()
    sh(f"chown -R {name}: {checkout} {data}", check=True)
    programs = own_python(folder, name, checkout)
    env = (
        f"export DOCKER_HOST={shlex.quote(host)} DATA_DIR={data} PRESET=quick PATH={programs}:$PATH"
    )
    ended = sh(as_user(name, f"cd {checkout} && {env}; {command}", folder), unset=["PYTHONPATH"])
    foreign = sh(f"find {data} ! -user {name}").output
    assert not foreign, f"not of {name}: {foreign}"
    return ended


def rootless_docker(folder: Path) -> Ended:
    """The probe in rootless Docker."""
    with user(folder) as name, rootless(folder, name) as host:
        return of_user(folder, name, host)


def rootless_workflow(folder: Path) -> Ended:
    """The whole workflow in rootless Docker, with the images of the other engine."""
    with user(folder) as name, rootless(folder, name) as host:
        sh(f"docker save {IMAGES} | docker -H {host} load -q", check=True)
        ended = of_user(folder, name, host, WITH_LOADED_IMAGES)
    return ended


def rootless_podman(folder: Path) -> Ended:
    """The probe through the socket of rootless Podman."""
    with user(folder) as name, podman(folder, name) as host:
        return of_user(folder, name, host)


def without_rootless() -> str:
    """What rootless Docker needs."""
    found = without("dockerd", "rootlesskit", "slirp4netns", "newuidmap", "setpriv")
    return found or ("" if Path(ROOTLESS).exists() else f"needs {ROOTLESS}")


def environment(
    name: str, what: str, made: str, expected: str, run: object, **more: object
) -> Environment:
    """One in which the probe is the command."""
    given = {"command": PROBE, "ci": True, "missing": lambda: without("docker"), **more}
    return Environment(name=name, what=what, made=made, expected=expected, run=run, **given)  # type: ignore[arg-type]


NO_KERNEL = "the machines at hand have none; its line is tested on the probe's record"
ENVIRONMENTS = [
    environment(
        "docker",
        "Docker at its default socket",
        "Debian's docker.io 20.10.",
        READY,
        default,
        missing=without_engine,
    ),
    environment(
        "no-engine",
        "no engine answers where `DOCKER_HOST` says",
        "`DOCKER_HOST` names a socket at which nothing listens.",
        "no.sock: no engine answers there, which DOCKER_HOST or a docker context names",
        no_engine,
        command="DOCKER_HOST=unix:///.../no.sock scripts/run.sh --dry-run",
        code=6,
    ),
    environment(
        "no-context",
        "the docker context is gone",
        "`DOCKER_CONTEXT` names a context that does not exist.",
        "docker context gone: no such context; choose another: docker context ls",
        no_context,
        code=6,
    ),
    environment(
        "second-engine",
        "a second engine, named by a docker context",
        "A second dockerd with its own root, socket and network; `docker context create`.",
        f"docker.sock (docker context second): {READY.replace('...', 'may')}",
        second,
    ),
    environment(
        "userns-remap",
        "containers have users of their own",
        "A second dockerd with `--userns-remap`. Steps run with the users of the host.",
        READY.replace("...", "may"),
        remapped,
    ),
    environment(
        "userns-remap-workflow",
        "the whole workflow there, in a second engine",
        "As userns-remap; the images are those of another engine, loaded. All files in the data "
        "folder have to belong to its owner.",
        "page cache dropped (bind mount container): Cached",
        remapped_workflow,
        command="popper run -f wf.yml -c settings.py",
        missing=with_images,
        ci=False,
    ),
    environment(
        "rootless-docker",
        "rootless Docker",
        "Debian's dockerd-rootless.sh of an ordinary user.",
        READY.replace("...", "will not"),
        rootless_docker,
        missing=without_rootless,
        ci=False,
    ),
    environment(
        "rootless-workflow",
        "the whole workflow in rootless Docker",
        "As rootless-docker; the images are those of another engine, loaded. All files in the data "
        "folder have to belong to the user.",
        "findings at level 1: 0, 2: 1, strict:",
        rootless_workflow,
        command="popper run -f wf.yml -c settings.py",
        code=1,
        missing=lambda: without_rootless() or with_images(),
        ci=False,
    ),
    environment(
        "rootless-podman",
        "rootless Podman through its socket",
        "Debian's Podman 4.3 with runc, of an ordinary user. Its containers are made by the probe; "
        "the workflow was not run in it.",
        READY.replace("...", "will not"),
        rootless_podman,
        missing=lambda: without("docker", "podman", "runc", "catatonit", "newuidmap"),
        ci=False,
    ),
    Environment(
        name="podman",
        what="Podman of root",
        made="Debian's Podman 4.3.",
        command=PROBE,
        expected="sees this machine as you do",
        not_run="it builds, but may not set the limits of containers on the machine at hand",
    ),
    environment(
        "docker-beside-docker",
        "a container that holds its host's engine, the checkout at another path",
        "`docker run -v /var/run/docker.sock:/var/run/docker.sock -v CHECKOUT:/elsewhere`. No "
        "folder may appear on the host.",
        "/elsewhere-data: this is a container, and its engine mounts folders of the host",
        beside_elsewhere,
        missing=with_images,
        code=6,
    ),
    environment(
        "docker-beside-docker-paths",
        "the same with the paths of the host",
        "As docker-beside-docker, with `-v CHECKOUT:CHECKOUT`.",
        READY.replace("...", "may"),
        beside,
        missing=with_images,
    ),
    environment(
        "snap",
        "Docker from the snap",
        "Simulated: a dockerd with the snap's data root, in a mount namespace with another /tmp.",
        "Docker is the snap, which sees only folders below HOME",
        snap,
        code=6,
    ),
    environment(
        "remote-engine",
        "an engine that sees other files",
        "A dockerd on TCP, in a mount namespace where the checkout and the data folder are empty.",
        "(DOCKER_HOST) runs elsewhere and does not see this folder; use an engine of this machine",
        remote,
        code=6,
    ),
    environment(
        "engine-on-tcp",
        "an engine of this machine on TCP",
        "A dockerd on 127.0.0.1, without TLS.",
        READY.replace("...", "will not"),
        on_tcp,
    ),
    environment(
        "no-member",
        "a user who may not use Docker",
        "A user outside of the socket's group.",
        "no permission; run sudo usermod -aG docker $USER, and log in again",
        no_member,
        missing=with_images,
        code=6,
    ),
    environment(
        "data-not-writable",
        "a data folder that its owner may not write",
        "`chmod 555`.",
        "user 12345 of a container has no permission to write there; give that user the folder",
        data_of_others,
        missing=without_engine,
        code=6,
    ),
    environment(
        "data-read-only",
        "a data folder on a read-only disk",
        "A tmpfs, mounted read-only.",
        "not writable for this user (Read-only file system); choose another folder",
        data_read_only,
        missing=without_engine,
        code=6,
    ),
    environment(
        "private-checkout",
        "a clone made under umask 077",
        "`chmod -R go=` in the clone.",
        "not readable for user 12345, who runs the steps; run chmod -R o+rX in the checkout",
        private_code,
        missing=without_engine,
        code=6,
    ),
    Environment(
        name="selinux",
        what="Docker with SELinux (Fedora, RHEL)",
        made="dockerd with `--selinux-enabled`.",
        command=PROBE,
        expected="SELinux forbids containers to ... it; run chcon -R -t container_file_t",
        code=6,
        not_run=f"it needs a kernel with SELinux; {NO_KERNEL}",
    ),
    Environment(
        name="docker-desktop",
        what="Docker Desktop, Colima, Lima: an engine in a virtual machine",
        made="The socket of the virtual machine is used where it is the engine's own.",
        command=PROBE,
        expected="sees this machine as you do",
        not_run="the machines at hand have no nested virtual machine",
    ),
]
