"""Several runs in processes of their own: repeats and sweeps."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainbench import cnn
from trainbench.cnn.flags.arguments import argv_of, parse
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.series import batch_search, processes, repeats, sweep
from trainbench.statistics import mean_interval

SMALL = ("--model=trivial", "--data_name=cifar10", "--device=cpu", "--num_warmup_batches=1")


def record(speed: float) -> dict:
    return {"stats": {"images_per_sec": speed}, "created_unix_s": speed}


def test_the_record_of_repeats_is_the_median_run_with_all_speeds() -> None:
    combined = repeats.combined([record(110.0), record(90.0), record(101.0), record(99.0)])
    assert combined["stats"] == {"images_per_sec": 99.0}
    interval = mean_interval([110.0, 90.0, 101.0, 99.0])
    assert combined["repeats"] == {
        "runs": 4,
        "images_per_sec": [110.0, 90.0, 101.0, 99.0],
        "mean": 100.0,
        "standard_deviation": interval.deviation,
        "ci95_low": interval.low,
        "ci95_high": interval.high,
    }
    assert repeats.summary(combined) == (
        "images/sec over 4 runs: 100.00 +/- 13.06 (95 % confidence interval 86.94 to 113.06)"
    )


@pytest.mark.parametrize("name", ["train_dir", "trace_file", "tfprof_file", "job_name"])
def test_what_runs_cannot_share_is_refused_before_the_first(name: str) -> None:
    with pytest.raises(ParamError, match=f"--{name} does not go with --repeat"):
        repeats.run(cnn.make_params(repeat=2, **{name: "worker"}))
    with pytest.raises(ParamError, match=f"--{name} does not go with --sweep"):
        sweep.run(cnn.make_params(sweep="s.csv", **{name: "worker"}), "s.csv")


def test_one_benchmark_is_one_run() -> None:
    for values in ({"repeat": 2}, {"auto_batch_size": True}, {"sweep": "s.csv"}):
        with pytest.raises(ParamError, match="BenchmarkCNN is one run"):
            cnn.BenchmarkCNN(cnn.make_params(device="cpu", **values))
    with pytest.raises(ParamError, match="--sweep_models is for a sweep"):
        cnn.BenchmarkCNN(cnn.make_params(device="cpu", sweep_models="trivial"))
    with pytest.raises(ParamError, match="add --auto_batch_size or leave it out"):
        cnn.BenchmarkCNN(cnn.make_params(device="cpu", memory_limit_gib=2.0))


def test_only_trials_of_a_batch_size_keep_the_memory_limit() -> None:
    params = cnn.make_params(sweep="s.csv", memory_limit_gib=2.0)
    limits = {
        size: sweep.params_of(params, sweep.Combination("trivial", size, "fp32")).memory_limit_gib
        for size in ("32", "auto")
    }
    assert limits == {"32": None, "auto": 2.0}
    assert batch_search.trial_params(params, 8).memory_limit_gib is None


def test_arguments_survive_the_way_to_another_process() -> None:
    params = cnn.make_params(
        model="resnet20", distortions=False, num_epochs=0.5, allow_growth=True, use_fp16=True,
        eval_during_training_at_specified_steps="2,3", benchmark_test_id="a b=c",
    )  # fmt: skip
    assert parse(argv_of(params)).params == params


def test_memory_that_ran_out_is_told_from_other_failures() -> None:
    outcomes = [
        processes.Outcome(code, None, "why", 1 << 30, over)
        for code, over in ((-9, False), (-6, False), (6, False), (-9, True), (1, False), (2, False))
    ]
    assert [outcome.out_of_memory for outcome in outcomes] == [True] * 4 + [False] * 2
    assert [outcome.reason for outcome in outcomes] == [
        "killed, most often because the machine ran out of memory", "why", "why",
        "out of memory: it took 1.00 GiB", "why", "why",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """What two real runs print, and the file that they leave."""
    path = tmp_path_factory.mktemp("repeated") / "result.json"
    flags = [*SMALL, "--batch_size=4", "--num_batches=4", "--repeat=2", f"--result_json={path}"]
    with printed_to(path.with_name("printed")):
        assert cnn.main(flags) == 0
    return path.with_name("printed").read_text(), json.loads(path.read_text())


@contextlib.contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """What this process and its children print goes to ``path``."""
    kept = os.dup(1)
    with path.open("w", buffering=1) as file, contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def test_repeats_print_and_write_the_mean_with_its_interval(repeated: tuple[str, dict]) -> None:
    out, found = repeated
    totals = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("total im")]
    assert found["repeats"]["images_per_sec"] == pytest.approx(totals, abs=0.01)
    assert len(totals) == 2
    assert out.splitlines()[-1] == repeats.summary(found)
    assert found["stats"]["images_per_sec"] == min(found["repeats"]["images_per_sec"])
    assert found["params"]["repeat"] == 2


def test_a_sweep_is_a_row_for_each_combination_failures_included(
    repeated: tuple[str, dict], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    path = tmp_path / "new" / "sweep.csv"
    flags = [*SMALL, "--num_batches=4", f"--sweep={path}", "--sweep_models=trivial,nonet"]
    params = parse(flags).params
    path.parent.mkdir()
    good = sweep.row_of(sweep.combinations(params)[0], repeated[1])
    shared = " ".join(argv_of(sweep.params_of(params, sweep.Combination("trivial", "0", "fp32"))))
    sweep.write(path, [{**good, "flags": shared}])

    assert cnn.main(flags) == 0
    assert "2 runs, 1 of them in" in capfd.readouterr().err
    good, bad = csv.DictReader(path.open())
    assert (good["model"], good["status"], good["runs"]) == ("trivial", "ok", "2")
    assert float(good["ci95_low"]) < float(good["images_per_sec"]) < float(good["ci95_high"])
    assert (bad["model"], bad["status"], bad["images_per_sec"]) == ("nonet", "failed", "")
    assert "nonet" in bad["reason"]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    # A second time there is nothing left to run.
    before = path.read_text()
    assert cnn.main(flags) == 0
    assert path.read_text() == before
    assert "2 runs, 2 of them in" in capfd.readouterr().err


def test_a_sweep_does_not_mix_flags_or_overwrite_another_file(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "sweep.csv"
    params = cnn.make_params(model="trivial", sweep=str(path), num_batches=4)
    (each,) = sweep.combinations(params)
    sweep.write(path, [{**sweep.failed_row(each, "why"), "flags": "--num_batches=5"}])
    assert cnn.main([f"--sweep={path}", "--num_batches=4"]) == 2
    assert "its rows were run with '--num_batches=5'" in capsys.readouterr().err
    path.write_text("a,b\n1,2\n")
    assert cnn.main([f"--sweep={path}", "--num_batches=4"]) == 2
    assert "not a table of a sweep" in capsys.readouterr().err
    assert path.read_text() == "a,b\n1,2\n"


def test_a_sweep_goes_through_models_sizes_and_precisions() -> None:
    params = cnn.make_params(
        device="cpu", sweep="s.csv", sweep_models="vgg11,resnet50", sweep_batch_sizes="8,auto",
        sweep_precisions="fp32,bf16", num_batches=7,
    )  # fmt: skip
    found = sweep.combinations(params)
    assert len(found) == 8
    assert found[0].key == ("vgg11", "8", "fp32")
    assert sweep.params_of(params, found[0]) == cnn.make_params(
        device="cpu", model="vgg11", batch_size=8, num_batches=7
    )
    assert sweep.params_of(params, found[-1]) == cnn.make_params(
        device="cpu", model="resnet50", auto_batch_size=True, use_bf16=True, num_batches=7
    )
    for values, message in (
        ({"sweep_batch_sizes": "8,0"}, "'0' is not a number above 0 or auto"),
        ({"sweep_precisions": "fp8"}, "'fp8' is not one of fp32, fp16, bf16"),
    ):
        with pytest.raises(ParamError, match=message):
            sweep.combinations(params.replace(**values))
