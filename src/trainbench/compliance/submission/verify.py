"""The v0.5 submission folder: verified as the v0.5 tool does, with the exit codes it lacks.

    submission.json                                     org, poc_email
    code/ncf/README.md, preproc_dataset.sh, setup_<entry>.sh, run_and_time_<entry>.sh
    results/<entry>/entry.json
    results/<entry>/ncf/result_0.txt ... result_99.txt

Rules: mlcommons/training@v0.5 compliance/verify_submission. ``build`` makes such a folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainbench.compliance.check import check_file
from trainbench.compliance.event import Finding, excerpt, shown
from trainbench.compliance.reading import TOOLS_CHECKER
from trainbench.compliance.rules.levels import ruleset
from trainbench.compliance.rules.rule import known_benchmarks
from trainbench.compliance.score import run_rule, score
from trainbench.compliance.submission.verifier import Judged, Printed, printed
from trainbench.display.visible import one_line
from trainbench.files import is_own_file, is_own_folder, read_object
from trainbench.trials import chain
from trainbench.trials.paths import RunDir

SUMS = "sha256sums.txt"
REQUIRED_LEVEL = {"closed": 2, "open": 1}
SUBMISSION_KEYS = ("org", "poc_email")
ENTRY_KEYS = (
    "division",
    "status",
    "hardware",
    "framework",
    "interconnect",
    "nodes",
    "os",
    "libraries",
    "compilers",
)
NODE_KEYS = (
    "num_nodes",
    "cpu",
    "num_cores",
    "num_vcpus",
    "accelerator",
    "num_accelerators",
    "sys_mem_size",
    "sys_storage_type",
    "sys_storage_size",
    "cpu_accel_interconnect",
    "network_card",
    "num_network_cards",
    "notes",
)


@dataclass(frozen=True)
class Verification:
    """What was found in a submission folder.

    ``results`` are the seconds that the v0.5 tool prints, by (entry, benchmark).

    ``chain`` says whether the files are as their SHA-256 sums say.
    """

    root: str
    findings: tuple[Finding, ...]
    results: Mapping[tuple[str, str], float | None]
    chain: str = ""

    @property
    def exit_code(self) -> int:
        """0 when nothing was found, 1 otherwise."""
        return 1 if self.findings else 0

    def to_text(self) -> str:
        """What ``submission verify`` prints."""
        root = one_line(self.root)
        lines = [f"{root}: {one_line(str(finding))}" for finding in self.findings]
        for (entry, benchmark), seconds in self.results.items():
            shown = "no result" if seconds is None else f"{seconds:.2f} s"
            lines.append(f"{root}: {one_line(f'{entry} {benchmark}')}: {shown}")
        lines.append(f"{root}: {self.chain}")
        count = len(self.findings)
        lines.append(f"{root}: {count} finding{'' if count == 1 else 's'}")
        return "\n".join(lines) + "\n"


def verify(root: Path, *, checker: str = TOOLS_CHECKER) -> Verification:
    """Everything in a submission folder that the v0.5 tool would have refused.

    Beyond it, keys that are missing are found as well as those that are too many, and one bad log
    does not hide the others.
    """
    sums = _chain(root)
    findings = [*_root(root), *_code(root), *_changed(sums)]
    results: dict[tuple[str, str], float | None] = {}
    for entry in _folders(root / "results"):
        meta, meta_findings = _read(entry / "entry.json")
        findings += meta_findings
        findings += _entry_meta(entry, meta)
        for folder in _folders(entry):
            findings += _scripts(root, entry.name, folder)
            log_findings = list(_logs(folder, _required_level(meta), checker))
            findings += log_findings
            result = None if log_findings else _result(folder, _required_level(meta), checker)
            results[entry.name, folder.name] = result.time_s if result else None
            findings += _no_statistic(folder, result)
    return Verification(root.as_posix(), tuple(findings), results, sums.sentence)


def _chain(root: Path) -> chain.Chain:
    """The files of the folder as its sums, and those of the run that it may be, say they are."""
    root = root.resolve()
    if not (root / SUMS).is_file():
        return chain.of_run(RunDir(root))
    logs = [path for path in root.glob("results/*/*/result_*.txt") if path.is_file()]
    return chain.compare(root, root / SUMS, known=logs)


def _changed(sums: chain.Chain) -> Iterator[Finding]:
    for broken in sums.breaks:
        yield Finding(f"submission/{broken.rule}", f"{broken.file}: {broken.found}", broken.wanted)


def _root(root: Path) -> Iterator[Finding]:
    for name in ("results", "code"):
        if not (root / name).is_dir():
            yield _missing(root / name, "a folder")
    meta, findings = _read(root / "submission.json")
    yield from findings
    if not findings:
        yield from _keys(root / "submission.json", meta, SUBMISSION_KEYS)


def _code(root: Path) -> Iterator[Finding]:
    for folder in _folders(root / "code"):
        if folder.name not in (*known_benchmarks(), "shared"):
            yield _unknown_benchmark(folder)
        elif folder.name != "shared":
            for name in ("README.md", "preproc_dataset.sh"):
                if not is_own_file(folder / name, root):
                    yield _missing(folder / name, "a file")


def _entry_meta(entry: Path, meta: Mapping[str, Any]) -> Iterator[Finding]:
    path = entry / "entry.json"
    if not meta:
        return
    yield from _keys(path, meta, ENTRY_KEYS)
    if _required_level(meta) is None:
        found = f"{path}: {shown(meta.get('division'))}"
        yield Finding("submission/division", found, " or ".join(REQUIRED_LEVEL))
    nodes = meta.get("nodes")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        yield Finding("submission/nodes", f"{path}: no list of nodes", "a list of objects")
        return
    for node in nodes:
        yield from _keys(path, node, NODE_KEYS)


def _scripts(root: Path, entry: str, folder: Path) -> Iterator[Finding]:
    if folder.name not in known_benchmarks():
        yield _unknown_benchmark(folder)
    for prefix in ("setup_", "run_and_time_"):
        script = root / "code" / folder.name / f"{prefix}{entry}.sh"
        if not is_own_file(script, root):
            yield _missing(script, "a file")


def _required_level(meta: Mapping[str, Any]) -> int | None:
    division = meta.get("division")
    return REQUIRED_LEVEL.get(division) if isinstance(division, str) else None


def _logs(folder: Path, wanted: int | None, checker: str) -> Iterator[Finding]:
    """Every required log is there and passes exactly the level that its division asks for."""
    rule = run_rule(folder.name)
    for index in range(rule.runs if rule else 0):
        log = folder / f"result_{index}.txt"
        if not is_own_file(log, folder):
            yield _missing(log, "a log")
        elif wanted is not None:
            yield from _level(log, wanted, checker)


def _level(log: Path, wanted: int, checker: str) -> Iterator[Finding]:
    findings = check_file(log, ruleset(wanted, checker=checker))
    for finding in findings:
        yield replace(finding, found=f"{finding.found} ({log})")
    if not findings and wanted == 1 and not check_file(log, ruleset(2, checker=checker)):
        found = f"{log}: level 2"
        yield Finding("submission/level", found, "level 1, no more, in the open division")


def _result(folder: Path, level: int | None, checker: str) -> Printed | None:
    """What the tool prints for logs that all pass ``level``; it looks at no more than it wants."""
    rule = run_rule(folder.name)
    if rule is None or level is None:
        return None
    runs = score(folder, benchmark=folder.name, checker=checker, verifier=False).runs
    times = [(run.index, run.outcome.time_s if run.counts else None) for run in runs]
    return printed(folder.name, rule, [Judged(index, level, time_s) for index, time_s in times])


def _no_statistic(folder: Path, result: Printed | None) -> Iterator[Finding]:
    """The tool prints no time, or one in which there are infinite ones."""
    reason = "" if result is None else result.reason
    if result and result.infinite:
        reason = f"{result.infinite} averaged with an infinite time, as they did not converge"
    if reason:
        yield Finding("submission/converged", f"{folder}: {reason}", "runs that converged")


def _read(path: Path) -> tuple[Mapping[str, Any], list[Finding]]:
    try:
        if path.is_symlink():
            raise ValueError("a symbolic link")
        return read_object(path), []
    except ValueError as error:
        return {}, [Finding("submission/json", f"{path}: {error}", "a JSON object")]


def _keys(path: Path, found: Mapping[str, Any], wanted: Sequence[str]) -> Iterator[Finding]:
    for key in sorted(set(found) - set(wanted)):
        name = excerpt(key)
        yield Finding(f"submission/keys/{name}", f"{path}: {name}", f"only {', '.join(wanted)}")
    for key in sorted(set(wanted) - set(found)):
        yield Finding(f"submission/keys/{key}", f"{path}: no {key}", f"all of {', '.join(wanted)}")


def _folders(path: Path) -> list[Path]:
    found = path.iterdir() if is_own_folder(path, path.parent) else ()
    return sorted(folder for folder in found if is_own_folder(folder, path))


def _missing(path: Path, kind: str) -> Finding:
    return Finding(f"submission/exists/{path.name}", f"nothing at {path}", kind)


def _unknown_benchmark(path: Path) -> Finding:
    return Finding("submission/benchmark", f"{path}", f"one of {', '.join(known_benchmarks())}")
