"""Which parameters go together: the rules, their order and messages of tf_cnn_benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

from trainbench.cnn.environment import rewriter_options
from trainbench.cnn.flags import DROP, FLAGS
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.places import names_checkpoint
from trainbench.cnn.train import reduce_spec
from trainbench.cnn.train.schedules import piecewise_parts

TRAINING = "training"
EVALUATION = "evaluation"
FORWARD_ONLY = "forward only"
TRAINING_AND_EVALUATION = "training + evaluation"

EVAL_DURING_TRAINING = (
    "eval_during_training_every_n_steps",
    "eval_during_training_every_n_epochs",
    "eval_during_training_at_specified_steps",
    "eval_during_training_at_specified_epochs",
)
_AUTO_SCALE_UPDATES = ("parameter_server", "replicated", "independent")
_SUMMING = ("replicated", "distributed_all_reduce", "collective_all_reduce")


def mode_of(params: Params) -> str:
    """What the run does: the mode as it is printed.

    Raises:
        ParamError: both ``eval`` and ``forward_only``.
    """
    _refuse(
        params.forward_only and params.eval, "Only one of forward_only and eval parameters is true"
    )
    if params.eval:
        return EVALUATION
    if params.forward_only:
        return FORWARD_ONLY
    if any(getattr(params, name) for name in EVAL_DURING_TRAINING):
        return TRAINING_AND_EVALUATION
    return TRAINING


def check(params: Params) -> None:
    """Apply every rule that the parameters alone decide, then refuse what no longer exists.

    Raises:
        ParamError: the first rule that is broken.
    """
    _check_learning_rate(params)
    _check_optimizer(params)
    _check_precision(params)
    _check_devices(params)
    _check_evaluation(params)
    _check_frozen(params)
    mode_of(params)
    _check_distribution(params)
    check_length(params)
    _check_time(params)
    _check_update(params)
    _check_threads(params)
    for name in (*_SUMMING, "distributed_replicated"):
        if params.variable_update == name:
            _check_reduction(params)
    _check_train_dir(params)
    _check_several(params)
    _check_dropped(params)
    _check_offered(params)


def check_length(params: Params) -> None:
    """A run is as long as ``num_batches`` or as ``num_epochs`` says, not both."""
    _refuse(
        params.num_batches and params.num_epochs,
        "At most one of --num_batches and --num_epochs may be specified.",
    )


def notes(params: Params) -> Iterator[str]:
    """One line for each parameter that was set and has no effect."""
    for name, flag in FLAGS.items():
        if flag.is_noted(getattr(params, name)):
            yield f"--{name} has no effect: {flag.remark}"


def _refuse(condition: object, message: str) -> None:
    if condition:
        raise ParamError(message)


def _check_learning_rate(params: Params) -> None:
    both = params.num_epochs_per_decay and params.learning_rate_decay_factor
    complete = params.init_learning_rate is not None and both
    # The missing space in the message is tf_cnn_benchmarks'; scripts may look for it.
    _refuse(
        (params.num_epochs_per_decay or params.learning_rate_decay_factor) and not complete,
        "If one of num_epochs_per_decay or learning_rate_decay_factor is set, both must be set"
        "and learning_rate must be set",
    )
    _refuse(
        params.minimum_learning_rate and not complete,
        "minimum_learning_rate requires learning_rate,num_epochs_per_decay, and "
        "learning_rate_decay_factor to be set",
    )
    if params.piecewise_learning_rate_schedule:
        piecewise_parts(params, params.piecewise_learning_rate_schedule)
    _refuse(
        params.learning_rate_decay
        and (params.init_learning_rate is None or both or params.piecewise_learning_rate_schedule),
        f"learning_rate_decay={params.learning_rate_decay} requires init_learning_rate and no "
        "other learning rate schedule",
    )


def _check_optimizer(params: Params) -> None:
    for name in ("adam_beta1", "adam_beta2"):
        value = getattr(params, name)
        # Adam divides by 1 less their powers.
        _refuse(
            params.optimizer == "adam" and value >= 1, f"--{name}={value}: wanted a value below 1"
        )


def _check_precision(params: Params) -> None:
    nccl = "nccl" in (params.all_reduce_spec or "")
    fp16_vars = params.use_fp16 and params.fp16_vars
    _refuse(
        fp16_vars and "replicated" in params.variable_update and nccl,
        "fp16 variables are not supported with NCCL",
    )
    _refuse(
        fp16_vars and params.gradient_repacking,
        "--fp16_vars cannot be used with --gradient_repacking",
    )
    _refuse(
        params.variable_update == "horovod" and params.num_gpus > 1,
        "Horovod benchmarks require num_gpus=1 on each worker",
    )
    _refuse(
        params.variable_update == "horovod" and params.job_name,
        "job_name should not be specified for Horovod.",
    )
    if params.use_fp16 and params.fp16_enable_auto_loss_scale:
        _refuse(nccl, "Automatic loss scaling is not supported with NCCL.")
        _refuse(
            params.variable_update not in _AUTO_SCALE_UPDATES,
            f"Automatic loss scaling is not supported with "
            f"variable_update={params.variable_update}.",
        )
        _refuse(params.staged_vars, "Automatic loss scaling is not supported withstaged_vars.")
    _refuse(params.use_fp16 and params.use_bf16, "Only one of use_fp16 and use_bf16 can be true")


def _check_devices(params: Params) -> None:
    debugger = params.debugger
    _refuse(
        debugger is not None and debugger != "cli" and ":" not in debugger,
        '--debugger must be "cli" or in the form host:port',
    )
    _refuse(
        debugger is not None and ":" in debugger,
        f"--debugger={debugger}: TensorBoard takes no sessions of TensorFlow 2; use --debugger=cli "
        "to end the run at the first NaN, or --debug_dump_dir=DIR for TensorBoard's Debugger V2",
    )
    if debugger is not None or params.debug_dump_dir is not None:
        _refuse(
            params.xla or params.xla_compile,
            "--debugger and --debug_dump_dir look into operations that XLA merges; leave out --xla "
            "and --xla_compile",
        )
        _refuse(
            params.fp16_enable_auto_loss_scale,
            "--debugger and --debug_dump_dir: --fp16_enable_auto_loss_scale overflows on purpose; "
            "leave it out",
        )
    _refuse(
        params.hierarchical_copy and params.num_gpus <= 1,
        "--hierarchical_copy requires --num_gpus to be greater than 1",
    )
    _refuse(
        params.save_model_secs and params.save_model_steps,
        "At most one of --save_model_secs and --save_model_steps can be specified",
    )
    if params.rewriter_config:
        rewriter_options(params.rewriter_config)


def _check_evaluation(params: Params) -> None:
    given = [name for name in EVAL_DURING_TRAINING if getattr(params, name)]
    _refuse(
        len(given) > 1, "At most one flag with --eval_during_training_* prefix must be specified."
    )
    if given:
        for name in ("eval", "forward_only"):
            _refuse(
                getattr(params, name),
                f"At most one of --{name} and --eval_during_training_* must be specified",
            )
        _refuse(
            params.job_name,
            "--eval_during_training_* is not yet supported in distributed mode.",
        )
        _refuse(
            params.staged_vars,
            "--eval_during_training_* is not currently compatible with --staged_vars",
        )
    _refuse(
        params.stop_at_top_1_accuracy and not given,
        "--stop_at_top_1_accuracy is only supported with --eval_during_training_*",
    )
    _refuse(
        params.collect_eval_results_async and params.model != "ssd300",
        "--collect_eval_results_async only works with ssd300 model currently.",
    )


def _check_frozen(params: Params) -> None:
    if not (params.forward_only and params.freeze_when_forward_only):
        _refuse(
            params.trt_mode,
            "--trt_mode should not be specified if one of --forward_only and "
            "--freeze_when_forward_only is set to False",
        )
        return
    start = "In forward_only mode, when --freeze_when_forward_only is True"
    _refuse(params.train_dir is not None, f"{start}, --train_dir should not be specified")
    _refuse(
        params.data_dir and not params.datasets_use_prefetch,
        f"{start} and --data_dir is set, --datasets_use_prefetch should be set to True",
    )
    _refuse(
        params.job_name,
        f"{start}, --job_name should not be specified and distributed running is not supported",
    )


def _check_distribution(params: Params) -> None:
    _refuse(
        params.variable_update == "distributed_all_reduce"
        and params.job_name
        and not params.controller_host,
        "When variable_update==distributed_all_reduce controller_host must also be specified.",
    )
    if params.job_name:
        _check_one_process(params)
    workers = len([host for host in params.worker_hosts.split(",") if host])
    _refuse(
        params.job_name and workers > 1 and params.all_reduce_spec == "nccl",
        "--all_reduce_spec=nccl is invalid in a multi-worker job",
    )


def _check_one_process(params: Params) -> None:
    for name in ("eval", "graph_file", "partitioned_graph_file_prefix"):
        value = getattr(params, name)
        _refuse(value, f"--{name}={value} is for one process; leave out --job_name")
    _refuse(
        params.variable_consistency == "relaxed",
        "--variable_consistency=relaxed is for one process; leave out --job_name",
    )


def _check_time(params: Params) -> None:
    other = "eval" if params.eval else "job_name" if params.job_name else None
    _refuse(
        params.max_seconds is not None and other,
        "--max_seconds is for training and forward passes of one process; leave out it or "
        f"--{other}",
    )


def _check_update(params: Params) -> None:
    update = params.variable_update
    _refuse(
        params.staged_vars and update != "parameter_server",
        "staged_vars for now is only supported with variable_update=parameter_server",
    )
    _refuse(
        params.job_name and update in ("replicated", "independent", "horovod"),
        f"Invalid variable_update in distributed mode: {update}",
    )
    together = ("distributed_all_reduce", "collective_all_reduce", "distributed_replicated")
    _refuse(
        update in together and not params.cross_replica_sync,
        f"variable_update={update} requires cross_replica_sync",
    )
    _refuse(
        update == "distributed_replicated" and not params.job_name,
        f"Invalid variable_update in local mode: {update}",
    )


def _check_reduction(params: Params) -> None:
    spec, update = params.all_reduce_spec, params.variable_update
    if update == "distributed_all_reduce":
        _refuse(not spec, "distributed_all_reduce requires a non-empty all_reduce_spec")
    if update == "collective_all_reduce":
        _refuse(not spec, f"collective_all_reduce requires a non-empty all_reduce_spec: {spec}")
    ranges = reduce_spec.parse(spec) if spec else []
    if update == "replicated":
        _refuse(len(ranges) > 1, "replicated mode does not support hybrid all-reduce strategies")
    if update == "collective_all_reduce":
        _refuse(
            len(ranges) != 1,
            f"collective_all_reduce requires one single-range all_reduce_spec {spec}",
        )
        _refuse(
            ranges[0].algorithm != "collective",
            f"collective_all_reduce requires the all_reduce_spec collective: {spec}",
        )


def _check_threads(params: Params) -> None:
    mode = params.gpu_thread_mode
    _refuse(mode not in ("global", "gpu_private", "gpu_shared"), f"Invalid gpu_thread_mode: {mode}")
    _refuse(
        mode == "global" and params.per_gpu_thread_count,
        f"Invalid per_gpu_thread_count with gpu_thread_mode=global: {params.per_gpu_thread_count}",
    )


def _check_several(params: Params) -> None:
    for name in ("repeat", "auto_batch_size", "sweep"):
        _refuse(
            getattr(params, name) != FLAGS[name].default,
            f"--{name} starts several runs, which the command does (trainbench cnn); "
            "BenchmarkCNN is one run",
        )
    lists = [name for name in FLAGS if name.startswith("sweep_") and getattr(params, name)]
    _refuse(lists, f"--{''.join(lists[:1])} is for a sweep; add --sweep=FILE.csv or leave it out")
    _refuse(
        params.memory_limit_gib is not None,
        "--memory_limit_gib is for trials of a batch size; add --auto_batch_size or leave it out",
    )


def _check_train_dir(params: Params) -> None:
    folder = params.train_dir
    _refuse(params.eval and folder is None, "Trained model directory not specified")
    for name in ("save_model_secs", "save_model_steps"):
        value = getattr(params, name)
        _refuse(value and folder is None, f"--{name}={value} wants a folder: add --train_dir=DIR")
    _refuse(
        params.summary_verbosity and params.save_summaries_steps and folder is None,
        f"--save_summaries_steps={params.save_summaries_steps} wants a folder: add --train_dir=DIR",
    )
    reads = params.eval or params.forward_only
    _refuse(
        folder is not None and not reads and names_checkpoint(folder),
        f"--train_dir={folder} names one checkpoint, which can be evaluated; training writes "
        "checkpoints into a folder: name the folder",
    )


def _check_offered(params: Params) -> None:
    _refuse(
        params.ml_perf_compliance_logging and params.model not in ("resnet50_v1.5", "ssd300"),
        "--ml_perf_compliance_logging is only compatible when --model is one of the following: "
        "resnet50_v1.5, ssd300",
    )


def _check_dropped(params: Params) -> None:
    for name, flag in FLAGS.items():
        value = getattr(params, name)
        if flag.is_refused(value):
            verdict = "is no longer possible" if flag.verdict != DROP else "is refused"
            raise ParamError(f"--{name}={value} {verdict}: {flag.remark}")
