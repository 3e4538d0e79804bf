"""action.yml: its scripts are run as a runner would; only the API for comments is a stand-in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import CHECKOUT
from pytest_httpserver import HTTPServer
from run_dir import change
from stored_runs import stored
from werkzeug import Request, Response

from trainbench.compliance.stitch import stitch_run
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.page.render import write_report

ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SCRIPTS = CHECKOUT / "scripts" / "action"
MARKER = "<!-- trainbench compare -->"


class Runner:
    """What a runner sets for a step, and what it reads after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("output", "env", "summary"):
            (folder / name).touch()
        self.variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "INPUT_"))},
            "GITHUB_ACTION_PATH": str(CHECKOUT),
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_ENV": str(folder / "env"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_REPOSITORY": "some/where",
            "RUNNER_TEMP": str(folder / "temp"),
            "TRAINBENCH_PYTHON": sys.executable,
            "PYTHONPATH": str(CHECKOUT / "src"),
        }

    def step(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the action as its step does."""
        (self.folder / "output").write_text("")
        command = f'"$GITHUB_ACTION_PATH/scripts/action/{script}"'
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            env={**self.variables, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def outputs(self) -> dict[str, str]:
        """What the last step wrote to GITHUB_OUTPUT."""
        lines = (self.folder / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    (tmp_path / "runner").mkdir()
    return Runner(tmp_path / "runner")


def results(folder: Path, time_s: float) -> str:
    """results.json of three trials that took about ``time_s``."""
    (run,) = stored(folder, [1.0], trials=3)
    for trial, more in zip(run.trials, (0.0, 0.01, -0.01), strict=True):
        change(trial.status, state="converged")
        took_s = time_s * (1 + more)
        lines = map(json.loads, trial.epochs.read_text().splitlines())
        fast = [{**line, "samples_per_s": 4e7 / took_s} for line in lines]
        trial.epochs.write_text("".join(json.dumps(line) + "\n" for line in fast))
    stitch_run(run, system="box")
    return str(write_report(run, benchmark=NCF).results_json)


def test_every_name_in_the_action_is_there() -> None:
    text = (CHECKOUT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    steps = {step["id"]: step for step in STEPS if "id" in step}
    for step, name in re.findall(r"steps\.(\w+)\.outputs\.([\w-]+)", text):
        script = Path(steps[step]["run"].strip('"')).name
        assert f'echo "{name}=' in (SCRIPTS / script).read_text(), (step, name)
    for step in STEPS:
        if "run" in step:
            assert step["shell"] == "bash"
            path = CHECKOUT / step["run"].strip('"').removeprefix("$GITHUB_ACTION_PATH/")
            assert os.access(path, os.X_OK)
            # An expression inside a command would be run as text of the shell.
            assert "${{" not in step["run"]
        else:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])


def test_every_variable_that_a_script_reads_is_given_to_its_step() -> None:
    for step in STEPS:
        if "run" not in step:
            continue
        text = (SCRIPTS / Path(step["run"].strip('"')).name).read_text()
        code = text.split("\nfi\n", 1)[1]
        names = set(re.findall(r"\$\{?(INPUT_\w+|RESULTS|PAGE|MEASURED|GATE)\b", code))
        assert names <= set(step.get("env", {})) or names == {"INPUT_TOKEN"}, step["id"]


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_each_script_says_how_it_is_called(script: str) -> None:
    done = subprocess.run([SCRIPTS / script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Usage: scripts/action/{script}")


def test_setup_names_the_python_that_has_the_package(runner: Runner) -> None:
    assert runner.step("setup.sh").returncode == 0
    assert (runner.folder / "env").read_text() == f"TRAINBENCH_PYTHON={sys.executable}\n"


def test_a_measurement_is_trained_and_is_the_next_ones_baseline(runner: Runner) -> None:
    """The whole course on a default branch, then on a pull request, with real training."""
    settings = "synthetic=200x150x6000\nmax_epochs=2\ntarget_hit_rate=none\nmf_dim=8\n"
    settings += "mlp_layer_sizes=16,8\nbatch_size=512\ndivision=open\n"
    inputs = {"INPUT_RUNS": "2", "INPUT_SEED": "1", "INPUT_SET": settings, "INPUT_PRESET": "quick"}
    done = runner.step("measure.sh", **inputs)
    assert done.returncode == 0, done.stderr
    measured = runner.outputs
    assert Path(measured["results"]).is_file()
    assert measured["exit-code"] == "0"
    done = runner.step("gate.sh", RESULTS=measured["results"])
    assert done.returncode == 0, done.stderr
    assert "no baseline yet" in (runner.folder / "summary").read_text()
    assert runner.step("keep.sh", RESULTS=measured["results"]).returncode == 0
    done = runner.step("gate.sh", RESULTS=measured["results"])
    assert runner.outputs["exit-code"] == "0", done.stderr
    assert "change: +0.00 %" in done.stdout
    (small, big) = (
        json.loads(Path(runner.outputs[name]).read_text(encoding="utf-8"))
        for name in ("smaller-is-better", "bigger-is-better")
    )
    assert small == []
    assert [entry["name"] for entry in big] == [
        "ncf quick: Training speed",
        "ncf quick: Best HR@10",
    ]


def test_a_setting_that_is_wrong_ends_the_job_with_its_own_code(runner: Runner) -> None:
    done = runner.step("measure.sh", INPUT_SET="nothing=1; touch broken")
    assert done.returncode == 2
    assert "::error::trainbench pipeline ended with exit code 2" in done.stderr
    assert not (runner.folder / "broken").exists()


def test_a_slower_measurement_fails_the_job_after_the_comment(
    runner: Runner, tmp_path: Path, httpserver: HTTPServer
) -> None:
    before, after = results(tmp_path / "a", 400.0), results(tmp_path / "b", 440.0)
    assert runner.step("gate.sh", RESULTS=after, INPUT_BASELINE=before).returncode == 0
    outputs = runner.outputs
    assert outputs["exit-code"] == "7"
    assert "worse than the baseline" in (runner.folder / "summary").read_text()
    comments = Comments(httpserver)
    done = comment(runner, httpserver, outputs["markdown"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert comments.bodies == {1: Path(outputs["markdown"]).read_text(encoding="utf-8")}
    done = runner.step("verdict.sh", GATE=outputs["exit-code"], MEASURED="0")
    assert done.returncode == 7
    assert runner.step("verdict.sh", GATE="0", MEASURED="4").returncode == 4
    assert runner.step("verdict.sh", GATE="0", MEASURED="0").returncode == 0


def test_a_runner_that_cannot_drop_the_page_cache_still_guards_the_speed(runner: Runner) -> None:
    done = runner.step("verdict.sh", GATE="0", MEASURED="5")
    assert done.returncode == 0
    assert done.stdout.startswith("::warning::the logs are not compliant")
    assert runner.step("verdict.sh", GATE="7", MEASURED="5").returncode == 7
    strict = runner.step("verdict.sh", GATE="0", MEASURED="5", INPUT_REQUIRE_COMPLIANT="true")
    assert strict.returncode == 5
    (keep,) = (step for step in STEPS if step.get("id") == "keep")
    assert "steps.measure.outputs.exit-code == '5'" in keep["if"]


def test_a_baseline_that_is_not_there_or_of_another_task_ends_the_job(
    runner: Runner, tmp_path: Path
) -> None:
    after = results(tmp_path / "a", 400.0)
    done = runner.step("gate.sh", RESULTS=after, INPUT_BASELINE="none.json")
    assert done.returncode == 2
    assert "::error::baseline: none.json: no such file or folder" in done.stderr
    other = json.loads(Path(after).read_text(encoding="utf-8"))
    other["config"]["dataset"] = "ml-20m"
    (tmp_path / "other.json").write_text(json.dumps(other))
    done = runner.step("gate.sh", RESULTS=after, INPUT_BASELINE=str(tmp_path / "other.json"))
    assert done.returncode == 2
    assert "only results of one task are compared" in done.stderr


class Comments:
    """The part of GitHub's API that keeps the comments of pull request 5."""

    def __init__(self, server: HTTPServer, others: int = 0, status: int = 200) -> None:
        self.bodies: dict[int, str] = {}
        self.others, self.status, self.tokens = others, status, set[str]()
        base = "/repos/some/where/issues"
        server.expect_request(f"{base}/5/comments").respond_with_handler(self.all)
        server.expect_request(re.compile(rf"{base}/comments/\d+")).respond_with_handler(self.one)

    def all(self, request: Request) -> Response:
        self.tokens.add(request.headers["Authorization"])
        if self.status != 200:
            return Response("{}", self.status)
        if request.method == "POST":
            self.bodies[len(self.bodies) + 1] = json.loads(request.data)["body"]
            return Response(json.dumps({"html_url": "https://example.org/c"}), 201)
        made = [{"id": 900 + n, "body": f"other {n}"} for n in range(self.others)]
        made += [{"id": key, "body": body} for key, body in self.bodies.items()]
        first = (int(request.args["page"]) - 1) * int(request.args["per_page"])
        return Response(json.dumps(made[first : first + int(request.args["per_page"])]))

    def one(self, request: Request) -> Response:
        key = int(request.path.rsplit("/", 1)[1])
        assert request.method == "PATCH"
        assert key in self.bodies
        self.bodies[key] = json.loads(request.data)["body"]
        return Response(json.dumps({"html_url": "https://example.org/c"}))


def comment(
    runner: Runner, server: HTTPServer, page: str, event: dict[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    path = runner.folder / "event.json"
    path.write_text(json.dumps({"pull_request": {"number": 5}} if event is None else event))
    return runner.step(
        "comment.sh",
        PAGE=page,
        INPUT_TOKEN="secret-token",
        GITHUB_EVENT_PATH=str(path),
        GITHUB_API_URL=server.url_for("").rstrip("/"),
    )


def test_the_comment_is_replaced_also_behind_many_others(
    runner: Runner, tmp_path: Path, httpserver: HTTPServer
) -> None:
    comments = Comments(httpserver, others=230)
    page = tmp_path / "page.md"
    for text in ("first", "second"):
        page.write_text(f"{MARKER}\n{text}\n")
        assert comment(runner, httpserver, str(page)).returncode == 0
    assert comments.bodies == {1: f"{MARKER}\nsecond\n"}
    assert comments.tokens == {"Bearer secret-token"}


def test_a_token_that_may_not_comment_is_a_warning_and_no_secret_is_printed(
    runner: Runner, tmp_path: Path, httpserver: HTTPServer
) -> None:
    Comments(httpserver, status=403)
    page = tmp_path / "page.md"
    page.write_text(f"{MARKER}\n")
    done = comment(runner, httpserver, str(page))
    assert done.returncode == 0
    assert done.stdout.startswith("::warning::no comment: the token may not write (HTTP 403)")
    assert "secret-token" not in done.stdout + done.stderr
    assert comment(runner, httpserver, str(page), event={}).stdout == (
        "no pull request: no comment\n"
    )
