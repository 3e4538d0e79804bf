"""Connections between workers: what goes over them, who is turned away, who is gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainbench.distribution import links
from trainbench.distribution.cluster import cluster_of_workers
from trainbench.distribution.links import Links


@contextmanager
def workers(
    count: int,
    host: str = "127.0.0.1",
    before: Callable[[socket.socket], object] = lambda server: None,
) -> Iterator[list[Links]]:
    """Workers of this process that are connected; ``before`` gets the port of the first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as held:
        bound = [
            held.enter_context(socket.create_server((host.strip("[]"), 0), family=family))
            for _ in range(count)
        ]
        before(bound[0])
        addresses = [f"{host}:{server.getsockname()[1]}" for server in bound]
        found = [Links(cluster_of_workers(addresses, index)) for index in range(count)]
        for one in found:
            held.callback(one.close)
        each(found, lambda one: one.connect(bound[one.index], timeout_s=60))
        yield found


def each(found: list[Links], call: Callable[[Links], Any]) -> list[Any]:
    """What ``call`` gives for each worker, all at the same time."""
    with ThreadPoolExecutor(len(found)) as pool:
        return list(pool.map(call, found))


def assert_exchanged(found: list[Links], shape: tuple[int, ...] = (3, 2)) -> None:
    count = len(found)
    sent = np.random.default_rng(count).random((count, count, *shape)).astype(np.float32)
    got = each(found, lambda one: one.exchange(sent[one.index]))
    np.testing.assert_array_equal(np.stack(got), sent.swapaxes(0, 1))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_worker_gets_the_part_that_each_has_for_it(count: int) -> None:
    with workers(count) as found:
        assert_exchanged(found)
        assert_exchanged(found, shape=())


def test_workers_meet_at_addresses_of_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with workers(2, "[::1]") as found:
        assert_exchanged(found)


def test_parts_above_what_the_system_holds_for_a_connection_come_over_too() -> None:
    with workers(3) as found:
        assert_exchanged(found, shape=(2_000_000,))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float32, np.float64])
def test_arrays_of_any_type_come_over_also_where_all_get_the_same(dtype: Any) -> None:
    with workers(2) as found:
        sent = np.arange(7).astype(dtype)
        got = each(found, lambda one: one.exchange(np.broadcast_to(sent * one.index, (2, 7))))
    for parts in got:
        assert parts.dtype == dtype
        np.testing.assert_array_equal(parts, [sent * 0, sent])


@pytest.mark.parametrize(("count", "size"), [(1, 5), (2, 7), (3, 100), (5, 3)])
def test_a_sum_is_taken_in_the_order_of_the_workers_and_the_same_on_all(
    count: int, size: int
) -> None:
    values = np.random.default_rng(size).standard_normal((count, size)).astype(np.float32)
    with workers(count) as found:
        sums = each(found, lambda one: one.total(values[one.index]))
    expected = values[0].copy()
    for row in values[1:]:
        expected += row
    for total in sums:
        np.testing.assert_array_equal(total, expected)


