"""Checkouts in places and states that stop a run, and what run.sh sets up."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from daemons import dockerd
from environment import Ended, Environment, clone, sh, without, without_engine

RUN = "scripts/run.sh"
OWNER = 12345


def colon(folder: Path) -> Ended:
    """A clone in a folder with a colon."""
    return sh(RUN, clone(folder / "at 10:30"))


def data_colon(folder: Path) -> Ended:
    """A data folder with a colon."""
    ended = sh(RUN, clone(folder / "clone"), DATA_DIR=f"{folder}/10:30")
    assert not (folder / "10:30").exists()
    return ended


def foreign(folder: Path) -> Ended:
    """A clone of another user; git's exceptions of this user do not count."""
    checkout = clone(folder / "clone")
    sh(f"chown -R {OWNER}:{OWNER} {checkout}", check=True)
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "DOCKER_HOST": f"unix://{folder}/no.sock"}
    return sh(RUN, checkout, unset=["SUDO_UID"], **env)


def read_only(folder: Path) -> Ended:
    """A clone on a disk that is mounted read-only."""
    checkout = clone(folder / "clone")
    sh(f"mount --bind {checkout} {checkout} && mount -o remount,ro,bind {checkout}", check=True)
    try:
        with watched_apt(folder) as path:
            return sh(RUN, checkout, PATH=path, DATA_DIR=f"{folder}/data")
    finally:
        sh(f"umount {checkout}")


@contextlib.contextmanager
def watched_apt(folder: Path) -> Iterator[str]:
    """A PATH with an apt-get that must not be called."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(f"#!/bin/sh\ntouch {folder}/called\nexit 1\n")
    (programs / "apt-get").chmod(0o755)
    yield f"{programs}:{os.environ['PATH']}"
    assert not (folder / "called").exists(), "apt-get was called"


def tarball(folder: Path) -> Ended:
    """An archive without .git, unpacked under umask 002; the images are those of a clone."""
    sh([sys.executable, "scripts/build_images.py", "download"], clone(folder / "c"), check=True)
    unpacked = folder / "unpacked"
    shutil.copytree(folder / "c", unpacked, ignore=shutil.ignore_patterns(".git"))
    sh("chmod -R u=rwX,g=rwX,o=rX .", unpacked, check=True)
    return sh([sys.executable, "scripts/build_images.py", "download"], unpacked)


REGISTRY = """
import http.server, ssl, sys
class Refuses(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}'
        self.send_response(429)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
server = http.server.HTTPServer(("127.0.0.1", 443), Refuses)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""  # noqa: E501


def rate_limit(folder: Path) -> Ended:
    """An engine for which Docker Hub is a server that answers 429."""
    checkout, names = clone(folder / "clone"), ("registry-1.docker.io", "auth.docker.io")
    alt = ",".join(f"DNS:{name}" for name in names)
    sh(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hub -addext "
        f"subjectAltName={alt} -keyout {folder}/key -out {folder}/ca.crt",
        check=True,
    )
    (folder / "hosts").write_text("127.0.0.1 localhost " + " ".join(names) + "\n")
    (folder / "server.py").write_text(REGISTRY)
    (folder / "daemon.json").write_text("{}")
    place, engine = f"{folder}/ca.crt", folder / "engine"
    setup = f"""
mount -t tmpfs none /etc/docker && mkdir -p /etc/docker/certs.d/{names[0]}
cp {place} /etc/docker/certs.d/{names[0]}/
mount --bind {folder}/hosts /etc/hosts
SSL_CERT_FILE={place} {sys.executable} {folder}/server.py {place} {folder}/key &
export SSL_CERT_FILE={place}
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
"""
    options = ("--config-file", f"{folder}/daemon.json")
    with dockerd(engine, *options, spaces=("--net", "--mount"), setup=setup) as host:
        ended = sh([sys.executable, "scripts/registry.py", "5"], checkout, DOCKER_HOST=host)
        sh(f"pkill -f {folder}/server.py")
    return ended


