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

from trainbench import __version__
from trainbench.distribution import connecting as module
from trainbench.distribution import links
from trainbench.distribution.cluster import cluster_of_workers
from trainbench.distribution.connecting import Connecting, hello, received
from trainbench.distribution.links import Links
from trainbench.distribution.liveness import first_line
from trainbench.errors import MachineError


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
    sent = np.arange(count * count * 2).reshape(count, count, 2)
    with workers(count) as found:
        given = each(found, lambda one: one.exchange_and_total(sent[one.index], values[one.index]))
    expected = values[0].copy()
    for row in values[1:]:
        expected += row
    for one, (got, total) in enumerate(given):
        np.testing.assert_array_equal(got, sent[:, one])
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


def connecting(
    addresses: list[str],
    index: int,
    server: socket.socket,
    *,
    timeout_s: float = 60,
    version: str = __version__,
) -> Connecting:
    cluster = cluster_of_workers(addresses, index)
    return Connecting(cluster, server, timeout_s=timeout_s, version=version)


@contextmanager
def listening(count: int) -> Iterator[tuple[list[socket.socket], list[str]]]:
    """Servers of so many workers, and their addresses."""
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield found, [f"127.0.0.1:{server.getsockname()[1]}" for server in found]


def greeted(addresses: list[str], index: int) -> socket.socket:
    """A connection to the first of one that calls as worker ``index`` and says no more."""
    cluster = cluster_of_workers(addresses, index)
    link = socket.create_connection(cluster.members[0].host_and_port, timeout=60)
    link.sendall(hello(cluster))
    received(link, len(hello(cluster)), time.monotonic() + 60)
    return link


def ending(one: Connecting) -> str:
    """Why ``one`` does not get its connections."""
    with pytest.raises((MachineError, ConnectionError)) as raised:
        one.connected()
    return str(raised.value)


def test_a_worker_that_never_calls_is_waited_for_no_longer_than_stated() -> None:
    with listening(1) as (servers, _):
        alone = Links(cluster_of_workers(["127.0.0.1:1", "127.0.0.1:2"], 0))
        with pytest.raises(
            ConnectionError, match=r"no connection to worker 1 \(127.0.0.1:2\) in 0"
        ):
            alone.connect(servers[0], timeout_s=0.1)


def test_a_caller_that_never_says_who_it_is_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_HELLO_S", 0.1)
    silent = []
    with workers(2, before=lambda s: silent.append(socket.create_connection(s.getsockname()))) as w:
        assert_exchanged(w)
        silent[0].close()


@pytest.mark.parametrize("ended", [True, False])
def test_a_worker_that_was_started_again_takes_its_place(ended: bool) -> None:
    """Its process of before has called, and its machine may have had no time to say goodbye."""
    with listening(3) as (servers, addresses), ThreadPoolExecutor(3) as pool:
        first = pool.submit(connecting(addresses, 0, servers[0]).connected)
        old = greeted(addresses, 1)
        if ended:
            old.close()
        others = [connecting(addresses, index, servers[index]) for index in (1, 2)]
        found = [first, *(pool.submit(one.connected) for one in others)]
        done = [one.result() for one in found]
        old.close()
        assert [sorted(one) for one in done] == [[1, 2], [0, 2], [0, 1]]
        assert done[0][1].getpeername() == done[1][0].getsockname()
        for one in done:
            for link in one.values():
                link.close()


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_a_worker_of_another_version_ends_all_at_once(odd: int) -> None:
    versions = ["0.0.2" if index == odd else "0.0.1" for index in range(3)]
    with listening(3) as (servers, addresses), ThreadPoolExecutor(3) as pool:
        found = [
            connecting(addresses, index, servers[index], version=versions[index])
            for index in range(3)
        ]
        for text in pool.map(ending, found):
            assert " is of another run: trainbench 0.0." in text
            assert "trainbench 0.0.1, 3 workers" in text
            assert "trainbench 0.0.2, 3 workers" in text


def test_workers_of_other_numbers_of_workers_end_at_once() -> None:
    with listening(3) as (servers, addresses), ThreadPoolExecutor(2) as pool:
        found = [
            connecting(addresses[:2], 0, servers[0]),
            connecting(addresses, 1, servers[1]),
        ]
        told = list(pool.map(ending, found))
    assert told[0].startswith("worker 1 is of another run: ")
    assert f"{__version__}, 3 workers; worker 0 ({addresses[0]}) is of " in told[0]
    assert f"{__version__}, 2 workers; worker 1 ({addresses[1]}) is of " in told[1]


def test_two_processes_with_one_number_end_all_at_once() -> None:
    with listening(3) as (servers, addresses), ThreadPoolExecutor(3) as pool:
        found = [connecting(addresses, index, servers[index]) for index in (0, 1)]
        found.append(connecting(addresses, 1, servers[2]))
        told = list(pool.map(ending, found))
    said = (
        f"worker 0 ({addresses[0]}): two processes call as worker 1, from 127.0.0.1 and 127.0.0.1"
    )
    assert told[0] == f"{said}; give each a number of its own"
    assert told[1] == told[2] == f"worker 0 ({addresses[0]}) ended: {told[0]}"


