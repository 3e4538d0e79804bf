"""The command line: one clear line and a documented exit code for whatever a user types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from trainbench.cli import main as cli


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["trainbench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("command", sorted(set(cli.cli.commands) - {"trial", "worker", "cnn"}))
def test_every_command_has_help_with_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage:" in text
    assert f"trainbench {command}" in text.split("Example:")[-1]


def every_command(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from every_command(command)
        else:
            yield command


def test_every_option_says_what_it_is_for() -> None:
    options = [
        (command.name, option.opts[0])
        for command in every_command(cli.cli)
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert options == []


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["trian"], 2, "did you mean 'train'"),
        (["eval"], 2, "did you mean 'evaluate'"),
        (["nope"], 2, "unknown command 'nope' (known: stitch, report, check,"),
        (["images", "nope"], 2, "unknown command 'nope' (known: download, convert, train,"),
        (["bench", "ncff"], 2, "did you mean 'ncf'"),
        (["preprocess", "--preset=quick", "--set=lr=1"], 2, "unknown key 'lr'; did you mean 'lea"),
        (
            ["preprocess", "--preset=quick", "--set=nope=1"],
            2,
            "unknown key 'nope' (known: data",
        ),
        (["preprocess", "--preset=quick", "--set=mf_dim=3"], 2, "add --set division=open to run"),
        (["check", "--batch_size=1", "x"], 2, "No such option"),
        (["download", "--preset", "quik"], 2, "did you mean 'quick'"),
        (["download", "--dataset", "ml-20"], 2, "did you mean 'ml-20m'"),
        (["train", "--preset", "quick", "--set", "batchsize=1"], 2, "did you mean 'batch_size'"),
        (["train", "--preset", "quick", "--runs", "0"], 2, "0 is not in the range"),
        (["train", "--train_epochs", "3"], 2, "No such option: --train_epochs: use max_epochs"),
        (["generate", "--redirect_logs"], 2, "--redirect_logs: nothing is needed"),
        (["images", "train", "--num_gpus=1"], 2, "No such option '--num_gpus'."),
        (["generate", "--data-dir", "DIR/absent"], 6, "absent: no such folder"),
        (["train", "--join-timeout-s", "nan"], 2, "nan is not a finite number"),
        (["compare", "a", "b", "--confidence", "nan"], 2, "nan is not a finite number"),
        (["train", "--preset", "quick", "--data-dir", "DIR/absent"], 6, "no data volume here"),
        (["preprocess", "--preset", "quick", "--data-dir", "DIR"], 6, "run download"),
        (["train", "--preset", "quick", "--data-dir", "DIR"], 6, "run download"),
        (["stitch", "--run", "DIR"], 6, "not a run folder"),
        (["report", "--run", "DIR/absent"], 3, "pass the folder of one run"),
        (["check", "DIR/absent.txt"], 2, "absent.txt"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code(
    words: list[str],
    code: int,
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, *(word.replace("DIR", str(tmp_path)) for word in words)) == code
    said = "".join(capsys.readouterr())
    assert complaint in said.strip().splitlines()[-1]
    assert "Traceback" not in said


def test_parameters_come_from_the_environment_of_the_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRESET", "ml-1m")
    monkeypatch.setenv("TRAINBENCH_SET", "max_epochs=2 target_hit_rate=0.17")
    monkeypatch.setenv("TRAINBENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RUNS", "3")
    monkeypatch.setenv("DROP_CACHES", "0")
    assert _run(monkeypatch, "pipeline", "--dry-run") == 0
    plan = capsys.readouterr().out
    assert "3 trial(s), at most 2 epochs, to HR@10 0.17" in plan
    assert '"drop_caches": false' in plan
    assert str(tmp_path) in plan


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert (
        _run(monkeypatch, "pipeline", "--preset", "quick", "--dry-run", f"--data-dir={data}") == 0
    )
    assert not data.exists()


def test_a_dataset_alone_takes_the_preset_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "pipeline", "--dataset=ml-1m", "--dry-run") == 0
    assert '"preset": "ml-1m"' in capsys.readouterr().out
