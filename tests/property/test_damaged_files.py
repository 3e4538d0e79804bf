"""Whatever a file of a run holds, no command ends in a traceback: it names the file or goes on."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from run_dir import SYSTEM_NAME, build_run

from trainbench.benchmark import find, load
from trainbench.cli import pipeline
from trainbench.compliance.submission.build import Submitter, build
from trainbench.errors import TrainbenchError
from trainbench.files import MAX_JSON_BYTES, fill, parse_json, read_object
from trainbench.trials.paths import DataDir, RunDir
from trainbench.trials.spec import Run, SetSpec, benchmark_of
from trainbench.trials.trial_set import require_target, run_set

WHOLE: dict[str, bytes] = {
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "half": b'{"schema": 1, "runs": ',
    "UTF-16": '{"runs": 1}'.encode("utf-16"),
    "not UTF-8": b'{"runs": "\xff"}',
    "deep lists": b"[" * 60_000 + b"]" * 60_000,
    "deep objects": b'{"runs":' * 60_000 + b"1" + b"}" * 60_000,
    "long number": b'{"runs": ' + b"9" * 5_000 + b"}",
}
VALUES: list[Any] = [
    None, True, -1, 2**64, 10**400, float("nan"), float("inf"), 1e308, "", "\ud800", "x" * 70_000,
    [], [1], {}, {"a": [1]}, [[["a"]]], "../../elsewhere",
]  # fmt: skip
FILES = ("run.json", "config.json", "trial_0/status.json", "trial_0/system.json", "manifest.json")


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Damages of a JSON object: another file altogether, or other values under some of its keys."""
    record = json.loads(content)
    changes = st.dictionaries(st.sampled_from(sorted(record)), st.sampled_from(VALUES), min_size=1)
    return st.sampled_from(sorted(WHOLE.values())) | changes.map(
        lambda changed: json.dumps({**record, **changed}).encode()
    )


@contextlib.contextmanager
def told(*names: str) -> Iterator[None]:
    """A failure must be a clear one, which names one of the files or folders ``names``."""
    try:
        yield
    except TrainbenchError as error:
        if not any(name in str(error) for name in names):
            raise


@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.data())
def test_a_damaged_run_is_stitched_and_reported_and_packed_or_its_file_named(
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(Path(folder) / "run", trials=2)
        name = data.draw(st.sampled_from(FILES))
        path = run.root / name
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        assert benchmark_of(run).name == "ncf"
        with told("run.json", "system name"):
            pipeline.stitch(run)
        assert pipeline.report(run) in (0, 1, 4, 5)
        with told("run.json", "system.json"):
            out, who = Path(folder) / "out", Submitter("lab", "a@b.org")
            build(run, out, system=SYSTEM_NAME, submitter=who, code=run.report)


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_what_is_no_json_object_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^not JSON$|^not a JSON object$"):
        read_object(path)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="over 64 MiB, not read"):
        read_object(path)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_another_type_is_none(value: Any) -> None:
    record = fill(Run, {"runs": value, "run_id": value, "command": [value, "train"]})
    assert record.runs is None or type(record.runs) is int
    assert record.run_id is None or type(record.run_id) is str
    assert record.command
    assert "train" in record.command


@given(st.binary() | st.text())
def test_any_bytes_are_a_value_or_refused_in_words(content: bytes | str) -> None:
    with contextlib.suppress(ValueError):
        parse_json(content)


MakeSet = Callable[[], SetSpec]


@pytest.fixture
def make_set(toy: None, tmp_path: Path) -> MakeSet:
    benchmark = find("toy")

    def make_set() -> SetSpec:
        config = benchmark.with_settings(benchmark.preset("easy"), ["drop_caches=false"])
        data = DataDir(tmp_path)
        load(benchmark.download)(config, data, None)
        load(benchmark.prepare)(config, data)
        return SetSpec(benchmark, config, data, seed=3)

    return make_set


def test_train_goes_on_without_what_is_damaged(make_set: MakeSet) -> None:
    spec = make_set()
    run = run_set(spec)
    for content in WHOLE.values():
        for path in (run.run_file, run.config, run.trial(0).status):
            whole = path.read_bytes()
            path.write_bytes(content)
            found = RunDir(run_set(spec).root.resolve())
            assert found.trial(0).status.stat().st_size > 100
            require_target(found, spec.benchmark.quality)
            path.write_bytes(whole)
            spec.data.latest.unlink()
            spec.data.latest.symlink_to(run.root.name)
