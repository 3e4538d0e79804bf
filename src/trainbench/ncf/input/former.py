"""Flags of the 2018 system under which nothing is set today, each with what to use instead.

Sources: tensorflow/models#5334, #5576 and the commit "Use flagfile to pass flags to data async
generation process" (c88fcb2). docs/source_documents.md has a row for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trainbench.errors import ConfigError

FORMER: Mapping[str, str] = {
    # Of the trainer
    "clean": "nothing is needed: every run has a folder of its own",
    "data_dir": "use the option --data-dir",
    "download_if_missing": "use the step download, or pipeline",
    "eval_batch_size": "use eval_users_per_batch, a number of users and not of their candidates",
    "hash_pipeline": "use the option --hash-pipeline of train",
    "hooks": "use the option --profile of train; the rest is in stdout.log and epochs.jsonl",
    "hr_threshold": "use target_hit_rate",
    "layers": "use mlp_layer_sizes",
    "match_mlperf": "nothing is needed: the data are always the v0.5 reference's",
    "ml_perf": "nothing is needed: the log is always written",
    "model_dir": "nothing is needed: the model is in the folder of each trial",
    "num_factors": "use mf_dim",
    "num_gpus": "use devices=cpu, gpu or all",
    "seed": "use the option --seed of train",
    "train_epochs": "use max_epochs",
    "use_xla_for_gpu": "use xla",
    "tpu_gcp_project": "nothing is needed: the name in tpu is enough",
    "tpu_zone": "nothing is needed: the name in tpu is enough",
    # Of the generator, and between the two
    "cache_id": "nothing is needed: each run has a work folder of its own",
    "num_items": "nothing is needed: the cache has it",
    "num_neg": "use train_negatives",
    "num_readers": "nothing is needed: a batch is read as it was written",
    "num_train_positives": "nothing is needed: the cache has it",
    "num_users": "nothing is needed: the cache has it",
    "num_workers": "use generator_workers",
    "redirect_logs": "nothing is needed: what a generator that the trainer starts prints is in "
    "generator.log; that of generator=external prints to its own terminal",
    "spillover": "use last_batch=spillover, pad or mask",
    "train_batch_size": "use batch_size",
    "use_command_file": "use generator=external; the file is the flagfile",
    "use_subprocess": "use generator=subprocess, generator=external (started by hand: trainbench "
    "generate) or generator=inline",
    "use_tf_logging": "nothing is needed: a generator prints to stderr, without TensorFlow",
}
"""Name -> what to do instead."""


def refuse_former(names: Iterable[str]) -> None:
    """Raise a ``ConfigError`` for the first of ``names`` that is one of ``FORMER``."""
    for name in names:
        if name in FORMER:
            raise ConfigError(f"{name} is not set here any more: {FORMER[name]}")
