"""Flags about devices, threads, compilation and traces."""

from __future__ import annotations

from trainbench.cnn.flags.spec import KEEP, MAP, NOTE, OURS, Flag, Group

_CPU_RUNTIME = "TensorFlow's wheels run oneDNN on their own threads, not on OpenMP"
_NO_SETTER = "TensorFlow 2 has no public setter for it"

DEVICE = Group(
    "Device and threads",
    (
        Flag(
            "device",
            "enum",
            "gpu",
            KEEP,
            "Where to compute; gpu without a GPU means cpu.",
            values=("cpu", "gpu", "CPU", "GPU"),
        ),
        Flag(
            "data_format",
            "enum",
            "NHWC",
            KEEP,
            "Layout of images: NHWC or NCHW.",
            "the default is NHWC, the faster layout of current GPUs; NCHW works on the CPU too",
            values=("NHWC", "NCHW"),
        ),
        Flag("num_intra_threads", "integer", None, KEEP, "Threads within an operation."),
        Flag("num_inter_threads", "integer", 0, KEEP, "Operations at a time; 0: automatic."),
        Flag(
            "gpu_thread_mode",
            "string",
            "gpu_private",
            MAP,
            "Threads for GPUs: global, gpu_private, gpu_shared.",
            "sets TF_GPU_THREAD_MODE",
        ),
        Flag(
            "per_gpu_thread_count",
            "integer",
            0,
            MAP,
            "Host threads for each GPU.",
            "sets TF_GPU_THREAD_COUNT",
        ),
        Flag(
            "use_numa_affinity",
            "boolean",
            False,
            NOTE,
            "Bind CPU devices to NUMA nodes.",
            f"{_NO_SETTER}; start the program under numactl",
        ),
        Flag(
            "allow_growth",
            "boolean",
            None,
            MAP,
            "Allocate GPU memory as needed.",
            "tf.config.experimental.set_memory_growth",
        ),
        Flag(
            "gpu_memory_frac_for_testing",
            "float",
            0,
            MAP,
            "Share of a GPU's memory.",
            "a memory limit on each logical GPU",
            low=0,
        ),
        Flag(
            "use_unified_memory",
            "boolean",
            None,
            MAP,
            "Let GPU memory spill to the host.",
            "sets TF_FORCE_UNIFIED_MEMORY",
        ),
        Flag(
            "timestamped_allocator",
            "boolean",
            False,
            NOTE,
            "Time stamps on freed memory.",
            _NO_SETTER,
        ),
        Flag(
            "gpu_kt_max_interval",
            "integer",
            0,
            NOTE,
            "Kernels between tracking events.",
            _NO_SETTER,
        ),
        Flag("gpu_kt_max_bytes", "integer", 0, NOTE, "Bytes between tracking events.", _NO_SETTER),
        Flag("gpu_kt_max_pending", "integer", 0, NOTE, "Outstanding tracking events.", _NO_SETTER),
        Flag("force_gpu_compatible", "boolean", False, NOTE, "Pin all host memory.", _NO_SETTER),
        Flag(
            "sync_on_finish",
            "boolean",
            False,
            MAP,
            "Wait for the devices after each step.",
            "sets TF_SYNC_ON_FINISH; every step waits for its loss anyway",
        ),
        Flag("mkl", "boolean", False, MAP, "Use oneDNN's kernels.", "sets TF_ENABLE_ONEDNN_OPTS"),
        Flag("kmp_blocktime", "integer", 0, NOTE, "Milliseconds a thread spins.", _CPU_RUNTIME),
        Flag(
            "kmp_affinity",
            "string",
            "granularity=fine,verbose,compact,1,0",
            NOTE,
            "Which cores threads run on.",
            _CPU_RUNTIME,
        ),
        Flag("kmp_settings", "integer", 1, NOTE, "Print OpenMP's settings.", _CPU_RUNTIME),
    ),
)

COMPILER = Group(
    "Compilation",
    (
        Flag(
            "xla",
            "boolean",
            False,
            MAP,
            "Let XLA choose what to compile.",
            "tf.config.optimizer.set_jit('autoclustering')",
        ),
        Flag(
            "xla_compile",
            "boolean",
            False,
            MAP,
            "Compile the forward and backward pass.",
            "tf.function(jit_compile=True) around the loss and its gradients of each replica",
        ),
        Flag(
            "enable_optimizations",
            "boolean",
            True,
            MAP,
            "Let the graph be rewritten.",
            "tf.config.optimizer.set_experimental_options",
        ),
        Flag(
            "rewriter_config",
            "string",
            None,
            MAP,
            "Options of the graph rewriter.",
            "a JSON object of the options that "
            "tf.config.optimizer.set_experimental_options documents",
        ),
        Flag(
            "winograd_nonfused",
            "boolean",
            True,
            MAP,
            "Let cuDNN use Winograd, not fused.",
            "sets TF_ENABLE_WINOGRAD_NONFUSED",
        ),
        Flag(
            "batchnorm_persistent",
            "boolean",
            True,
            MAP,
            "cuDNN's persistent batch norm.",
            "sets TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT",
        ),
        Flag(
            "use_tf_layers",
            "boolean",
            True,
            NOTE,
            "Build models of tf.layers.",
            "models are built of Keras layers",
        ),
        Flag(
            "use_resource_vars",
            "boolean",
            False,
            NOTE,
            "Use resource variables.",
            "TensorFlow 2 has no others",
        ),
    ),
)

TRACES = Group(
    "Traces and dumps",
    (
        Flag(
            "trace_file",
            "string",
            "",
            MAP,
            "Trace of one warm-up step.",
            "the profiler of TensorFlow; fewer than two warm-up steps are an error",
        ),
        Flag(
            "use_chrome_trace_format",
            "boolean",
            True,
            MAP,
            "Write the trace for Chrome.",
            "tf.profiler.experimental",
        ),
        Flag(
            "tfprof_file",
            "string",
            None,
            MAP,
            "Top operations of the first ten timed steps, printed and written; text if it ends "
            "in txt, otherwise JSON.",
            "sums of tf.profiler.experimental's records; nothing reads a ProfileProto any "
            "more; the profiled steps are slower",
        ),
        Flag(
            "graph_file",
            "string",
            None,
            MAP,
            "Write the graph; text if it ends in txt.",
            "the graph of the compiled step",
        ),
        Flag(
            "partitioned_graph_file_prefix",
            "string",
            None,
            MAP,
            "Write each device's graph.",
            "the graphs that the runtime exports on the first step; experimental, as TensorFlow's "
            "interface to them is not public",
        ),
        Flag(
            "debugger",
            "string",
            None,
            MAP,
            "cli: end the run at the first NaN or infinity and name the operation.",
            "tf.debugging.enable_check_numerics; host:port of a TensorBoard is refused, see "
            "--debug_dump_dir",
        ),
        Flag(
            "debug_dump_dir",
            "string",
            None,
            OURS,
            "Write what TensorBoard's Debugger V2 opens: the health of every tensor. Slow.",
        ),
    ),
)
