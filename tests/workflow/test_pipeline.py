"""The five steps as a user runs them, without Docker: real processes, tiny data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import PATIENCE_S, processes_in, wait_until
from tiny_ncf import TINY_NCF

from trainbench.compliance.check import check_file
from trainbench.compliance.rules.levels import ruleset
from trainbench.errors import MachineError, NotCompliantError
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.proof.prove import prove
from trainbench.reporting.collect import collect
from trainbench.reporting.summary import summary
from trainbench.trials.paths import DataDir, RunDir, TrialDir

TINY = ["--preset=quick", *(f"--set={key}={value}" for key, value in TINY_NCF.items())]
# A guess has 0.45 on these candidates.
REACHED = ["--set", "target_hit_rate=0.6", "--set", "learning_rate=0.005"]


# A run that kept its page cache logs no run_clear_caches, and its report says: not compliant.
CACHES_KEPT = 5


def _start(data: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainbench", words[0], "--data-dir", str(data), *words[1:]]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _run(data: Path, *words: str) -> tuple[int, str, str]:
    process = _start(data, *words)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _status(data: Path, trial: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (data / "runs" / "latest" / f"trial_{trial}" / "status.json").read_text()
    )
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which the whole pipeline has run with two trials."""
    data = tmp_path_factory.mktemp("finished")
    words = ["--runs=2", "--seed=7", *REACHED, "--hash-pipeline"]
    code, _, err = _run(data, "pipeline", *TINY, *words)
    assert code == CACHES_KEPT, err
    return data


def test_the_pipeline_leaves_a_report_and_compliant_logs(finished: Path) -> None:
    run = DataDir(finished).run("latest")
    for name in ("report.html", "report.md", "results.json", "results.csv", "junit.xml"):
        assert (run.report / name).stat().st_size > 0
    logs = sorted(run.root.glob("results/*/ncf/result_*.txt"))
    assert [log.name for log in logs] == ["result_0.txt", "result_1.txt"]
    for log in logs:
        found = {finding.rule for finding in check_file(log, ruleset("2"))}
        assert found == {"level2/at-least-one/run_clear_caches"}


def test_the_clock_starts_before_anything_touches_the_data(finished: Path) -> None:
    trial = DataDir(finished).run("latest").trial(0)
    start = next(
        float(line.split()[2])
        for line in trial.compliance_raw.read_text().splitlines()
        if line.endswith("run_start")
    )
    producer = [float(line.split()[2]) for line in trial.compliance_generator.open()]
    assert min(producer) > start
    timed = {phase["name"]: phase["timed"] for phase in _lines(trial.phases)}
    on_the_clock = ("build_model", "wait_compile", "wait_eval_candidates", "train_epoch", "eval")
    assert all(timed[name] for name in on_the_clock)
    assert not any(timed[name] for name in ("start_producer", "drop_caches", "save_model"))


def test_the_step_compiles_on_the_clock_and_its_phases_still_follow_each_other(
    finished: Path,
) -> None:
    phases = [p for p in _lines(DataDir(finished).run("latest").trial(0).phases) if p["timed"]]
    ends = [phase["start_unix_s"] + phase["duration_s"] for phase in phases]
    starts = [phase["start_unix_s"] for phase in phases]
    assert all(end <= start + 1e-3 for end, start in zip(ends, starts[1:], strict=False))
    # It begins with the end of building the model, and what ran beside other phases is said.
    (waits,) = [phase for phase in phases if "beside_s" in phase]
    built = ends[[phase["name"] for phase in phases].index("build_model")]
    assert waits["name"] == "wait_compile"
    assert built <= waits["start_unix_s"] - waits["beside_s"] + 1e-3


def test_epochs_are_numbered_from_zero_and_each_is_evaluated(finished: Path) -> None:
    trial = DataDir(finished).run("latest").trial(0)
    epochs = _lines(trial.epochs)
    assert [epoch["epoch"] for epoch in epochs] == list(range(len(epochs)))
    for epoch in epochs:
        assert epoch["hit_rate"] == epoch["hits"] / epoch["users"]
        assert epoch["samples"] == 5 * (2_400 - 60)
        assert epoch["samples_per_s"] == epoch["samples"] / epoch["train_s"]
        assert epoch["repeated_samples"] == -epoch["samples"] % 256


