"""A generator started by hand and its trainer: real processes, whichever is there first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import FIXTURES
from processes import PATIENCE_S, wait_until
from producer_process import take_all
from small_cache import on_disk, random_cache, small_config

from trainbench.movielens.cache import open_cache
from trainbench.ncf.input.producer import start_producer

TRAINER = textwrap.dedent(
    """
    import sys
    import time
    from pathlib import Path
    from producer_process import take_all
    from small_cache import small_config
    from trainbench.errors import TrainbenchError
    from trainbench.movielens.cache import open_cache
    from trainbench.ncf.input.producer import start_producer

    data, wanted, epochs, come_within_s = Path(sys.argv[1]), *map(int, sys.argv[2:])
    cache = open_cache(data / "cache" / "small", verify=False)
    config = small_config(generator="external", max_epochs=epochs)
    files = {"log_file": data / "none.log", "compliance_file": data / "runs" / "c.log"}
    try:
        with start_producer(
            cache, config, seed=5, work_dir=data / "work", come_within_s=come_within_s, **files
        ) as producer:
            producer.release()
            hashes = take_all(producer, wanted)
            print(*hashes, flush=True)
            if wanted == 3:
                sys.stdin.readline()
                while True:  # It looks every 50 ms, not at each call.
                    producer.check()
                    time.sleep(0.01)
    except TrainbenchError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    """
)
LOST = "the generator started by hand is lost: its process"

Process = subprocess.Popen[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    on_disk(random_cache(400, 120, seed=4), tmp_path / "cache" / "small")
    return tmp_path


@contextmanager
def started(*command: str) -> Iterator[Process]:
    paths = [str(FIXTURES), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *command], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def trainer(
    data: Path, wanted: int = 3, *, epochs: int = 1000, within_s: int = 100
) -> Iterator[Process]:
    """A trainer that takes ``wanted`` epochs; after 3 it waits for a line."""
    with started("-c", TRAINER, str(data), str(wanted), str(epochs), str(within_s)) as process:
        yield process


@contextmanager
def generator(data: Path, *words: str) -> Iterator[Process]:
    command = ("-m", "trainbench", "generate", "--data-dir", str(data), *words)
    with started(*command) as process:
        yield process


def ended(process: Process) -> tuple[int, str]:
    """Exit code and the last line on stderr."""
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, (err.splitlines() or [""])[-1]


def at_work(process: Process) -> list[str]:
    """The hashes that the trainer has received."""
    assert process.stdout is not None
    return process.stdout.readline().split()


def alive(data: Path) -> None:
    wait_until((data / "work" / "external" / "alive").exists)


def test_a_generator_that_is_there_first_makes_the_same_bytes_as_any_other(data: Path) -> None:
    with generator(data) as made:
        alive(data)
        with trainer(data, 2, epochs=2) as trained:
            assert ended(made)[0] == 0
            received = at_work(trained)
            assert ended(trained)[0] == 0
    assert not (data / "work" / "external").exists()
    log = (data / "runs" / "c.log").read_text()
    assert f'candidates_sha256: "{received[0]}"' in log
    cache = open_cache(data / "cache" / "small", verify=False)
    files = {"log_file": data / "g.log", "compliance_file": data / "c.log"}
    with start_producer(
        cache, small_config(max_epochs=2), seed=5, work_dir=data / "work", **files
    ) as inline:
        inline.release()
        assert take_all(inline, 2) == received


def test_a_trainer_that_is_there_first_waits_and_ends_the_generator_when_it_is_done(
    data: Path,
) -> None:
    with trainer(data, 1) as trained:
        wait_until((data / "work" / "external" / "trainer").exists)
        with generator(data) as made:
            assert len(at_work(trained)) == 2
            assert ended(trained)[0] == 0
            code, line = ended(made)
    assert (code, line.endswith("the trainer has ended")) == (0, True)
    assert not (data / "work" / "external").exists()


def test_a_killed_trainer_ends_the_generator_which_removes_the_work(data: Path) -> None:
    with trainer(data) as trained, generator(data) as made:
        at_work(trained)
        os.kill(trained.pid, signal.SIGKILL)
        code, line = ended(made)
    assert code == 6
    assert line == f"error: the trainer is lost: its process {trained.pid} is gone"
    assert not (data / "work" / "external").exists()


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, -9, LOST),
        (
            signal.SIGTERM,
            130,
            "the generator started by hand ended with exit code 130: interrupted",
        ),
    ],
)
def test_a_generator_that_dies_ends_the_trainer(
    data: Path, number: signal.Signals, code: int, said: str
) -> None:
    with trainer(data) as trained, generator(data) as made:
        at_work(trained)
        made.send_signal(number)
        assert ended(made)[0] == code
        assert trained.stdin is not None
        trained.stdin.write("\n")
        found, line = ended(trained)
    assert found == 6
    assert said in line
    assert not (data / "work" / "external").exists()


def test_what_a_generator_finds_wrong_is_the_trainers_error_too(data: Path) -> None:
    with trainer(data) as trained:
        wait_until((data / "work" / "external" / "trainer").exists)
        (data / "cache" / "small" / "items.npy").unlink()
        (data / "cache" / "small" / "items.npy").write_bytes(b"nothing")
        with generator(data) as made:
            code, line = ended(made)
            assert (code, "items.npy" in line) == (3, True)
            found, line = ended(trained)
    assert (found, "items.npy" in line) == (3, True)


def test_each_waits_only_so_long_for_the_other(data: Path) -> None:
    with generator(data, "--timeout-s", "1") as made:
        code, line = ended(made)
    assert (code, "no trainer came within 1 s (--timeout-s)" in line) == (6, True)
    assert not (data / "work" / "external").exists()
    with trainer(data, within_s=1) as trained:
        code, line = ended(trained)
    assert (code, "no generator came within 1 s (--generator-timeout-s)" in line) == (6, True)
    assert f"python -m trainbench generate --data-dir {data}" in line


def test_a_second_generator_is_refused_and_the_first_is_interrupted(data: Path) -> None:
    with generator(data) as made:
        alive(data)
        with generator(data) as second:
            code, line = ended(second)
        assert (code, f"a generator is there already, process {made.pid}" in line) == (6, True)
        made.send_signal(signal.SIGINT)
        assert ended(made) == (130, "error: interrupted")
    assert not (data / "work" / "external").exists()
