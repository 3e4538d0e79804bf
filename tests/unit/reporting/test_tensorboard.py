"""The scalars of trials, read back by TensorFlow's own reader, which checks every checksum."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from images_run_dir import build_images_run
from run_dir import START

from trainbench.benchmark import Benchmark
from trainbench.cli.review import report
from trainbench.image_classification.benchmark import RESNET
from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.trials.paths import RunDir

pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
from trainbench.reporting.tensorboard import LARGEST_STEP, export, of_epochs

Scalars = dict[str, list[tuple[int, float, float]]]


def read(path: Path) -> Scalars:
    """Step, time and value of each point, by tag."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow reads the files")
    found: Scalars = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            point = (event.step, event.wall_time, value.simple_value)
            found.setdefault(value.tag, []).append(point)
    return found


def written(run: RunDir, folder: Path, benchmark: Benchmark = NCF) -> dict[str, Path]:
    return {path.parent.name: path for path in export(run, folder, benchmark=benchmark)}


def test_the_quality_of_each_epoch_is_there_with_its_time(run: RunDir, tmp_path: Path) -> None:
    files = written(run, tmp_path / "board")
    assert sorted(files) == ["trial_0", "trial_1", "trial_2"]
    found = read(files["trial_0"])
    epochs = [json.loads(line) for line in run.trial(0).epochs.read_text().splitlines()]
    assert [step for step, _, _ in found["epoch/hit_rate"]] == list(range(6))
    rates = [value for _, _, value in found["epoch/hit_rate"]]
    assert rates == pytest.approx([epoch["hit_rate"] for epoch in epochs])
    assert found["epoch/hit_rate"][-1][1] == pytest.approx(START + epochs[-1]["elapsed_s"])
    assert {"epoch/ndcg", "epoch/mean_loss", "epoch/samples_per_s"} <= set(found)


def test_the_machine_is_there_second_by_second(run: RunDir, tmp_path: Path) -> None:
    found = read(written(run, tmp_path / "board")["trial_0"])
    own = found["machine/own_cpu"]
    assert [step for step, _, _ in own] == list(range(305))
    assert {round(value, 4) for _, _, value in own} == {0.93}
    assert "machine/cpu_energy_j" not in found


def test_images_have_the_step_of_training(tmp_path: Path) -> None:
    run = build_images_run(tmp_path / "run")
    [file] = written(run, tmp_path / "board", RESNET).values()
    [(step, unix_s, value)] = read(file)["evaluation/top_1"]
    assert (step, unix_s, round(value, 4)) == (80, START + 60, 0.82)


def test_the_same_run_gives_the_same_files(run: RunDir, tmp_path: Path) -> None:
    first, second = (written(run, tmp_path / name) for name in ("first", "second"))
    assert [p.name for p in first.values()] == [p.name for p in second.values()]
    for one, other in zip(first.values(), second.values(), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_numbers_that_no_file_can_hold_are_cut_and_nulls_left_out(
    run: RunDir, tmp_path: Path
) -> None:
    line = json.loads(run.trial(0).epochs.read_text().splitlines()[0])
    line |= {"hit_rate": 1e300, "ndcg": None, "epoch": 10**30, "elapsed_s": -1e300}
    run.trial(0).epochs.write_text(json.dumps(line) + "\n")
    points = list(of_epochs(collect(run, NCF), collect(run, NCF).trials[0]))
    assert all(0 <= point.step <= LARGEST_STEP for point in points)
    assert "epoch/ndcg" not in read(written(run, tmp_path / "board")["trial_0"])


def test_the_command_line_writes_them_beside_the_report(run: RunDir, tmp_path: Path) -> None:
    board = tmp_path / "board"
    options = ["--run", str(run.root), "--tensorboard", str(board)]
    assert report.main(options, standalone_mode=False) == 0
    assert len(list(board.glob("run/trial_*/events.out.tfevents.*.trainbench"))) == 3


def test_no_tensorflow_is_imported_for_it(run: RunDir, tmp_path: Path) -> None:
    run_dir, board = f"RunDir(Path({str(run.root)!r}))", f"Path({str(tmp_path / 'board')!r})"
    code = (
        "import sys; from pathlib import Path; from trainbench.trials.paths import RunDir\n"
        "from trainbench.ncf.benchmark import NCF\n"
        "from trainbench.reporting.tensorboard import export\n"
        f"export({run_dir}, {board}, benchmark=NCF)\n"
        "assert not [name for name in sys.modules if name.startswith(('tensorflow', 'keras'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
