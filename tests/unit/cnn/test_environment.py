"""Environment variables, devices, and what is said about them."""

from __future__ import annotations

import json
import os

import pytest
import tensorflow as tf

from trainbench import cnn
from trainbench.cnn import environment
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.threads import Threads


def test_tuning_flags_become_environment_variables() -> None:
    params = cnn.make_params(
        device="gpu", autotune_threshold=3, winograd_nonfused=False, sync_on_finish=True,
        use_unified_memory=True, mkl=True, gpu_thread_mode="gpu_shared", per_gpu_thread_count=5,
    )  # fmt: skip
    assert environment.variables(params) == {
        "TF_ENABLE_WINOGRAD_NONFUSED": "0",
        "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT": "1",
        "TF_SYNC_ON_FINISH": "1",
        "TF_AUTOTUNE_THRESHOLD": "3",
        "TF_GPU_THREAD_MODE": "gpu_shared",
        "TF_GPU_THREAD_COUNT": "5",
        "TF_FORCE_UNIFIED_MEMORY": "1",
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }


def test_gpu_threads_are_two_each_and_left_alone_on_the_cpu() -> None:
    assert environment.variables(cnn.make_params())["TF_GPU_THREAD_COUNT"] == "2"
    assert "TF_GPU_THREAD_COUNT" not in environment.variables(cnn.make_params(device="cpu"))


def test_a_replaced_variable_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TF_SYNC_ON_FINISH", "7")
    environment.set_variables({"TF_SYNC_ON_FINISH": "0"}, given=["sync_on_finish"])
    assert os.environ["TF_SYNC_ON_FINISH"] == "0"
    said = capsys.readouterr().err
    assert "TF_SYNC_ON_FINISH=7 of the environment is replaced by 0" in said
    assert "requested: TF_SYNC_ON_FINISH=0" in said


def test_a_default_that_replaces_a_variable_gets_the_warning_of_tf_cnn_benchmarks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TF_SYNC_ON_FINISH", "7")
    environment.set_variables({"TF_SYNC_ON_FINISH": "0"})
    assert (
        "OS ENV variable TF_SYNC_ON_FINISH=7 is ignored and script default: 0 is used. "
        "Use --sync_on_finish to override."
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, Threads(1, 12, 2, 8)),
        ({"gpu_thread_mode": "gpu_shared"}, Threads(1, 12, 4, 8)),
        ({"gpu_thread_mode": "global"}, Threads(1, 0, 0, 0)),
        ({"per_gpu_thread_count": 9}, Threads(1, 1, 9, 1)),
        ({"num_intra_threads": 0, "num_inter_threads": 3}, Threads(0, 3, 2, 8)),
        ({"datasets_num_private_threads": 5}, Threads(1, 12, 2, 5)),
        ({"datasets_use_prefetch": False}, Threads(1, 12, 2, 0)),
    ],
)
def test_threads_of_two_gpus_on_sixteen_cores(values: dict, wanted: Threads) -> None:
    params = cnn.make_params(num_gpus=2, **values)
    assert Threads.of(params, on_gpu=True, cores=16) == wanted


def test_without_a_gpu_the_numbers_are_the_flags_or_tensorflows_own() -> None:
    assert Threads.of(cnn.make_params(), on_gpu=False) == Threads(0, 0, 0, 0)
    params = cnn.make_params(num_intra_threads=2, num_inter_threads=3)
    threads = Threads.of(params, on_gpu=False)
    assert threads == Threads(2, 3, 0, 0)
    assert str(threads) == "threads requested: 2 intra-op, 3 inter-op"


def test_the_processes_of_a_run_are_in_tf_config() -> None:
    params = cnn.make_params(
        device="cpu", job_name="worker", task_index=1, worker_hosts="a:1,b:1",
        variable_update="collective_all_reduce", all_reduce_spec="collective",
    )  # fmt: skip
    assert json.loads(environment.variables(params)["TF_CONFIG"])["task"]["index"] == 1
    assert "TF_CONFIG" not in environment.variables(cnn.make_params(device="cpu"))


def test_replicas_have_a_device_each_whatever_the_runtime_has() -> None:
    printed, used = environment.devices(cnn.make_params(device="cpu", num_gpus=3))
    assert printed == ["/cpu:0", "/cpu:1", "/cpu:2"]
    there = len(tf.config.list_logical_devices("CPU"))
    assert used == [f"/cpu:{i % there}" for i in range(3)]


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_without_a_gpu_the_cpu_is_used_and_named(capsys: pytest.CaptureFixture) -> None:
    params = cnn.make_params(device="gpu")
    environment.configure(params)
    printed, _ = environment.devices(params)
    assert printed == ["/cpu:0"]
    assert "TensorFlow sees no GPU on this machine; computing on the CPU" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["remapping: OFF", "[1]", "{"])
def test_the_rewriter_takes_a_json_object(text: str) -> None:
    with pytest.raises(ParamError, match="not a JSON object"):
        cnn.BenchmarkCNN(cnn.make_params(device="cpu", rewriter_config=text))


def test_the_rewriters_options_are_set() -> None:
    before = tf.config.optimizer.get_experimental_options()
    try:
        environment.configure(cnn.make_params(device="cpu", rewriter_config='{"remapping": false}'))
        assert tf.config.optimizer.get_experimental_options()["remapping"] is False
        environment.configure(cnn.make_params(device="cpu", enable_optimizations=False))
        assert tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"] is True
    finally:
        tf.config.optimizer.set_experimental_options(
            {"remapping": True, "disable_meta_optimizer": False, **before}
        )
