"""Workers in network namespaces with addresses of their own: one is cut off, one is slow."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from product import command, environment, settings

PATIENCE_S = 150.0
PREFIX = "tb"
MACHINE = 6


def _ip(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    assert not (check and done.returncode), f"ip {words}: {done.stderr}"
    return not done.returncode


class Network:
    """A bridge with ``count`` namespaces, 10.203.7.1 and up; all of it goes with ``close``.

    The bridge has a namespace of its own: Docker's rules for the host's drop what crosses it there.
    """

    def __init__(self, count: int) -> None:
        self.count, self.switch = count, f"{PREFIX}{os.getpid() % 10_000}"

    def name(self, index: int) -> str:
        """The namespace of worker ``index``."""
        return f"{self.switch}n{index}"

    def address(self, index: int) -> str:
        """Where it listens."""
        return f"10.203.7.{index + 1}:2222"

    def open(self) -> bool:
        """Whether namespaces can be made here."""
        if not _ip("netns", "add", self.switch, check=False):
            return False
        inside = ("-n", self.switch, "link")
        _ip(*inside, "add", "bridge0", "type", "bridge")
        _ip(*inside, "set", "bridge0", "up")
        for index in range(self.count):
            name, port = self.name(index), f"port{index}"
            _ip("netns", "add", name)
            _ip(*inside, "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip(*inside, "set", port, "master", "bridge0", "up")
            _ip("-n", name, "address", "add", f"10.203.7.{index + 1}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        return True

    def slow(self, index: int) -> None:
        """Let worker ``index`` send no more than 4 Mbit a second."""
        words = "qdisc add dev eth0 root tbf rate 4mbit burst 32kbit latency 400ms"
        subprocess.run(["tc", "-n", self.name(index), *words.split()], check=True)

    def cut(self, index: int) -> None:
        """Let nothing through to worker ``index`` or from it, as a switch that fails does."""
        _ip("-n", self.switch, "link", "set", f"port{index}", "down")

    def close(self) -> None:
        """Take it away."""
        for index in range(self.count):
            _ip("netns", "delete", self.name(index), check=False)
        _ip("netns", "delete", self.switch, check=False)


def train(net: Network, data: Path, logs: Path, *, epochs: int, cut: int | None = None) -> None:
    """Train with a worker in each namespace; with ``cut``, until all others miss that one."""
    env, trained = {**os.environ, **environment(data)}, settings(f"max_epochs={epochs}")
    workers, addresses = [], [net.address(i) for i in range(net.count)]
    for index in range(net.count):
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        words = command("train", *trained, "--seed=5", "--tf-config", json.dumps(place))
        out = open(logs / f"{net.count}_{index}.log", "wb")  # noqa: SIM115  closed by the child
        workers.append(
            subprocess.Popen(
                ["ip", "netns", "exec", net.name(index), *words], env=env, stdout=out, stderr=out
            )
        )
        out.close()
    try:
        if cut is not None:
            _wait(lambda: "epoch 1/" in _text(logs, net.count, 0), logs, net.count)
            net.cut(cut)
        others = [w for index, w in enumerate(workers) if index != cut]
        _wait(lambda: all(w.poll() is not None for w in others), logs, net.count)
        codes = [w.returncode for w in others]
        if cut is None:
            assert set(codes) == {0}, f"{codes}\n{_text(logs, net.count, 0)[-2000:]}"
            return
        assert set(codes) == {MACHINE}, codes
        for index in range(net.count):
            told = _text(logs, net.count, index)
            named = f"worker {cut} ({net.address(cut)})"
            assert index == cut or (named in told and "gone" in told), told[-1500:]
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _text(logs: Path, count: int, index: int) -> str:
    return (logs / f"{count}_{index}.log").read_text(errors="replace")


def _wait(is_so: object, logs: Path, count: int) -> None:
    assert callable(is_so)
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        tails = [_text(logs, count, i)[-600:] for i in range(count)]
        assert time.monotonic() < end, "\n---\n".join(tails)
        time.sleep(0.3)


def main(data: Path, logs: Path) -> None:
    """Four workers, one slow; eight, of which one is cut off."""
    for count, slow, cut, epochs in ((4, 2, None, 1), (8, None, 5, 1_000_000)):
        net = Network(count)
        try:
            if not net.open():
                print("skipped: workers in namespaces (none can be made here)")
                return
            if slow is not None:
                net.slow(slow)
            train(net, data, logs, epochs=epochs, cut=cut)
            what = f"worker {slow} slow: trained" if cut is None else f"worker {cut} cut off: named"
            print(f"namespaces: {count} workers, {what}", flush=True)
        finally:
            net.close()
