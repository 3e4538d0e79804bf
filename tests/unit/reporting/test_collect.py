from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from run_dir import SYSTEM_NAME, change, change_config

from trainbench.benchmark import Benchmark, load
from trainbench.errors import DataIntegrityError
from trainbench.image_classification.benchmark import RESNET
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.report import NcfStatus
from trainbench.reporting.collect import collect
from trainbench.reporting.evidence import rules
from trainbench.reporting.page.render import markdown
from trainbench.reporting.records import Contradiction
from trainbench.reporting.verdict import BEHIND, judge
from trainbench.trials.paths import RunDir


def log_of(run: RunDir, index: int = 0) -> Path:
    return run.results(SYSTEM_NAME) / f"result_{index}.txt"


def test_a_complete_run_misses_nothing(run: RunDir) -> None:
    results = collect(run, NCF)
    assert results.missing == ()
    assert [t.index for t in results.trials] == [0, 1, 2]
    assert len(results.trials[0].epochs) == 6
    assert results.target == 0.225


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataIntegrityError, match=r"no run\.json, trial_<i> or results"):
        collect(RunDir(tmp_path), NCF)


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "config.json",
        "manifest.json",
        "cache.json",
        "trial_1/status.json",
        "trial_1/epochs.jsonl",
        "trial_1/phases.jsonl",
        "trial_1/system.json",
        "trial_1/cache_drop.json",
        f"results/{SYSTEM_NAME}/ncf/result_1.txt",
        "results/findings.json",
    ],
)
def test_a_missing_file_is_named_and_the_page_still_written(run: RunDir, name: str) -> None:
    (run.root / name).unlink()
    results = collect(run, NCF)
    assert [text for text in results.missing if text.startswith(f"{name}: file not there")]
    assert "What is missing" in markdown(results)


def test_an_absent_field_is_named_and_printed_as_not_available(run: RunDir) -> None:
    lines = [json.loads(line) for line in run.trial(0).epochs.read_text().splitlines()]
    del lines[2]["ndcg"], lines[4]["input_wait_s"]
    run.trial(0).epochs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = collect(run, NCF)
    assert results.missing == ("trial_0/epochs.jsonl: input_wait_s, ndcg",)
    assert results.trials[0].epochs[2].ndcg is None
    assert "n/a" in markdown(results)


def test_a_damaged_line_is_named_with_its_number_and_the_others_are_kept(run: RunDir) -> None:
    epochs = run.trial(0).epochs
    epochs.write_text(epochs.read_text() + '{"epoch": 6, "hit_')
    results = collect(run, NCF)
    assert results.missing == ("trial_0/epochs.jsonl line 7: not JSON",)
    assert len(results.trials[0].epochs) == 6


@pytest.mark.parametrize("text", ["[1, 2]", "null", "[" * 100_000, "{", ""])
def test_json_that_is_no_object_is_named(run: RunDir, text: str) -> None:
    run.trial(0).status.write_text(text)
    results = collect(run, NCF)
    assert results.missing[0].startswith("trial_0/status.json: not")
    assert results.trials[0].status.state is None


def test_a_value_of_the_wrong_type_or_not_finite_is_not_believed(run: RunDir) -> None:
    change(run.trial(0).status, epochs="six", best_hit_rate=True, seed=1.5)
    text = run.trial(0).epochs.read_text().replace('"mean_loss": 0.42', '"mean_loss": NaN')
    run.trial(0).epochs.write_text(text)
    trial = collect(run, NCF).trials[0]
    assert isinstance(trial.status, NcfStatus)
    assert (trial.status.epochs, trial.status.best, trial.status.seed) == (None,) * 3
    assert trial.epochs[0].mean_loss is None


def test_time_to_train_is_that_of_the_log_not_what_the_trial_said(run: RunDir) -> None:
    change(run.trial(0).status, time_to_train_s=1.0)
    results = collect(run, NCF)
    log = results.trials[0].log
    assert log is not None
    assert results.trials[0].time_s == log.time_s == pytest.approx(292.65)
    assert Contradiction("records/time", "trial_0/status.json", "1.000 s", "292.650 s (log)") in (
        results.contradictions
    )


def test_a_trial_below_its_target_has_no_time_to_train(run: RunDir) -> None:
    trial = collect(run, NCF).trials[2]
    assert trial.status.state == "not_converged"
    assert trial.time_s is None


def test_a_log_that_lost_a_required_tag_fails_level_2_with_the_tag_named(run: RunDir) -> None:
    text = log_of(run).read_text()
    kept = [line for line in text.splitlines(True) if "preproc_hp_min_ratings" not in line]
    log_of(run).write_text("".join(kept))
    results = collect(run, NCF)
    log = results.trials[0].log
    assert log is not None
    assert [f.rule for f in log.of_level("2")] == ["level2/at-least-one/preproc_hp_min_ratings"]
    assert judge(results).exit_code == 5


def test_a_finding_quotes_the_line_with_its_neighbours(run: RunDir) -> None:
    log = collect(run, NCF).trials[0].log
    assert log is not None
    (finding,) = [f for f in log.findings if f.rule == "strict/value/eval_target"]
    lines = log_of(run).read_text().splitlines()
    assert finding.line_number is not None
    assert [number for number, _ in finding.excerpt] == [
        finding.line_number + offset for offset in range(-2, 3)
    ]
    assert all(line == lines[number - 1] for number, line in finding.excerpt)


