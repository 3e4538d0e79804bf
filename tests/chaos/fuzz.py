"""Coverage-guided fuzzing, by atheris: whatever is read is read, or refused in one clean line.

``python tests/chaos/fuzz.py TARGET -max_total_time=60`` runs one target with libFuzzer's options.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from undisturbed import Undisturbed

TARGETS = ("compliance", "ratings", "flags", "flagfile")
COUNT = len(TARGETS)
SECONDS = 12
FOUND = ("crash-", "timeout-", "oom-", "leak-")


def missing() -> str:
    """Why there is no fuzzing here."""
    return "" if importlib.util.find_spec("atheris") else "atheris is not installed"


@dataclass(frozen=True)
class Case:
    """What is fuzzed, and the seed of it."""

    target: str
    seed: int

    def __str__(self) -> str:
        return f"fuzzing {self.target} with -seed={self.seed}"


def drawn(chance: random.Random, index: int) -> Case:
    """Each target in turn."""
    return Case(TARGETS[index % len(TARGETS)], chance.randrange(1, 2**31))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Fuzz for a while, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="chaos-fuzz-") as name:
        corpus = Path(name) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS[case.target]):
            (corpus / str(number)).write_bytes(seed)
        done = subprocess.run(
            [
                *(sys.executable, __file__, case.target, f"-seed={case.seed}"),
                *(f"-max_total_time={SECONDS}", "-rss_limit_mb=4096", "-timeout=20"),
                *("-max_len=4096", f"-artifact_prefix={name}/", str(corpus)),
            ],
            check=False,
            env={**os.environ, "TMPDIR": name},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        inputs = [path for path in Path(name).iterdir() if path.name.startswith(FOUND)]
        assert done.returncode == 0, (
            f"{case}: exit {done.returncode} with {[path.read_bytes() for path in inputs]}\n"
            f"{done.stdout[-4_000:]}"
        )
        yield case.target


def compliance(content: bytes) -> None:
    """Every reader of logs, and the checks of what they read."""
    from trainbench.compliance import check
    from trainbench.compliance.parse import read_log
    from trainbench.compliance.rules.levels import ruleset

    with _file(content) as path:
        try:
            read_log(path)
        except OSError:
            return
        for level in ("1", "2", "strict"):
            for finding in check.check_file(path, ruleset(level)):
                str(finding)


def ratings(content: bytes) -> None:
    """The readers of the three layouts of MovieLens."""
    from trainbench.errors import DataIntegrityError
    from trainbench.movielens.datasets import COLONS, CSV, TABS
    from trainbench.movielens.formats import check_pairs, read_ratings

    layout = (COLONS, CSV, TABS)[content[0] % 3 if content else 0]
    with _file(content[1:]) as path:
        try:
            check_pairs(path, read_ratings(path, layout))
        except DataIntegrityError as error:
            assert str(error)


def flags(content: bytes) -> None:
    """The command line of ``trainbench cnn``."""
    _parse(content.decode("utf-8", "surrogateescape").split("\0"))


def flagfile(content: bytes) -> None:
    """A file of flags."""
    with _file(content) as path:
        _parse([f"--flagfile={path}"])


def _parse(arguments: list[str]) -> None:
    from trainbench.cnn.flags.arguments import argv_of, parse
    from trainbench.cnn.flags.params import ParamError

    # Files of the system that a fuzzer finds by name are not what is tested.
    if any("flagfile" in word and "/fuzzed" not in word for word in arguments):
        return
    try:
        found = parse(arguments)
    except ParamError as error:
        assert str(error)
        return
    if not found.help:
        assert parse(argv_of(found.params)).params == found.params


class _file:
    """A file of this content, the same one each time."""

    def __init__(self, content: bytes) -> None:
        self._path = Path(tempfile.gettempdir()) / f"chaos-{os.getpid()}" / "fuzzed"
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_bytes(content)

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


_V05 = b":::MLPv0.5.0 ncf 1541009606.245119 (ncf/trial.py:101) "
SEEDS: dict[str, list[bytes]] = {
    "compliance": [
        b"\n".join(_V05 + tag for tag in (b"run_start", b"seed: 7", b'eval_target: {"value": 1}')),
        b':::MLLOG {"namespace": "", "time_ms": 1, "event_type": "POINT_IN_TIME", "key": "seed", '
        b'"value": 7, "metadata": {"file": "a", "lineno": 1}}\n',
    ],
    "ratings": [
        b"\0" + b"1::2::3::4\n" * 3,
        b"\1userId,movieId,rating,timestamp\n1,2,3.5,4\n2,2,1e1,5\r\n",
        b"\2" + b"1\t2\t3\t4\n",
    ],
    "flags": [b"--model=resnet50\0--batch_size=32\0--nodistortions", b"--learning_rate\x001e-3"],
    "flagfile": [b"--model=vgg16\n# a remark\n--batch_size=8\n--flagfile=other\n"],
}


def main() -> None:
    """Fuzz the target that the first argument names; libFuzzer ends this process."""
    import atheris

    target: Callable[[bytes], None] = globals()[sys.argv.pop(1)]
    with atheris.instrument_imports(include=["trainbench"]):
        import trainbench.cnn.flags.arguments
        import trainbench.compliance.check
        import trainbench.compliance.parse
        import trainbench.compliance.rules.levels
        import trainbench.movielens.formats  # noqa: F401
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
