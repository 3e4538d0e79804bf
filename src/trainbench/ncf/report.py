"""What the report of NCF has beside the common page: its epochs, their speed and their input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from trainbench.files import fill, is_own_file, sha256_of
from trainbench.movielens.datasets import Expansion
from trainbench.ncf.config import task_of
from trainbench.reporting.page import drawing, plots
from trainbench.reporting.page.drawing import HALF, WIDE, Figure
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import LoggedEpoch, Results, Trial
from trainbench.reporting.sections import Answer, Measure, Rate, Reading, Sections
from trainbench.reporting.sources import Source
from trainbench.reporting.text import NA, count, fixed, percent, plural, scaled, seconds, yes
from trainbench.trials.paths import TrialDir
from trainbench.trials.status import Status

# HR@10 after each epoch of the v0.5 PyTorch reference (mlcommons/training@fe17e837): its example
# log on ml-20m, and a run on ml-1m with seed 1. Only comparable under the same hyperparameters.
REFERENCE_CURVES = {
    "ml-20m": (0.5750, 0.6051, 0.6191, 0.6253, 0.6262, 0.6342, 0.6359),
    "ml-1m": (0.1586, 0.1892, 0.2050, 0.2127, 0.2237, 0.2318),
}
# Settings without influence on that curve: where it ends, and how fast it is computed.
SAME_CURVE = {
    *("dataset", "target_hit_rate", "max_epochs", "division", "require_gpu", "drop_caches"),
    *("xla", "devices", "deterministic", "steps_per_call", "eval_users_per_batch", "initial_eval"),
    *("epochs_per_cycle", "cycles_ahead", "generator_workers", "generator"),
    *("cpu_devices", "tpu"),
}
# Less is no waiting: microseconds of it would fill a plot.
LEAST_WAIT_SHOWN_S, LEAST_SHARE_SAID = 0.1, 0.001


@dataclass(frozen=True)
class NcfStatus(Status):
    """What NCF's status.json says beside what every benchmark's does."""

    epochs: int | None
    num_users: int | None
    num_items: int | None
    num_parameters: int | None
    initial_hit_rate: float | None


@dataclass(frozen=True)
class Traffic:
    """What the chief sent to other workers in a step of an epoch, on average."""

    bytes_per_step: float | None
    rows_per_step: float | None
    row_bytes_per_step: float | None
    slot_bytes_per_step: float | None
    sample_bytes_per_step: float | None
    dense_bytes_per_step: float | None


@dataclass(frozen=True)
class Epoch:
    """One line of epochs.jsonl; ``elapsed_s`` counts from ``run_start``."""

    epoch: int | None
    mean_loss: float | None
    hit_rate: float | None
    ndcg: float | None
    hits: int | None
    users: int | None
    samples: int | None
    repeated_samples: int | None
    train_s: float | None
    eval_s: float | None
    input_wait_s: float | None
    samples_per_s: float | None
    eval_pairs_per_s: float | None
    candidates_sha256: str | None
    epoch_sha256: str | None
    first_batch_sha256: str | None
    traffic: Traffic | None
    elapsed_s: float | None

    @property
    def quality(self) -> float | None:
        """HR@10."""
        return self.hit_rate


@dataclass(frozen=True)
class Proof:
    """What ``prove`` found: the hits of the last epoch, computed a second time in float64."""

    trial: int | None
    epoch: int | None
    recorded_hits: int | None
    hits: int | None
    equal_ranks: int | None
    explained_ranks: int | None
    unexplained_ranks: int | None
    undecided: int | None
    findings: tuple[str, ...] | None
    proved: bool | None
    weights_sha256: str | None
    candidates_sha256: str | None


def _read(source: Source, trial: TrialDir, logged: tuple[LoggedEpoch, ...]) -> Reading:
    of_log = ({"epoch": e.epoch, "hit_rate": e.quality, "elapsed_s": e.elapsed_s} for e in logged)
    epochs = source.records(trial.epochs, Epoch)
    proof = source.record(trial.proof, Proof) if trial.proof.exists() else None
    if proof:
        proof = replace(proof, findings=(*(proof.findings or ()), *_foreign(proof, source, trial)))
    return epochs or tuple(fill(Epoch, values) for values in of_log), proof


def _foreign(proof: Proof, source: Source, trial: TrialDir) -> list[str]:
    """In which a proof is not one of this trial's weights."""
    weights, found = trial.model / "weights.npz", []
    if None in (proof.hits, proof.proved):
        found.append("no hits or no verdict")
    if proof.trial != trial.index:
        found.append(f"of trial {count(proof.trial)}")
    if is_own_file(weights, source.root) and sha256_of(weights) != proof.weights_sha256:
        found.append(f"of other weights than {weights.relative_to(source.root)}")
    return found


