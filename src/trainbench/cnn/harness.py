"""The benchmark: ``BenchmarkCNN(params).run()`` builds a model and trains or evaluates it.

params = make_params(model="resnet50", batch_size=8, device="cpu")
stats = BenchmarkCNN(params).run()
"""

from __future__ import annotations

import time
from typing import Any

from trainbench.cnn import arithmetic, environment, output, rules
from trainbench.cnn.checkpoints import CheckpointNotFoundException
from trainbench.cnn.evaluation import Accuracy
from trainbench.cnn.feed import is_synthetic
from trainbench.cnn.params import ParamError, Params
from trainbench.cnn.pauses import Pauses
from trainbench.cnn.plan import Plan
from trainbench.cnn.session import Session
from trainbench.cnn.training import Clock, Loop
from trainbench.progress import heartbeat, say


class BenchmarkCNN:
    """One run.

    Args:
        params: what to run.
        dataset: taken in place of the one that ``params`` name.
        model: the same for the model; see ``models.registry``.

    Raises:
        ParamError: (a ``ValueError``) parameters that cannot be run, with the document's message.
    """

    def __init__(self, params: Params, dataset: Any = None, model: Any = None) -> None:
        self.params = params
        self.dataset = dataset if dataset is not None else _dataset(params)
        self.model = model if model is not None else _model(params, self.dataset)
        self.plan = Plan.of(params, self.dataset, self.model)
        for note in rules.notes(params):
            say(note)
        self.printed_devices, self._devices = environment.devices(params)
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """What the run is made of; there once ``run`` has built it."""
        assert self._session is not None, "run() builds the session"
        return self._session

    def print_info(self) -> None:
        """Print the block of facts above the run."""
        synthetic = " (synthetic)" if is_synthetic(self.dataset) else ""
        info = output.Info(
            model=self.model.name,
            dataset=self.dataset.name + synthetic,
            mode=self.plan.mode,
            single_session=self.params.variable_update == "distributed_all_reduce",
            batch_size=self.plan.batch_size,
            num_workers=self.plan.num_workers,
            num_batches=self.plan.length.num_batches,
            num_epochs=self.plan.length.num_epochs,
            devices=self.printed_devices,
        )
        for line in output.info_lines(self.params, info):
            output.say(line)

    def run(self) -> dict[str, Any]:
        """Run it and return the statistics; an evaluation of checkpoints returns none.

        Raises:
            ParamError: an evaluation without ``train_dir``.
            RuntimeError: the input ended before the run did.
        """
        if self.plan.mode == rules.EVALUATION:
            return self._evaluate_checkpoints()
        return self._train()

    def _train(self) -> dict[str, Any]:
        output.say("Generating training model")
        session = self._build()
        if self.plan.mode == rules.TRAINING_AND_EVALUATION:
            output.say("Generating evaluation model")
        output.say("Initializing graph")
        loop, pauses = self._loop(session)
        if pauses.start and loop.first < loop.end:
            # A resumed run has no warm-up in which to compile: it compiles on a step that it
            # then takes back.
            with heartbeat("compiling"):
                loop.compile()
            session.resume()
        clock = loop.run()
        return self._finish(session, pauses, clock)

    def _build(self) -> Session:
        self._session = Session(
            self.params, self.plan, dataset=self.dataset, model=self.model, devices=self._devices
        )
        return self._session

    def _loop(self, session: Session) -> tuple[Loop, Pauses]:
        start, warmup = session.resume(), self._warmup()
        if start:
            say(f"resuming at global step {start}")
        pauses = Pauses(session, start)
        loop = Loop(
            params=self.params,
            step=session.step,
            feed=session.feed("train", self.plan.batch_size),
            rate=session.rate(warmup),
            after_step=pauses.after_step,
            batch_size=self.plan.batch_size,
            first=start - warmup,
            end=self.plan.length.num_batches,
            warmup=warmup,
        )
        return loop, pauses

    def _warmup(self) -> int:
        group = self.params.batch_group_size
        if group <= 1:
            return self.plan.warmup
        stages = 0 if is_synthetic(self.dataset) else 1
        warmup = arithmetic.rounded_warmup(self.plan.warmup, group, stages)
        if warmup != self.plan.warmup:
            output.say(f"Round up warm up steps to {warmup} to match batch_group_size")
        return warmup

    def _finish(self, session: Session, pauses: Pauses, clock: Clock) -> dict[str, Any]:
        steps = len(clock.times_s)
        stats: dict[str, Any] = {
            "num_workers": self.plan.num_workers,
            "num_steps": steps * self.plan.num_workers,
            "average_wall_time": clock.elapsed_s / steps if steps else 0,
            "images_per_sec": clock.images_per_s(self.plan.batch_size * self.plan.num_workers),
        }
        if self.plan.mode == rules.TRAINING_AND_EVALUATION:
            output.say("Done with training")
            pauses.final_evaluation()
        else:
            output.say(output.totals(stats["images_per_sec"]))
        if session.checkpoints is not None:
            session.checkpoints.save(pauses.global_step)
        if clock.last_loss is not None:
            stats["last_average_loss"] = clock.last_loss
        return stats | _accuracies(pauses.accuracy)

    def _evaluate_checkpoints(self) -> dict[str, Any]:
        """Evaluate the newest checkpoint, again at intervals if asked to."""
        if self.params.train_dir is None:
            raise ParamError("Trained model directory not specified")
        output.say("Generating evaluation model")
        session = self._build()
        while True:
            self._evaluate_newest(session)
            if self.params.eval_interval_secs <= 0:
                return {}
            time.sleep(self.params.eval_interval_secs)

    def _evaluate_newest(self, session: Session) -> None:
        try:
            session.load(training=False)
        except CheckpointNotFoundException:
            output.say(f"Checkpoint not found in {self.params.train_dir}")
            return
        assert session.checkpoints is not None
        output.say(f"Successfully loaded model from {session.checkpoints.loaded}.")
        accuracy = session.evaluate()
        output.say(output.totals(accuracy.images_per_s))


def _accuracies(accuracy: Accuracy | None) -> dict[str, float]:
    if accuracy is None:
        return {}
    return {"top_1_accuracy": accuracy.top_1, "top_5_accuracy": accuracy.top_5}


def _dataset(params: Params) -> Any:
    from trainbench.cnn import datasets

    return datasets.create(params)


def _model(params: Params, dataset: Any) -> Any:
    from trainbench.cnn.models import registry

    return registry.get_model(params.model, dataset.name)