def test_callers_that_are_no_workers_are_turned_away() -> None:
    strangers = []

    def called_first(server: socket.socket) -> None:
        for said in (b"", b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n", b"trainbench links\0\7\0\1"):
            stranger = socket.create_connection(server.getsockname())
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            strangers.append(stranger)

    with workers(2, before=called_first) as found:
        assert_exchanged(found)
        for stranger in strangers:
            stranger.settimeout(60)
            assert no_answer(stranger)
            stranger.close()


def no_answer(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionError:
        return True


def test_a_worker_that_never_calls_is_waited_for_no_longer_than_stated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        alone = Links(cluster_of_workers(["127.0.0.1:1", "127.0.0.1:2"], 0))
        with pytest.raises(
            ConnectionError, match=r"no connection to worker 1 \(127.0.0.1:2\) in 0"
        ):
            alone.connect(server, timeout_s=0.1)


def test_a_caller_that_never_says_who_it_is_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "_HELLO_S", 0.1)
    silent = []
    with workers(2, before=lambda s: silent.append(socket.create_connection(s.getsockname()))) as w:
        assert_exchanged(w)
        silent[0].close()


def test_a_worker_that_was_started_again_takes_its_place() -> None:
    """Its process of before has called, and the first worker still waits for another one."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as held:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}", "127.0.0.1:1", "127.0.0.1:2"]
        first, old, new = (Links(cluster_of_workers(addresses, index)) for index in (0, 1, 1))
        pool = held.enter_context(ThreadPoolExecutor(1))
        connecting = pool.submit(first.connect, server, timeout_s=60)
        for one in (old, new):
            link = one._called(one.cluster.members[0], deadline=time.monotonic() + 60)
            held.enter_context(link)
            one._keep(0, link)
        last = Links(cluster_of_workers(addresses, 2))
        last._keep(0, last._called(last.cluster.members[0], deadline=time.monotonic() + 60))
        connecting.result()
        first._sockets[1].send(b"x")
        new._sockets[0].setblocking(True)
        assert new._sockets[0].recv(1) == b"x"
        for one in (first, last):
            one.close()


def test_a_worker_of_another_version_is_no_worker_of_the_run() -> None:
    other = Links(cluster_of_workers(["127.0.0.1:1", "127.0.0.1:2"], 1))
    said = other._hello(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "__version__", "0.0.1")
        assert other._hello(1) != said


def test_a_worker_whose_process_of_before_still_answers_is_called_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        addresses = [f"127.0.0.1:{server.getsockname()[1]}", "127.0.0.1:1"]
        found = [Links(cluster_of_workers(addresses, index)) for index in (0, 1)]
        with socket.socket() as unused:
            calling = pool.submit(found[1].connect, unused, timeout_s=60)
            for said in (b"", b"what TensorFlow's server says first"):
                caller, _ = server.accept()
                with caller:
                    caller.sendall(said)
            found[0].connect(server, timeout_s=60)
            calling.result()
        assert_exchanged(found)
        for one in found:
            one.close()


def test_an_address_at_which_no_worker_ever_answers_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that the first refusal is the last.
    monkeypatch.setattr(links, "_AGAIN_S", 61)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        alone = Links(cluster_of_workers([address, "127.0.0.1:1"], 1))
        calling = pool.submit(alone.connect, server, timeout_s=60)
        caller, _ = server.accept()
        with caller:
            caller.sendall(b"what TensorFlow's server says first".ljust(links._HELLO.size))
            told = rf"worker 0 \({address}\) is no worker of this run"
            with pytest.raises(ConnectionError, match=told):
                calling.result()


def test_a_worker_whose_connection_ends_is_named() -> None:
    with workers(3) as found:
        address = found[2].cluster.me.address
        found[2].close()
        with pytest.raises(tf.errors.UnavailableError, match=f"worker 2 \\({address}\\): "):
            found[0].exchange(np.zeros((3, 1_000)))


def test_a_worker_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PROBE_INTERVAL_S", 0.01)
    monkeypatch.setattr(links, "LOST_AFTER_S", 0.2)
    with workers(2) as found, pytest.raises(tf.errors.UnavailableError, match=r"worker 1 .*hangs"):
        # Its port takes connections, as the kernel does for a process that is stopped.
        found[0].exchange(np.zeros((2, 1)))


def test_a_worker_that_is_busy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def greets(member: object, *, timeout_s: float) -> bool:
        asked.set()
        return True

    monkeypatch.setattr(links, "PROBE_INTERVAL_S", 0.01)
    monkeypatch.setattr(links, "greets", greets)
    with workers(2) as found:

        def exchanged(one: Links) -> Any:
            assert one.index == 0 or asked.wait(60)
            return one.exchange(np.full((2, 1), one.index))

        np.testing.assert_array_equal(np.stack(each(found, exchanged))[..., 0], [[0, 1], [0, 1]])