def reference_curve(results: Results) -> tuple[str, Sequence[float]]:
    """The reference's HR@10 per epoch, where this run computes the same thing; else empty."""
    differences, dataset = results.differences, str(results.config.get("dataset"))
    same = differences is not None and {d.key for d in differences} <= SAME_CURVE
    curve = REFERENCE_CURVES.get(dataset, ()) if same else ()
    return "v0.5 PyTorch reference, one run", curve


def _speed(results: Results) -> Answer:
    trained = _mean(results, "samples_per_s")
    if trained is None:
        return Answer("Training speed", NA)
    devices = dict.fromkeys(t.status.device for t in results.trials if t.status.device)
    speed = f"{scaled(trained)} samples/s on {', '.join(devices) or NA}"
    waited = [(mean_of(t, "input_wait_s"), mean_of(t, "train_s")) for t in results.trials]
    shares = [wait / (wait + train) for wait, train in waited if wait is not None and train]
    share = mean(shares)
    if share is None or share < LEAST_SHARE_SAID:
        return Answer("Training speed", speed)
    waiting = f"{percent(share)} of the time of training spent waiting for input"
    return Answer("Training speed", speed, waiting)


def _figures(results: Results) -> list[Figure]:
    """Training samples per second, and seconds waited for input where there were some, by epoch."""
    trials = [t for t in results.trials if mean_of(t, "samples_per_s") is not None]
    if not trials:
        return []
    top = max(e.samples_per_s or 0 for e in _epochs(trials))
    unit, size = ("million", 1e6) if top >= 1e6 else ("thousand", 1e3)
    waited = max(e.input_wait_s or 0 for e in _epochs(trials)) >= LEAST_WAIT_SHOWN_S
    fields = {f"Training, {unit} samples per second": ("samples_per_s", 1 / size)}
    if waited:
        fields["Waiting for input, seconds"] = ("input_wait_s", 1.0)
    drawn = {}
    for title, (field, scale) in fields.items():
        axes = drawn[title] = drawing.axes(
            HALF if waited else WIDE, 2.3, left_px=36, xlabel="epoch"
        )
        plots.curves(axes, trials, field, scale=scale)
        drawing.fit(axes, share=False)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.04)
    title = "Throughput and input wait" if waited else "Throughput"
    figure = Figure(
        "throughput",
        title,
        f"{title} of training by epoch for {plural(len(trials), 'trial')}",
        plots.panels(drawn, "throughput"),
        tuple(plots.trial_keys(trials)),
        _speeds(trials),
    )
    return [figure]


def _rates(results: Results) -> list[Rate]:
    """Training and evaluation of each trial: the means of its epochs."""
    return [
        rate
        for trial in results.trials
        for rate in (
            _rate(trial, "training", "samples/s", "samples_per_s"),
            _rate(trial, "evaluation", "pairs/s", "eval_pairs_per_s"),
        )
        if rate is not None
    ]


def _rate(trial: Trial, name: str, unit: str, field: str) -> Rate | None:
    per_s, limits = mean_of(trial, field), trial.limits
    if per_s is None or limits is None:
        return None if per_s is None else Rate(trial.index, name, unit, per_s)
    work = limits.training if name == "training" else limits.evaluation
    return Rate(
        trial.index,
        name,
        unit,
        per_s,
        flops=work.flops if work else None,
        bytes=work.bytes if work else None,
        flops_per_s=_giga(limits.gflop_per_s),
        bytes_per_s=_giga(limits.gbyte_per_s),
    )


def _giga(value: float | None) -> float | None:
    return None if value is None else 1e9 * value