def test_the_addresses_in_another_order_end_all_at_once() -> None:
    with listening(3) as (servers, addresses), ThreadPoolExecutor(3) as pool:
        found = [connecting(addresses, index, servers[index]) for index in (0, 1)]
        other = [addresses[1], addresses[0], addresses[2]]
        found.append(connecting(other, 2, servers[2]))
        for text in pool.map(ending, found):
            assert " is of another run: " in text


def test_a_call_of_a_worker_before_this_one_is_refused_with_its_number() -> None:
    with listening(2) as (servers, addresses), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(ending, connecting(addresses, 0, servers[0]))
        greeted(addresses, 0).close()
        assert "127.0.0.1 calls as worker 0, which is no worker after this one" in ended.result()


def test_a_worker_that_hangs_while_all_connect_is_named_by_all() -> None:
    """Worker 1 has called the first one and takes no call of the last."""
    with listening(3) as (servers, addresses), ThreadPoolExecutor(2) as pool:
        first = pool.submit(ending, connecting(addresses, 0, servers[0], timeout_s=1.5))
        with greeted(addresses, 1):
            last = pool.submit(ending, connecting(addresses, 2, servers[2], timeout_s=1))
            said = f"no connection to worker 1 ({addresses[1]}) in 1 s"
            assert last.result() == said
            assert first.result() == f"worker 2 ({addresses[2]}) ended: {said}"


def test_a_worker_that_never_says_that_it_is_connected_to_all_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS_S", 0.1)
    with listening(2) as (servers, addresses), ThreadPoolExecutor(1) as pool:
        first = pool.submit(ending, connecting(addresses, 0, servers[0], timeout_s=1))
        with greeted(addresses, 1):
            told = first.result()
    assert told == (
        f"no word that they are connected to all, from worker 1 ({addresses[1]}) in 1 s"
    )


def test_a_worker_whose_process_of_before_still_answers_is_called_again() -> None:
    with listening(2) as (servers, addresses), ThreadPoolExecutor(1) as pool:
        calling = pool.submit(connecting(addresses, 1, servers[1]).connected)
        for said in (b"", b"what TensorFlow's server says first".ljust(64)):
            caller, _ = servers[0].accept()
            with caller:
                caller.sendall(said)
        found = [connecting(addresses, 0, servers[0]).connected(), calling.result()]
        for one in found:
            for link in one.values():
                link.close()


def test_an_address_at_which_no_worker_ever_answers_is_told() -> None:
    with listening(2) as (servers, addresses), ThreadPoolExecutor(1) as pool:
        ended = pool.submit(ending, connecting(addresses, 1, servers[1], timeout_s=0.5))
        caller, _ = servers[0].accept()
        with caller:
            caller.sendall(b"what TensorFlow's server says first".ljust(64))
            servers[0].close()
            told = ended.result()
    assert told.startswith(f"no connection to worker 0 ({addresses[0]}) in 0.5 s (")


def test_a_worker_whose_connection_ends_is_named() -> None:
    with workers(3) as found:
        address = found[2].cluster.me.address
        found[2].close()
        with pytest.raises(tf.errors.UnavailableError, match=f"worker 2 \\({address}\\): "):
            found[0].exchange(np.zeros((3, 1_000)))


def test_workers_that_exchange_different_numbers_of_bytes_name_each_other() -> None:
    """Nothing of the message is taken, and nobody waits for bytes that do not come."""
    with workers(2) as found:

        def exchanged(one: Links) -> str:
            with pytest.raises(tf.errors.UnavailableError) as told:
                one.exchange(np.zeros((2, 3 + one.index), np.float32))
            return str(told.value)

        first, second = each(found, exchanged)
        one, other = (worker.cluster.me.address for worker in found)
    said = "worker {} ({}): it sent message 1 of {} bytes, wanted message 1 of {} bytes"
    assert first == said.format(1, other, 16, 12)
    assert second == said.format(0, one, 12, 16)


def test_why_a_graph_failed_is_told_and_not_where() -> None:
    def lost(values: np.ndarray) -> np.ndarray:
        raise tf.errors.UnavailableError(None, None, "worker 1 (a:1): it sent 16 bytes\nmore")

    graph = tf.function(lambda: tf.numpy_function(lost, [tf.zeros(1)], tf.float32))
    with pytest.raises(tf.errors.OpError) as failed:
        graph()
    assert first_line(failed.value) == "UnavailableError: worker 1 (a:1): it sent 16 bytes"
    assert first_line(OSError("\nno\nmore")) == "no"
    assert first_line(OSError()) == "OSError"


def test_a_worker_that_is_at_another_message_is_named() -> None:
    with workers(3) as found:
        each(found, lambda one: one.exchange(np.zeros((3, 1), np.uint8)))
        found[1]._messages += 1
        with pytest.raises(
            tf.errors.UnavailableError, match=r"worker 1 .*sent message 3 of 8.*wanted message 2"
        ):
            each(found, lambda one: one.exchange(np.zeros((3, 1))))


def test_what_comes_before_a_message_may_come_in_pieces() -> None:
    with workers(2) as found, ThreadPoolExecutor(1) as pool:
        exchanged = pool.submit(found[0].exchange, np.zeros((2, 1), np.uint8))
        said = links._FRAME.pack(1, 1) + b"\7"
        for piece in (said[:1], said[1:5], said[5:15], said[15:]):
            found[1]._sockets[0].send(piece)
            time.sleep(0.01)
        np.testing.assert_array_equal(exchanged.result(), [[0], [7]])


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
