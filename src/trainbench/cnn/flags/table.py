"""Every flag of ``trainbench cnn``: its type, its default, its help and what has become of it.

A class is a concern; its docstring is the heading of its flags in ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainbench.cnn.flags.spec import DROP, KEEP, MAP, NOTE, OURS, flag

_NO_TENSORRT = (
    "TensorFlow has no TensorRT since 2.18; export a SavedModel, convert it to ONNX and "
    "give that to TensorRT"
)
_NO_SSD300 = "only ssd300 used it, which is not part of this benchmark; leave it out"
_LOSS_SCALE = "a loss scale with the semantics of tf_cnn_benchmarks"
_NO_HOROVOD = (
    "horovod has had no release since 2023 and no wheel; use "
    "--variable_update=collective_all_reduce (MultiWorkerMirroredStrategy)"
)
_TOPOLOGY = "the runtime handles the topology"
_CPU_RUNTIME = "TensorFlow's wheels run oneDNN on their own threads, not on OpenMP"
_NO_SETTER = "TensorFlow 2 has no public setter for it"


@dataclass(frozen=True)
class Mode:
    """What to run."""

    model: str = flag(
        "trivial", KEEP, "Name of the model, or keras:NAME for any of keras.applications."
    )
    batch_size: int = flag(0, KEEP, "Images per device and step; 0: the model's own.", low=0)
    eval_batch_size: int = flag(0, KEEP, "The same in evaluation; 0: as batch_size.", low=0)
    num_batches: int | None = flag(
        None, KEEP, "Timed steps, after the warm-up; 100 if unset.", low=0
    )
    num_epochs: float | None = flag(
        None, KEEP, "Length in epochs, instead of --num_batches.", low=0, high=1e9
    )
    max_seconds: float | None = flag(
        None,
        OURS,
        "End after the step in which this much time has passed, as a shorter run would end.",
        low=0,
    )
    num_warmup_batches: int | None = flag(None, KEEP, "Warm-up steps before timing starts.", low=0)
    autotune_threshold: int | None = flag(
        None,
        MAP,
        "How often cuDNN tries its algorithms.",
        "sets TF_AUTOTUNE_THRESHOLD and lengthens the warm-up",
        low=0,
    )
    batch_group_size: int = flag(
        1,
        NOTE,
        "Batches per round of the image producer.",
        "tf.data prefetches; only the rounding of the warm-up is kept",
        low=0,
    )
    forward_only: bool = flag(False, KEEP, "Run the network without training it.")
    freeze_when_forward_only: bool = flag(
        False, MAP, "Turn variables into constants.", "convert_variables_to_constants_v2"
    )
    trt_mode: Literal["", "FP32", "FP16", "INT8"] = flag(
        "", DROP, "Precision of TensorRT.", _NO_TENSORRT
    )
    trt_max_workspace_size_bytes: int = flag(4 << 30, DROP, "Workspace of TensorRT.", _NO_TENSORRT)
    tf_random_seed: int = flag(
        1234, KEEP, "Seed of the weights and of the input.", low=0, high=2**32 - 1
    )


@dataclass(frozen=True)
class Data:
    """Data."""

    data_dir: str | None = flag(None, KEEP, "Folder of the images; unset: synthetic images.")
    data_name: str | None = flag(None, KEEP, "imagenet or cifar10; guessed from the folder.")
    check_data: str | None = flag(
        None,
        OURS,
        "List every damaged or wrong record of the files in this folder, and run nothing else.",
    )
    distortions: bool = flag(True, KEEP, "Distort training images (box and colour).")
    resize_method: str = flag("bilinear", KEEP, "bilinear, nearest, bicubic, area or round_robin.")
    fuse_decode_and_crop: bool = flag(True, KEEP, "Decode only the part that is used.")
    distort_color_in_yiq: bool = flag(True, KEEP, "Distort hue and saturation in YIQ.")
    input_preprocessor: str = flag("default", KEEP, "Name of the image preprocessing.")
    ml_perf: bool = flag(False, KEEP, "Subtract channel means, as MLPerf asks.")
    use_datasets: bool = flag(
        True,
        DROP,
        "Read images through tf.data.",
        "the record queue is gone; tf.data is always used",
    )
    datasets_use_prefetch: bool = flag(
        True, NOTE, "Prefetch to the devices.", "tf.data always prefetches"
    )
    datasets_prefetch_buffer_size: int = flag(1, KEEP, "Batches fetched ahead.", low=0)
    datasets_num_private_threads: int | None = flag(None, KEEP, "Threads of tf.data.", low=0)
    datasets_use_caching: bool = flag(False, KEEP, "Keep encoded images in memory.")
    datasets_parallel_interleave_cycle_length: int | None = flag(
        None, KEEP, "Files read at a time.", low=0
    )
    datasets_sloppy_parallel_interleave: bool = flag(
        False, KEEP, "Skip files that are not ready; the order is then not repeatable."
    )
    datasets_parallel_interleave_prefetch: int | None = flag(
        None, KEEP, "Records fetched ahead from each file.", low=0
    )
    datasets_repeat_cached_sample: bool = flag(
        False, KEEP, "Read one record and repeat it, to take storage out of the measurement."
    )
    multi_device_iterator_max_buffer_size: int = flag(
        1, NOTE, "Host-side buffer.", "tf.data sizes its own buffers"
    )
    use_python32_barrier: bool = flag(
        False,
        NOTE,
        "Barrier of the image producer.",
        "tf.data has taken the place of the producer thread",
    )


@dataclass(frozen=True)
class Evaluation:
    """Evaluation."""

    eval: bool = flag(False, KEEP, "Measure the accuracy of a checkpoint.")
    eval_interval_secs: int = flag(0, KEEP, "Pause between evaluations; 0: only one.", low=0)
    eval_during_training_every_n_steps: int | None = flag(
        None, KEEP, "Evaluate each time this many steps were trained.", low=1
    )
    eval_during_training_every_n_epochs: float | None = flag(
        None, KEEP, "Evaluate each time this many epochs were trained.", low=0
    )
    eval_during_training_at_specified_steps: tuple[str | float, ...] = flag(
        (), KEEP, "Evaluate after these steps (comma-separated)."
    )
    eval_during_training_at_specified_epochs: tuple[str | float, ...] = flag(
        (), KEEP, "Evaluate after these epochs (comma-separated)."
    )
    num_eval_batches: int | None = flag(None, KEEP, "Steps of an evaluation.", low=0)
    num_eval_epochs: float | None = flag(
        None, KEEP, "Passes over the validation images.", low=0, high=1e9
    )
    stop_at_top_1_accuracy: float | None = flag(
        None,
        KEEP,
        "End the training once an evaluation reaches this share of the images.",
        low=0,
        # Beyond 1 and out of reach, as in tf_cnn_benchmarks' tests; the command wants a share.
        high=2,
    )
    collect_eval_results_async: bool = flag(
        False, DROP, "Process results of evaluations in a separate process.", _NO_SSD300
    )


@dataclass(frozen=True)
class Several:
    """Several runs, each in its own process."""

    repeat: int = flag(
        1, OURS, "Whole runs; the mean speed is printed with its 95 % confidence interval.", low=1
    )
    auto_batch_size: bool = flag(
        False,
        OURS,
        "Take the largest batch size that fits into memory; the search begins with "
        "--batch_size, or 32.",
    )
    batch_size_multiple: int = flag(
        1, OURS, "Batch sizes that --auto_batch_size considers: multiples of this.", low=1
    )
    memory_limit_gib: float | None = flag(
        None,
        OURS,
        "Host memory for a trial of --auto_batch_size; unset: 90 % of what is available.",
        low=0,
    )
    sweep: str | None = flag(
        None,
        OURS,
        "Run every combination of the lists below; write a row for each to this CSV file, and a"
        " plot beside it. Combinations with a row are not run again.",
    )
    sweep_models: tuple[str | float, ...] = flag((), OURS, "Models of the sweep; unset: --model.")
    sweep_batch_sizes: tuple[str | float, ...] = flag(
        (), OURS, "Sweep's batch sizes; unset: --batch_size."
    )
    sweep_precisions: tuple[str | float, ...] = flag(
        (), OURS, "Sweep's number formats: fp32, fp16, bf16; unset: as the other flags say."
    )


@dataclass(frozen=True)
class Output:
    """Output."""

    display_every: int = flag(10, KEEP, "Steps between two printed lines.", low=1)
    display_perf_ewma: float | None = flag(
        None, KEEP, "Weight of the newest step in a moving mean of the speed.", low=0, high=1
    )
    print_training_accuracy: bool = flag(False, KEEP, "Add accuracies to each line.")
    loss_type_to_report: Literal["base_loss", "total_loss"] = flag(
        "total_loss", KEEP, "Loss with (total_loss) or without the L2 term."
    )
    result_json: str | None = flag(None, OURS, "Write all measurements to this JSON file.")
    benchmark_log_dir: str | None = flag(None, KEEP, "Write benchmark_run.log and metric.log.")
    benchmark_test_id: str | None = flag(None, KEEP, "A name for the run in those files.")
    summary_verbosity: int = flag(
        0,
        KEEP,
        "0: no summaries, 1: scalars, 2: and gradients, 3: and variables and images.",
        low=0,
    )
    save_summaries_steps: int = flag(0, KEEP, "Steps between summaries; 0: none.", low=0)
    ml_perf_compliance_logging: bool = flag(False, KEEP, "Write MLPerf v0.5 lines.")


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints."""

    train_dir: str | None = flag(None, KEEP, "Folder of the checkpoints and summaries.")
    eval_dir: str = flag(
        "/tmp/tf_cnn_benchmarks/eval", KEEP, "Folder of the summaries of an evaluation."
    )
    save_model_secs: int = flag(0, KEEP, "Seconds between checkpoints; 0: never.", low=0)
    save_model_steps: int | None = flag(None, KEEP, "Steps between checkpoints.", low=0)
    max_ckpts_to_keep: int = flag(5, KEEP, "Number of checkpoints to keep.", low=0)
    backbone_model_path: str | None = flag(
        None, DROP, "Weights of a detector's backbone.", _NO_SSD300
    )