def _speeds(trials: Iterable[Trial]) -> Table:
    """Means over the epochs of each trial."""
    columns = ("Trial", "Samples/s", "Pairs/s", "Train an epoch", "Eval", "Input wait")
    rows = tuple(
        (
            str(t.index),
            scaled(mean_of(t, "samples_per_s")),
            scaled(mean_of(t, "eval_pairs_per_s")),
            seconds(mean_of(t, "train_s")),
            seconds(mean_of(t, "eval_s")),
            seconds(mean_of(t, "input_wait_s")),
        )
        for t in trials
    )
    return Table(columns, rows)


def _tables(results: Results) -> dict[str, Table]:
    sent = [(t, [e.traffic for e in _epochs([t]) if e.traffic]) for t in results.trials]
    rows = tuple(_traffic_row(trial, found) for trial, found in sent if found)
    told = {"Sent to other workers in a step": Table(_TRAFFIC_COLUMNS, rows)} if rows else {}
    return told | {"Hits computed a second time": _proofs(results)}


_TRAFFIC_COLUMNS = (
    *("Trial", "Bytes in all", "Rows of items", "Bytes of rows", "With empty slots"),
    *("Samples and requests", "Dense layers"),
)


def _traffic_row(trial: Trial, sent: Sequence[Traffic]) -> tuple[str, ...]:
    """Means over the epochs."""
    kinds = ("bytes", "rows", "row_bytes", "slot_bytes", "sample_bytes", "dense_bytes")
    means = (mean(getattr(t, f"{kind}_per_step") for t in sent) for kind in kinds)
    return (str(trial.index), *map(scaled, means))


def _proofs(results: Results) -> Table:
    """The hits of each trial beside those of ``prove``."""
    columns = (
        *("Trial", "Proved", "Hits recorded", "In float64", "Ranks equal", "Within rounding"),
        "Hits undecided",
    )
    rows = tuple(_proof_row(trial) for trial in results.trials)
    return Table(columns, rows, numeric_from=2)


def _proof_row(trial: Trial) -> tuple[str, ...]:
    proof = trial.measured
    if not isinstance(proof, Proof):
        return (str(trial.index), "prove was not run", *("",) * 5)
    hits = (proof.recorded_hits, proof.hits)
    ranks = (proof.equal_ranks, proof.explained_ranks, proof.undecided)
    proved = proof.proved and not proof.findings
    return (str(trial.index), yes(proved), *map(count, (*hits, *ranks)))


def _not_holding(trial: Trial) -> list[str]:
    """Hits that are no number of users or of other weights; a target that needed no training."""
    return [*_wrong_hits(trial), *_untrained(trial), *_disproved(trial)]


def _disproved(trial: Trial) -> list[str]:
    proof, epochs = trial.measured, _epochs([trial])
    if not isinstance(proof, Proof):
        return []
    of_other = epochs and epochs[-1].hits != proof.recorded_hits
    found = [f"proof.json: {finding}" for finding in proof.findings or ()]
    if of_other:
        found.append(
            f"proof.json is of {count(proof.recorded_hits)} hits, but the last epoch has "
            f"{count(epochs[-1].hits)}"
        )
    return found


def _untrained(trial: Trial) -> list[str]:
    """What is wrong when a target was reached that the untrained model reaches."""
    untrained = trial.status.initial_hit_rate if isinstance(trial.status, NcfStatus) else None
    target = trial.status.target
    if not trial.reached or untrained is None or target is None or untrained < target:
        return []
    return [f"the untrained model's HR@10 {fixed(untrained)} is at the target {target:g} already"]


def _wrong_hits(trial: Trial) -> list[str]:
    """What is wrong when HR@10 is not a number of hits over the number of users."""
    return [
        f"epoch {e.epoch}: HR@10 {fixed(e.hit_rate, 6)} is not {count(e.hits)}/{count(e.users)}"
        for e in _epochs([trial])
        if e.hits is not None and e.users and e.hit_rate is not None
        if abs(e.hits / e.users - e.hit_rate) >= 1e-6
    ]


def _epochs(trials: Iterable[Trial]) -> list[Epoch]:
    return [e for t in trials for e in t.epochs if isinstance(e, Epoch)]


