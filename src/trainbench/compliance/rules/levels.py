"""The rules of a compliance log, as data: what each wants, and for which level, checker, benchmark.

Levels 1 and 2 are those of the v0.5 checker (bitfort/mlp_compliance), whose two published versions
read a log differently (``reading``) and have the same rules and lists. Both agree with these on 348
damaged logs.

``strict`` is ours: what a reviewer looks at and the checker never did (docs/rules.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from trainbench.benchmark import load, registered
from trainbench.compliance.reading import CHECKERS, NEWEST_CHECKER
from trainbench.compliance.rules import rule as kinds
from trainbench.compliance.rules.rule import Rule
from trainbench.compliance.rules.strict import CLOCKS, STRICT
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError

LEVELS = ("1", "2", "strict")


@dataclass(frozen=True)
class RuleSet:
    """What ``check`` decides by. ``by_benchmark`` holds for the benchmark of the log's first line.

    ``strict`` rules judge the log in the order of the file, whatever the checker.
    """

    level: str
    checker: str
    rules: tuple[Rule, ...]
    by_benchmark: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    strict: tuple[Rule, ...] = ()

    def strict_of(self, benchmark: str) -> tuple[Rule, ...]:
        """The strict rules for a log of ``benchmark``; NCF's where nothing here is of that name."""
        if not self.strict or benchmark not in registered():
            return self.strict
        rules: tuple[Rule, ...] = load(registered()[benchmark].strict_rules)
        return (*rules, *CLOCKS)


def _of_level(level: str, *rules: Rule) -> tuple[Rule, ...]:
    return tuple(replace(rule, level=level) for rule in rules)


_LEVEL_1 = _of_level(
    "level1",
    kinds.exactly_one(tags.RUN_START),
    kinds.exactly_one(tags.RUN_STOP),
    kinds.exactly_one(tags.RUN_FINAL),
    kinds.pair(tags.RUN_START, tags.RUN_STOP),
    kinds.pair(tags.RUN_STOP, tags.RUN_FINAL),
    kinds.has_keys(tags.EVAL_ACCURACY, ("epoch", "value")),
    kinds.some_epoch_zero(tags.EVAL_ACCURACY, excused=("resnet", "ssd")),
    kinds.known_benchmark((tags.EVAL_START, tags.EVAL_STOP)),
    kinds.run_time(longest_s=365 * 24 * 3600),
    kinds.one_value(tags.EVAL_TARGET),
    kinds.comparable(tags.EVAL_ACCURACY),
)

_LEVEL_2_TAGS = (
    "run_clear_caches",
    "train_loop",
    "train_epoch",
    "opt_learning_rate",
    "eval_start",
    "eval_size",
    "eval_target",
    "eval_accuracy",
    "eval_stop",
)

# model_hp_shorcut_add is spelt that way in v0.5. Minigo has no list, which stops the checker.
_BENCHMARK_TAGS: Mapping[str, str] = {
    "gnmt": """
        model_hp_loss_smoothing model_hp_num_layers model_hp_hidden_size model_hp_dropout
        eval_hp_beam_size train_hp_max_sequence_length eval_hp_max_sequence_length
        eval_hp_length_normalization_constant eval_hp_length_normalization_factor
        eval_hp_coverage_penalty_factor
        """,
    # Its own list asks once more for one run_start and one run_stop, as level 1 does.
    "maskrcnn": "",
    "ncf": """
        preproc_hp_min_ratings preproc_hp_num_eval preproc_hp_sample_eval_replacement
        input_hp_num_neg input_hp_sample_train_replacement input_step_train_neg_gen
        input_step_eval_neg_gen eval_hp_num_users eval_hp_num_neg model_hp_mf_dim
        model_hp_mlp_layer_sizes
        """,
    "resnet": """
        eval_offset model_hp_initial_max_pool model_hp_begin_block model_hp_end_block
        model_hp_block_type model_hp_projection_shortcut model_hp_shorcut_add
        model_hp_resnet_topology
        """,
    "ssd": """
        backbone feature_sizes steps scales aspect_ratios num_defaults_per_cell
        loc_conf_out_channels num_default_boxes nms_threshold nms_max_detections
        num_cropping_iterations random_flip_probability data_normalization_mean
        data_normalization_std
        """,
    "transformer": """
        input_max_length model_hp_initializer_gain model_hp_hidden_layers
        model_hp_embedding_shared_weights model_hp_attention_dense model_hp_attention_dropout
        model_hp_ffn_output_dense model_hp_ffn_filter_dense model_hp_relu_dropout
        model_hp_layer_postprocess_dropout model_hp_norm model_hp_sequence_beam_search
        """,
}


def _with_tags(names: Iterable[str]) -> tuple[Rule, ...]:
    return _of_level("level2", *map(kinds.at_least_one, names))


_LEVEL_2 = (
    *_of_level("level2", kinds.first_line_benchmark(tuple(_BENCHMARK_TAGS))),
    *_with_tags(_LEVEL_2_TAGS),
)
_LEVEL_2_BY_BENCHMARK = {name: _with_tags(text.split()) for name, text in _BENCHMARK_TAGS.items()}


def ruleset(
    level: str | int, *, checker: str = NEWEST_CHECKER, benchmark: str | None = None
) -> RuleSet:
    """The rules of a level: ``1``, ``2`` or ``strict``, each with all rules of those before it.

    ``benchmark`` is what the log has to be of; without it, the first line decides, as in v0.5.
    Strict rules are those of NCF; a ResNet log is judged by its own (``RuleSet.strict_of``).

    Raises:
        ConfigError: an unknown level, checker or benchmark.
    """
    level = str(level)
    _known("level", level, LEVELS)
    _known("checker", checker, CHECKERS)
    if level == "1":
        return RuleSet(level, checker, _LEVEL_1)
    if benchmark is not None:
        _known("benchmark", benchmark, tuple(_level_2()))
    by_benchmark = {name: rules for name, rules in _level_2().items() if benchmark in (None, name)}
    strict = STRICT if level == "strict" else ()
    return RuleSet(level, checker, _LEVEL_1 + _LEVEL_2, by_benchmark, strict)


def _level_2() -> dict[str, tuple[Rule, ...]]:
    """What level 2 asks for, by benchmark: v0.5's lists, and those of benchmarks beyond it."""
    own = {name: _with_tags(benchmark.required_tags) for name, benchmark in registered().items()}
    return {**own, **_LEVEL_2_BY_BENCHMARK}


def described(level: str, *, benchmark: str = tags.BENCHMARK) -> tuple[tuple[str, str], ...]:
    """Every rule of a level for a benchmark, as (id as in findings, what it wants)."""
    rules = ruleset(level)
    own = (*rules.by_benchmark.get(benchmark, ()), *rules.strict_of(benchmark))
    return tuple((rule.id, rule.wanted) for rule in (*rules.rules, *own))


def _known(kind: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise ConfigError(f"unknown {kind} {found!r} (known: {', '.join(known)})")