@dataclass(frozen=True)
class Optimizer:
    """Optimizer."""

    optimizer: Literal["momentum", "sgd", "rmsprop", "adam", "lars"] = flag(
        "sgd",
        MAP,
        "Update rule; momentum is Nesterov's.",
        "update rules with TensorFlow 1's semantics, written here; and LARS",
    )
    momentum: float = flag(0.9, KEEP, "Momentum of the rules momentum and lars.", low=0)
    rmsprop_decay: float = flag(0.9, KEEP, "Decay of RMSprop's mean square.", low=0)
    rmsprop_momentum: float = flag(0.9, KEEP, "Momentum of RMSprop.", low=0)
    rmsprop_epsilon: float = flag(1.0, KEEP, "Added under RMSprop's square root.", low=0)
    adam_beta1: float = flag(0.9, KEEP, "Decay of Adam's mean.", low=0)
    adam_beta2: float = flag(0.999, KEEP, "Decay of Adam's mean square.", low=0)
    adam_epsilon: float = flag(1e-08, KEEP, "Added to Adam's square root.", low=0)
    lars_coefficient: float = flag(0.001, OURS, "Trust coefficient of LARS.", low=0)
    lars_epsilon: float = flag(0.0, OURS, "Added to LARS' divisor.", low=0)
    gradient_clip: float | None = flag(
        None, KEEP, "Clip each gradient element to this size.", low=0
    )
    weight_decay: float = flag(0.00004, KEEP, "Factor of the L2 term of the loss.", low=0)
    single_l2_loss_op: bool = flag(
        False, MAP, "Compute the L2 term in one operation.", "concatenates in the compiled step"
    )
    sparse_to_dense_grads: bool = flag(
        False, NOTE, "Make sparse gradients dense.", "no image model has sparse gradients"
    )