def test_log_record_and_output_name_the_same_candidates(finished: Path) -> None:
    trial = DataDir(finished).run("latest").trial(0)
    (found,) = {epoch["candidates_sha256"] for epoch in _lines(trial.epochs)}
    assert f'candidates_sha256: "{found}"' in trial.compliance_generator.read_text()
    printed = trial.stdout.read_text()
    assert "eval candidates  [pipeline_hash] Batch count: 4\n" in printed
    assert f"eval candidates  [pipeline_hash] All batches hash: {found}\n" in printed


def test_a_degraded_run_says_so(finished: Path) -> None:
    codes = {note["code"] for note in _status(finished)["degraded"]}
    assert {"caches_not_dropped", "generated_data", "other_task", "open_division"} <= codes


def test_trials_of_a_set_have_different_seeds_and_different_input(finished: Path) -> None:
    run = DataDir(finished).run("latest")
    assert _status(finished, 0)["seed"] != _status(finished, 1)["seed"]
    hashes = {_lines(trial.epochs)[0]["epoch_sha256"] for trial in run.trials}
    assert len(hashes) == 2


def test_a_seed_replays_the_input_of_the_whole_set(finished: Path, tmp_path: Path) -> None:
    words = ["--runs=2", "--seed=7", *REACHED]
    words += ["--set", "generator_workers=2", "--set", "generator=inline"]
    code, _, err = _run(tmp_path, "pipeline", *TINY, *words)
    assert code == CACHES_KEPT, err
    for index in (0, 1):
        first, again = (
            _lines(DataDir(data).run("latest").trial(index).epochs)[0]
            for data in (finished, tmp_path)
        )
        assert first["epoch_sha256"] == again["epoch_sha256"]
        assert first["first_batch_sha256"] == again["first_batch_sha256"]


def test_hash_pipeline_prints_what_the_record_holds(finished: Path) -> None:
    trial = DataDir(finished).run("latest").trial(0)
    recorded = _lines(trial.epochs)[0]
    printed = trial.stdout.read_text()
    of_epoch = "epoch 1/10 (train_epoch 0)  [pipeline_hash]"
    assert f"{of_epoch} Batch count: 46\n" in printed
    assert f"{of_epoch} First batch hash: {recorded['first_batch_sha256']}\n" in printed
    assert f"{of_epoch} All batches hash: {recorded['epoch_sha256']}\n" in printed


def test_the_lines_that_the_2018_scripts_search_for_are_in_the_log(finished: Path) -> None:
    trial = DataDir(finished).run("latest").trial(0)
    wanted = r"(Iteration [0-9]+: HR = [0-9\.]+, NDCG = [0-9\.]+)|(pipeline_hash)"
    command = ["grep", "-oE", f"--regexp={wanted}", str(trial.stdout)]
    found = subprocess.check_output(command, text=True).splitlines()
    epochs = _lines(trial.epochs)
    assert [line for line in found if line.startswith("Iteration")] == [
        f"Iteration {epoch['epoch'] + 1}: HR = {epoch['hit_rate']:.4f}, NDCG = {epoch['ndcg']:.4f}"
        for epoch in epochs
    ]
    assert found.count("pipeline_hash") == 3 * (len(epochs) + 1)


def test_a_report_of_a_copied_run_has_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    run = DataDir(finished).run("latest")
    copied = tmp_path / "elsewhere"
    subprocess.run(["cp", "-rL", str(run.root), str(copied)], check=True)
    code, _, err = _run(finished, "report", "--run", str(copied), "--out", str(tmp_path / "out"))
    assert code == CACHES_KEPT, err
    for name in ("report.html", "report.md", "results.json", "results.csv", "junit.xml"):
        assert (tmp_path / "out" / name).read_bytes() == (run.report / name).read_bytes()


def test_a_missed_target_is_still_a_result_and_its_verdict_may_wait(tmp_path: Path) -> None:
    for step in ("download", "preprocess"):
        code, _, err = _run(tmp_path, step, *TINY)
        assert code == 0, err
    # Compiled, as by default: the other runs would only spend their time on it.
    words = ["--set", "target_hit_rate=1.0", "--set", "max_epochs=1", "--set", "xla=true"]
    code, _, err = _run(tmp_path, "train", *TINY, *words, "--defer-verdict")
    assert code == 0, err
    assert _status(tmp_path)["state"] == "not_converged"


