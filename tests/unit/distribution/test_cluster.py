"""TF_CONFIG: who the workers are and which of them this process is, or what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainbench.cli import main as cli
from trainbench.distribution.cluster import cluster_of_workers, from_tf_config, past_proxies
from trainbench.errors import ConfigError, MachineError
from trainbench.ncf.replicas import require_equal

ADDRESSES = ["10.0.0.1:2222", "10.0.0.2:2222"]


def described(cluster: object, **task: object) -> str:
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize("index", [1, "1"])
def test_a_worker_knows_the_others_and_itself(index: object) -> None:
    found = from_tf_config(described({"worker": ADDRESSES}, type="worker", index=index))
    assert found == cluster_of_workers(ADDRESSES, 1)
    assert not found.is_chief
    assert [str(member) for member in found.needed()] == ["worker 0 (10.0.0.1:2222)"]


def test_tf_config_tells_another_process_the_same() -> None:
    cluster = cluster_of_workers(ADDRESSES, 1)
    assert from_tf_config(cluster.tf_config()) == cluster


def test_a_chief_job_is_worker_0() -> None:
    jobs = {"worker": ADDRESSES[1:], "chief": ADDRESSES[:1]}
    chief = from_tf_config(described(jobs, type="chief", index=0))
    worker = from_tf_config(described(jobs, type="worker", index=0))
    assert (chief, worker) == (cluster_of_workers(ADDRESSES, 0), cluster_of_workers(ADDRESSES, 1))
    assert chief
    assert chief.is_chief


@pytest.mark.parametrize("text", ["", " ", described({"worker": ["a:1"]}, type="worker", index=0)])
def test_one_machine_is_no_cluster(text: str) -> None:
    assert from_tf_config(text) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "TF_CONFIG is list"),
        ("{}", "no 'cluster' object"),
        ('{"cluster": {}}', "no 'task' object"),
        (described({}, type="worker", index=0), "names no worker"),
        (described({"worker": "a:1"}, type="worker", index=0), "worker is 'a:1'"),
        (
            described({"worker": ["a:1", "a:1"]}, type="worker", index=0),
            "TF_CONFIG: worker 1: a:1 is the address of worker 0 as well",
        ),
        (described({"worker": ADDRESSES}, type="worker", index=2), "index 2 is not one of the 2"),
        (described({"worker": ADDRESSES}, type="worker"), "index None is not one of the 2"),
        (described({"worker": ADDRESSES}, type="ps", index=0), "'ps' is not a job"),
        (described({"worker": ADDRESSES, "ps": ["a:1"]}, type="ps", index=0), "the job 'ps'"),
    ],
)
def test_a_bad_tf_config_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_tf_config(text)


@pytest.mark.parametrize(
    "address", ["a", "b:0", "b:99999", "b:65536", ":1", "::1:2222", "[::1]", 7]
)
def test_an_address_is_a_host_and_a_port_that_exists(address: object) -> None:
    text = described({"worker": ["a:1", address]}, type="worker", index=0)
    with pytest.raises(ConfigError) as raised:
        from_tf_config(text)
    assert str(raised.value) == (
        f"TF_CONFIG: worker 1: {address!r} is a malformed address; wanted HOST:PORT, with a port "
        "from 1 to 65535 and an IPv6 address in brackets"
    )


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("a:1", "a", 1), ("10.0.0.1:65535", "10.0.0.1", 65535), ("[fe80::1]:2222", "fe80::1", 2222)],
)
def test_host_and_port_are_taken_apart(address: str, host: str, port: int) -> None:
    found = from_tf_config(described({"worker": [address, "z:1"]}, type="worker", index=0))
    assert found
    assert found.me.host_and_port == (host, port)


def test_workers_that_differ_are_told_who_has_what() -> None:
    require_equal("the input of epoch 3", [b"same", b"same"])
    with pytest.raises(
        MachineError, match=r"differ in the input of epoch 3: worker 0 0a0b, worker 1 0a0c;"
    ):
        require_equal("the input of epoch 3", [b"\x0a\x0b", b"\x0a\x0c"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give each the same --seed"),
        (["--seed=1", "--set=batch_size=2049"], "2049 cannot be divided among 2 replicas"),
        (["--seed=1", "--tpu=local"], "tpu is for one machine"),
        (["--seed=1", "--devices=all", "--set=cpu_devices=2"], "cpu_devices is for one machine"),
        (["--seed=1", "--set=lanes=1024x1"], "lanes=1024x1: lanes are for one CPU"),
    ],
)
def test_what_several_machines_cannot_do_is_refused_before_any_work(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TF_CONFIG", described({"worker": ADDRESSES}, type="worker", index=0))
    command = ["trainbench", "train", "--preset=quick", f"--data-dir={tmp_path}", *words]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, {}),
        ({"no_proxy": "other"}, {}),
        ({"http_proxy": "p"}, {"no_grpc_proxy": "10.0.0.1,::1,host"}),
        ({"grpc_proxy": "p", "no_proxy": "a, host"}, {"no_grpc_proxy": "a,host,10.0.0.1,::1"}),
        ({"https_proxy": "p", "NO_PROXY": "a"}, {"no_grpc_proxy": "a,10.0.0.1,::1,host"}),
        (
            {"http_proxy": "p", "no_proxy": "*", "no_grpc_proxy": "b"},
            {"no_grpc_proxy": "b,10.0.0.1,::1,host"},
        ),
    ],
)
def test_the_hosts_of_a_cluster_are_exempt_from_its_proxy(
    env: dict[str, str], wanted: dict[str, str]
) -> None:
    cluster = cluster_of_workers(["10.0.0.1:1", "[::1]:1", "host:1", "host:2"], 0)
    assert past_proxies(cluster, env) == wanted
    assert past_proxies(cluster, {**env, **wanted}) == wanted


def test_tpu_and_xla_for_gpus_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--xla", "--use_xla_for_gpu", "--set=xla=true"):
        monkeypatch.setattr("sys.argv", ["trainbench", "train", "--preset=quick", "--tpu=t", flag])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        assert "error: --use_xla_for_gpu is incompatible with --tpu\n" in capsys.readouterr().err