def broken_python(folder: Path) -> Ended:
    """Popper's environment has lost its Python; Docker's configuration stays as it is."""
    checkout = clone(folder / "clone")
    python = checkout / ".venv-popper" / "bin" / "python"
    python.parent.mkdir(parents=True)
    works = """[ "$2" != 'import pip' ] || exit 0"""
    fails = "echo 'python: error while loading shared libraries' >&2; exit 127"
    python.write_text(f"#!/bin/sh\n{works}\n{fails}\n")
    python.chmod(0o755)
    wanted = sh("sha256sum <scripts/requirements-popper.txt", checkout, check=True).output
    (checkout / ".venv-popper" / ".installed").write_text(wanted)
    config = Path("/etc/docker/daemon.json")
    before = config.read_bytes() if config.exists() else b""
    ended = sh(RUN, checkout, DATA_DIR=f"{folder}/data")
    assert before == (config.read_bytes() if config.exists() else b"")
    return ended


def fresh_clone(folder: Path) -> Ended:
    """``python -m trainbench`` in a clone in which nothing was installed."""
    return sh("python3 -m trainbench --version", clone(folder / "clone"))


def fresh_verify(folder: Path) -> Ended:
    """The scripts in a clone in which nothing was installed."""
    return sh(
        "scripts/verify_dataset.sh --dataset ml-1m", clone(folder / "clone"), DATA_DIR=f"{folder}/d"
    )


ENVIRONMENTS = [
    Environment(
        name="path-with-colon",
        what="a checkout in a folder with a colon",
        made='A clone in "at 10:30".',
        command=RUN,
        expected="10:30: has a colon, which Docker cannot mount; choose another folder",
        code=2,
        run=colon,
        ci=True,
    ),
    Environment(
        name="data-with-colon",
        what="a data folder with a colon",
        made='`DATA_DIR=".../10:30"`.',
        command=RUN,
        expected="error: DATA_DIR=...10:30: has a colon, which Docker cannot mount",
        code=2,
        run=data_colon,
        ci=True,
    ),
    Environment(
        name="foreign-checkout",
        what="a checkout of another user",
        made="`chown -R` of the clone; then no engine, so that the run ends there.",
        command=RUN,
        expected="belongs to another user, so results will not name their code; run: git config",
        code=6,
        run=foreign,
        ci=True,
        missing=without,
    ),
    Environment(
        name="read-only-checkout",
        what="a checkout on a read-only disk",
        made="A bind mount of a clone, read-only. apt-get must not be called.",
        command=RUN,
        expected="clone: not writable for root, and .venv-popper is made in it: use a clone of",
        code=6,
        run=read_only,
        ci=True,
        missing=without_engine,
    ),
    Environment(
        name="tarball",
        what="an archive without .git, unpacked under umask 002",
        made="A copy of a clone with files of mode 664; the images were built from the clone.",
        command="python scripts/build_images.py download",
        expected="[image download] from the cache in",
        run=tarball,
        ci=True,
        missing=without_engine,
    ),
    Environment(
        name="pull-limit",
        what="the registry answers that its limit of pulls is reached",
        made="A second dockerd, for which Docker Hub is a local server that answers 429.",
        command="python scripts/registry.py 5",
        expected="debian:bookworm-slim: the registry answers: ...toomanyrequests",
        code=1,
        run=rate_limit,
        ci=True,
        missing=lambda: without("dockerd", "openssl"),
    ),
    Environment(
        name="broken-python",
        what="the Python of Popper's environment does not start",
        made="A file that fails in its place. Docker's configuration must not change.",
        command=RUN,
        expected=".venv-popper: its Python cannot look at the engine (see above); remove this",
        code=6,
        run=broken_python,
        ci=True,
        missing=without_engine,
    ),
    Environment(
        name="fresh-clone",
        what="`python -m trainbench` in a clone in which nothing was installed",
        made="A fresh clone; the first call makes .venv.",
        command="python3 -m trainbench --version",
        expected="trainbench",
        run=fresh_clone,
    ),
    Environment(
        name="fresh-clone-scripts",
        what="the scripts of the README in such a clone",
        made="A fresh clone and an empty data folder.",
        command="scripts/verify_dataset.sh --dataset ml-1m",
        expected="FAIL manifest: ...ml-1m/manifest.json not found; run download",
        code=3,
        run=fresh_verify,
    ),
]
