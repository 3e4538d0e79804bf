"""A Slurm cluster of two nodes on this machine, of Debian's packages, and nothing left of it.

munged, slurmctld and a slurmd for each node are started here with files, ports and a key of their
own in one folder, so that a Slurm that the machine has is not touched. They end with ``Cluster``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

NODES = ("n1", "n2")
PATIENCE_S = 60.0
_SBIN = f"/usr/sbin:/sbin:{os.environ['PATH']}"
_CONF = """\
ClusterName=trainbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=5
MessageTimeout=20
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr={address} Port={port} CPUs=1 RealMemory=2000 "
    "State=UNKNOWN"
)


class Cluster:
    """Two nodes with a CPU each; ``environment`` is what Slurm's commands need to find them."""

    def __init__(self, root: Path) -> None:
        self.root, self._daemons = root, list[subprocess.Popen[bytes]]()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(root / "slurm.conf"),
            "PATH": _SBIN,
        }

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def run(self, *command: str, check: bool = True, patience_s: float = PATIENCE_S) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            command,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=patience_s,
        )
        assert not (check and done.returncode), f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str, out: Path, **environment: str) -> subprocess.Popen[bytes]:
        """A command in the background that prints to ``out``."""
        with open(out, "wb") as file:
            return subprocess.Popen(
                command, env={**self.environment, **environment}, stdout=file, stderr=file
            )

    def states(self) -> dict[str, str]:
        """The state of each node, as sinfo has it."""
        told = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False)
        lines = told.splitlines()
        return dict(line.split() for line in lines)

    def _start(self) -> None:
        ports = _free_ports(3)
        nodes = "\n".join(
            _NODE.format(
                name=name, host=socket.gethostname(), address=f"127.0.0.{i + 1}", port=ports[i + 1]
            )
            for i, name in enumerate(NODES)
        )
        for name in ("state", "munge", *(f"spool.{node}" for node in NODES)):
            (self.root / name).mkdir(parents=True)
        conf = self.root / "slurm.conf"
        text = _CONF.format(root=self.root, host=socket.gethostname(), ctld=ports[0], nodes=nodes)
        conf.write_text(text)
        self._munged()
        self._daemon("slurmctld", "-D", "-f", str(conf))
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", str(conf))
        wait_until(lambda: set(self.states().values()) == {"idle"}, self._told)

    def _munged(self) -> None:
        # Root runs it with --force: in a folder of its own nobody else can be meant.
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={folder / 'socket'}", *files)
        wait_until((folder / "socket").exists, self._told)

    def _daemon(self, *command: str) -> None:
        name = shutil.which(command[0], path=_SBIN)
        assert name, f"{command[0]} is not installed"
        with open(self.root / "daemons.log", "ab") as out:
            self._daemons.append(
                subprocess.Popen([name, *command[1:]], env=self.environment, stdout=out, stderr=out)
            )

    def _told(self) -> str:
        logs = [self.root / "daemons.log", *self.root.glob("*.log"), *self.root.glob("munge/log")]
        ended = [d.args for d in self._daemons if d.poll() is not None]
        tails = "\n".join(f"{p.name}:\n{p.read_text()[-1500:]}" for p in logs if p.exists())
        return f"ended: {ended}\n{tails}"

    def _stop(self) -> None:
        """End what runs, the daemons last of all: slurmd ends the steps of a job."""
        if len(self._daemons) > 1 and all(d.poll() is None for d in self._daemons):
            self.run("scancel", "--user=root", check=False)
            wait_until(lambda: not self.run("squeue", "--noheader", check=False), self._told)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()


def wait_until(
    is_so: Callable[[], object],
    told: Callable[[], str] = lambda: "",
    *,
    patience_s: float = PATIENCE_S,
) -> None:
    """Return when ``is_so`` says yes; an ``AssertionError`` with what is ``told`` after a time."""
    end = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end, f"not within {patience_s:.0f} s\n{told()}"
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
