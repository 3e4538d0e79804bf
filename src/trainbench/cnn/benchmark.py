"""The benchmark: ``BenchmarkCNN(params).run()`` builds a model and trains or evaluates it.

params = make_params(model="resnet50", num_batches=8, device="cpu")
stats = BenchmarkCNN(params).run()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainbench.cnn import console, environment, header, rules, runs
from trainbench.cnn.cluster import own_files
from trainbench.cnn.distribution import server
from trainbench.cnn.distribution.membership import Membership
from trainbench.cnn.flags.params import Params
from trainbench.cnn.hooks import Follower
from trainbench.cnn.input import datasets
from trainbench.cnn.measure.benchmark_log import BenchmarkLog
from trainbench.cnn.mlperf import lines as mlperf
from trainbench.cnn.models import registry
from trainbench.cnn.plan import Plan
from trainbench.cnn.session import Session
from trainbench.cnn.startup import Startup
from trainbench.progress import log_line


class BenchmarkCNN:
    """One run. Making it decides what will be done; ``start`` begins to do it.

    Args:
        params: what to run.
        dataset: taken in place of the one that ``params`` name.
        model: the same for the model; see ``models.registry``.
        startup: of a start that has begun; it goes on here.
        follower: is told how far the training is.

    Raises:
        ParamError: (a ``ValueError``) unusable parameters, with tf_cnn_benchmarks' message.
        DataIntegrityError: there is no folder ``data_dir``, or not what the run needs of it.
    """

    def __init__(
        self,
        params: Params,
        dataset: Any = None,
        model: Any = None,
        startup: Startup | None = None,
        follower: Follower | None = None,
    ) -> None:
        if dataset is None:
            dataset = datasets.create(params, image_size=getattr(model, "image_size", None))
        self.dataset = dataset
        self.model = model or registry.get_model(params.model, dataset.name)
        self.plan = Plan.of(params, self.dataset, self.model)
        self.params = own_files(params, self.plan.cluster)
        self.startup, self.follower = startup or Startup(), follower or Follower()
        self.membership: Membership | None = None
        self.printed_devices: list[str] = []
        self.devices: list[str] = []
        self._session: Session | None = None

    def start(self) -> None:
        """Start the clock, TensorFlow on its devices, and the work with other processes.

        Whatever needs it calls it; only the first call does anything.

        Raises:
            ParamError: more devices than there are.
            MachineError: the other processes cannot be met.
        """
        if self.devices:
            return
        mlperf.start()
        mlperf.offset(self.params, self.plan)
        for note in rules.notes(self.params):
            log_line(note)
        environment.configure(self.params)
        if self.plan.cluster is not None:
            self.membership = Membership(self.plan.cluster, self.params)
            self.membership.join()
        printed, used = environment.devices(self.params)
        if self.membership is not None:
            printed, used = self.membership.devices(printed, used)
        self.printed_devices, self.devices = printed, used

    @property
    def session(self) -> Session:
        """What the run is made of; there once ``run`` has built it."""
        assert self._session is not None, "run() builds the session"
        return self._session

    def print_info(self) -> None:
        """Print the header of the run."""
        self.start()
        lines = header.lines(self.params, self.plan, self.dataset, self.model, self.printed_devices)
        console.print_result("\n".join(lines))

    def run(self) -> dict[str, Any]:
        """Run it and return the statistics; an evaluation of checkpoints returns none.

        Raises:
            RuntimeError: the input ended before the run did.
        """
        return self.together(self._run) or {}

    def together(self, work: Callable[[], Any]) -> Any:
        """Do ``work`` with the other processes of the run; ``None`` if this one only serves."""
        self.start()
        if self.membership is None:
            return work()
        if self.membership.cluster.is_serving:
            return server.serve(self.membership.cluster, self.params)
        with self.membership.running():
            return work()

    def _run(self) -> dict[str, Any]:
        log = self._benchmark_log()
        if self.plan.mode == rules.EVALUATION:
            console.print_result("Generating evaluation model")
            runs.evaluate(self.build(), log)
            return {}
        console.print_result("Generating training model")
        session = self.build()
        mlperf.training(session)
        if self.plan.mode == rules.TRAINING_AND_EVALUATION:
            console.print_result("Generating evaluation model")
            mlperf.evaluation(session)
        return runs.train(session, log, self.follower)

    def build(self) -> Session:
        """Build the network, its step and its checkpoints, without running anything."""
        self.start()
        with self.startup.phase("build"):
            self._session = Session(
                self.params,
                self.plan,
                dataset=self.dataset,
                model=self.model,
                devices=self.devices,
                membership=self.membership,
                startup=self.startup,
            )
        return self._session

    def _benchmark_log(self) -> BenchmarkLog | None:
        if self.params.benchmark_log_dir is None:
            return None
        log = BenchmarkLog(self.params.benchmark_log_dir)
        log.run(
            self.params,
            {
                "model": self.model.name,
                "dataset": header.dataset_name(self.dataset),
                "mode": self.plan.mode,
                "single_sess": self.params.variable_update == "distributed_all_reduce",
                "devices": self.printed_devices,
                **self.plan.sizes(),
                "data_format": self.params.data_format,
                "rewrite_config": self.params.rewriter_config,
                "optimizer": self.params.optimizer,
            },
        )
        return log