def test_a_target_that_a_guess_reaches_is_refused_before_any_accuracy(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    words = ["--seed=7", "--set=target_hit_rate=0.4", "--set=initial_eval=false"]
    code, _, err = _run(tmp_path, "train", *TINY, *words)
    assert code == 2
    assert "target_hit_rate=0.4: it is reached without training (a guess has HR@10 0.4" in err
    assert _status(tmp_path)["state"] == "failed"
    log = DataDir(tmp_path).run("latest").trial(0).compliance_raw.read_text()
    assert "eval_accuracy" not in log
    assert "run_stop" not in log


def test_a_run_without_a_target_trains_its_epochs_and_reaches_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, stitched = tmp_path / "raw.log", tmp_path / "stitched.log"
    monkeypatch.setenv("COMPLIANCE_FILE", str(raw))
    monkeypatch.setenv("STITCHED_COMPLIANCE_FILE", str(stitched))
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    words = ["--seed=7", "--set=target_hit_rate=none", "--set=max_epochs=3"]
    words += ["--set=epochs_between_evals=2", "--set=last_batch=mask"]
    words += ["--set=batch_size=16384", "--set=steps_per_call=1"]
    code, _, err = _run(tmp_path, "train", *TINY, *words)
    assert code == 0, err
    assert "warning: batch_size=16384 is larger than an epoch of 11700 samples" in err
    status, trial = _status(tmp_path), DataDir(tmp_path).run("latest").trial(0)
    assert (status["state"], status["target_hit_rate"]) == ("completed", None)
    assert status["time_to_train_s"] is None
    marks = {note["code"] for note in status["degraded"]}
    assert {"no_target", "large_batch", "epochs_between_evals"} <= marks
    epochs = _lines(trial.epochs)
    assert [epoch["samples"] for epoch in epochs] == [11_700] * 3
    assert [epoch["hits"] is not None for epoch in epochs] == [False, True, True]
    assert "epoch 1/3  not evaluated  loss" in trial.stdout.read_text()
    assert 'run_stop: {"success": false}' in trial.compliance_raw.read_text()
    assert "stitched.log: MLPerf time: " in err
    logged = [line.removeprefix("NCF_RAW_") for line in raw.read_text().splitlines()]
    assert len(logged) == len(stitched.read_text().splitlines())
    assert sum("run_start" in line for line in logged) == 1
    assert any("input_step_train_neg_gen" in line for line in logged)
    assert any("preproc_hp_min_ratings" in line for line in logged)
    monkeypatch.delenv("COMPLIANCE_FILE")
    monkeypatch.delenv("STITCHED_COMPLIANCE_FILE")
    assert _run(tmp_path, "stitch")[0] == 0
    (result,) = (tmp_path / "runs" / "latest").glob("results/*/ncf/result_0.txt")
    assert stitched.read_bytes() == result.read_bytes()
    assert _run(tmp_path, "report")[0] == CACHES_KEPT
    results = json.loads((DataDir(tmp_path).run("latest").report / "results.json").read_text())
    assert results["verdict"]["headline"] == "Trained without a target, not compliant"
    assert results["verdict"]["reached"] == 0


LONG = ["--set", "target_hit_rate=1.0", "--set", "max_epochs=100000"]


def require_interrupted(data: Path, process: subprocess.Popen[str]) -> None:
    """The command ends as interrupted, and neither a process nor a file of its work is left."""
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert _status(data)["state"] == "interrupted"
    assert processes_in(data) == []
    assert [path.name for path in (data / "work").iterdir()] in ([], [".lock"])


def test_an_interrupted_run_leaves_no_process_and_says_interrupted(tmp_path: Path) -> None:
    process = _start(tmp_path, "pipeline", *TINY, *LONG)
    wait_until((tmp_path / "runs" / "latest" / "trial_0" / "epochs.jsonl").exists)
    process.send_signal(signal.SIGINT)
    require_interrupted(tmp_path, process)


def test_a_killed_run_leaves_no_process_and_the_next_one_continues(
    finished: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    subprocess.run(["cp", "-a", str(finished), str(data)], check=True)
    run = DataDir(data).run((data / "runs" / "latest").readlink().name)
    kept = {path: path.read_bytes() for path in run.trial(0).root.rglob("*") if path.is_file()}
    _make_unfinished(run.trial(1).root)
    words = [*TINY, "--runs=2", "--seed=7", *REACHED, "--hash-pipeline"]

    process = _start(data, "train", *words)
    wait_until((run.trial(1).root / "phases.jsonl").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: processes_in(data) == [])

    code, _, err = _run(data, "train", *words)
    assert code == 0, err
    assert "continuing run" in err
    assert _status(data, 1)["state"] == "converged"
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(list(run.root.glob("trial_1.aborted-*"))) == 2
    assert len(list(data.glob("runs/2*"))) == 1


def _make_unfinished(trial: Path) -> None:
    status = json.loads((trial / "status.json").read_text())
    (trial / "status.json").write_text(json.dumps(status | {"state": "running"}))
    (trial / "phases.jsonl").unlink()


def test_a_second_run_is_refused_and_the_first_ends_when_it_is_told_to(tmp_path: Path) -> None:
    process = _start(tmp_path, "pipeline", *TINY, *LONG)
    try:
        wait_until((tmp_path / "runs" / "latest" / "trial_0" / "status.json").exists)
        code, _, err = _run(tmp_path, "pipeline", *TINY, *LONG)
        assert code == 6
        assert "in use by pipeline" in err
    finally:
        process.terminate()
    require_interrupted(tmp_path, process)


def copied(finished: Path, folder: Path) -> RunDir:
    """The run elsewhere, to be changed."""
    run = RunDir(folder / "copied")
    shutil.copytree(DataDir(finished).run("latest").root.resolve(), run.root)
    return run


def test_the_hits_of_a_run_are_proved_also_from_a_copy_of_it(
    finished: Path, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path)
    proof = prove(run, run.trial(1), DataDir(finished))
    last = _lines(run.trial(1).epochs)[-1]
    assert (proof.proved, proof.hits, proof.equal_ranks) == (True, last["hits"], 60)
    assert str(proof).startswith(
        f"trial 1, last epoch ({last['epoch']}), fp32: hits equal: {last['hits']} = {last['hits']}"
    )
    assert json.loads(run.trial(1).proof.read_text())["proved"] is True
    with pytest.raises(MachineError, match="with --data-dir, or make it there with download"):
        prove(run, run.trial(0), None)


def _change_a_weight(trial: TrialDir) -> None:
    with np.load(trial.model / "weights.npz") as file:
        weights = dict(file)
    # What one user likes is what that user dislikes.
    weights["user_mf"][7] *= -1000
    np.savez(trial.model / "weights.npz", **weights)


def _make_weights(trial: TrialDir, changes: dict[str, float]) -> None:
    with np.load(trial.model / "weights.npz") as file:
        weights = {name: values * changes.get(name, 1) for name, values in file.items()}
    np.savez(trial.model / "weights.npz", **weights)


def _collapse(trial: TrialDir) -> None:
    _make_weights(trial, {"final_kernel": 0})


def _let_errors_pass_float32(trial: TrialDir) -> None:
    _make_weights(trial, {"user_mf": 1e20, "item_mf": 1e20})


def _change_the_hits(trial: TrialDir) -> None:
    lines = _lines(trial.epochs)
    lines[-1]["hits"] += 1
    trial.epochs.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _change_the_hits_everywhere(trial: TrialDir) -> None:
    _change_the_hits(trial)
    hits = _lines(trial.epochs)[-1]["hits"]
    log = trial.compliance_raw
    log.write_text(log.read_text().replace(f'"value": {hits - 1}}}', f'"value": {hits}}}'))
    (trial.model / "ranks.npy").unlink()


def _change_the_seed(trial: TrialDir) -> None:
    status = json.loads(trial.status.read_text())
    trial.status.write_text(json.dumps(status | {"seed": "12345"}))


def _change_the_candidates(trial: TrialDir) -> None:
    lines = _lines(trial.epochs)
    lines[-1]["candidates_sha256"] = 64 * "0"
    trial.epochs.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _change_a_rank(trial: TrialDir) -> None:
    ranks = np.load(trial.model / "ranks.npy")
    ranks[3] += 1
    np.save(trial.model / "ranks.npy", ranks)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (_change_a_weight, "the ranks of 1 users are not those of these weights"),
        (_change_the_hits, "the log's last eval_hits is"),
        (_change_the_hits_everywhere, "hits recorded, rounding explains"),
        (_change_the_seed, "status.json has 12345"),
        (_change_the_candidates, "the candidates drawn from the seed have SHA-256"),
        (_change_a_rank, "users are not those of these weights"),
        (_collapse, "rounding could change the hit of every user"),
        (_let_errors_pass_float32, "the scores of 60 users, or their errors, are not finite"),
    ],
)
def test_a_changed_weight_hit_rank_or_seed_is_found(
    finished: Path, tmp_path: Path, change: Callable[[TrialDir], None], finding: str
) -> None:
    run = copied(finished, tmp_path)
    change(run.trial(0))
    proof = prove(run, run.trial(0), DataDir(finished))
    assert not proof.proved
    assert finding in "; ".join(proof.findings)
    results = collect(run, NCF)
    assert any(finding in text for text in summary(results).compliance)


