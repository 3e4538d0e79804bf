"""What the programs that drive tf_cnn_benchmarks read in its output, and the lines they type.

PerfKitBenchmarker, AWS' deep-learning-containers, HPE's dlbs and Kubeflow's examples keep what the
process wrote to both of its streams in one file. A scheduler may put a time before each line.
"""

from __future__ import annotations

import contextlib
import io
import json
import re

import pytest

from trainbench import cnn
from trainbench.cnn import rules
from trainbench.cnn.flags.arguments import parse

STEPS = 25
HEADER = (
    "TensorFlow", "Model", "Dataset", "Mode", "SingleSess", "Batch size", "Num batches",
    "Num epochs", "Data format", "Optimizer", "Variables",
)  # fmt: skip
WORKERS = "--ps_hosts=10.0.0.4:2222 --worker_hosts=10.0.0.5:2222,10.0.0.6:2222"
PERFKIT = (
    "--local_parameter_device=cpu --batch_size=64 --model=resnet50 --data_name=imagenet "
    "--variable_update=parameter_server --distortions=True --device=cpu --data_format=NHWC "
    "--forward_only=False --use_fp16=False"
)
KUBEFLOW = (
    "--batch_size=32 --model=resnet50 --variable_update=parameter_server --flush_stdout=true "
    "--num_gpus=1 --local_parameter_device=cpu --device=cpu --data_format=NHWC"
)
LINES = {
    "perfkit": PERFKIT,
    "perfkit on gpus": "--local_parameter_device=gpu --batch_size=64 --model=inception3 "
    "--data_name=imagenet --variable_update=replicated --distortions=False --device=gpu "
    "--data_format=NCHW --forward_only=True --use_fp16=True --num_gpus=8",
    "perfkit, a server": f"{PERFKIT} --job_name=ps {WORKERS} --task_index=0",
    "perfkit, a worker": f"{PERFKIT} --job_name=worker {WORKERS} --job_name=worker --task_index=1",
    "kubeflow": KUBEFLOW,
    "kubeflow's launcher": f"{KUBEFLOW} --job_name=worker {WORKERS} --task_index=0",
    "aws": "--batch_size=256 --model=resnet50_v1.5 --train_dir=/opt/test00 --device=cpu "
    "--data_format=NHWC --num_inter_threads=0 --num_intra_threads=36 --mkl=True "
    "--kmp_blocktime=0",
    "dlbs": "--per_gpu_thread_count=1 --xla=false --use_fp16=true --use_tf_layers=true "
    "--staged_vars=false --model=resnet50 --eval=false --forward_only=false --batch_size=16 "
    "--num_batches=100 --num_warmup_batches=10 --num_gpus=4 --display_every=1000 --device=gpu "
    "--data_format=NCHW --variable_update=replicated --all_reduce_spec=nccl "
    "--local_parameter_device=cpu --distortions=false --num_intra_threads=0 "
    "--resize_method=bilinear --train_dir=",
    "of an earlier version": "--undefok=learning_rate,use_nccl --learning_rate=0.1 --nouse_nccl "
    "--model=vgg16",
}  # fmt: skip


@pytest.fixture(scope="module")
def both() -> str:
    """Everything that a short run writes, of both streams, in order."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        assert cnn.main([
            "--model=trivial", "--data_name=cifar10", "--batch_size=4", "--device=cpu",
            f"--num_batches={STEPS}", "--flush_stdout=true",
        ]) == 0  # fmt: skip
    return text.getvalue()


def steps(text: str) -> list[list[str]]:
    """The words of each step line: number, ``images/sec:``, speed and what follows."""
    words = [line.split() for line in text.splitlines()]
    return [each for each in words if each[1:2] == ["images/sec:"] and each[0] != "total"]


def test_there_is_one_total_and_it_is_a_number(both: str) -> None:
    (found,) = re.findall(r"total images/sec: (\S+)", both)
    assert float(found) > 0


@pytest.mark.parametrize("seconds", ["", "12:00:00.5 "])
def test_the_total_stands_in_its_place_of_its_line(both: str, seconds: str) -> None:
    (line,) = [seconds + line for line in both.splitlines() if "total images/sec:" in line]
    words = line.split(" ")
    assert float(words[2 + seconds.count(" ")]) > 0
    assert float(line.rpartition(": ")[2]) > 0


def test_of_the_last_ten_lines_the_last_speed_is_the_total(both: str) -> None:
    speeds = [line for line in both.splitlines()[-10:] if "images/sec:" in line]
    found = re.search(r"images/sec:[ ]*([0-9]+\.?[0-9]+)", speeds[-1])
    assert found is not None
    assert speeds[-1] == f"total images/sec: {found[1]}"


def test_there_is_a_line_for_the_first_step_and_for_each_tenth(both: str) -> None:
    found = steps(both)
    assert [int(words[0]) for words in found] == [1, 10, 20]
    assert len(found) == int(found[-1][0]) // 10 + 1
    assert all(float(words[2]) > 0 for words in found)


def test_a_step_line_holds_the_speed_its_error_the_jitter_and_the_loss(both: str) -> None:
    pattern = r"^\d+\timages/sec: [\d.]+ \+/- [\d.]+ \(jitter = [\d.]+\)\t[\d.]+$"
    assert len(re.findall(pattern, both, re.M)) == 3


def test_the_header_is_names_and_values(both: str) -> None:
    pairs = dict(line.split(": ", 1) for line in both.splitlines() if ": " in line)
    found = {name: pairs[name].strip() for name in HEADER}
    assert all(found.values())
    assert (found["Model"], found["Batch size"], found["Num batches"]) == (
        "trivial",
        "4 global",
        str(STEPS),
    )


def test_between_warm_up_and_the_first_rule_there_is_a_table(both: str) -> None:
    lines = both.splitlines()
    start = lines.index("Done warm up") + 1
    end = next(at for at in range(start, len(lines)) if "---" in lines[at])
    rows = [line.split("\t") for line in lines[start:end]]
    assert rows[0] == ["Step", "Img/sec", "total_loss"]
    assert [len(row) for row in rows] == [3] * 4


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_what_they_type_is_taken(line: str) -> None:
    params = parse(line.split()).params
    rules.check(params)
    assert params.model in line


def test_a_name_that_a_script_left_empty_is_no_name() -> None:
    params = parse(["--train_dir=", "--data_dir=", "--data_name=", "--result_json="]).params
    assert params == cnn.make_params() == cnn.make_params(train_dir="", data_dir="")


def test_options_of_the_graph_rewriter_are_taken_as_the_retired_flag_says() -> None:
    params = parse([f"--rewriter_config={json.dumps({'layout_optimizer': True})}"]).params
    rules.check(params)
