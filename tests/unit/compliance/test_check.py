"""Levels 1 and 2 decide as the two published versions of the v0.5 checker do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import v05_log
from v05_log import Events, inserted, lines, moved, run, valued, without

from trainbench.compliance.check import check, judge
from trainbench.compliance.reading import CHECKERS
from trainbench.compliance.rules.levels import described, ruleset
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import ConfigError

REQUIRED = [
    "run_start",
    "run_stop",
    "run_final",
    "run_clear_caches",
    "train_loop",
    "train_epoch",
    "opt_learning_rate",
    "eval_start",
    "eval_size",
    "eval_target",
    "eval_accuracy",
    "eval_stop",
    "preproc_hp_min_ratings",
    "preproc_hp_num_eval",
    "preproc_hp_sample_eval_replacement",
    "input_hp_num_neg",
    "input_hp_sample_train_replacement",
    "input_step_train_neg_gen",
    "input_step_eval_neg_gen",
    "eval_hp_num_users",
    "eval_hp_num_neg",
    "model_hp_mf_dim",
    "model_hp_mlp_layer_sizes",
]
LEVEL_1_TAGS = ("run_start", "run_stop", "run_final", "eval_accuracy")

both_checkers = pytest.mark.parametrize("checker", CHECKERS)


def found(log: list[str], level: str | int, checker: str = "2019-04") -> list[str]:
    return [finding.rule for finding in check(log, ruleset(level, checker=checker))]


@both_checkers
@pytest.mark.parametrize("level", ["1", "2", "strict"])
def test_valid_log_has_no_findings(level: str, checker: str) -> None:
    assert found(lines(run()), level, checker) == []


def test_level_2_of_ncf_wants_23_tags() -> None:
    wanted = {rule.rsplit("/", 1)[1] for rule, _ in described("2") if "one/" in rule}
    assert wanted == set(REQUIRED)
    assert len(REQUIRED) == 23


@both_checkers
@pytest.mark.parametrize("tag", REQUIRED)
def test_log_without_a_required_tag_fails_level_2_with_that_tag_named(
    tag: str, checker: str
) -> None:
    log = lines(without(tag)(run()))
    assert any(rule.endswith(f"/{tag}") for rule in found(log, 2, checker))
    assert bool(found(log, 1, checker)) == (tag in LEVEL_1_TAGS)


UNNOTICED: dict[str, Callable[[Events], Events]] = {
    "100 eval negatives": valued(tags.PREPROC_HP_NUM_EVAL, 100),
    "another target": valued(tags.EVAL_TARGET, 0.5),
    "two targets": valued(tags.EVAL_TARGET, 0.5, which=slice(1)),
    "failure at the target": valued(tags.RUN_STOP, {"success": False}),
    "run_stop without a value": valued(tags.RUN_STOP, None),
    "caches cleared after the start": moved(tags.RUN_CLEAR_CACHES, after=tags.RUN_START),
    "version 0.6.0": lambda events: [replace(event, version="0.6.0") for event in events],
    "NaN": valued(tags.INPUT_SHARD, float("nan")),
    "an unknown tag": inserted("some_tag", 1, after=tags.TRAIN_LOOP),
}


@both_checkers
@pytest.mark.parametrize("mutation", UNNOTICED)
def test_checker_does_not_notice(mutation: str, checker: str) -> None:
    assert found(lines(UNNOTICED[mutation](run())), 2, checker) == []


def _first_epoch_is_one(events: Events) -> Events:
    return [
        replace(event, value={**event.value, "epoch": event.value["epoch"] + 1})
        if event.key == tags.EVAL_ACCURACY
        else event
        for event in events
    ]


NOTICED: dict[str, tuple[Callable[[Events], Events], str]] = {
    "eval_accuracy as a bare number": (
        valued(tags.EVAL_ACCURACY, 0.6),
        "level1/has-keys/eval_accuracy",
    ),
    "eval_accuracy without epoch": (
        valued(tags.EVAL_ACCURACY, {"value": 0.6}, which=slice(2, 3)),
        "level1/has-keys/eval_accuracy",
    ),
    "first epoch 1": (_first_epoch_is_one, "level1/epoch-zero/eval_accuracy"),
    "two run_start": (
        inserted(tags.RUN_START, None, after=tags.RUN_START),
        "level1/exactly-one/run_start",
    ),
    "run_stop before run_start": (
        moved(tags.RUN_STOP, after=tags.PREPROC_HP_NUM_EVAL),
        "level1/pair/run_start/run_stop",
    ),
}


@both_checkers
@pytest.mark.parametrize("mutation", NOTICED)
def test_checker_notices(mutation: str, checker: str) -> None:
    change, rule = NOTICED[mutation]
    assert rule in found(lines(change(run())), 1, checker)


UNPARSABLE = {
    "a Python dict": ("eval_stop: 0", "eval_stop: {'epoch': 0}"),
    "a space in the file name": ("(ncf/trial.py", "(my ncf/trial.py"),
    "a benchmark in capitals": ("v0.5.0 ncf", "v0.5.0 NCF"),
    "no space after the colon": ("eval_stop: 0", "eval_stop:0"),
    "a damaged time": ("v0.5.0 ncf ", "v0.5.0 ncf 1.2."),
}


@both_checkers
@pytest.mark.parametrize("mutation", UNPARSABLE)
def test_one_unparsable_line_fails_the_log(mutation: str, checker: str) -> None:
    old, new = UNPARSABLE[mutation]
    log = lines(run())
    place = next(i for i, line in enumerate(log) if old in line and "eval_stop" in line)
    log[place] = log[place].replace(old, new)
    (finding,) = check(log, ruleset(1, checker=checker))
    assert (finding.rule, finding.line_number) == ("parse/line", place + 1)


def test_benchmark_without_a_list_is_never_compliant() -> None:
    log = lines([replace(event, benchmark="minigo") for event in run()])
    assert found(log, 1) == []
    assert found(log, 2) == ["level2/first-line-benchmark"]


def test_mask_rcnn_has_no_tags_of_its_own() -> None:
    assert found(lines([replace(event, benchmark="maskrcnn") for event in run()]), 2) == []


@both_checkers
@pytest.mark.parametrize(
    ("tag", "value", "rule"),
    [
        (tags.EVAL_TARGET, [0.635], "level1/one-value/eval_target"),
        (tags.EVAL_TARGET, {"value": {"BBOX": 0.377}}, "level1/one-value/eval_target"),
        (tags.EVAL_ACCURACY, {"epoch": 0, "value": "0.6"}, "level1/comparable/eval_accuracy"),
        (tags.EVAL_ACCURACY, {"epoch": 0, "value": None}, "level1/comparable/eval_accuracy"),
    ],
)
def test_value_that_stops_the_checker_is_found(
    tag: str, value: object, rule: str, checker: str
) -> None:
    assert found(lines(valued(tag, value, which=slice(1))(run())), 1, checker) == [rule]


COPIES = ["INFO:mlperf_compliance:", "\ufeff", "12% "]


@pytest.mark.parametrize("prefix", COPIES)
def test_a_copy_of_each_line_behind_a_prefix_counts_for_neither_checker(prefix: str) -> None:
    log = [text for line in lines(run()) for text in (line, prefix + line)]
    for checker in CHECKERS:
        assert found(log, "strict", checker) == []


def test_line_behind_white_space_counts() -> None:
    log = [" \t" + line for line in lines(run())]
    for checker in CHECKERS:
        assert found(log, 2, checker) == []


def test_last_line_without_an_end_is_another_line() -> None:
    log = lines(run())
    assert found([*log, log[-1]], 1, "2019-04") == []
    again = [*log, log[-1].rstrip("\n")]
    assert "level1/exactly-one/run_final" in found(again, 1, "2019-04")
    assert "level1/exactly-one/run_final" in found(again, 1, "2018-11")


def test_run_time_is_that_of_floats() -> None:
    """A tenth of a microsecond is nothing at the size of a time of this century."""
    log = valued(tags.RUN_STOP, None)(run())
    start = log[v05_log.position(log, tags.RUN_START)].timestamp
    close = [replace(e, timestamp=start + "1") if e.key == tags.RUN_STOP else e for e in log]
    assert "level1/run-time" in found(lines(close), 1, "2018-11")


VERSIONS_DIFFER: dict[str, Callable[[list[str]], list[str]]] = {
    "text before the token": lambda log: ["step 3/9 " + line for line in log],
    "the raw prefix": lambda log: ["NCF_RAW_" + line for line in log],
    "every line twice": lambda log: [line for line in log for _ in range(2)],
    "lines out of order": lambda log: log[::-1],
}


@pytest.mark.parametrize("mutation", VERSIONS_DIFFER)
def test_only_the_later_checker_accepts(mutation: str) -> None:
    log = VERSIONS_DIFFER[mutation](lines(run()))
    assert found(log, 2, "2018-11") != []
    assert found(log, 2, "2019-04") == []


def test_times_in_whole_seconds_make_the_versions_differ() -> None:
    """The later checker sorts as text: "run_final" is before "run_stop" in the same second."""
    log = [re.sub(r"(ncf \d+)\.\d+", r"\1", line) for line in lines(run(epoch_s=30))]
    log = [re.sub(r"\(.*?\)", "(ncf.py:1)", line) for line in log]
    assert found(log, 2, "2018-11") == []
    assert "level1/pair/run_stop/run_final" in found(log, 1, "2019-04")


@both_checkers
def test_run_of_no_time_fails(checker: str) -> None:
    log = lines([replace(event, timestamp="1541635650") for event in run()])
    assert found(log, 1, checker) != []


def test_run_longer_than_a_year_fails() -> None:
    assert found(lines(run(epoch_s=6e6)), 1) == ["level1/run-time"]


@pytest.mark.parametrize(("benchmark", "fails"), [("resnet", False), ("gnmt", True)])
def test_only_resnet_and_ssd_may_skip_epoch_zero(benchmark: str, fails: bool) -> None:
    events = [replace(event, benchmark=benchmark) for event in _first_epoch_is_one(run())]
    assert ("level1/epoch-zero/eval_accuracy" in found(lines(events), 1)) == fails


def test_unknown_benchmark_fails_level_1() -> None:
    log = lines([replace(event, benchmark="chess") for event in run()])
    assert "level1/known-benchmark" in found(log, 1)


@pytest.mark.parametrize(
    ("benchmark", "tag"),
    [
        ("resnet", "model_hp_shorcut_add"),
        ("ssd", "num_default_boxes"),
        ("transformer", "model_hp_sequence_beam_search"),
        ("gnmt", "eval_hp_beam_size"),
    ],
)
def test_first_line_decides_the_benchmark_of_level_2(benchmark: str, tag: str) -> None:
    log = lines([replace(event, benchmark=benchmark) for event in run()])
    assert f"level2/at-least-one/{tag}" in found(log, 2)
    assert "level2/at-least-one/preproc_hp_min_ratings" not in found(log, 2)


def test_first_line_of_no_benchmark_fails_level_2() -> None:
    events = run()
    events[0] = replace(events[0], benchmark="chess")
    assert found(lines(events), 1) == []
    assert found(lines(events), 2)[0] == "level2/first-line-benchmark"


@both_checkers
@pytest.mark.parametrize("value", [["epoch", "value"], "epoch value", {"epoch": 0}, 0, True])
def test_evaluation_that_is_no_record_of_epoch_and_value_fails(value: object, checker: str) -> None:
    log = lines(valued(tags.EVAL_ACCURACY, value, which=slice(1, 2))(run()))
    assert found(log, 1, checker) == ["level1/has-keys/eval_accuracy"]


def test_finding_tells_rule_line_found_and_wanted() -> None:
    log = lines(valued(tags.EVAL_ACCURACY, 0.6)(run()))
    finding = check(log, ruleset(1))[0]
    place = v05_log.position(run(), tags.EVAL_ACCURACY) + 1
    assert finding.line_number == place
    assert finding.line == log[place - 1].strip()
    assert str(finding) == (
        f"line {place}: level1/has-keys/eval_accuracy: found 0.6, "
        "wanted every eval_accuracy with epoch and value"
    )


def test_judge_counts_a_finding_of_both_checkers_once() -> None:
    levels = judge(lines(without(tags.RUN_CLEAR_CACHES)(run())))
    assert [f.rule for f in levels["1"]] == []
    assert [f.rule for f in levels["2"]] == ["level2/at-least-one/run_clear_caches"]


@pytest.mark.parametrize(
    "wrong", [{"level": "3"}, {"level": 1, "checker": "2020"}, {"level": 2, "benchmark": "chess"}]
)
def test_unknown_level_checker_and_benchmark_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        ruleset(**wrong)
