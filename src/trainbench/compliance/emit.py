"""Write v0.5 compliance lines: a thin layer over ``mlperf_compliance``.

``emit`` does nothing outside ``logging_to``, so the code that does the work can name its tags
without knowing whether a log is written. Every process of a run opens its own file; ``stitch``
makes one log of them.

    with logging_to(trial.compliance_raw, root_dir=package_root):
        emit(tags.RUN_START)
        emit(tags.SEED, 1234)
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TextIO

from trainbench.benchmark import find
from trainbench.compliance.dialects import v05
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.compliance.two_clocks import read, to_line
from trainbench.errors import MachineError
from trainbench.files import PACKAGE

MINIMUM_VERSION = (0, 0, 6)
TESTED_VERSION = "0.0.10"

_TAGS = {
    tags.BENCHMARK: tags.NCF_TAGS | tags.OWN_TAGS,
    resnet_tags.BENCHMARK: resnet_tags.RESNET_TAGS | resnet_tags.OWN_TAGS | tags.OWN_TAGS,
}
# The v0.5 parser accepts no space and no colon inside a call site's file name.
_CALL_SITE = re.compile(r"\((.*):(\d+)\)")
_UNPARSABLE = re.compile(r"[\s:]")


@dataclass(frozen=True)
class _Sink:
    write: Callable[..., str | None]
    prefix: str


_active: _Sink | None = None


@contextlib.contextmanager
def logging_to(
    path: Path | None,
    *,
    clock: Path | None = None,
    root_dir: Path = PACKAGE,
    benchmark: str = tags.BENCHMARK,
    raw_prefix: str = tags.RAW_PREFIX,
    echo: TextIO | None = None,
) -> Iterator[None]:
    """Append every ``emit`` of this process to ``path`` while the context is open.

    Without a ``path`` the lines go to ``echo`` alone. What the monotonic clock showed at each line
    is appended to the file ``clock`` (see ``two_clocks``).

    Call sites are written relative to ``root_dir`` (``ncf/trial.py:123``). The environment's
    COMPLIANCE_FILE, which ``mlperf_compliance`` reads when imported, has no effect inside the
    context: all lines go to ``path``, and to ``echo`` as well when given. Contexts may be nested;
    the inner one wins.

    Raises:
        MachineError: ``mlperf_compliance`` is missing or older than 0.0.6, or ``path`` cannot be
            opened.
    """
    global _active
    mlperf_log = _mlperf_log()
    handler = _LineHandler(path, echo, clock)
    outer = _active
    try:
        with _configured(mlperf_log, handler):
            # Not ncf_print and the like: they know one set of tags and one folder each.
            write = functools.partial(
                mlperf_log._mlperf_print,
                benchmark=benchmark,
                tag_set=_TAGS.get(benchmark) or _TAGS[tags.BENCHMARK] | find(benchmark).tags,
                root_dir=re.escape(str(root_dir).rstrip("/")),
            )
            _active = _Sink(write, raw_prefix)
            yield
    finally:
        _active = outer
        handler.close()


def enabled() -> bool:
    """Whether ``emit`` writes anything here and now."""
    return _active is not None


def emit(key: str, value: Any = None, *, deferred: bool = False) -> str | None:
    """Write one line with ``key`` (see ``keys``) and ``value``, as JSON; nothing when disabled.

    NumPy scalars and arrays are accepted. ``deferred`` announces a value that another process
    logs under the same key; ``stitch`` fills it in.

    Returns:
        The identifier of a deferred value, otherwise None.

    Raises:
        ValueError: an unknown key, a value that is not JSON (NaN included), or a deferred value
            that is already there.
    """
    if _active is None:
        return None
    return _active.write(
        key=key,
        value=_plain(value),
        stack_offset=1,  # from the package's printing function to the caller of emit
        deferred=deferred,
        prefix=_active.prefix,
    )


class _LineHandler(logging.Handler):
    """Writes each message as one line in one system call: concurrent writers never mix lines."""

    def __init__(self, path: Path | None, echo: TextIO | None, clock: Path | None) -> None:
        super().__init__(logging.DEBUG)
        self._echo, self._log = echo, path.name if path else ""
        self._fd = _opened(path)
        try:
            self._clock_fd = _opened(clock)
        except MachineError:
            self._close(self._fd)
            raise

    def emit(self, record: logging.LogRecord) -> None:
        line = _CALL_SITE.sub(_parsable_call_site, record.getMessage(), count=1) + "\n"
        # Both clocks are read before anything is written: a slow disk does not come in between.
        reading = self._reading(line) if self._clock_fd is not None else ""
        if self._fd is not None:
            os.write(self._fd, line.encode("utf-8"))
        if self._clock_fd is not None:
            os.write(self._clock_fd, reading.encode("utf-8"))
        if self._echo is not None:
            self._echo.write(line)
            self._echo.flush()

    def _reading(self, line: str) -> str:
        _, _, dated, _, tag = line[line.index(v05.TOKEN) :].split(" ", 4)
        return to_line(read(self._log, tag.partition(":")[0].strip(), dated))

    def close(self) -> None:
        self._close(self._fd)
        self._close(self._clock_fd)
        self._fd = self._clock_fd = None
        super().close()

    @staticmethod
    def _close(descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)


def _opened(path: Path | None) -> int | None:
    """``path`` opened for whole lines at its end, its folder made; None for no path."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be opened for the compliance log ({error.strerror}); "
            "free the path or choose another one"
        ) from None


def _parsable_call_site(match: re.Match[str]) -> str:
    return f"({_UNPARSABLE.sub('_', match[1])}:{match[2]})"


@contextlib.contextmanager
def _configured(mlperf_log: Any, handler: logging.Handler) -> Iterator[None]:
    """Set the package's module-wide state for one context and restore it afterwards.

    The package writes through one logger whose file is fixed at import, and looks for call sites
    in its own way.
    """
    logger, get_caller = mlperf_log.LOGGER, mlperf_log.get_caller
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    mlperf_log.get_caller = _call_site
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        mlperf_log.get_caller = get_caller


def _call_site(stack_index: int = 2, root_dir: str | None = None) -> str:
    # The package's own get_caller reads the source of every frame on the stack: up to 80 ms a line
    # with TensorFlow loaded, and the lines are written on the clock.
    frame = sys._getframe(stack_index)
    name = re.sub(f"^{root_dir}/", "", frame.f_code.co_filename)
    return f"{name}:{frame.f_lineno}"


def _mlperf_log() -> Any:
    try:
        found = metadata.version("mlperf_compliance")
    except metadata.PackageNotFoundError:
        raise MachineError(
            "mlperf_compliance is not installed but a compliance log was asked for: "
            f"pip install mlperf_compliance=={TESTED_VERSION}"
        ) from None
    if tuple(int(part) for part in re.findall(r"\d+", found)[:3]) < MINIMUM_VERSION:
        wanted = ".".join(str(part) for part in MINIMUM_VERSION)
        raise MachineError(
            f"mlperf_compliance is version {found}, wanted {wanted} or later: "
            f"pip install mlperf_compliance=={TESTED_VERSION}"
        )
    return import_module("mlperf_compliance.mlperf_log")


def _plain(value: Any) -> Any:
    """``value`` with NumPy's types replaced by Python's, as ``json`` needs them."""
    plain = json.dumps(value, default=_from_numpy, allow_nan=False)
    return None if value is None else json.loads(plain)


def _from_numpy(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise ValueError(f"{value!r} cannot be logged: wanted a JSON value or a NumPy one")