def test_weights_of_other_ratings_do_not_fit_and_say_so(finished: Path, tmp_path: Path) -> None:
    run = copied(finished, tmp_path)
    path = run.trial(0).model / "weights.npz"
    with np.load(path) as file:
        weights = dict(file)
    np.savez(path, **weights | {"item_mf": weights["item_mf"][:-1]})
    with pytest.raises(NotCompliantError, match=r"item_mf is \(79, 8\), but .* want \(80, 8\)"):
        prove(run, run.trial(0), DataDir(finished))
    np.savez(path, **weights | {"final_bias": np.array(["1"])})
    with pytest.raises(NotCompliantError, match="final_bias has the type <U1, wanted floating"):
        prove(run, run.trial(0), DataDir(finished))
    np.savez(path, **weights | {"final_bias": np.array([np.nan], np.float32)})
    with pytest.raises(NotCompliantError, match="final_bias has a number that is not finite"):
        prove(run, run.trial(0), DataDir(finished))


def test_the_command_proves_every_trial_and_names_one_that_is_not_there(finished: Path) -> None:
    run = DataDir(finished).run("latest").root
    command = [sys.executable, "-m", "trainbench", "prove", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line[:8] for line in done.stdout.splitlines()] == ["trial 0,", "trial 1,"]
    for trial in DataDir(finished).run("latest").trials:
        trial.proof.unlink()
    done = subprocess.run([*command, "--trial", "2"], capture_output=True, text=True, check=False)
    assert (done.returncode, "no trial 2 (has 0, 1)" in done.stderr) == (6, True)


