"""The workers of a Slurm step: each task is one, and Slurm's variables say which and where.

A batch script runs in no step, but may have inherited the variables of one: of the step that its
``sbatch`` was called in. Slurm's daemon tells the two apart, which is every task's ancestor.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from trainbench.distribution.cluster import Cluster, cluster_of_workers
from trainbench.errors import ConfigError, MachineError

OPT_OUT = "set TF_CONFIG, or train alone with --no-slurm"
_FIRST_PORT, _PORTS, _STEPS, _LEAST = 20_000, 8_000, 8, 8
"""Below the ports that Linux gives to clients (32768); eight steps a job, eight ports at least."""
_DAEMON = re.compile(r"slurmstepd: \[([0-9]+)\.([^\]]+)\]")
_TIMEOUT_S = 30.0

Ask = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Step:
    """One task of a Slurm step.

    Attributes:
        job, step: their numbers.
        rank, count: of the task, and how many there are.
        node: the number of its node among ``nodes``, as Slurm lists them.
        tasks: how many each node has.
        cyclic: whether the tasks go round the nodes, or fill one after the other.
    """

    job: int
    step: int
    rank: int
    count: int
    node: int
    nodes: str
    tasks: tuple[int, ...]
    cyclic: bool = False

    @property
    def first_port(self) -> int:
        """The port of task 0; the others follow.

        Steps at one time of as many tasks do not overlap, nor do those of up to eight tasks: eight
        steps of a job, and of the jobs whose numbers are near. Those of other sizes may.
        """
        ports = max(_LEAST, self.count)
        turns = max(_PORTS // ports, 1)
        return _FIRST_PORT + (self.job * _STEPS + self.step) % turns * ports

    def places(self) -> list[int]:
        """The number of each task's node."""
        if not self.cyclic:
            return [node for node, count in enumerate(self.tasks) for _ in range(count)]
        rounds = range(max(self.tasks, default=0))
        return [n for turn in rounds for n, count in enumerate(self.tasks) if turn < count]

    def __str__(self) -> str:
        return f"Slurm step {self.job}.{self.step}"


def step_of(
    env: Mapping[str, str], ancestors: Callable[[], Iterator[str]] | None = None
) -> Step | None:
    """The step that this process is a task of; ``None`` outside of one, and in one of one task.

    Args:
        ancestors: the command lines of the processes above this one.

    Raises:
        ConfigError: a variable of Slurm's that is none.
    """
    if not env.get("SLURM_STEP_NODELIST") or not env.get("SLURM_STEP_NUM_TASKS"):
        return None
    job, number = env.get("SLURM_JOB_ID", ""), env.get("SLURM_STEP_ID", "")
    for line in (ancestors or _ancestors)():
        daemon = _DAEMON.match(line)
        if daemon and daemon.groups() != (job, number):
            return None
        if daemon:
            break
    found = Step(
        job=_number(env, "SLURM_JOB_ID"),
        step=_number(env, "SLURM_STEP_ID"),
        rank=_number(env, "SLURM_PROCID"),
        count=_number(env, "SLURM_STEP_NUM_TASKS"),
        node=_number(env, "SLURM_NODEID"),
        nodes=env["SLURM_STEP_NODELIST"],
        tasks=_tasks(env.get("SLURM_STEP_TASKS_PER_NODE", "")),
        cyclic=env.get("SLURM_DISTRIBUTION", "").startswith("cyclic"),
    )
    return found if found.count > 1 else None


def cluster_of(step: Step, ask: Ask | None = None) -> Cluster:
    """The tasks of ``step`` as workers that find each other.

    Args:
        ask: what ``scontrol`` answers to these words.

    Raises:
        ConfigError: which node a task is on cannot be told.
        MachineError: ``scontrol`` fails.
    """
    hosts, places = _hosts(step, ask or _scontrol), step.places()
    alike = len(places) == step.count and len(hosts) == len(step.tasks)
    if not alike or step.rank >= step.count or places[step.rank] != step.node:
        raise ConfigError(
            f"{step}: {step.count} tasks on {step.nodes} in an order that is not known here; "
            f"let srun distribute them in blocks, or {OPT_OUT}"
        )
    ports = range(step.first_port, step.first_port + step.count)
    addresses = [f"{hosts[n]}:{port}" for n, port in zip(places, ports, strict=True)]
    return cluster_of_workers(addresses, step.rank)


def expanded(nodes: str) -> list[str]:
    """The names in ``n[1-3,05],m7``, for where there is no ``scontrol``, as in a container.

    Raises:
        ConfigError: it is written in another way.
    """
    found: list[str] = []
    for name in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", nodes):
        whole = re.fullmatch(r"([^\[\]]+)(?:\[([0-9,-]+)\])?([^\[\]]*)", name)
        if not whole:
            raise ConfigError(
                f"SLURM_STEP_NODELIST={nodes}: this cannot be read without scontrol; {OPT_OUT}"
            )
        head, numbers, tail = whole.groups()
        for part in (numbers or "").split(","):
            first, _, last = part.partition("-")
            each = range(int(first), int(last or first) + 1) if first else ()
            found += [f"{head}{n:0{len(first)}}{tail}" for n in each] or [f"{head}{tail}"]
    return found


def _hosts(step: Step, ask: Ask) -> list[str]:
    """What the nodes are called on the network: their names, or the address that Slurm uses."""
    if shutil.which("scontrol") is None and ask is _scontrol:
        return expanded(step.nodes)
    names = ask(("show", "hostnames", step.nodes)).split()
    if all(map(_resolves, names)):
        return names
    told = ask(("show", "node", step.nodes, "--oneliner"))
    addresses = dict(re.findall(r"NodeName=(\S+) .*?NodeAddr=(\S+)", told))
    return [addresses.get(name, name) for name in names]


def _resolves(name: str) -> bool:
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def _scontrol(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            ["scontrol", *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        said = done.stderr.strip().splitlines() if done.returncode else []
        if not done.returncode:
            return done.stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    raise MachineError(
        f"scontrol {' '.join(words)} failed ({said[-1] if said else 'it says nothing'}); {OPT_OUT}"
    )


def _ancestors() -> Iterator[str]:
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().parents():
            with contextlib.suppress(psutil.Error):
                yield " ".join(process.cmdline()) or process.name()


def _number(env: Mapping[str, str], name: str) -> int:
    text = env.get(name, "")
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{name}={text!r}: wanted a number in a Slurm step; {OPT_OUT}")
    return int(text)


def _tasks(text: str) -> tuple[int, ...]:
    """``2(x3),1`` is (2, 2, 2, 1)."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", part)
        if not found:
            raise ConfigError(f"SLURM_STEP_TASKS_PER_NODE={text!r}: wanted N(xM),...; {OPT_OUT}")
        counts += [int(found[1])] * int(found[2] or 1)
    return tuple(counts)
