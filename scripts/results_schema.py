"""Writes results.schema.json and logs.schema.json from the records that results.json holds.

The first is of a run, the second of logs that arrived (``report PATH...``).

Usage: python scripts/results_schema.py

Types and names of fields are those of the dataclasses; what they mean is said here.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from trainbench.benchmark import Benchmark, find
from trainbench.compliance.rules.levels import LEVELS
from trainbench.compliance.statistic import UNVERIFIED
from trainbench.image_classification import report as images_report
from trainbench.machine.load import Load
from trainbench.ncf import report as ncf_report
from trainbench.reporting.arrivals import review
from trainbench.reporting.arrivals.facts import Fact
from trainbench.reporting.arrivals.write import KIND
from trainbench.reporting.compare import Comparison, Outcome, Pair, Setting
from trainbench.reporting.published.beside import Beside
from trainbench.reporting.published.convergence import Convergence, SystemTest
from trainbench.reporting.published.tables import PublishedResult
from trainbench.reporting.records import (
    SCHEMA_VERSION,
    CacheDrop,
    Contradiction,
    Difference,
    Limits,
    LogCheck,
    LogFinding,
    Phase,
    Rule,
    Run,
    Score,
    Status,
    Trial,
    Work,
)
from trainbench.reporting.verdict import Verdict
from trainbench.trials.notes import Notes
from trainbench.trials.status import Degradation

FILE = Path(__file__).parents[1] / "src" / "trainbench" / "reporting" / "results.schema.json"
LOGS_FILE = FILE.with_name("logs.schema.json")
LINE = 100
NUMBER = {"type": ["number", "null"]}

SAID: dict[str, dict[str, str]] = {
    "Comparison": {
        "runs": "Names of the runs; all values below are in this order.",
        "settings": "What differs, and what one run says and another does not.",
        "unknown": "What none of the runs says.",
        "inputs": "Trials of the first run, each with one of another run.",
    },
    "Beside": {
        "why_not": "Why the run cannot stand beside published results; empty where it can.",
        "own_s": "Time to train of this run; null where none reached the target.",
        "own_is": "Which statistic own_s is.",
        "rows": "Published results, fastest first; empty where nothing may be compared.",
        "source": "The public logs that the results were computed from.",
    },
    "Convergence": {
        "why_not": "Why there is no check; empty where there is.",
        "epochs": "Of each run the epoch of the target, as the log numbers it; null: not reached.",
        "allowance": "Epochs added to the own ones: public runs were evaluated less often.",
        "p": "Probability that honest runs are as fast: the largest of any system.",
        "implausible": "Whether p and p_converged are at most their levels.",
    },
    "PublishedResult": {"score_s": "The v0.5 statistic."},
    "SystemTest": {
        "fastest": "Epoch of the target, of the public runs that converged.",
        "p": "Of the exact one-sided permutation test of the mean epoch, over all runs.",
        "p_converged": "The same over the runs that converged.",
        "smallest_p": "p if every own run were faster than all public ones.",
    },
    "Contradiction": {
        "file": "Path relative to the run directory.",
        "wanted": "What its sum, the log or another file says.",
    },
    "Evaluation": {
        "epoch": "Epochs trained, with its fraction.",
        "top_1": "Share of the images.",
        "top_5": "Share of the images.",
        "speed": "Images evaluated per second.",
    },
    "LogCheck": {
        "file": "Path relative to the run directory.",
        "time_s": "run_stop - run_start, by the wall clock.",
        "monotonic_time_s": "The same by the monotonic clock; null without clock.jsonl.",
        "degraded": "Codes of the degradations that the log names.",
        "clocks_agree": "Whether both clocks kept step in the log; null without clock.jsonl.",
        "converged": "Whether the quality reached the target of the same log.",
        "success": "What run_stop claims.",
        "benchmark": "The benchmark that its first line names.",
    },
    "LogFinding": {
        "level": "The lowest level that the finding fails: 1, 2 or strict.",
        "line_number": "Line in the stitched log, from 1; null for the log as a whole.",
        "excerpt": "Pairs of line number and line around the finding.",
    },
    "Limits": {
        "gflop_per_s": "Of a matrix product in the trial's number format.",
        "gbyte_per_s": "Of a pass over memory.",
        "training": "What a sample needs.",
        "evaluation": "What a pair of user and item needs.",
    },
    "Measured": {
        "batch_size": "Images per step; 0 where result.json is missing.",
        "step_times_s": "Of each training step, in order.",
        "flops_per_image": "Operations of a forward pass.",
        "peak_flops_per_s": "Of large matrix products on all of the run's devices.",
    },
    "NcfEpoch": {
        "epoch": "Number of the epoch, from 0.",
        "hit_rate": "HR@10 after the epoch.",
        "ndcg": "NDCG@10 after the epoch.",
        "hits": "Users whose held-out item is among the ten best.",
        "users": "Users that were evaluated.",
        "input_wait_s": "Seconds that training waited for the epoch's input.",
        "samples": "Samples that were trained on, each once; without those that fill a batch.",
        "repeated_samples": "Samples that were repeated to fill the last batch.",
        "candidates_sha256": "Hash of all users' evaluation candidates.",
        "epoch_sha256": "Hash of all batches as the trainer received them.",
        "first_batch_sha256": "Hash of the first batch.",
        "traffic": "What the chief sent to other workers; null where one machine trained.",
        "elapsed_s": "Seconds since run_start.",
    },
    "NcfStatus": {"initial_hit_rate": "HR@10 of the untrained model."},
    "Fact": {
        "unit": "Of the value; empty for a count or a text.",
        "source": "The tag that says it, or the number of the line that prints it.",
        "lowest": "The other end of a value that changes in the run, as of a learning rate.",
    },
    "LogRecord": {
        "file": "Its name with those of the folders and archives that it lies in.",
        "set": "Name of the set of runs that it belongs to.",
        "round": "v0.5, or later: no rule of v0.5 judges such a log.",
        "sha256": "Of the unpacked file.",
        "damage": "Why its file could not be read to the end; empty if it was.",
        "converged": "Whether the quality reached the target of the same log; of a later round, "
        "what run_stop claims.",
        "success": "What run_stop claims.",
        "epoch_of_target": "The first epoch, as the log numbers it, at the target.",
        "levels": "The highest level that it passes, by version of the v0.5 checker; 0 for none.",
        "strict_findings": "null where there are no strict rules for its benchmark.",
        "facts": "Settings and times, by name; what the log does not say is not there.",
    },
    "SetRecord": {
        "logs": "Their files, by the numbers in their names.",
        "score": "The v0.5 statistic; null of other rounds and unknown benchmarks.",
        "logged": "What the logs say of hyperparameters, sizes and target, each value once.",
    },
    "SideBySide": {
        "sets": "Names of the sets; the values of every row are in this order.",
    },
    "Row": {"values": "null where no log says it; a list where the logs of a set differ."},
    "Duplicate": {"same_as": "The log that has the same content; the duplicate is in no set."},
    "Unread": {"ignored": "Whether it is a link or no file, which is only named."},
    "ReviewVerdict": {
        "exit_code": "0 ok; 3 a log is damaged or cannot be read, 5 one breaks level 2, 4 a set "
        "has no run that reached its target.",
        "converged": "Logs whose run reached its target.",
        "compliant": "Logs of v0.5 that pass level 2 with both checkers.",
        "judged": "Logs of v0.5.",
        "unread": "Files that are damaged or cannot be read.",
    },
    "Load": {
        "samples": "Seconds that were looked at while the clock ran.",
        "busy_samples": "Those in which others took more than an idle machine's daemons do.",
        "cpus": "CPUs that the trial may run on; shares are of their time.",
        "own_cpu": "Share of the trial's processes.",
        "foreign_cpu": "Share of all other processes.",
        "steal_cpu": "Share of other virtual machines.",
        "resident_bytes": "The most memory of the trial's processes together.",
        "gpu_power_w": "Of all GPUs together.",
    },
    "Outcome": {
        "unit": "Of the values; empty for a count or a text.",
        "values": "Of each run, null where it has none.",
    },
    "Pair": {
        "run": "Which of the runs the first one is compared with, from 1.",
        "trials": "Index of the trial in the first run and in the other one.",
        "same_seed": "null where a seed is not known.",
        "equal_epochs": "Epochs whose input has the same hash.",
        "shared_epochs": "Epochs of which both trials have a hash.",
    },
    "Setting": {
        "values": "Of each run; a list where its logs have several.",
        "known": "Whether the run says it.",
    },
    "Notes": {
        "note": "What the user says of the run; empty for nothing.",
        "tags": "Tags by the user.",
        "later": "Whether it was said after the start, so that no sum covers it.",
    },
    "Phase": {"timed": "Whether the phase was on the clock."},
    "Proof": {
        "epoch": "Whose hits were computed a second time, from 0: the last.",
        "recorded_hits": "Of this epoch in epochs.jsonl.",
        "hits": "Of the weights, in float64.",
        "equal_ranks": "Users whose rank is equal; null where the trial kept no ranks.",
        "explained_ranks": "Users whose rank differs within the bound of rounding.",
        "unexplained_ranks": "Users whose rank differs beyond it.",
        "undecided": "Users whose hit rounding could change.",
        "findings": "What does not hold, in words.",
        "proved": "Whether there is no finding.",
    },
    "Run": {
        "created_unix_s": "Unix time at which the run was created.",
        "runs": "Number of trials that were asked for.",
        "seed": "Root seed that the user stated; null when every seed came from the system.",
        "system_name": "Folder name below results/.",
    },
    "Score": {
        "official": "Whether this is the v0.5 statistic: as many logs as the rules ask for (NCF: "
        "100, the first 50 converged; ResNet: 5, all converged), without the fastest and the "
        "slowest.",
        "counted": "Indices of the runs that count.",
        "dropped": "Indices of the fastest and the slowest run, which do not enter the mean.",
        "interval_s": "95 % bootstrap interval of the mean.",
    },
    "Status": {
        "state": "running, converged, not_converged, completed, failed, aborted or interrupted.",
        "time_to_train_s": "The trial's own measurement; the log decides.",
    },
    "Traffic": {
        "bytes_per_step": "On average over the steps of the epoch, as are all fields.",
        "rows_per_step": "Rows of items asked of other workers, distinct in each step.",
        "row_bytes_per_step": "Of these rows as they come and of their gradients as they go.",
        "slot_bytes_per_step": "The same with slots that hold none, which is what is sent.",
        "sample_bytes_per_step": "Of samples and requests.",
        "dense_bytes_per_step": "Of the gradients of the layers.",
    },
    "Trial": {
        "limits": "What the machine does at best; null when the trial did not measure it.",
        "log": "The stitched log checked again; null when there is none.",
        "time_to_train_s": "Time to train: of the log, or of status.json without one; null unless "
        "the target was reached.",
    },
    "Verdict": {
        "exit_code": "0 ok, or completed without a target; 1 failed or unfinished, 4 target not "
        "reached by any trial, 5 level-2 findings, or records that contradict each other.",
        "reached": "Trials that reached the target.",
        "finished": "Trials that ended, with or without the target.",
        "expected": "Trials that the run has or should have.",
        "level_findings": "Findings per level, each with those of lower levels; null when there "
        "is no log.",
    },
}
ENUMS: dict[str, dict[str, list[Any]]] = {
    "LogFinding": {"level": list(LEVELS)},
    "Rule": {"level": list(LEVELS)},
    "Verdict": {
        "exit_code": [0, 1, 4, 5],
        "outcome": [
            *("ok", "failed", "target_not_reached", "not_compliant", "contradicted", "completed"),
        ],
    },
}
# What results.json calls by the benchmark's own names.
RENAMED = ("best", "target")


def ref(name: str) -> dict[str, Any]:
    """A reference to a definition."""
    return {"$ref": f"#/$defs/{name}"}


def array(name: str) -> dict[str, Any]:
    """A list of a definition."""
    return {"type": "array", "items": ref(name)}


def properties(kind: type, name: str, without: Iterable[str] = ()) -> dict[str, Any]:
    """The schema of each field of a dataclass that is the definition ``name``."""
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind) if f.name not in without]
    wanted = [hints[name] for name in names]
    schemas, _ = msgspec.json.schema_components(wanted, ref_template="#/$defs/{name}")
    found = {}
    for field, schema in zip(names, schemas, strict=True):
        said, enum = SAID.get(name, {}).get(field), ENUMS.get(name, {}).get(field)
        found[field] = {
            **({"description": said} if said else {}),
            **plain(schema),
            **({"enum": enum} if enum else {}),
        }
    return found


def plain(schema: Any) -> Any:
    """``schema`` with ``null`` as one of two types instead of a schema of its own."""
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    types = [part.get("type") for part in schema.get("anyOf", ()) if set(part) == {"type"}]
    if types and len(types) == len(schema["anyOf"]):
        return {"type": types}
    return {key: plain(value) for key, value in schema.items()}


def definition(kind: type, name: str = "", without: Iterable[str] = (), **more: Any) -> Any:
    """The schema of a dataclass: every field is there, and none other unless ``more`` says so."""
    found = properties(kind, name or kind.__name__, without) | more.pop("properties", {})
    closed = {"additionalProperties": False}
    return {"type": "object", "properties": found, "required": sorted(found), **closed, **more}


def of_benchmark(
    benchmark: Benchmark, prefix: str, status: type, epoch: str, best: str
) -> dict[str, Any]:
    """What the trials of a benchmark have beside the common fields."""
    names = benchmark.quality.names
    common = {f.name for f in fields(Status)}
    own = properties(status, f"{prefix}Status", common)
    own = {**dict.fromkeys(names.values(), NUMBER), **own}
    every = sorted(names.get(f.name, f.name) for f in fields(status))
    return {
        f"{prefix}Status": {
            "properties": own,
            "required": sorted(own),
            "propertyNames": {"enum": every},
        },
        f"{prefix}Trial": {
            "properties": {
                names["best"]: {"description": best, **NUMBER},
                "status": ref(f"{prefix}Status"),
                "epochs": {"items": ref(epoch)},
                "log": {"required": sorted(names.values())},
            },
            "required": [names["best"]],
        },
    }


def definitions() -> dict[str, Any]:
    """Every definition by its name."""
    kinds = (
        *(CacheDrop, Comparison, Contradiction, Degradation, Difference, Limits, Load, Work),
        *(LogFinding, Notes, Outcome, Pair, Phase, Rule, Run, Score, Setting),
        *(Beside, Convergence, PublishedResult, SystemTest),
    )
    open_log = {"description": "The best quality and the target.", **NUMBER}
    open_trial = {"description": "The best quality of any epoch.", **NUMBER}
    epochs = {
        "type": "array",
        "items": {"type": "object", "properties": {"epoch": NUMBER}, "required": ["epoch"]},
    }
    status = definition(Status, without=RENAMED)
    del status["additionalProperties"]
    said = SAID["Trial"]["time_to_train_s"]
    found = {
        **{kind.__name__: definition(kind) for kind in (*kinds, Verdict)},
        "Evaluation": definition(images_report.Evaluation),
        "LogCheck": definition(LogCheck, without=RENAMED, additionalProperties=open_log),
        "Measured": definition(images_report.Measured),
        "Startup": definition(images_report.Startup),
        "NcfEpoch": definition(ncf_report.Epoch, "NcfEpoch"),
        "Proof": definition(ncf_report.Proof),
        "Traffic": definition(ncf_report.Traffic),
        "Status": {
            "description": "How a trial ended, beside the fields of its benchmark.",
            **status,
        },
        "Trial": definition(
            Trial,
            without=("epochs", "measured"),
            properties={"epochs": epochs, "time_to_train_s": {"description": said, **NUMBER}},
            additionalProperties=open_trial,
        ),
        **of_benchmark(
            find("ncf"), "Ncf", ncf_report.NcfStatus, "NcfEpoch", "Highest HR@10 of any epoch."
        ),
        **of_benchmark(
            find("resnet"),
            "Resnet",
            images_report.ImagesStatus,
            "Evaluation",
            "Highest top-1 accuracy of any evaluation.",
        ),
    }
    return dict(sorted(found.items()))


def strings(said: str) -> dict[str, Any]:
    """A list of texts."""
    return {"description": said, "type": "array", "items": {"type": "string"}}


def common() -> dict[str, Any]:
    """What the results of every benchmark have."""
    return {
        "schema_version": {"const": SCHEMA_VERSION},
        "benchmark": {"type": "string"},
        "note": {"const": UNVERIFIED},
        "run": ref("Run"),
        "config": {"description": "config.json of the run.", "type": "object"},
        "differences": {
            "description": "Settings in which the run departs from the benchmark's reference "
            "(NCF: the v0.5 reference; ResNet: the preset imagenet); null when config.json is "
            "missing.",
            "anyOf": [array("Difference"), {"type": "null"}],
        },
        "dataset": {"description": "manifest.json of the run.", "type": "object"},
        "cache": {"description": "cache.json of the run.", "type": "object"},
        "trials": array("Trial"),
        "rules": {"description": "Every rule that was applied.", **array("Rule")},
        "logged": {
            "description": "What the logs say of hyperparameters, sizes and target: by tag, each "
            "value once.",
            "type": "object",
            "additionalProperties": {"type": "array"},
        },
        "set_findings": {
            "description": "Strict findings on all logs together.",
            **array("LogFinding"),
        },
        "contradictions": {
            "description": "Files that are not as their SHA-256 sums, the logs or each other say.",
            **array("Contradiction"),
        },
        "chain": {
            "description": "In words, which files were compared with their SHA-256 sums.",
            "type": "string",
        },
        "score": {"anyOf": [ref("Score"), {"type": "null"}]},
        "set_aside": strings("Folders of trials that were cut off and started anew."),
        "missing": strings("Files and fields that the run directory lacks."),
        "notes": ref("Notes"),
        "degraded": strings("In words, what makes the result less than the benchmark's own."),
        "verdict": ref("Verdict"),
        "comparison": {
            "description": "This run beside others; null without any.",
            "anyOf": [ref("Comparison"), {"type": "null"}],
        },
        "published": ref("Beside"),
        "convergence": ref("Convergence"),
    }


def schema() -> dict[str, Any]:
    """The whole schema."""
    found = common()
    measured = {
        "description": "What each trial measured that is its benchmark's own.",
        "type": "array",
        "items": {"type": "object"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"trainbench results.json, version {SCHEMA_VERSION}",
        "description": "The results of one run, as the report step reads them from its directory. "
        "null means that the directory does not say. Times ending in _unix_s are seconds since "
        "1970, others ending in _s are durations in seconds. The best quality and its target go "
        "by the benchmark's own names: best_hit_rate and target_hit_rate of NCF, best_top_1 and "
        "target_top_1 of ResNet.",
        "type": "object",
        "properties": {**found, "measured": measured},
        "required": sorted(found),
        "additionalProperties": False,
        "allOf": [
            _where(
                "ncf",
                {"trials": {"items": ref("NcfTrial")}, "measured": {"items": ref("Proof")}},
            ),
            _where(
                "resnet",
                {
                    "trials": {"items": ref("ResnetTrial")},
                    "measured": {"items": ref("Measured")},
                },
            ),
        ],
        "$defs": definitions(),
    }


def logs_schema() -> dict[str, Any]:
    """The schema of a review of logs."""
    kinds = (
        *(Beside, Convergence, Fact, LogFinding, PublishedResult, Score, SystemTest),
        *(review.Duplicate, review.LogRecord, review.Row, review.SetRecord, review.SideBySide),
        review.Unread,
    )
    found = {
        "schema_version": {"const": SCHEMA_VERSION},
        "kind": {"const": KIND},
        "note": {"const": UNVERIFIED},
        "verdict": ref("ReviewVerdict"),
        "logs": array("LogRecord"),
        "sets": array("SetRecord"),
        "comparison": {
            "description": "The sets of each benchmark side by side.",
            **array("SideBySide"),
        },
        "duplicates": array("Duplicate"),
        "unread": array("Unread"),
        "others": strings("Files that are no logs."),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"trainbench results.json of logs, version {SCHEMA_VERSION}",
        "description": "What the report of logs that arrived holds. null means that no log says "
        "it. Times ending in _unix_s are seconds since 1970, others ending in _s are durations in "
        "seconds.",
        "type": "object",
        "properties": found,
        "required": sorted(found),
        "additionalProperties": False,
        "$defs": {
            **{kind.__name__: definition(kind) for kind in kinds},
            "ReviewVerdict": definition(review.Verdict, "ReviewVerdict"),
        },
    }


def _where(benchmark: str, then: dict[str, Any]) -> dict[str, Any]:
    return {
        "if": {"properties": {"benchmark": {"const": benchmark}}},
        "then": {"properties": then},
    }


def text(value: Any, indent: int = 0, before: int = 0) -> str:
    """``value`` as JSON; what fits into a line after ``before`` characters stands in one."""
    flat = json.dumps(value, ensure_ascii=False)
    if indent + before + len(flat) < LINE or not isinstance(value, dict | list) or not value:
        return flat
    inner, outer = "\n" + " " * (indent + 2), "\n" + " " * indent
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        lines = textwrap.wrap(", ".join(map(json.dumps, value)), LINE - indent - 2)
        return "[" + inner + inner.join(lines) + outer + "]"
    if isinstance(value, list):
        return "[" + inner + f",{inner}".join(text(v, indent + 2) for v in value) + outer + "]"
    pairs = (f'"{key}": ' + text(v, indent + 2, len(key) + 4) for key, v in value.items())
    return "{" + inner + f",{inner}".join(pairs) + outer + "}"


if __name__ == "__main__":
    for file, made in ((FILE, schema()), (LOGS_FILE, logs_schema())):
        file.write_text(text(made) + "\n")
        print(f"wrote {file}")
