"""The reviewer's commands: their output is the renderer's, their exit codes are documented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_dir import build_run
from v05_log import lines, many, run, without

from trainbench.cli.main import cli
from trainbench.cli.review import check, evaluate, report, score, submission
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import MachineError, NotCompliantError
from trainbench.trials.paths import DataDir, RunDir


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_check_exits_0_1_and_2(tmp_path: Path) -> None:
    good = write(tmp_path / "good", "".join(lines(run())))
    bad = write(tmp_path / "bad", "".join(lines(without(tags.EVAL_SIZE)(run()))))

    def exit_code(*files: str) -> object:
        return check.main([*files, "--level", "2"], standalone_mode=False)

    assert exit_code(good) == 0
    assert exit_code(good, bad) == 1
    assert exit_code(good, str(tmp_path / "absent")) == 2


def test_check_prints_json(tmp_path: Path) -> None:
    bad = write(tmp_path / "bad", "".join(lines(without(tags.EVAL_SIZE)(run()))))
    printed = json.loads(CliRunner().invoke(check, [bad, "--json"]).output)
    assert printed["files"][0]["findings"][0]["rule"] == "level2/at-least-one/eval_size"


def test_score_prints_the_same_as_json_and_as_text(tmp_path: Path) -> None:
    for index, events in enumerate(many(3, converged=3)):
        write(tmp_path / f"result_{index}.txt", "".join(lines(events)))
    text = CliRunner().invoke(score, [str(tmp_path)]).output
    mean = json.loads(CliRunner().invoke(score, [str(tmp_path), "--json"]).output)["mean_s"]
    assert f"time to train: {mean:.2f} s" in text
    named = CliRunner().invoke(score, [str(tmp_path), "--legacy-reference"]).output
    assert "denominator: legacy v0.5 reference result" in named


def test_evaluate_names_the_weights_that_are_not_there(tmp_path: Path) -> None:
    absent = str(tmp_path / "weights.npz")
    with pytest.raises(MachineError, match="no such file"):
        evaluate.main(["--weights", absent, "--preset", "quick"], standalone_mode=False)


def test_submission_is_built_from_a_stitched_run_and_verified(tmp_path: Path) -> None:
    made = RunDir(tmp_path / "run")
    write(made.trial(0).system, "{}")
    write(made.run_file, '{"preset": "ml-1m"}')
    write(made.results("box") / "result_0.txt", "".join(lines(run())))
    out = tmp_path / "out"
    arguments = ["build", "--run", str(made.root), "--out", str(out), "--org", "o", "--email", "e"]
    built = CliRunner().invoke(submission, arguments)
    assert built.exit_code == 0, built.output
    assert "--preset ml-1m" in (out / "code/ncf/run_and_time_box.sh").read_text()
    verified = CliRunner().invoke(submission, ["verify", str(out)])
    assert isinstance(verified.exception, NotCompliantError)
    assert "submission/exists/result_1.txt" in verified.output
    assert "submission/exists/result_0.txt" not in verified.output


def test_the_report_of_a_missed_target_is_a_step_with_exit_code_4(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    run = build_run(data.run("one").root, trials=1, short=(0,))
    data.steps.touch()
    page = tmp_path / "summary.md"
    assert report.main(["--run", str(run.root), "--summary", str(page)], standalone_mode=False) == 4
    (line,) = data.steps.read_text().splitlines()
    assert (json.loads(line)["step"], json.loads(line)["exit_code"]) == ("report", 4)
    assert page.read_text() == (run.report / "report.md").read_text()


def test_raw_logs_are_stitched_where_the_environment_says(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.log", "".join(f"NCF_RAW_{line}" for line in reversed(lines(run()))))
    out = tmp_path / "stitched.log"
    environment = {"COMPLIANCE_FILE": raw, "STITCHED_COMPLIANCE_FILE": str(out)}
    done = CliRunner().invoke(cli, ["stitch"], env=environment)
    assert done.output == "MLPerf time: 154.1 sec.\n"
    assert out.read_text() == "".join(lines(run()))
    printed = CliRunner().invoke(cli, ["stitch", "--log", raw])
    assert printed.stdout == out.read_text()
    assert printed.stderr == "MLPerf time: 154.1 sec.\n"
