"""Flags about what runs, on which data, and what is written."""

from __future__ import annotations

from trainbench.cnn.flags.spec import DROP, KEEP, MAP, NOTE, OURS, Flag, Group

MODE = Group(
    "What to run",
    (
        Flag(
            "model",
            "string",
            "trivial",
            KEEP,
            "Name of the model, or keras:NAME for any of keras.applications.",
        ),
        Flag("batch_size", "integer", 0, KEEP, "Images per device and step; 0: the model's own."),
        Flag("eval_batch_size", "integer", 0, KEEP, "The same in evaluation; 0: as batch_size."),
        Flag("num_batches", "integer", None, KEEP, "Timed steps, after the warm-up; 100 if unset."),
        Flag("num_epochs", "float", None, KEEP, "Length in epochs, instead of --num_batches."),
        Flag("num_warmup_batches", "integer", None, KEEP, "Warm-up steps before timing starts."),
        Flag(
            "autotune_threshold",
            "integer",
            None,
            MAP,
            "How often cuDNN tries its algorithms.",
            "sets TF_AUTOTUNE_THRESHOLD and lengthens the warm-up",
        ),
        Flag(
            "batch_group_size",
            "integer",
            1,
            NOTE,
            "Batches per round of the image producer.",
            "tf.data prefetches; only the rounding of the warm-up is kept",
        ),
        Flag("forward_only", "boolean", False, KEEP, "Run the network without training it."),
        Flag(
            "freeze_when_forward_only",
            "boolean",
            False,
            MAP,
            "Turn variables into constants.",
            "convert_variables_to_constants_v2",
        ),
        Flag(
            "trt_mode",
            "enum",
            "",
            DROP,
            "Precision of TensorRT.",
            "TensorFlow has no TensorRT since 2.18; export a SavedModel, convert it to ONNX and "
            "give that to TensorRT",
            values=("", "FP32", "FP16", "INT8"),
        ),
        Flag(
            "trt_max_workspace_size_bytes",
            "integer",
            4 << 30,
            DROP,
            "Workspace of TensorRT.",
            "TensorFlow has no TensorRT since 2.18; export a SavedModel, convert it to ONNX and "
            "give that to TensorRT",
        ),
        Flag("tf_random_seed", "integer", 1234, KEEP, "Seed of the weights and of the input."),
    ),
)

EVALUATION = Group(
    "Evaluation",
    (
        Flag("eval", "boolean", False, KEEP, "Measure the accuracy of a checkpoint."),
        Flag("eval_interval_secs", "integer", 0, KEEP, "Pause between evaluations; 0: only one."),
        Flag(
            "eval_during_training_every_n_steps",
            "integer",
            None,
            KEEP,
            "Evaluate each time this many steps were trained.",
            low=1,
        ),
        Flag(
            "eval_during_training_every_n_epochs",
            "float",
            None,
            KEEP,
            "Evaluate each time this many epochs were trained.",
        ),
        Flag(
            "eval_during_training_at_specified_steps",
            "list",
            (),
            KEEP,
            "Evaluate after these steps (comma-separated).",
        ),
        Flag(
            "eval_during_training_at_specified_epochs",
            "list",
            (),
            KEEP,
            "Evaluate after these epochs (comma-separated).",
        ),
        Flag("num_eval_batches", "integer", None, KEEP, "Steps of an evaluation."),
        Flag("num_eval_epochs", "float", None, KEEP, "Passes over the validation images."),
        Flag(
            "stop_at_top_1_accuracy",
            "float",
            None,
            KEEP,
            "End the training once an evaluation reaches this.",
        ),
        Flag(
            "collect_eval_results_async",
            "boolean",
            False,
            DROP,
            "Process results of evaluations in a separate process.",
            "only ssd300 used it, which is not part of this benchmark; leave it out",
        ),
    ),
)

SEVERAL = Group(
    "Several runs, each in its own process",
    (
        Flag(
            "repeat",
            "integer",
            1,
            OURS,
            "Whole runs; the mean speed is printed with its 95 % confidence interval.",
            low=1,
        ),
        Flag(
            "auto_batch_size",
            "boolean",
            False,
            OURS,
            "Take the largest batch size that fits into memory; the search begins with "
            "--batch_size, or 32.",
        ),
        Flag(
            "batch_size_multiple",
            "integer",
            1,
            OURS,
            "Batch sizes that --auto_batch_size considers: multiples of this.",
            low=1,
        ),
        Flag(
            "memory_limit_gib",
            "float",
            None,
            OURS,
            "Host memory for a trial of --auto_batch_size; unset: 90 % of what is available.",
            low=0,
        ),
        Flag(
            "sweep",
            "string",
            None,
            OURS,
            "Run every combination of the lists below; write a row for each to this CSV file, and "
            "a plot beside it. Combinations with a row are not run again.",
        ),
        Flag("sweep_models", "list", (), OURS, "Models of the sweep; unset: --model."),
        Flag("sweep_batch_sizes", "list", (), OURS, "Sweep's batch sizes; unset: --batch_size."),
        Flag(
            "sweep_precisions",
            "list",
            (),
            OURS,
            "Sweep's number formats: fp32, fp16, bf16; unset: as the other flags say.",
        ),
    ),
)

