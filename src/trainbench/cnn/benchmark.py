"""The benchmark: ``BenchmarkCNN(params).run()`` builds a model and trains or evaluates it.

params = make_params(model="resnet50", batch_size=8, device="cpu")
stats = BenchmarkCNN(params).run()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainbench.cnn import console, environment, rules, runs
from trainbench.cnn.cluster import cluster_of, own_files
from trainbench.cnn.distribution.membership import Membership
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.cnn.input import datasets
from trainbench.cnn.input.batches import is_synthetic
from trainbench.cnn.measure.benchmark_log import BenchmarkLog
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.models import registry
from trainbench.cnn.plan import Plan
from trainbench.cnn.session import Session
from trainbench.progress import log_line


class BenchmarkCNN:
    """One run.

    Args:
        params: what to run.
        dataset: taken in place of the one that ``params`` name.
        model: the same for the model; see ``models.registry``.

    Raises:
        ParamError: (a ``ValueError``) unusable parameters, with tf_cnn_benchmarks' message.
    """

    def __init__(self, params: Params, dataset: Any = None, model: Any = None) -> None:
        mlperf.start()
        if dataset is None:
            size = getattr(model, "image_size", None)
            dataset = datasets.create(params, image_size=size)
        self.dataset = dataset
        self.model = model or registry.get_model(params.model, dataset.name)
        self.plan = Plan.of(params, self.dataset, self.model)
        mlperf.offset(params, self.plan)
        for note in rules.notes(params):
            log_line(note)
        cluster = cluster_of(params)
        self.params = own_files(params, cluster) if cluster else params
        self.membership = Membership(cluster, self.params) if cluster else None
        self.printed_devices, self.devices = environment.devices(
            self.params, before_start=self.membership.join if self.membership else None
        )
        if self.membership is not None:
            self.printed_devices, self.devices = self.membership.devices(
                self.printed_devices, self.devices
            )
        self._session: Session | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process prints the totals and writes the files."""
        return self.membership is None or self.membership.cluster.is_chief

    @property
    def session(self) -> Session:
        """What the run is made of; there once ``run`` has built it."""
        assert self._session is not None, "run() builds the session"
        return self._session

    def print_info(self) -> None:
        """Print the header of the run."""
        for line in console.info_lines(self.params, self._info()):
            console.print_result(line)

    def run(self) -> dict[str, Any]:
        """Run it and return the statistics; an evaluation of checkpoints returns none.

        Raises:
            ParamError: an evaluation without ``train_dir``.
            RuntimeError: the input ended before the run did.
        """
        return self.together(self._run) or {}

    def together(self, work: Callable[[], Any]) -> Any:
        """Do ``work`` with the other processes of the run; ``None`` if this one only serves."""
        if self.membership is None:
            return work()
        if self.membership.cluster.is_serving:
            return self.membership.serve()
        with self.membership.running():
            return work()

    def _run(self) -> dict[str, Any]:
        log = self._benchmark_log()
        if self.plan.mode == rules.EVALUATION:
            if self.params.train_dir is None:
                raise ParamError("Trained model directory not specified")
            console.print_result("Generating evaluation model")
            runs.evaluate(self.build(), log)
            return {}
        console.print_result("Generating training model")
        session = self.build()
        mlperf.training(session)
        if self.plan.mode == rules.TRAINING_AND_EVALUATION:
            console.print_result("Generating evaluation model")
            mlperf.evaluation(session)
        return runs.train(session, log)

    def build(self) -> Session:
        """Build the network, its step and its checkpoints, without running anything."""
        self._session = Session(
            self.params,
            self.plan,
            dataset=self.dataset,
            model=self.model,
            devices=self.devices,
            membership=self.membership,
        )
        return self._session

    def _info(self) -> console.Info:
        synthetic = " (synthetic)" if is_synthetic(self.dataset) else ""
        return console.Info(
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

    def _benchmark_log(self) -> BenchmarkLog | None:
        if self.params.benchmark_log_dir is None:
            return None
        log, info = BenchmarkLog(self.params.benchmark_log_dir), self._info()
        log.run(
            self.params,
            {
                "model": info.model,
                "dataset": info.dataset,
                "mode": info.mode,
                "single_sess": info.single_session,
                "devices": info.devices,
                "batch_size": info.batch_size,
                "batch_size_per_device": info.batch_size // self.params.num_gpus,
                "num_batches": info.num_batches,
                "num_epochs": info.num_epochs,
                "data_format": self.params.data_format,
                "rewrite_config": self.params.rewriter_config,
                "optimizer": self.params.optimizer,
            },
        )
        return log
