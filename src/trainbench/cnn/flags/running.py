"""Flags about what runs, on which data, and what is written.

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


@dataclass(frozen=True)
class Mode:
    """What to run."""

    model: str = flag(
        "trivial", KEEP, "Name of the model, or keras:NAME for any of keras.applications."
    )
    batch_size: int = flag(0, KEEP, "Images per device and step; 0: the model's own.")
    eval_batch_size: int = flag(0, KEEP, "The same in evaluation; 0: as batch_size.")
    num_batches: int | None = flag(None, KEEP, "Timed steps, after the warm-up; 100 if unset.")
    num_epochs: float | None = flag(None, KEEP, "Length in epochs, instead of --num_batches.")
    num_warmup_batches: int | None = flag(None, KEEP, "Warm-up steps before timing starts.")
    autotune_threshold: int | None = flag(
        None,
        MAP,
        "How often cuDNN tries its algorithms.",
        "sets TF_AUTOTUNE_THRESHOLD and lengthens the warm-up",
    )
    batch_group_size: int = flag(
        1,
        NOTE,
        "Batches per round of the image producer.",
        "tf.data prefetches; only the rounding of the warm-up is kept",
    )
    forward_only: bool = flag(False, KEEP, "Run the network without training it.")
    freeze_when_forward_only: bool = flag(
        False, MAP, "Turn variables into constants.", "convert_variables_to_constants_v2"
    )
    trt_mode: Literal["", "FP32", "FP16", "INT8"] = flag(
        "", DROP, "Precision of TensorRT.", _NO_TENSORRT
    )
    trt_max_workspace_size_bytes: int = flag(4 << 30, DROP, "Workspace of TensorRT.", _NO_TENSORRT)
    tf_random_seed: int = flag(1234, KEEP, "Seed of the weights and of the input.")


@dataclass(frozen=True)
class Data:
    """Data."""

    data_dir: str | None = flag(None, KEEP, "Folder of the images; unset: synthetic images.")
    data_name: str | None = flag(None, KEEP, "imagenet or cifar10; guessed from the folder.")
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
    datasets_prefetch_buffer_size: int = flag(1, KEEP, "Batches fetched ahead.")
    datasets_num_private_threads: int | None = flag(None, KEEP, "Threads of tf.data.")
    datasets_use_caching: bool = flag(False, KEEP, "Keep encoded images in memory.")
    datasets_parallel_interleave_cycle_length: int | None = flag(
        None, KEEP, "Files read at a time."
    )
    datasets_sloppy_parallel_interleave: bool = flag(
        False, KEEP, "Skip files that are not ready; the order is then not repeatable."
    )
    datasets_parallel_interleave_prefetch: int | None = flag(
        None, KEEP, "Records fetched ahead from each file."
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
    eval_interval_secs: int = flag(0, KEEP, "Pause between evaluations; 0: only one.")
    eval_during_training_every_n_steps: int | None = flag(
        None, KEEP, "Evaluate each time this many steps were trained.", low=1
    )
    eval_during_training_every_n_epochs: float | None = flag(
        None, KEEP, "Evaluate each time this many epochs were trained."
    )
    eval_during_training_at_specified_steps: tuple[str | float, ...] = flag(
        (), KEEP, "Evaluate after these steps (comma-separated)."
    )
    eval_during_training_at_specified_epochs: tuple[str | float, ...] = flag(
        (), KEEP, "Evaluate after these epochs (comma-separated)."
    )
    num_eval_batches: int | None = flag(None, KEEP, "Steps of an evaluation.")
    num_eval_epochs: float | None = flag(None, KEEP, "Passes over the validation images.")
    stop_at_top_1_accuracy: float | None = flag(
        None, KEEP, "End the training once an evaluation reaches this."
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
        0, KEEP, "0: no summaries, 1: scalars, 2: and gradients, 3: and variables and images."
    )
    save_summaries_steps: int = flag(0, KEEP, "Steps between summaries; 0: none.")
    ml_perf_compliance_logging: bool = flag(False, KEEP, "Write MLPerf v0.5 lines.")


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints."""

    train_dir: str | None = flag(None, KEEP, "Folder of the checkpoints and summaries.")
    eval_dir: str = flag(
        "/tmp/tf_cnn_benchmarks/eval", KEEP, "Folder of the summaries of an evaluation."
    )
    save_model_secs: int = flag(0, KEEP, "Seconds between checkpoints; 0: never.")
    save_model_steps: int | None = flag(None, KEEP, "Steps between checkpoints.")
    max_ckpts_to_keep: int = flag(5, KEEP, "Number of checkpoints to keep.")
    backbone_model_path: str | None = flag(
        None, DROP, "Weights of a detector's backbone.", _NO_SSD300
    )