def test_a_replay_has_equal_input_and_names_the_hit_that_was_changed(
    finished: Path, tmp_path: Path
) -> None:
    run = copied(finished, tmp_path)
    _change_the_hits(run.trial(1))
    hits = _lines(run.trial(1).epochs)[-1]["hits"]
    code, out, err = _run(finished, "replay", str(run.root), "--trial", "1")
    assert code == 3, err
    equal = next(line for line in out.splitlines() if line.startswith("equal: "))
    assert equal == "equal: candidates_sha256, first_batch_sha256, epoch_sha256, mean_loss, ndcg"
    assert f"hits is {hits - 1}, recorded is {hits}" in err


def test_own_ratings_from_a_table_to_a_report(tmp_path: Path) -> None:
    rows = [f"u{user},{(7 * user + i) % 40}" for i in range(20) for user in range(30)]
    table = tmp_path / "books.csv"
    table.write_text("\n".join(["reader,book", *rows]))
    data = tmp_path / "data"
    given = ["--ratings", str(table), "--columns", "user=reader,item=book"]
    small = [word for word in TINY if "synthetic" not in word and "division" not in word]
    code, _, err = _run(data, "pipeline", *small, *given, "--set", "max_epochs=1")
    assert code == CACHES_KEPT, err
    (run,) = (path for path in (data / "runs").iterdir() if path.name != "latest")
    assert "-own-own-" in run.name
    codes = {note["code"] for note in _status(data)["degraded"]}
    assert {"own_data", "other_task", "no_target", "open_division"} <= codes
    assert not {"generated_data", "not_published_archive", "other_split"} & codes
    page = (run / "report" / "report.md").read_text()
    assert "own ratings 'own'" in page
    assert "own ratings: rows read | 600 |" in page
    (log,) = run.glob("results/*/ncf/result_0.txt")
    assert 'degraded: "own_data"' in log.read_text()
