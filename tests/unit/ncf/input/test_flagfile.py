"""The flagfile: one line per option, all of them, none other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest
from small_cache import small_config

from trainbench.errors import ConfigError
from trainbench.machine import allotment
from trainbench.ncf.input.flagfile import GenerationOptions, read_flagfile, write_flagfile


@pytest.fixture
def options() -> GenerationOptions:
    return GenerationOptions.of(
        small_config(), cache_folder=Path("/c a"), compliance_file=Path("/l=og"), seed=2**62 - 1
    )


def test_what_is_written_is_read(tmp_path: Path, options: GenerationOptions) -> None:
    write_flagfile(tmp_path / "flagfile", options)
    assert read_flagfile(tmp_path / "flagfile") == options
    assert [path.name for path in tmp_path.iterdir()] == ["flagfile"]


def test_every_option_has_one_line(tmp_path: Path, options: GenerationOptions) -> None:
    write_flagfile(tmp_path / "flagfile", options)
    lines = (tmp_path / "flagfile").read_text().splitlines()
    names = [field.name for field in dataclasses.fields(GenerationOptions)]
    assert [line.split("=")[0] for line in lines] == [f"--{name}" for name in names]
    assert "--batch_size=32" in lines


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--seed=", "--sed=", "unknown key 'sed'; did you mean 'seed'"),
        ("--batch_size=32\n", "", "no line for batch_size; add --batch_size=VALUE"),
        ("--batch_size=32\n", "--batch_size=32\n--batch_size=64\n", "is there twice"),
        ("--batch_size=32", "--batch_size=many", "found --batch_size=many, wanted a whole number"),
        ("--batch_size=32", "--batch_size=0", "found --batch_size=0, wanted a whole number"),
        ("--batch_size=32", "batch_size=32", "found 'batch_size=32', wanted --key=value"),
        ("--batch_size=32", "--batch_size", "found '--batch_size', wanted --key=value"),
        ("--last_batch=pad", "--last_batch=drop", "unknown last_batch 'drop'"),
        ("--generator_workers=auto", "--generator_workers=0", "whole number above 0 or auto"),
        ("--seed=", "--use_tf_logging=", "use_tf_logging is no key any more: nothing is needed"),
        ("--seed=", "--redirect_logs=", "redirect_logs is no key any more: nothing is needed"),
        ("--batch_size=", "--train_batch_size=", "no key any more: use batch_size"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, options: GenerationOptions, old: str, new: str, message: str
) -> None:
    path = tmp_path / "flagfile"
    write_flagfile(path, options)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        read_flagfile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("cpus", "asked", "threads"),
    [(1, "auto", 1), (2, "auto", 1), (4, "auto", 3), (16, "auto", 12), (16, 2, 2)],
)
def test_auto_is_three_quarters_of_the_allotted_cpus(
    monkeypatch: pytest.MonkeyPatch,
    options: GenerationOptions,
    cpus: int,
    asked: int | Literal["auto"],
    threads: int,
) -> None:
    monkeypatch.setattr(allotment, "cpus", lambda: cpus)
    assert dataclasses.replace(options, generator_workers=asked).threads() == threads


def test_paths_inside_of_the_data_are_those_of_whoever_reads_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    given = {"cache_folder": data / "cache" / "k", "compliance_file": Path("/elsewhere/log")}
    options = GenerationOptions.of(small_config(), seed=1, **given)
    told = options.inside(data)
    assert (told.cache_folder, told.compliance_file) == ("cache/k", "/elsewhere/log")
    there = told.under(Path("/mnt/data"))
    assert (there.cache_folder, there.compliance_file) == ("/mnt/data/cache/k", "/elsewhere/log")


def test_a_path_with_a_line_break_is_refused(tmp_path: Path, options: GenerationOptions) -> None:
    with pytest.raises(ConfigError, match="line break"):
        write_flagfile(tmp_path / "flagfile", dataclasses.replace(options, cache_folder="a\nb"))
