"""How workers hold their port until all are there."""

from __future__ import annotations

import socket

import pytest

from trainbench.distribution import liveness
from trainbench.distribution.cluster import Member, cluster_of_workers
from trainbench.distribution.join import join, listening
from trainbench.distribution.liveness import Liveness, answers
from trainbench.errors import MachineError


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_worker_that_waits_answers_at_its_address(host: str) -> None:
    if host == "[::1]" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    me = cluster_of_workers([free(host)], 0).me
    assert not answers(me)
    with listening(me):
        assert answers(me)
    assert not answers(me)


def test_a_port_that_is_taken_is_said_with_the_address() -> None:
    address = free("127.0.0.1")
    with listening(cluster_of_workers([address], 0).me):
        watch = Liveness(cluster_of_workers([address, "b:1"], 0), timeout_s=60, option="--wait")
        with pytest.raises(MachineError) as raised:
            join(watch, gpus=0)
    assert str(raised.value).startswith(f"worker 0 ({address}): cannot join the others (")
    assert "is another process running on that port" in str(raised.value)


def free(host: str) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as unused:
        unused.bind((host.strip("[]"), 0))
        return f"{host}:{unused.getsockname()[1]}"


def test_one_that_has_answered_is_not_called_again_while_another_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no call before all are there, and the system holds so many and no more."""
    called: list[int] = []

    def answers(member: Member) -> bool:
        called.append(member.index)
        return member.index == 1 or called.count(2) > 5

    monkeypatch.setattr(liveness, "answers", answers)
    cluster = cluster_of_workers(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"], 0)
    watch = Liveness(cluster, timeout_s=60, option="--join-timeout-s")
    watch.start(armed=False).wait()
    watch.stop()
    assert called[:2] == [1, 2]
    assert set(called[1:]) == {2}
