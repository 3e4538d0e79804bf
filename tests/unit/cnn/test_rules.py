"""Every rule on parameters with its message, and the four verdicts at work."""

from __future__ import annotations

import pytest
from cnn_standins import Synthetic, Trivial

from trainbench import cnn
from trainbench.cnn import rules
from trainbench.cnn.flags.params import ParamError

LR = "learning_rate"
FROZEN = {"forward_only": True, "freeze_when_forward_only": True}
EVERY = {"eval_during_training_every_n_steps": 2}
AUTO = {"use_fp16": True, "fp16_enable_auto_loss_scale": True}
WORKER = {"job_name": "worker", "worker_hosts": "a:1,b:1", "ps_hosts": "c:1"}
FROZEN_START = "In forward_only mode, when --freeze_when_forward_only is True"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_epochs_per_decay": 1, "init_learning_rate": 1},
         "If one of num_epochs_per_decay or learning_rate_decay_factor is set, both must be set"
         "and learning_rate must be set"),
        ({"learning_rate_decay_factor": 0.5, "num_epochs_per_decay": 1},
         "If one of num_epochs_per_decay or learning_rate_decay_factor is set, both must be set"
         "and learning_rate must be set"),
        ({"minimum_learning_rate": 0.1, "init_learning_rate": 1},
         "minimum_learning_rate requires learning_rate,num_epochs_per_decay, and "
         "learning_rate_decay_factor to be set"),
        ({"use_fp16": True, "fp16_vars": True, "variable_update": "replicated",
          "all_reduce_spec": "nccl"}, "fp16 variables are not supported with NCCL"),
        ({"use_fp16": True, "fp16_vars": True, "gradient_repacking": 2},
         "--fp16_vars cannot be used with --gradient_repacking"),
        ({"variable_update": "horovod", "num_gpus": 2},
         "Horovod benchmarks require num_gpus=1 on each worker"),
        ({"variable_update": "horovod", "job_name": "worker"},
         "job_name should not be specified for Horovod."),
        ({**AUTO, "variable_update": "replicated", "all_reduce_spec": "nccl"},
         "Automatic loss scaling is not supported with NCCL."),
        ({**AUTO, "variable_update": "distributed_replicated"},
         "Automatic loss scaling is not supported with variable_update=distributed_replicated."),
        ({**AUTO, "variable_update": "distributed_all_reduce"},
         "Automatic loss scaling is not supported with variable_update=distributed_all_reduce."),
        ({**AUTO, "staged_vars": True},
         "Automatic loss scaling is not supported withstaged_vars."),
        ({"debugger": "gdb"}, '--debugger must be "cli" or in the form host:port'),
        ({"hierarchical_copy": True}, "--hierarchical_copy requires --num_gpus to be greater "
         "than 1"),
        ({"save_model_secs": 1, "save_model_steps": 1},
         "At most one of --save_model_secs and --save_model_steps can be specified"),
        ({**EVERY, "eval_during_training_every_n_epochs": 1},
         "At most one flag with --eval_during_training_* prefix must be specified."),
        ({**EVERY, "eval": True},
         "At most one of --eval and --eval_during_training_* must be specified"),
        ({**EVERY, "forward_only": True},
         "At most one of --forward_only and --eval_during_training_* must be specified"),
        ({**EVERY, "job_name": "worker"},
         "--eval_during_training_* is not yet supported in distributed mode."),
        ({**EVERY, "staged_vars": True},
         "--eval_during_training_* is not currently compatible with --staged_vars"),
        ({"stop_at_top_1_accuracy": 0.5},
         "--stop_at_top_1_accuracy is only supported with --eval_during_training_*"),
        ({"collect_eval_results_async": True},
         "--collect_eval_results_async only works with ssd300 model currently."),
        ({**FROZEN, "train_dir": "x"}, f"{FROZEN_START}, --train_dir should not be specified"),
        ({**FROZEN, "data_dir": "x", "datasets_use_prefetch": False},
         f"{FROZEN_START} and --data_dir is set, --datasets_use_prefetch should be set to True"),
        ({**FROZEN, "job_name": "worker"}, f"{FROZEN_START}, --job_name should not be specified "
         "and distributed running is not supported"),
        ({"trt_mode": "FP16"}, "--trt_mode should not be specified if one of --forward_only and "
         "--freeze_when_forward_only is set to False"),
        ({"eval": True, "forward_only": True},
         "Only one of forward_only and eval parameters is true"),
        ({**WORKER, "variable_update": "distributed_all_reduce", "all_reduce_spec": "xring"},
         "When variable_update==distributed_all_reduce controller_host must also be specified."),
        ({**WORKER, "all_reduce_spec": "nccl"},
         "--all_reduce_spec=nccl is invalid in a multi-worker job"),
        ({"num_batches": 1, "num_epochs": 1},
         "At most one of --num_batches and --num_epochs may be specified."),
        ({"staged_vars": True, "variable_update": "replicated"},
         "staged_vars for now is only supported with variable_update=parameter_server"),
        ({"job_name": "worker", "variable_update": "replicated"},
         "Invalid variable_update in distributed mode: replicated"),
        ({"job_name": "worker", "variable_update": "independent"},
         "Invalid variable_update in distributed mode: independent"),
        ({"variable_update": "distributed_replicated"},
         "Invalid variable_update in local mode: distributed_replicated"),
        ({"variable_update": "distributed_all_reduce", "cross_replica_sync": False,
          "all_reduce_spec": "xring"},
         "variable_update=distributed_all_reduce requires cross_replica_sync"),
        ({"variable_update": "replicated", "all_reduce_spec": "pscpu:2k:xring"},
         "replicated mode does not support hybrid all-reduce strategies"),
        ({"variable_update": "distributed_all_reduce"},
         "distributed_all_reduce requires a non-empty all_reduce_spec"),
        ({"variable_update": "collective_all_reduce"},
         "collective_all_reduce requires a non-empty all_reduce_spec: None"),
        ({"variable_update": "collective_all_reduce",
          "all_reduce_spec": "collective:2k:collective"},
         "collective_all_reduce requires one single-range all_reduce_spec "
         "collective:2k:collective"),
        ({"variable_update": "collective_all_reduce", "all_reduce_spec": "xring"},
         "collective_all_reduce requires the all_reduce_spec collective: xring"),
        ({"variable_update": "replicated", "all_reduce_spec": "nope"},
         "all_reduce_spec (nope) contains invalid alg nope"),
        ({"gpu_thread_mode": "mine"}, "Invalid gpu_thread_mode: mine"),
        ({"gpu_thread_mode": "global", "per_gpu_thread_count": 2},
         "Invalid per_gpu_thread_count with gpu_thread_mode=global: 2"),
        ({"max_seconds": 5, "eval": True, "train_dir": "x"},
         "--max_seconds is for training and forward passes of one process; leave out it or --eval"),
        ({"optimizer": "adam", "adam_beta1": 1}, "--adam_beta1=1.0: wanted a value below 1"),
        ({"piecewise_learning_rate_schedule": "nan;3;0.1"}, "Invalid learning rate: nan"),
        ({"eval_during_training_at_specified_epochs": ["inf"]},
         "Param eval_during_training_at_specified_epochs value of ['inf'] cannot be converted to a "
         "list of floats."),
        ({"use_fp16": True, "use_bf16": True}, "Only one of use_fp16 and use_bf16 can be true"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_go_together_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared whole
        cnn.BenchmarkCNN(cnn.make_params(**values), dataset=Synthetic(), model=Trivial())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"variable_update": "horovod"}, "MultiWorkerMirroredStrategy"),
        ({"horovod_device": "gpu"}, "MultiWorkerMirroredStrategy"),
        ({**FROZEN, "trt_mode": "FP16"}, "ONNX"),
        ({"use_datasets": False}, "tf.data"),
        ({"staged_vars": True}, "--variable_consistency=relaxed"),
        ({"collect_eval_results_async": True, "model": "ssd300"}, "ssd300"),
        ({"backbone_model_path": "x"}, "ssd300"),
    ],
)
def test_what_no_longer_exists_names_its_replacement(values: dict, word: str) -> None:
    with pytest.raises(ParamError) as caught:
        cnn.BenchmarkCNN(cnn.make_params(**values), dataset=Synthetic(), model=Trivial())
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flag_without_effect_is_noted_once_and_only_when_set() -> None:
    assert list(rules.notes(cnn.make_params())) == []
    found = list(rules.notes(cnn.make_params(kmp_blocktime=1, use_tf_layers=False)))
    assert found == [
        "--kmp_blocktime has no effect: TensorFlow's wheels run oneDNN on their own threads, "
        "not on OpenMP",
        "--use_tf_layers has no effect: models are built of Keras layers",
    ]


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, "training"),
        ({"eval": True}, "evaluation"),
        ({"forward_only": True}, "forward only"),
        ({"eval_during_training_every_n_steps": 1}, "training + evaluation"),
        ({"eval_during_training_every_n_epochs": 0.5}, "training + evaluation"),
        ({"eval_during_training_at_specified_steps": [1]}, "training + evaluation"),
        ({"eval_during_training_at_specified_epochs": [0.5]}, "training + evaluation"),
    ],
)
def test_the_flags_decide_the_mode(values: dict, mode: str) -> None:
    assert rules.mode_of(cnn.make_params(**values)) == mode
