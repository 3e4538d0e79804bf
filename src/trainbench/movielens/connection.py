"""One request over http or https in bounded time and memory, whatever the server does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import disable_warnings
from urllib3 import exceptions as urllib3

from trainbench.display.secrets import without_credentials
from trainbench.errors import MachineError
from trainbench.movielens import answer

_REDIRECTS = 10
_CHUNK_BYTES = 64 << 10
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which ssl.VerifyFlags does not name
_ADVICE = "check --mirror, or get the archive by other means and pass --archive PATH"


@dataclass(frozen=True)
class Patience:
    """How long a server may take for what.

    Attributes:
        connect_s: to connect.
        answer_s: from the request to the end of the headers, redirects included.
        silence_s: between two bytes.
        window_s: the time over which ``least_bytes_per_s`` must come.
    """

    connect_s: float = 15.0
    answer_s: float = 60.0
    silence_s: float = 15.0
    window_s: float = 30.0
    least_bytes_per_s: float = 1_000.0


class TryAgainError(Exception):
    """A failure that another attempt may fix, and for how long the server asks to wait."""

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class CertificateError(MachineError):
    """The server's certificate does not hold; ``fault`` says why, in words."""

    def __init__(self, shown: str, fault: str, advice: str) -> None:
        self.fault = fault
        super().__init__(
            f"{shown}: the server's certificate: {fault}; {advice}, use another --mirror, get the "
            "archive by other means and pass --archive PATH, or, where its SHA-256 is known, let "
            "that decide about what an unverified connection brings: --hash-decides"
        )


class _Session(requests.Session):
    """A session that follows no redirect: requests would first read the whole body of one."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


def ask(
    url: str, headers: dict[str, str], patience: Patience, *, verify: bool = True
) -> requests.Response:
    """The answer to a GET, its body unread.

    Without ``verify`` anybody may be at the other end: no password is sent, and what arrives means
    nothing until its hash is compared.

    Raises:
        TryAgainError: no answer, or not in time. CertificateError: the server is not who it should
            be. MachineError: no answer that another attempt would get.
    """
    found: futures.Future[requests.Response] = futures.Future()

    def request() -> None:
        try:
            found.set_result(_followed(url, headers, patience, verify))
        except BaseException as error:  # noqa: BLE001  Raised where the result is awaited.
            found.set_exception(error)

    # Headers may come byte by byte, and each byte ends a silence. Nothing but the end of its server
    # or of this process ends a thread that waits for more.
    threading.Thread(target=request, daemon=True, name="download").start()
    try:
        return found.result(timeout=patience.answer_s)
    except futures.TimeoutError:
        if found.done():
            raise
        raise TryAgainError(f"no answer within {patience.answer_s:g} s") from None


def blocks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body as it arrives, in pieces of at most 64 KiB.

    Raises:
        TryAgainError: broken off, silent, or slower than the least rate.
    """
    since, received = time.monotonic(), 0
    while True:
        try:
            block = response.raw.read1(_CHUNK_BYTES)
        except (requests.RequestException, urllib3.HTTPError) as error:
            raise TryAgainError(_silence(answer.reason(error), patience)) from None
        if not block:
            return
        yield block
        received += len(block)
        seconds = time.monotonic() - since
        if seconds < patience.window_s:
            continue
        if received < seconds * patience.least_bytes_per_s:
            raise TryAgainError(
                f"only {received:,} bytes in {seconds:.0f} s, wanted "
                f"{patience.least_bytes_per_s:,.0f} a second"
            )
        since, received = time.monotonic(), 0


def _followed(
    url: str, headers: dict[str, str], patience: Patience, verify: bool
) -> requests.Response:
    """The answer after at most 10 redirects."""
    first, leads = without_credentials(url), ""
    timeouts = (patience.connect_s, patience.silence_s)
    with _session(verify) as session:
        for _ in range(_REDIRECTS + 1):
            try:
                response = session.get(
                    url, headers=headers, stream=True, timeout=timeouts, verify=verify
                )
                target = requests.Session.get_redirect_target(session, response)
                if not target:
                    return response
                response.close()
                leads = f"redirects to {without_credentials(target)}, "
                url = urljoin(response.url, target)
                scheme = urlsplit(url).scheme
            except ValueError as error:
                raise MachineError(f"{first}: {leads}not an address ({error}); {_ADVICE}") from None
            except (requests.RequestException, urllib3.HTTPError) as error:
                raise _failed(error, without_credentials(url), patience) from None
            if scheme not in ("http", "https"):
                raise MachineError(
                    f"{first}: redirects to {without_credentials(url)}, wanted http or https; "
                    f"{_ADVICE}"
                )
    raise MachineError(f"{first}: redirects more than {_REDIRECTS} times; {_ADVICE}")


def _session(verify: bool) -> _Session:
    session = _Session()
    if not verify:
        # Who answers may be anybody, and gets no password: not of the address, not of .netrc.
        session.auth = lambda request: request
        disable_warnings(urllib3.InsecureRequestWarning)
    return session


def _failed(error: Exception, shown: str, patience: Patience) -> Exception:
    found = answer.certificate_error(error)
    if found is None:
        return TryAgainError(_silence(answer.reason(error), patience))
    code, date = found.verify_code, None
    request = getattr(error, "request", None)
    if request is not None and code in (answer.EXPIRED, answer.NOT_YET_VALID):
        date = _date_of(request.url, code)
    return CertificateError(shown, *answer.certificate_fault(code, found.verify_message, date))


def _silence(reason: str, patience: Patience) -> str:
    return f"{reason} for {patience.silence_s:g} s" if reason == answer.SILENT else reason


def _date_of(url: str, code: int, wait_s: float = 5.0) -> datetime | None:
    """When the server's certificate ended or will begin, if that is all that is wrong with it."""
    parts = urlsplit(url)
    settings = requests.Session().merge_environment_settings(url, {}, True, None, None)
    if settings["proxies"]:
        return None  # The server may be reached through them alone.
    bundle = settings["verify"]
    try:
        context = ssl.create_default_context(
            cafile=bundle if isinstance(bundle, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
        )
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        address = (parts.hostname or "", parts.port or 443)
        with (
            socket.create_connection(address, timeout=wait_s) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            name = "notAfter" if code == answer.EXPIRED else "notBefore"
            date = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})[name]))
    except (OSError, ValueError, KeyError):
        return None
    past = date < time.time()
    return datetime.fromtimestamp(date, timezone.utc) if past == (name == "notAfter") else None
