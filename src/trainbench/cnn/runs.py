"""The two kinds of run: training (or forward passes) and the evaluation of checkpoints."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from trainbench.cnn import console, rules
from trainbench.cnn.hooks import Follower, Hooks, log_accuracy
from trainbench.cnn.input.batches import Batch, Batches, is_synthetic
from trainbench.cnn.measure import graphs, numerics, result_file, results
from trainbench.cnn.measure.benchmark_log import BenchmarkLog
from trainbench.cnn.measure.profiler import Observer
from trainbench.cnn.measure.step_profile import StepProfile
from trainbench.cnn.measure.tensorboard import EventFile, add_accuracy
from trainbench.cnn.measure.traces import StepTrace
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.plan import rounded_warmup
from trainbench.cnn.session import Session
from trainbench.cnn.train import freezing
from trainbench.cnn.train.checkpoints import CheckpointNotFoundException
from trainbench.cnn.train.evaluation import Accuracy
from trainbench.cnn.train.executor import Executor, can_be_frozen, weight_bytes
from trainbench.cnn.train.loop import Loop, StepTimes
from trainbench.cnn.train.schedules import Rate
from trainbench.errors import NotFiniteError
from trainbench.progress import log_line
from trainbench.trials import signals


def train(session: Session, log: BenchmarkLog | None, follower: Follower) -> dict[str, Any]:
    """Train, or run forward passes, and return the statistics; ``follower`` hears how far it is.

    Raises:
        NotFiniteError: the loss or the network's output is NaN or infinite; no checkpoint of it is
            written, and the result file says so.
        KeyboardInterrupt: SIGTERM or SIGHUP came; checkpoint and result of the steps until then
            are written.
    """
    console.print_result("Initializing graph")
    with signals.waiting() if session.ends_alone else contextlib.nullcontext():
        hooks, loop = _prepared(session, log, follower)
        try:
            stats = _trained(session, hooks, loop)
        except NotFiniteError as error:
            note = {"code": "not_finite", "text": str(error)}
            _write_result(session, hooks, loop, statistics(session, loop.clock), [note])
            raise
        except KeyboardInterrupt:
            # In an evaluation; elsewhere the loop itself ends. Ctrl-C ends a step half way.
            if not session.ends_alone or signals.requested() in (None, "SIGINT"):
                raise
            loop.cut_off, stats = signals.requested(), statistics(session, loop.clock)
        if loop.cut_off is not None:
            _end_early(session, hooks, loop, stats)
        else:
            hooks.lines.end(hooks.accuracy)
            stats |= accuracies(hooks.accuracy)
            _record(session, hooks, loop, stats, [])
    if loop.cut_off is not None:
        signals.raise_if_requested()
    return stats


def _trained(session: Session, hooks: Hooks, loop: Loop) -> dict[str, Any]:
    with numerics.numerics_checked(session.params):
        clock = loop.run()
    session.settle()
    for observer in hooks.observers:
        observer.close()
    session.check_weights()
    stats = statistics(session, clock)
    if loop.cut_off is not None:
        return stats
    if session.plan.mode == rules.TRAINING_AND_EVALUATION:
        # One speed of training and evaluation together would mean nothing.
        console.print_result("Done with training")
        hooks.final_evaluation()
    else:
        _print_total(session, stats)
    return stats


def _print_total(session: Session, stats: dict[str, Any]) -> None:
    """Print the speed of the run, here and in the processes that serve this one."""
    console.print_result(console.totals(stats["images_per_sec"]))
    if session.membership is not None:
        session.membership.images_per_s = stats["images_per_sec"]


def _end_early(session: Session, hooks: Hooks, loop: Loop, stats: dict[str, Any]) -> None:
    """What a whole run leaves behind, of the steps that were done, marked as interrupted."""
    done = max(hooks.global_step - loop.warmup, 0)
    text = f"ended by {loop.cut_off} after {done} of {session.plan.length.num_batches} steps"
    _print_total(session, stats)
    stats |= accuracies(hooks.accuracy)
    _record(session, hooks, loop, stats, [{"code": "interrupted", "text": text}])
    log_line(text + hooks.saved_text())


def _prepared(session: Session, log: BenchmarkLog | None, follower: Follower) -> tuple[Hooks, Loop]:
    """The loop and what happens beside it, ready to run; a resumed run has been compiled."""
    params, plan = session.params, session.plan
    if session.checkpoints is not None and not params.forward_only:
        session.checkpoints.require_space()
    start, warmup = _start(session), warmup_of(session)
    rate = session.rate(warmup)
    lines = mlperf.TrainingLines(session, rate, warmup, start)
    watching = observers(session, start - warmup)
    hooks = Hooks(session, start, log, watching, lines=lines, follower=follower)
    batches = session.batches("train")
    loop = Loop(
        params=params,
        executor=executor(session, batches, rate),
        batches=batches,
        rate=rate,
        watcher=hooks,
        images_per_step=session.images_per_step,
        first=start - warmup,
        end=plan.length.num_batches,
        warmup=warmup,
        startup=session.startup,
        ended_early=session.ended_early,
    )
    if start:
        _continue(session, loop, start)
    return hooks, loop


def warmup_of(session: Session) -> int:
    """Warm-up steps, rounded up to a group of batches."""
    warmup, group = session.plan.warmup, session.params.batch_group_size
    if group <= 1:
        return warmup
    stages = 0 if is_synthetic(session.dataset) else 1
    rounded = rounded_warmup(warmup, group, stages)
    if rounded != warmup:
        console.print_result(f"Round up warm up steps to {rounded} to match batch_group_size")
    return rounded


def statistics(session: Session, clock: StepTimes) -> dict[str, Any]:
    """What ``run`` returns, but for the accuracies."""
    steps, batch = len(clock.times_s), session.plan.train_batch
    stats: dict[str, Any] = {
        "num_workers": batch.num_workers,
        "num_steps": steps * batch.num_workers,
        "average_wall_time": clock.elapsed_s / steps if steps else 0,
        "images_per_sec": clock.images_per_s(batch.total),
    }
    if clock.last_loss is not None:
        stats["last_average_loss"] = clock.last_loss
    return stats


def accuracies(accuracy: Accuracy | None) -> dict[str, float]:
    """The accuracies of the last evaluation, under the names of the statistics."""
    if accuracy is None:
        return {}
    return {"top_1_accuracy": accuracy.top_1, "top_5_accuracy": accuracy.top_5}


def evaluate(session: Session, log: BenchmarkLog | None) -> None:
    """Evaluate the newest checkpoint, and again at intervals if asked to.

    Raises:
        CheckpointNotFoundException: there is none, and none is waited for.
    """
    events: EventFile | None = None
    while True:
        signals.raise_if_requested()
        accuracy = _evaluate_newest(session)
        if accuracy is not None and session.checkpoints is not None:
            events = events or EventFile(session.params.eval_dir)
            add_accuracy(events, session.checkpoints.step, accuracy)
            if log is not None:
                log_accuracy(log, session.checkpoints.step, accuracy)
        if session.params.eval_interval_secs <= 0:
            return
        time.sleep(session.params.eval_interval_secs)


def _evaluate_newest(session: Session) -> Accuracy | None:
    try:
        session.load(training=False)
    except CheckpointNotFoundException:
        console.print_result(f"Checkpoint not found in {session.params.train_dir}")
        if session.params.eval_interval_secs <= 0:
            raise
        return None
    assert session.checkpoints is not None
    console.print_result(f"Successfully loaded model from {session.checkpoints.loaded}.")
    accuracy = session.evaluate()
    console.print_result(console.totals(accuracy.images_per_s))
    return accuracy


def observers(session: Session, first_step: int) -> list[Observer]:
    """What watches single steps of a run that begins with local step ``first_step``."""
    params, found = session.params, list[Observer]()
    if params.trace_file:
        found.append(StepTrace(params, first_step))
    if params.tfprof_file:
        found.append(StepProfile(params.tfprof_file))
    if params.partitioned_graph_file_prefix:
        found.append(graphs.PartitionedGraphs(params.partitioned_graph_file_prefix))
    return found


def executor(session: Session, batches: Batches, rate: Rate) -> Executor:
    """What runs the steps: the session's, the weights of forward passes made constants.

    Takes a batch for each graph that it traces, and writes the graph where one is wanted.
    """
    params, chosen = session.params, session.executor
    graph = graphs.traced(params, chosen, batches.next(), rate(0)) if params.graph_file else None
    asked = params.freeze_when_forward_only
    if params.forward_only and not params.job_name:
        with session.startup.phase("freeze"):
            first = batches.next()
            if asked or _repays(session, first):
                chosen, constant = chosen.frozen(first)
                graph = constant if asked else graph
    if params.graph_file:
        graphs.write_graph(params.graph_file, graph)
    return chosen


def _repays(session: Session, first: list[Batch]) -> bool:
    """Whether constants are possible and the run is long enough for them."""
    if not can_be_frozen(session.step):
        return False
    steps = session.plan.warmup + session.plan.length.num_batches
    passes = freezing.Passes(
        images=steps * sum(int(labels.shape[0]) for _, labels in first),
        weight_bytes=weight_bytes(session.step),
        has_normalization=bool(session.step.copies[0].state),
        device="gpu" if "gpu" in session.devices[0].lower() else "cpu",
    )
    return passes.repay_constants(lambda: results.flops_per_image(session.executor.infer, first))


def _start(session: Session) -> int:
    """The global step to begin after; forward passes begin anew, with the weights they are of."""
    step, params = session.resume(), session.params
    if not params.forward_only:
        return step
    if session.checkpoints is not None and session.checkpoints.loaded:
        console.print_result(f"Successfully loaded model from {session.checkpoints.loaded}.")
    elif session.checkpoints is not None:
        log_line(f"no checkpoint in {params.train_dir}: the weights are the initial ones")
    return 0


def _continue(session: Session, loop: Loop, start: int) -> None:
    """Resume without a warm-up: compile on a step, then take the step back."""
    log_line(f"resuming at global step {start}")
    if loop.first < loop.end:
        loop.compile()
        session.resume()


def _record(
    session: Session,
    hooks: Hooks,
    loop: Loop,
    stats: dict[str, Any],
    notes: list[dict[str, str]],
) -> None:
    """Leave behind the checkpoint, the metric and the file that were asked for."""
    hooks.save()
    if hooks.log is not None:
        speed, steps = stats["images_per_sec"], stats["num_steps"]
        hooks.log.metric("average_examples_per_sec", speed, step=steps)
    _write_result(session, hooks, loop, stats, notes)


def _write_result(
    session: Session,
    hooks: Hooks,
    loop: Loop,
    stats: dict[str, Any],
    notes: list[dict[str, str]],
) -> None:
    """Write the file of ``--result_json``, where one was asked for."""
    params = session.params
    if not params.result_json:
        return
    examples = session.dataset.num_examples_per_epoch("train")
    record = results.record(
        params,
        session.plan,
        stats,
        loop.clock,
        startup=session.startup,
        step=session.step,
        batches=session.own_batches(),
        evaluations=results.curve(hooks.evaluations, session.plan, examples),
        notes=[
            *notes,
            *results.evaluation_notes(hooks.accuracy, params.stop_at_top_1_accuracy),
            *results.data_notes(session.dataset),
        ],
    )
    result_file.write(params.result_json, record)