def test_raw_lines_that_could_not_be_stitched_are_findings(run: RunDir) -> None:
    record = json.loads(run.findings.read_text())
    lost = {"rule": "parse/line", "found": "torn line", "wanted": "a whole line"}
    record["trials"][1]["stitch"] = [lost]
    run.findings.write_text(json.dumps(record))
    log = collect(run, NCF).trials[1].log
    assert log is not None
    assert [f.found for f in log.findings if f.rule == "parse/line"] == ["torn line"]


def test_the_same_seed_in_two_trials_is_a_finding_on_the_set(run: RunDir) -> None:
    seed = str(json.loads(run.trial(0).status.read_text())["seed"])
    other = str(json.loads(run.trial(1).status.read_text())["seed"])
    log_of(run, 1).write_text(log_of(run, 1).read_text().replace(other, seed))
    assert [f.rule for f in collect(run, NCF).set_findings] == ["set/seeds"]


def test_the_configuration_is_told_as_a_difference_from_the_reference(run: RunDir) -> None:
    change_config(run, batch_size=65_536)
    differences = collect(run, NCF).differences
    assert differences is not None
    found = {d.key: (d.reference, d.this) for d in differences}
    assert found["batch_size"] == ("2048", "65536")
    assert found["dataset"] == ("ml-20m", "ml-1m")


def test_the_size_of_generated_ratings_is_told_in_the_order_of_its_fields(run: RunDir) -> None:
    size = {"users": 1_500, "items": 1_200, "ratings": 120_000, "seed": 0}
    change(run.config, dataset="synthetic", synthetic=size)
    differences = {d.key: (d.reference, d.this) for d in collect(run, NCF).differences or ()}
    shown = "users 1,500, items 1,200, ratings 120,000, seed 0"
    assert differences["synthetic"] == ("none", shown)


@pytest.mark.parametrize("benchmark", [NCF, RESNET], ids=lambda benchmark: benchmark.name)
def test_settings_are_named_behind_rules_that_exist(benchmark: Benchmark) -> None:
    known = {rule.rule for rule in rules(benchmark.name)}
    behind = load(benchmark.report).behind
    assert {*BEHIND, *behind} <= known
    assert {key for keys in behind.values() for key in keys} <= {
        field.name for field in dataclasses.fields(benchmark.config)
    }


def test_a_configuration_of_another_version_is_named(run: RunDir) -> None:
    change(run.config, colour="blue")
    results = collect(run, NCF)
    assert results.differences is None
    assert "config.json: not a configuration of this version" in results.missing[0]


def test_a_trial_that_was_cut_off_and_started_anew_is_mentioned(run: RunDir) -> None:
    (run.root / "trial_1.aborted-0").mkdir()
    results = collect(run, NCF)
    assert results.set_aside == ("trial_1.aborted-0",)
    assert len(results.trials) == 3
    assert "cut off and started anew" in markdown(results)


def test_public_logs_alone_make_a_report_with_their_known_times(
    shared_dir: Path, tmp_path: Path
) -> None:
    names = ("intel_result_1.txt", "tf_result_2.txt", "intel_result_0.txt")
    folder = RunDir(tmp_path).results("public")
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        log = shared_dir / "fixtures" / "v05_logs" / name
        (folder / f"result_{index}.txt").write_bytes(log.read_bytes())
    results = collect(RunDir(tmp_path), NCF)
    times = [trial.time_s and round(trial.time_s, 2) for trial in results.trials]
    assert times == [pytest.approx(2631.2, abs=0.05), 210.39, None]
    assert judge(results).level_findings["2"] == 0
    assert judge(results).headline == "Target reached in 2 of 3 trials"


def test_a_log_that_names_another_benchmark_is_judged_and_does_not_stop_the_report(
    run: RunDir,
) -> None:
    (log,) = run.root.glob("results/*/ncf/result_0.txt")
    log.write_text(log.read_text().replace(" ncf ", " nfc "))
    results = collect(run, NCF)
    assert results.score is not None
    assert results.score.runs == 3
    found = results.trials[0].log
    assert found is not None
    assert "nfc" in {finding.found for finding in found.findings}


def change_cpu(run: RunDir, index: int, **cpu: object) -> None:
    """Have a trial say that it ran on another CPU."""
    found = json.loads(run.trial(index).system.read_text())
    change(run.trial(index).system, cpu={**found["cpu"], **cpu})


def test_in_what_the_machines_of_a_set_differ_is_said_with_the_trials(run: RunDir) -> None:
    change_cpu(run, 1, model="EPYC Example", threads=64)
    change(run.trial(2).system, memory_bytes=32 * 2**30)
    (told,) = (text for text in collect(run, NCF).degraded if "machines that differ" in text)
    assert told == (
        "the trials ran on machines that differ: "
        "cpu model: Xeon Example 2.5 GHz in trial 0, 2; EPYC Example in trial 1, and "
        "cpu threads: 2 in trial 0, 2; 64 in trial 1, and "
        f"memory: {16 * 2**30} in trial 0, 1; {32 * 2**30} in trial 2"
    )
    assert told.partition(":")[0] in markdown(collect(run, NCF))


def test_machines_of_one_kind_are_no_degradation(run: RunDir) -> None:
    # Neither decides times or last digits.
    for index in range(3):
        change(run.trial(index).system, kernel=f"6.1.{index}", container=bool(index % 2))
    assert not [text for text in collect(run, NCF).degraded if "machines" in text]


def test_of_machines_that_are_not_known_nothing_is_said(run: RunDir) -> None:
    change_cpu(run, 1, model="EPYC Example")
    for index in (0, 2):
        run.trial(index).system.unlink()
    assert not [text for text in collect(run, NCF).degraded if "machines" in text]
