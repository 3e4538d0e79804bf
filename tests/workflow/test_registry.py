"""Only a registry that was not reached counts as unreachable; what one answers is told."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from checkout import CHECKOUT

HUB = "https://registry-1.docker.io/v2/"


@pytest.fixture(scope="module")
def registry() -> ModuleType:
    spec = importlib.util.spec_from_file_location("registry", CHECKOUT / "scripts" / "registry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text",
    [
        f'Get "{HUB}": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host',
        f'Get "{HUB}": dial tcp 44.2.3.4:443: connect: connection refused',
        f'Get "{HUB}": dial tcp 44.2.3.4:443: i/o timeout',
        f'Get "{HUB}": net/http: request canceled (Client.Timeout exceeded while awaiting headers)',
        f'Get "{HUB}": net/http: TLS handshake timeout',
        f'Get "{HUB}": dial tcp: lookup registry-1.docker.io: Temporary failure in name resolution',
        f'Get "{HUB}": proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: no route to host',
        f'Get "{HUB}": Forbidden',
        f'Get "{HUB}": EOF',
    ],
)
def test_a_registry_that_was_not_reached_is_unreachable(
    registry: ModuleType, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.told(text) == 7
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("toomanyrequests: You have reached your pull rate limit.", "docker login"),
        ("unexpected status: 429 Too Many Requests", "a limit of pulls"),
        (f'Get "{HUB}": x509: certificate signed by unknown authority', "authority"),
        ("unauthorized: authentication required", "another login"),
        (f'Get "{HUB}": Proxy Authentication Required', ""),
        ("manifest unknown", ""),
    ],
)
def test_what_a_registry_answers_is_told_with_what_to_do(
    registry: ModuleType, text: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.told(text) == 1
    said = capsys.readouterr().err
    assert said.startswith("debian:bookworm-slim: the registry answers: ")
    assert advice in said
