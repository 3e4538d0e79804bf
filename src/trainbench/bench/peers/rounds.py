"""Forms of one computation, each in a process of its own, measured in turn.

Frameworks in one process would share threads, settings and compilers, and each would be measured
beside what the others leave running. A process that is not measured waits for its turn and does
nothing. Every round measures each form once and begins with another one, so that a slower minute
of the machine strikes all of them; ratios are taken within a round.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from trainbench.benchmark import load
from trainbench.display.visible import one_line
from trainbench.errors import MachineError
from trainbench.machine import extras
from trainbench.progress import LINE_INTERVAL_S, duration, heartbeat, log_line
from trainbench.trials.parent_watch import die_with_parent

Turn = Callable[[], tuple[int, float]]
"""Does a fixed amount of work; the amount and the seconds that it took."""

_WARM_UPS = 2
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Form:
    """One way to do a row's work.

    Attributes:
        make: ``module:name`` of what makes its ``Turn``, in its process, from ``arguments``.
        modules: what must be installed for it.
        compiles: whether it needs a C++ compiler.
        other: how its mathematics differ from ours, where they do.
        own: whether it is one of ours, of which the fastest is compared with the others.
    """

    name: str
    make: str
    arguments: Mapping[str, Any]
    modules: tuple[str, ...] = ()
    compiles: bool = False
    other: str = ""
    own: bool = False

    def obstacle(self) -> str | None:
        """Why it cannot be measured on this machine, and what to do."""
        lacking = extras.missing(self.modules)
        if lacking:
            return f"{', '.join(lacking)} is not installed: {extras.advice(*lacking)}"
        known = (os.environ.get("CXX", ""), *_COMPILERS)
        if self.compiles and not any(shutil.which(name) for name in known if name):
            return "there is no C++ compiler: apt-get install g++"
        return None


@dataclass(frozen=True)
class Row:
    """One line of work and the forms to do it in; the first is ours.

    Attributes:
        bf16: whether its products are in bfloat16.
    """

    name: str
    unit: str
    forms: tuple[Form, ...]
    bf16: bool = False


@dataclass
class Measured:
    """What was found of a row so far.

    Attributes:
        rates: of each form, one a round, in units per second.
        left_out: of each form that was not measured, the reason.
    """

    row: Row
    rates: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> Form:
        """The fastest of ours, which is what a run chooses for itself."""
        own = [form for form in self.row.forms if form.own and self.rates.get(form.name)]
        return max(own, key=lambda f: median(self.rates[f.name]), default=self.row.forms[0])

    def ratios(self, name: str) -> list[float]:
        """How many times the rate of form ``name`` ours is, in each round that has both."""
        ours = self.rates.get(self.ours.name, [])
        return [a / b for a, b in zip(ours, self.rates[name], strict=False)]

    def as_json(self) -> dict[str, Any]:
        """The row as ``--json`` prints it."""
        found = []
        for form in self.row.forms:
            entry: dict[str, Any] = {"name": form.name, "differs": form.other or None}
            if self.rates.get(form.name):
                rates, ratios = self.rates[form.name], self.ratios(form.name)
                entry |= {"per_s": median(rates), "rates": rates}
                entry |= {"ratio": median(ratios) if ratios else None, "ratios": ratios}
            else:
                entry["left_out"] = self.left_out.get(form.name, "interrupted")
            found.append(entry)
        ours = self.ours.name
        return {"name": self.row.name, "unit": self.row.unit, "ours": ours, "forms": found}


class FormProcess:
    """The process of one form."""

    def __init__(self, form: Form) -> None:
        context = get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, form, os.getpid()), daemon=True, name=form.name
        )
        self._process.start()
        theirs.close()  # so that a process that dies is seen at once

    def ready(self) -> str | None:
        """Wait until it is compiled and warm; the reason where it failed."""
        return self._answer()[1]

    def turn(self) -> float:
        """One measurement, in units per second.

        Raises:
            MachineError: the process failed.
        """
        self._end.send(True)
        found, failure = self._answer()
        if failure or not found:
            raise MachineError(f"{self._process.name}: {failure}")
        return found[0] / found[1]

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        self._end.close()

    def _answer(self) -> tuple[tuple[int, float] | None, str | None]:
        try:
            answer: tuple[tuple[int, float] | None, str | None] = self._end.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            return None, f"its process ended with code {code}; look for a lack of memory"
        return answer


def measure(rows: Sequence[Row], *, repeats: int) -> Iterator[Measured]:
    """Measure each row ``repeats`` times; a row that is begun is yielded, also when interrupted.

    Raises:
        KeyboardInterrupt: after the row that it stopped has been yielded.
    """
    pace = Pace(forms=sum(len(row.forms) for row in rows), repeats=repeats)
    for row in rows:
        found = Measured(row)
        try:
            _measure_into(found, repeats, pace)
        except KeyboardInterrupt:
            yield found
            raise
        yield found


class Pace:
    """Says how far the measurement is and how long the rest will take, at most every 10 seconds.

    To prepare a form, which is mostly to compile it, takes far longer than a turn, so that each is
    counted by itself.
    """

    def __init__(self, *, forms: int, repeats: int) -> None:
        self._left = {"prepared": forms, "turns": forms * repeats}
        self._total = dict(self._left)
        self._spent_s: dict[str, list[float]] = {"prepared": [], "turns": []}
        self._said = time.monotonic()

    @contextlib.contextmanager
    def one(self, kind: str) -> Iterator[None]:
        """Count what the body does as one more of ``kind``."""
        started = time.monotonic()
        yield
        self._spent_s[kind].append(time.monotonic() - started)
        self._left[kind] -= 1
        if time.monotonic() - self._said >= LINE_INTERVAL_S:
            self._said = time.monotonic()
            log_line(self.line())

    def skip(self, repeats: int) -> None:
        """A form is left out, and so are its turns."""
        self._left["turns"] -= repeats

    def line(self) -> str:
        """Counts and the time left."""
        done = {kind: self._total[kind] - left for kind, left in self._left.items()}
        left_s = sum(
            left * (sum(self._spent_s[kind]) / len(self._spent_s[kind]))
            for kind, left in self._left.items()
            if self._spent_s[kind]
        )
        return (
            f"peers: {done['prepared']} of {self._total['prepared']} forms prepared, "
            f"{done['turns']} of {self._total['turns']} turns measured  ETA {duration(left_s)}"
        )


def _measure_into(found: Measured, repeats: int, pace: Pace) -> None:
    with contextlib.ExitStack() as stack:
        processes = {}
        for form, process, why in _started(found.row, pace, stack):
            if process is not None:
                processes[form.name] = process
                continue
            if form is found.row.forms[0]:
                raise MachineError(f"{found.row.name}: {form.name}: {why}")
            found.left_out[form.name] = why
            pace.skip(repeats)
            log_line(f"{found.row.name}: {form.name} is left out: {why}")
        names = list(processes)
        for number in range(repeats):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                with pace.one("turns"):
                    rate = processes[name].turn()
                found.rates.setdefault(name, []).append(rate)


def _started(
    row: Row, pace: Pace, stack: contextlib.ExitStack
) -> Iterator[tuple[Form, FormProcess | None, str]]:
    """Each form with its process, ready, or the reason why there is none.

    The next one starts while one is prepared: much of that keeps one core busy.
    """
    coming: FormProcess | None = None
    for form, following in zip_longest(row.forms, row.forms[1:]):
        obstacle = form.obstacle()
        process = None if obstacle else coming or _process(form, stack)
        coming = None
        if following is not None and not following.obstacle():
            coming = _process(following, stack)
        failure = obstacle
        with pace.one("prepared"), heartbeat(f"preparing {row.name}, {form.name}"):
            if process is not None:
                failure = process.ready()
        yield form, None if failure else process, failure or ""


def _process(form: Form, stack: contextlib.ExitStack) -> FormProcess:
    process = FormProcess(form)
    stack.callback(process.stop)
    return process


def _serve(end: Connection, form: Form, parent: int) -> None:
    """The process of a form: says when it is ready, then one measurement a question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks.
    die_with_parent(parent, number=signal.SIGKILL)
    os.dup2(2, 1)  # What a framework prints is no part of the table.
    try:
        turn: Turn = load(form.make)(**form.arguments)
        for _ in range(_WARM_UPS):
            turn()
        end.send((None, None))
        while end.recv():
            end.send((turn(), None))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is told in one line
        end.send((None, one_line(f"{type(error).__name__}: {error}")[:300]))


def timed(work: Callable[[], int]) -> Turn:
    """A turn of ``work``, which returns the amount that it did."""

    def turn() -> tuple[int, float]:
        started = time.perf_counter()
        amount = work()
        return amount, time.perf_counter() - started

    return turn
