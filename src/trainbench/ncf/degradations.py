"""Why a result may be less than the benchmark's own: each reason, its code and its sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainbench.compliance.tags import ncf as tags
from trainbench.ncf.config import NcfConfig, is_own, task_of
from trainbench.trials.status import Notes, code_notes


def degradations(config: NcfConfig, machine: dict[str, Any], manifest: dict[str, Any]) -> Notes:
    """What the configuration, the machine and the archive's manifest say of it."""
    on_cpu = "CPU" in (machine.get("device") or "CPU")
    return [
        ("no_gpu", "trained on a CPU, not on a GPU", on_cpu),
        (
            "generated_data",
            "the ratings are generated, not MovieLens",
            manifest.get("generated") and not manifest.get("expanded"),
        ),
        (
            "expanded_data",
            f"the pairs are an expansion of {task_of(config.dataset)}, made here",
            manifest.get("expanded"),
        ),
        ("other_task", _other_task(config), _other_task(config)),
        (
            "epochs_between_evals",
            f"evaluated every {config.epochs_between_evals} epochs, and the rules want every one",
            config.epochs_between_evals > 1,
        ),
        (
            "other_machine",
            "another machine, which is not recorded, made the input",
            machine.get("generator_elsewhere"),
        ),
        ("no_target", "a number of epochs and no target", config.target_hit_rate is None),
        (
            "not_published_archive",
            "the archive differs from the published one (its checksum was stated by the user)",
            not (manifest.get("generated") or manifest.get("published") or manifest.get("own")),
        ),
        (
            tags.OWN_DATA,
            "own ratings, not MovieLens: no result of a benchmark",
            is_own(config.dataset),
        ),
        *code_notes(config.division, machine),
    ]


def data_degradations(config: NcfConfig, cache: Mapping[str, Any]) -> Notes:
    """What the data of a run say of it; ``cache`` is the content of cache.json.

    Generated and own ratings have no split that the reference would have made.
    """
    samples = cache["counts"]["train"] * (1 + config.train_negatives)
    of_publisher = not (cache["manifest"]["generated"] or cache["manifest"].get("own"))
    tied = cache["tied_users"] if of_publisher else 0
    return [
        (
            "large_batch",
            f"a batch of {config.batch_size:,} is larger than an epoch of {samples:,} samples; "
            "the rest only fills it",
            config.batch_size > samples,
        ),
        (
            "other_split",
            f"tie_break={config.tie_break}: the held-out items of {tied:,} users whose last "
            "ratings are tied are not chosen as in the v0.5 reference",
            tied and config.tie_break != "reference",
        ),
    ]


def _other_task(config: NcfConfig) -> str:
    if config.dataset == "ml-20m" and not config.expand and config.target_hit_rate == 0.635:
        return ""
    own = f"{task_of(config.dataset, config.expand)} {config.goal}"
    return f"not the MLPerf task (ml-20m to HR@10 0.635) but {own}"
