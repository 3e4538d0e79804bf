"""One bit of one file flipped: it is found, and the file named, or nothing is another than before.

Every kind of file that a run leaves in a data folder has its turn.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from undisturbed import COMMAND, LONGEST_S, Undisturbed, require_no_traceback, scratch

from trainbench.benchmark import load
from trainbench.cli import pipeline
from trainbench.compliance.parse import read_log
from trainbench.errors import TrainbenchError
from trainbench.movielens.cache import COMPLIANCE_LOG, LOG_SUM
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.config import NcfConfig
from trainbench.trials.paths import DataDir, RunDir

RAW = ("manifest.json", "ratings.csv")
ARRAYS = ("users", "items", "row_starts", "test_items", "user_ids", "item_ids")
CACHE = ("cache.json", COMPLIANCE_LOG, LOG_SUM, *(f"{name}.npy" for name in ARRAYS))
RUN = ("run.json", "config.json", "manifest.json", "cache.json")
TRIAL = (
    "spec.json", "status.json", "stdout.log", "generator.log", "compliance_preprocess.log",
    "compliance_raw.log", "compliance_generator.log", "clock.jsonl", "epochs.jsonl",
    "phases.jsonl", "machine.jsonl", "system.json", "cache_drop.json", "sha256sums.txt",
    "limits.json", "model/weights.npz", "model/model.keras", "model/ranks.npy",
)  # fmt: skip
RESULTS = ("findings.json", "sha256sums.txt", "*/ncf/result_0.txt")
REPORT = ("report.html", "report.md", "results.json", "results.csv", "epochs.csv", "junit.xml")
REFUSED = (1, 3, 6)


@dataclass(frozen=True)
class Case:
    """A bit of the file that ``pattern`` means, and what looks at it afterwards."""

    judge: str
    pattern: str
    share: float
    bit: int

    def __str__(self) -> str:
        return f"{self.judge} after bit {self.bit} at {self.share:.1%} of {self.pattern}"


def _kinds() -> Iterator[tuple[str, str]]:
    yield from (("rebuild", f"raw/synthetic/{name}") for name in RAW)
    yield from (("rebuild", f"cache/*/{name}") for name in CACHE)
    yield from (("train", f"cache/*/{name}") for name in ("cache.json", "items.npy"))
    yield from (("report", f"runs/2*/{name}") for name in RUN)
    yield from (("report", f"runs/2*/trial_0/{name}") for name in TRIAL)
    yield from (("report", f"runs/2*/results/{name}") for name in RESULTS)
    yield from (("report", f"runs/2*/report/{name}") for name in REPORT)
    yield from (("report", name) for name in ("steps.jsonl", ".lock", "work/.lock"))
    yield from (("stitch", f"runs/2*/{name}") for name in RUN)
    yield from (("stitch", f"runs/2*/trial_0/{name}") for name in TRIAL if "model" not in name)
    yield from (("prove", f"runs/2*/{name}") for name in (*RUN, *(f"trial_0/{n}" for n in TRIAL)))
    yield from (("prove", f"cache/*/{name}") for name in CACHE if "ids" not in name)


KINDS = tuple(_kinds())
COUNT = len(KINDS)


def drawn(chance: random.Random, index: int) -> Case:
    """Each kind of file in turn."""
    return Case(*KINDS[index % len(KINDS)], chance.random(), chance.randrange(8))


def run(case: Case, wanted: Undisturbed) -> Iterator[str]:
    """Flip the bit in a copy of a finished data folder, and go on with it."""
    _require_all_kinds(wanted.data)
    with scratch() as name:
        data = DataDir(Path(name) / "data")
        shutil.copytree(wanted.data, data.root, symlinks=True)
        (path,) = data.root.glob(case.pattern)
        content = bytearray(path.read_bytes())
        if not content:
            yield f"{case.judge}: an empty file"
            return
        content[int(case.share * len(content))] ^= 1 << case.bit
        path.write_bytes(content)
        yield f"{case.judge}: {JUDGES[case.judge](case, data, path, wanted)}"


def _require_all_kinds(data: Path) -> None:
    files = [path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()]
    patterns = {pattern for _, pattern in KINDS}
    new = [
        name
        for name in files
        if not name.startswith("runs/latest/") and not any(fnmatch(name, p) for p in patterns)
    ]
    assert not new, f"kinds of files of which no bit is flipped: {new}"


def _rebuild(case: Case, data: DataDir, path: Path, wanted: Undisturbed) -> str:
    """Download and preprocess again: both mend what they made, or say what is damaged."""
    refused = ""
    try:
        _prepare(data)
    except TrainbenchError as error:
        refused = str(error)
        _require_named(case, path, refused)
        path.unlink()
        _prepare(data)
    assert _made(data.root) == _made(wanted.data), f"{case}: other files"
    return "refused" if refused else "mended"


def _prepare(data: DataDir) -> None:
    config = _config()
    load(NCF.download)(config, data)
    load(NCF.prepare)(config, data)


def _config() -> NcfConfig:
    words = [COMMAND[at + 1] for at, word in enumerate(COMMAND) if word == "--set"]
    found: NcfConfig = NCF.with_settings(NCF.preset("quick"), [*words, "division=open"])
    return found


def _made(data: Path) -> dict[str, Any]:
    """Every file of raw and cache, but for when their log lines were written."""
    paths = (path for folder in ("raw", "cache") for path in (data / folder).rglob("*.*"))
    made: dict[str, Any] = {path.name: path.read_bytes() for path in paths if path.is_file()}
    (cache,) = (data / "cache").iterdir()
    del made[COMPLIANCE_LOG], made[LOG_SUM]
    made["log"] = [(e.key, e.value) for e in read_log(cache / COMPLIANCE_LOG).events]
    return made


def _train(case: Case, data: DataDir, path: Path, wanted: Undisturbed) -> str:
    """Train on a damaged cache."""
    words = ["train" if word == "pipeline" else word for word in COMMAND]
    done = subprocess.run(
        [*words, "--data-dir", str(data.root)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LONGEST_S,
    )
    require_no_traceback(done.stdout, str(case))
    assert done.returncode in REFUSED, f"{case}: exit {done.returncode}\n{done.stdout}"
    _require_named(case, path, done.stdout)
    return "refused"


def _report(case: Case, data: DataDir, path: Path, wanted: Undisturbed) -> str:
    """The verdict of the report on a run of which a file was changed."""
    run, out = RunDir(data.latest.resolve()), data.root / "out"
    try:
        code = pipeline.report(run, out=out)
    except TrainbenchError as error:
        _require_named(case, path, str(error))
        return "refused"
    results = json.loads((out / "results.json").read_text())
    before = json.loads((wanted.run.report / "results.json").read_text())
    if results == before:
        return "same result"
    found = results["contradictions"]
    assert code, f"{case}: exit 0"
    assert found, f"{case}: another result, and nothing is said of it"
    names = " ".join(contradiction["file"] for contradiction in found)
    listed = path.name == "sha256sums.txt"
    assert listed or path.name in names, f"{case}: found {names}, not {path.name}"
    return "found"


def _stitch(case: Case, data: DataDir, path: Path, wanted: Undisturbed) -> str:
    """The same, where the logs are stitched again before."""
    try:
        pipeline.stitch(RunDir(data.latest.resolve()))
    except TrainbenchError as error:
        _require_named(case, path, str(error))
        return "refused"
    return _report(case, data, path, wanted)


def _prove(case: Case, data: DataDir, path: Path, wanted: Undisturbed) -> str:
    """The proof of a run of which something was changed."""
    found = []
    # In a copy: other cases look at the undisturbed run meanwhile, and a proof is a file in it.
    undisturbed = data.root.with_name("undisturbed")
    shutil.copytree(wanted.data, undisturbed, symlinks=True)
    for root in (undisturbed, data.root):
        run = RunDir(DataDir(root).latest.resolve())
        try:
            proof = asdict(load(NCF.prove)(run, run.trial(0), DataDir(root)))
        except TrainbenchError as error:
            assert root == data.root, f"the proof of an undisturbed run: {error}"
            _require_named(case, path, str(error))
            return "refused"
        found.append({name: v for name, v in proof.items() if not name.endswith("sha256")})
    if found[1] == found[0]:
        return "same result"
    assert not found[1]["proved"], f"{case}: proved, and another: {found[1]}"
    return "not proved"


def _require_named(case: Case, path: Path, text: str) -> None:
    """The message names the file, or its folder of files that belong together."""
    known = (path.name, path.parent.name) if path.parent.parent.name == "cache" else (path.name,)
    assert any(name in text for name in known), f"{case}: {text} names no {path.name}"


Judge = Callable[[Case, DataDir, Path, Undisturbed], str]
JUDGES: dict[str, Judge] = {
    "rebuild": _rebuild,
    "train": _train,
    "report": _report,
    "stitch": _stitch,
    "prove": _prove,
}
