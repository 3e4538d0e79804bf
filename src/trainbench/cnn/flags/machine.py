"""Flags about devices, threads, compilation and traces.

A class is a concern; its docstring is the heading of its flags in ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainbench.cnn.flags.spec import KEEP, MAP, NOTE, OURS, flag

_CPU_RUNTIME = "TensorFlow's wheels run oneDNN on their own threads, not on OpenMP"
_NO_SETTER = "TensorFlow 2 has no public setter for it"


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
    num_intra_threads: int | None = flag(None, KEEP, "Threads within an operation.")
    num_inter_threads: int = flag(0, KEEP, "Operations at a time; 0: automatic.")
    gpu_thread_mode: str = flag(
        "gpu_private",
        MAP,
        "Threads for GPUs: global, gpu_private, gpu_shared.",
        "sets TF_GPU_THREAD_MODE",
    )
    per_gpu_thread_count: int = flag(
        0, MAP, "Host threads for each GPU.", "sets TF_GPU_THREAD_COUNT"
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