OUTPUT = Group(
    "Output",
    (
        Flag("display_every", "integer", 10, KEEP, "Steps between two printed lines.", low=1),
        Flag(
            "display_perf_ewma",
            "float",
            None,
            KEEP,
            "Weight of the newest step in a moving mean of the speed.",
            low=0,
            high=1,
        ),
        Flag("print_training_accuracy", "boolean", False, KEEP, "Add accuracies to each line."),
        Flag(
            "loss_type_to_report",
            "enum",
            "total_loss",
            KEEP,
            "Loss with (total_loss) or without the L2 term.",
            values=("base_loss", "total_loss"),
        ),
        Flag("result_json", "string", None, OURS, "Write all measurements to this JSON file."),
        Flag("benchmark_log_dir", "string", None, KEEP, "Write benchmark_run.log and metric.log."),
        Flag("benchmark_test_id", "string", None, KEEP, "A name for the run in those files."),
        Flag(
            "summary_verbosity",
            "integer",
            0,
            KEEP,
            "0: no summaries, 1: scalars, 2: and gradients, 3: and variables and images.",
        ),
        Flag("save_summaries_steps", "integer", 0, KEEP, "Steps between summaries; 0: none."),
        Flag("ml_perf_compliance_logging", "boolean", False, KEEP, "Write MLPerf v0.5 lines."),
    ),
)

CHECKPOINTS = Group(
    "Checkpoints",
    (
        Flag("train_dir", "string", None, KEEP, "Folder of the checkpoints and summaries."),
        Flag(
            "eval_dir",
            "string",
            "/tmp/tf_cnn_benchmarks/eval",
            KEEP,
            "Folder of the summaries of an evaluation.",
        ),
        Flag("save_model_secs", "integer", 0, KEEP, "Seconds between checkpoints; 0: never."),
        Flag("save_model_steps", "integer", None, KEEP, "Steps between checkpoints."),
        Flag("max_ckpts_to_keep", "integer", 5, KEEP, "Number of checkpoints to keep."),
        Flag(
            "backbone_model_path",
            "string",
            None,
            DROP,
            "Weights of a detector's backbone.",
            "only ssd300 used it, which is not part of this benchmark; leave it out",
        ),
    ),
)

DATA = Group(
    "Data",
    (
        Flag("data_dir", "string", None, KEEP, "Folder of the images; unset: synthetic images."),
        Flag("data_name", "string", None, KEEP, "imagenet or cifar10; guessed from the folder."),
        Flag("distortions", "boolean", True, KEEP, "Distort training images (box and colour)."),
        Flag(
            "resize_method",
            "string",
            "bilinear",
            KEEP,
            "bilinear, nearest, bicubic, area or round_robin.",
        ),
        Flag("fuse_decode_and_crop", "boolean", True, KEEP, "Decode only the part that is used."),
        Flag("distort_color_in_yiq", "boolean", True, KEEP, "Distort hue and saturation in YIQ."),
        Flag("input_preprocessor", "string", "default", KEEP, "Name of the image preprocessing."),
        Flag("ml_perf", "boolean", False, KEEP, "Subtract channel means, as MLPerf asks."),
        Flag(
            "use_datasets",
            "boolean",
            True,
            DROP,
            "Read images through tf.data.",
            "the record queue is gone; tf.data is always used",
        ),
        Flag(
            "datasets_use_prefetch",
            "boolean",
            True,
            NOTE,
            "Prefetch to the devices.",
            "tf.data always prefetches",
        ),
        Flag("datasets_prefetch_buffer_size", "integer", 1, KEEP, "Batches fetched ahead."),
        Flag("datasets_num_private_threads", "integer", None, KEEP, "Threads of tf.data."),
        Flag("datasets_use_caching", "boolean", False, KEEP, "Keep encoded images in memory."),
        Flag(
            "datasets_parallel_interleave_cycle_length",
            "integer",
            None,
            KEEP,
            "Files read at a time.",
        ),
        Flag(
            "datasets_sloppy_parallel_interleave",
            "boolean",
            False,
            KEEP,
            "Skip files that are not ready; the order is then not repeatable.",
        ),
        Flag(
            "datasets_parallel_interleave_prefetch",
            "integer",
            None,
            KEEP,
            "Records fetched ahead from each file.",
        ),
        Flag(
            "datasets_repeat_cached_sample",
            "boolean",
            False,
            KEEP,
            "Read one record and repeat it, to take storage out of the measurement.",
        ),
        Flag(
            "multi_device_iterator_max_buffer_size",
            "integer",
            1,
            NOTE,
            "Host-side buffer.",
            "tf.data sizes its own buffers",
        ),
        Flag(
            "use_python32_barrier",
            "boolean",
            False,
            NOTE,
            "Barrier of the image producer.",
            "tf.data has taken the place of the producer thread",
        ),
    ),
)