def mean_of(trial: Trial, name: str) -> float | None:
    """The mean of a field of a trial's epochs; ``None`` when no epoch has it."""
    return mean(getattr(e, name) for e in trial.epochs)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known; ``None`` when none is."""
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def _mean(results: Results, name: str) -> float | None:
    return mean(mean_of(t, name) for t in results.trials)


def _best_ndcg(results: Results) -> float | None:
    return max((e.ndcg for e in _epochs(results.trials) if e.ndcg is not None), default=None)


def _trial_columns(trial: Trial) -> dict[str, Any]:
    names = ("samples_per_s", "eval_pairs_per_s", "input_wait_s")
    return {f"mean_{name}": mean_of(trial, name) for name in names}


def _task(config: Mapping[str, Any]) -> str:
    name = config.get("dataset")
    factor = config.get("expand")
    known = Expansion(**factor) if isinstance(factor, dict) else None
    return f"NeuMF on {task_of(name, known) if isinstance(name, str) else NA}"


NCF = Sections(
    subject="NCF training",
    reference="v0.5 reference",
    task=_task,
    status=NcfStatus,
    read=_read,
    epoch_columns=(
        ("Epoch", lambda e: count(e.epoch)),
        ("HR@10", lambda e: fixed(e.hit_rate)),
        ("NDCG@10", lambda e: fixed(e.ndcg)),
        ("Loss", lambda e: fixed(e.mean_loss)),
        ("Train", lambda e: seconds(e.train_s)),
        ("Eval", lambda e: seconds(e.eval_s)),
        ("Input wait", lambda e: seconds(e.input_wait_s)),
        ("Samples/s", lambda e: scaled(e.samples_per_s)),
        ("Pairs/s", lambda e: scaled(e.eval_pairs_per_s)),
        ("Elapsed", lambda e: seconds(e.elapsed_s)),
        ("Input sha256", lambda e: (e.epoch_sha256 or NA)[:8]),
    ),
    second=("NDCG@10", "ndcg"),
    curve=reference_curve,
    speed=_speed,
    rates=_rates,
    tables=_tables,
    figures=_figures,
    trial_columns=_trial_columns,
    outcomes=(
        Measure("best_ndcg", "Best NDCG@10", "NDCG@10", _best_ndcg, fixed),
        Measure(
            "samples_per_s",
            "Training, mean samples/s",
            "samples/s",
            lambda r: _mean(r, "samples_per_s"),
            scaled,
        ),
        Measure(
            "eval_pairs_per_s",
            "Evaluation, mean pairs/s",
            "pairs/s",
            lambda r: _mean(r, "eval_pairs_per_s"),
            scaled,
        ),
        Measure(
            "input_wait_s",
            "Input wait an epoch, mean",
            "s",
            lambda r: _mean(r, "input_wait_s"),
            seconds,
        ),
    ),
    contradictions=_not_holding,
    logged={
        "batch_size": "input_batch_size",
        "beta1": "opt_hp_Adam_beta1",
        "beta2": "opt_hp_Adam_beta2",
        "epsilon": "opt_hp_Adam_epsilon",
        "eval_negatives": "eval_hp_num_neg",
        "learning_rate": "opt_learning_rate",
        "mf_dim": "model_hp_mf_dim",
        "min_ratings": "preproc_hp_min_ratings",
        "mlp_layer_sizes": "model_hp_mlp_layer_sizes",
        "optimizer": "opt_name",
        "precision": "precision",
        "target_hit_rate": "eval_target",
        "train_negatives": "input_hp_num_neg",
    },
    behind={
        "strict/order/caches": ("drop_caches",),
        "strict/value/eval_target": ("target_hit_rate",),
        "strict/value/eval_hp_num_users": ("dataset",),
        "strict/value/eval_size": ("dataset", "eval_negatives"),
        "strict/value/input_size": ("dataset", "train_negatives"),
        "strict/value/preproc_hp_num_eval": ("dataset", "eval_negatives"),
        "strict/value/eval_hp_num_neg": ("eval_negatives",),
        "strict/value/input_hp_num_neg": ("train_negatives",),
        "strict/value/model_hp_mf_dim": ("mf_dim",),
        "strict/value/model_hp_mlp_layer_sizes": ("mlp_layer_sizes",),
        "strict/value/preproc_hp_min_ratings": ("min_ratings",),
    },
)
