"""Asks the engine for the base image's digest in a registry, and tells refused from unreachable.

Usage: python scripts/registry.py SECONDS
Exit codes: 0 the registry has it; 1 it answers and refuses, or the engine does not; 7 unreachable.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import docker
import requests
from docker.errors import APIError, DockerException

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from trainbench.machine.engine.endpoint import choose

IMAGE = "debian:bookworm-slim"
UNREACHABLE = re.compile(
    r"no such host|server misbehaving|connection refused|connection reset|network is unreachable|"
    r"no route to host|i/o timeout|timeout exceeded|deadline exceeded|handshake timeout|"
    r"temporary failure in name resolution|proxyconnect|\bEOF\b|"
    r"\"https?://[^\"]*\": (forbidden|bad gateway|service unavailable|gateway time-?out)",
    re.IGNORECASE,
)
"""The words of Go's network library, which an engine hands on; the last are a proxy's refusal."""
ADVICE = (
    (
        re.compile(r"toomanyrequests|rate limit|\b429\b", re.IGNORECASE),
        "a limit of pulls: log in (docker login), or wait",
    ),
    (
        re.compile(r"x509|certificate", re.IGNORECASE),
        "its certificate is not trusted: give Docker your site's authority "
        "(/etc/docker/certs.d), or run scripts/local_registry.sh",
    ),
    (
        re.compile(r"unauthorized|denied|forbidden|\b40[13]\b", re.IGNORECASE),
        "it wants another login (docker login), or your site refuses it: then run "
        "scripts/local_registry.sh",
    ),
)


def main(seconds: int) -> int:
    """Ask once."""
    choose()
    try:
        docker.from_env(timeout=seconds).images.get_registry_data(IMAGE)
    except requests.exceptions.Timeout:
        return 7
    except APIError as error:
        return told(str(error.explanation or error))
    except (DockerException, OSError) as error:
        return told(str(error))
    return 0


def told(text: str) -> int:
    """The exit code for an engine's words, which are printed unless no registry was reached."""
    if UNREACHABLE.search(text):
        return 7
    line = " ".join(text.split())[:200]
    advice = next((advice for words, advice in ADVICE if words.search(text)), "")
    print(
        f"{IMAGE}: the registry answers: {line}{'; ' + advice if advice else ''}", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