@dataclass(frozen=True)
class Schedule:
    """Learning rate."""

    init_learning_rate: float | None = flag(None, KEEP, "Learning rate at the start.", low=0)
    piecewise_learning_rate_schedule: str | None = flag(
        None, KEEP, "LR0;E1;LR1;...;En;LRn: rate LRi from epoch Ei on."
    )
    num_epochs_per_decay: float = flag(0, KEEP, "Epochs between two reductions.", low=0)
    learning_rate_decay_factor: float = flag(0, KEEP, "Factor of each reduction.", low=0)
    num_learning_rate_warmup_epochs: float = flag(0, KEEP, "Epochs of linear increase.", low=0)
    minimum_learning_rate: float = flag(0, KEEP, "Lowest rate of that decay.", low=0)
    resnet_base_lr: float | None = flag(None, KEEP, "ResNet's learning rate for 256 images.", low=0)
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
        None, MAP, "Factor of the loss; 128 if unset.", _LOSS_SCALE, low=0
    )
    fp16_vars: bool = flag(
        False,
        MAP,
        "Keep variables in float16 too.",
        "float16 variables except batch normalisation's",
    )
    fp16_enable_auto_loss_scale: bool = flag(False, MAP, "Adapt the loss scale.", _LOSS_SCALE)
    fp16_inc_loss_scale_every_n: int = flag(
        1000, MAP, "Finite steps before the scale doubles.", _LOSS_SCALE, low=0
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
        0, MAP, "Sum tensors below this many bytes together.", "packing written here", low=0
    )
    agg_small_grads_max_group: int = flag(
        10, MAP, "Largest number of tensors in such a pack.", "packing written here", low=0
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
    task_index: int = flag(0, MAP, "Number of this process in its role.", "TF_CONFIG", low=0)
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


@dataclass(frozen=True)
class Devices:
    """Device and threads."""

    device: Literal["cpu", "gpu", "CPU", "GPU"] = flag(
        "gpu", KEEP, "Where to compute; gpu without a GPU means cpu."
    )
    data_format: Literal["NHWC", "NCHW"] = flag(
        "NHWC",
        KEEP,
        "Layout of images: NHWC or NCHW.",
        "the default is NHWC, the faster layout of current GPUs; NCHW works on the CPU too",
    )
    num_intra_threads: int | None = flag(None, KEEP, "Threads within an operation.", low=0)
    num_inter_threads: int = flag(0, KEEP, "Operations at a time; 0: automatic.", low=0)
    gpu_thread_mode: str = flag(
        "gpu_private",
        MAP,
        "Threads for GPUs: global, gpu_private, gpu_shared.",
        "sets TF_GPU_THREAD_MODE",
    )
    per_gpu_thread_count: int = flag(
        0, MAP, "Host threads for each GPU.", "sets TF_GPU_THREAD_COUNT", low=0
    )
    use_numa_affinity: bool = flag(
        False,
        NOTE,
        "Bind CPU devices to NUMA nodes.",
        f"{_NO_SETTER}; start the program under numactl",
    )
    allow_growth: bool | None = flag(
        None, MAP, "Allocate GPU memory as needed.", "tf.config.experimental.set_memory_growth"
    )
    gpu_memory_frac_for_testing: float = flag(
        0, MAP, "Share of a GPU's memory.", "a memory limit on each logical GPU", low=0
    )
    use_unified_memory: bool | None = flag(
        None, MAP, "Let GPU memory spill to the host.", "sets TF_FORCE_UNIFIED_MEMORY"
    )
    timestamped_allocator: bool = flag(False, NOTE, "Time stamps on freed memory.", _NO_SETTER)
    gpu_kt_max_interval: int = flag(0, NOTE, "Kernels between tracking events.", _NO_SETTER)
    gpu_kt_max_bytes: int = flag(0, NOTE, "Bytes between tracking events.", _NO_SETTER)
    gpu_kt_max_pending: int = flag(0, NOTE, "Outstanding tracking events.", _NO_SETTER)
    force_gpu_compatible: bool = flag(False, NOTE, "Pin all host memory.", _NO_SETTER)
    sync_on_finish: bool = flag(
        False,
        MAP,
        "Wait for the devices after each step.",
        "sets TF_SYNC_ON_FINISH; every step waits for its loss anyway",
    )
    mkl: bool = flag(False, MAP, "Use oneDNN's kernels.", "sets TF_ENABLE_ONEDNN_OPTS")
    kmp_blocktime: int = flag(0, NOTE, "Milliseconds a thread spins.", _CPU_RUNTIME)
    kmp_affinity: str = flag(
        "granularity=fine,verbose,compact,1,0", NOTE, "Which cores threads run on.", _CPU_RUNTIME
    )
    kmp_settings: int = flag(1, NOTE, "Print OpenMP's settings.", _CPU_RUNTIME)


@dataclass(frozen=True)
class Compiler:
    """Compilation."""

    xla: bool = flag(
        False,
        MAP,
        "Let XLA choose what to compile.",
        "tf.config.optimizer.set_jit('autoclustering')",
    )
    xla_compile: bool = flag(
        False,
        MAP,
        "Compile the forward and backward pass.",
        "tf.function(jit_compile=True) around the loss and its gradients of each replica",
    )
    enable_optimizations: bool = flag(
        True, MAP, "Let the graph be rewritten.", "tf.config.optimizer.set_experimental_options"
    )
    rewriter_config: str | None = flag(
        None,
        MAP,
        "Options of the graph rewriter.",
        "a JSON object of the options that tf.config.optimizer.set_experimental_options documents",
    )
    winograd_nonfused: bool = flag(
        True, MAP, "Let cuDNN use Winograd, not fused.", "sets TF_ENABLE_WINOGRAD_NONFUSED"
    )
    batchnorm_persistent: bool = flag(
        True,
        MAP,
        "cuDNN's persistent batch norm.",
        "sets TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT",
    )
    use_tf_layers: bool = flag(
        True, NOTE, "Build models of tf.layers.", "models are built of Keras layers"
    )
    use_resource_vars: bool = flag(
        False, NOTE, "Use resource variables.", "TensorFlow 2 has no others"
    )


@dataclass(frozen=True)
class Traces:
    """Traces and dumps."""

    trace_file: str = flag(
        "",
        MAP,
        "Trace of one warm-up step.",
        "the profiler of TensorFlow; fewer than two warm-up steps are an error",
    )
    use_chrome_trace_format: bool = flag(
        True, MAP, "Write the trace for Chrome.", "tf.profiler.experimental"
    )
    tfprof_file: str | None = flag(
        None,
        MAP,
        "Top operations of the first ten timed steps, printed and written; text if it ends in "
        "txt, otherwise JSON.",
        "sums of tf.profiler.experimental's records; nothing reads a ProfileProto any more; the"
        " profiled steps are slower",
    )
    graph_file: str | None = flag(
        None, MAP, "Write the graph; text if it ends in txt.", "the graph of the compiled step"
    )
    partitioned_graph_file_prefix: str | None = flag(
        None,
        MAP,
        "Write each device's graph.",
        "the graphs that the runtime exports on the first step; experimental, as TensorFlow's "
        "interface to them is not public",
    )
    debugger: str | None = flag(
        None,
        MAP,
        "cli: end the run at the first NaN or infinity and name the operation.",
        "tf.debugging.enable_check_numerics; host:port of a TensorBoard is refused, see "
        "--debug_dump_dir",
    )
    debug_dump_dir: str | None = flag(
        None, OURS, "Write what TensorBoard's Debugger V2 opens: the health of every tensor. Slow."
    )
