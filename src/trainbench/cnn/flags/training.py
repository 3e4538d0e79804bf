"""Flags about the mathematics of training and about how gradients are combined.

A class is a concern; its docstring is the heading of its flags in ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainbench.cnn.flags.spec import DROP, KEEP, MAP, NOTE, OURS, flag

_LOSS_SCALE = "a loss scale with the semantics of tf_cnn_benchmarks"
_NO_HOROVOD = (
    "horovod has had no release since 2023 and no wheel; use "
    "--variable_update=collective_all_reduce (MultiWorkerMirroredStrategy)"
)
_TOPOLOGY = "the runtime handles the topology"


@dataclass(frozen=True)
class Optimizer:
    """Optimizer."""

    optimizer: Literal["momentum", "sgd", "rmsprop", "adam", "lars"] = flag(
        "sgd",
        MAP,
        "Update rule; momentum is Nesterov's.",
        "update rules with TensorFlow 1's semantics, written here; and LARS",
    )
    momentum: float = flag(0.9, KEEP, "Momentum of the rules momentum and lars.")
    rmsprop_decay: float = flag(0.9, KEEP, "Decay of RMSprop's mean square.")
    rmsprop_momentum: float = flag(0.9, KEEP, "Momentum of RMSprop.")
    rmsprop_epsilon: float = flag(1.0, KEEP, "Added under RMSprop's square root.")
    adam_beta1: float = flag(0.9, KEEP, "Decay of Adam's mean.")
    adam_beta2: float = flag(0.999, KEEP, "Decay of Adam's mean square.")
    adam_epsilon: float = flag(1e-08, KEEP, "Added to Adam's square root.")
    lars_coefficient: float = flag(0.001, OURS, "Trust coefficient of LARS.", low=0)
    lars_epsilon: float = flag(0.0, OURS, "Added to LARS' divisor.", low=0)
    gradient_clip: float | None = flag(None, KEEP, "Clip each gradient element to this size.")
    weight_decay: float = flag(0.00004, KEEP, "Factor of the L2 term of the loss.")
    single_l2_loss_op: bool = flag(
        False, MAP, "Compute the L2 term in one operation.", "concatenates in the compiled step"
    )
    sparse_to_dense_grads: bool = flag(
        False, NOTE, "Make sparse gradients dense.", "no image model has sparse gradients"
    )


@dataclass(frozen=True)
class Schedule:
    """Learning rate."""

    init_learning_rate: float | None = flag(None, KEEP, "Learning rate at the start.")
    piecewise_learning_rate_schedule: str | None = flag(
        None, KEEP, "LR0;E1;LR1;...;En;LRn: rate LRi from epoch Ei on."
    )
    num_epochs_per_decay: float = flag(0, KEEP, "Epochs between two reductions.")
    learning_rate_decay_factor: float = flag(0, KEEP, "Factor of each reduction.")
    num_learning_rate_warmup_epochs: float = flag(0, KEEP, "Epochs of linear increase.")
    minimum_learning_rate: float = flag(0, KEEP, "Lowest rate of that decay.")
    resnet_base_lr: float | None = flag(None, KEEP, "ResNet's learning rate for 256 images.")
    compute_lr_on_cpu: bool = flag(
        False,
        NOTE,
        "Compute the learning rate on the CPU.",
        "the rate is always computed there, once per step",
    )
    learning_rate_decay: Literal["", "cosine", "polynomial"] = flag(
        "", OURS, "Decay from --init_learning_rate to --end_learning_rate along this curve."
    )
    learning_rate_decay_epochs: float | None = flag(
        None, OURS, "Epochs of that decay; unset: until the end of the run.", low=0
    )
    end_learning_rate: float = flag(0.0, OURS, "Rate at the end of that decay.", low=0)
    polynomial_power: float = flag(2.0, OURS, "Power of the polynomial decay.", low=0)


@dataclass(frozen=True)
class Precision:
    """Precision."""

    use_fp16: bool = flag(
        False,
        MAP,
        "Compute in float16, keep variables in float32.",
        "the Keras policy mixed_float16",
    )
    use_bf16: bool = flag(False, OURS, "Compute in bfloat16; no loss scale is needed.")
    fp16_loss_scale: float | None = flag(
        None, MAP, "Factor of the loss; 128 if unset.", _LOSS_SCALE
    )
    fp16_vars: bool = flag(
        False,
        MAP,
        "Keep variables in float16 too.",
        "float16 variables except batch normalisation's",
    )
    fp16_enable_auto_loss_scale: bool = flag(False, MAP, "Adapt the loss scale.", _LOSS_SCALE)
    fp16_inc_loss_scale_every_n: int = flag(
        1000, MAP, "Finite steps before the scale doubles.", _LOSS_SCALE
    )


@dataclass(frozen=True)
class Reduction:
    """Several devices."""

    num_gpus: int = flag(
        1, MAP, "Number of devices.", "replicas; on the CPU as many logical devices", low=1
    )
    gpu_indices: str = flag(
        "",
        MAP,
        "Which GPUs, comma-separated.",
        "tf.config.set_visible_devices; the order has no meaning",
    )
    variable_update: Literal[
        "parameter_server",
        "replicated",
        "distributed_replicated",
        "independent",
        "distributed_all_reduce",
        "collective_all_reduce",
        "horovod",
    ] = flag(
        "parameter_server", MAP, "How gradients are combined.", _NO_HOROVOD, refused=("horovod",)
    )
    local_parameter_device: Literal["cpu", "gpu", "CPU", "GPU"] = flag(
        "gpu", MAP, "Where gradients are averaged.", "the device on which the sum is formed"
    )
    variable_consistency: Literal["strong", "relaxed"] = flag(
        "strong",
        MAP,
        "relaxed: apply one step late.",
        "the previous step's gradients are kept in variables",
    )
    all_reduce_spec: str | None = flag(
        None,
        MAP,
        "How gradients are summed.",
        "parsed in full; the algorithm decides on which devices the sums are formed",
    )
    gradient_repacking: int = flag(
        0, MAP, "Sum gradients in this many pieces.", "concatenate, split, sum, restore", low=0
    )
    compact_gradient_transfer: bool = flag(
        True, MAP, "With float16, move gradients in float16.", "gradients are cast before the sum"
    )
    agg_small_grads_max_bytes: int = flag(
        0, MAP, "Sum tensors below this many bytes together.", "packing written here"
    )
    agg_small_grads_max_group: int = flag(
        10, MAP, "Largest number of tensors in such a pack.", "packing written here"
    )
    iters_per_step: int = flag(
        5, OURS, "Reductions in each step of `trainbench bench all-reduce`.", low=1
    )
    allreduce_merge_scope: int = flag(
        1, NOTE, "Gradients per name scope.", "name scopes have no effect in a compiled step"
    )
    hierarchical_copy: bool = flag(False, NOTE, "Sum in two levels, as on a DGX-1.", _TOPOLOGY)
    network_topology: Literal["dgx1", "gcp_v100"] = flag(
        "dgx1", NOTE, "How the GPUs are connected.", _TOPOLOGY
    )
    staged_vars: bool = flag(
        False,
        DROP,
        "Read variables one step late.",
        "TensorFlow 2 has no staging areas; --variable_consistency=relaxed delays gradients by "
        "one step",
    )


@dataclass(frozen=True)
class Processes:
    """Several processes."""

    job_name: Literal["ps", "worker", "controller", ""] = flag(
        "", MAP, "Role of this process.", "TF_CONFIG"
    )
    ps_hosts: str = flag("", MAP, "Parameter servers, HOST:PORT,...", "TF_CONFIG")
    worker_hosts: str = flag("", MAP, "Workers, HOST:PORT,...", "TF_CONFIG")
    controller_host: str | None = flag(
        None,
        MAP,
        "Controller, which runs the workers' steps.",
        "for distributed_all_reduce; also for parameter_server, in place of worker 0",
    )
    task_index: int = flag(0, MAP, "Number of this process in its role.", "TF_CONFIG")
    server_protocol: str = flag("grpc", MAP, "Protocol between servers.", "TF_CONFIG")
    cross_replica_sync: bool = flag(
        True,
        MAP,
        "Workers step together.",
        "with parameter_server, every step waits for all workers; otherwise none waits",
    )
    cluster_timeout_s: int = flag(
        300, OURS, "Seconds to wait for the other processes at the start.", low=1
    )
    horovod_device: str = flag("", DROP, "Where Horovod reduces.", _NO_HOROVOD)
