"""How many threads each kind of work gets: the arithmetic of tf_cnn_benchmarks.

Each GPU has host threads of its own (two by default). The other cores run operations. Two more
for each GPU watch it, and the rest prepare images. This module imports no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainbench.cnn.flags.params import Params
from trainbench.machine import allotment

THREADS_OF_A_GPU = 2
WATCHERS_OF_A_GPU = 2


@dataclass(frozen=True)
class Threads:
    """Counts for one process; 0 leaves a number to TensorFlow.

    Attributes:
        within: of one operation (intra-op).
        between: operations at a time (inter-op).
        gpu: ``TF_GPU_THREAD_COUNT``.
        images: for preparing images, in a pool of their own; 0 for none.
    """

    within: int
    between: int
    gpu: int
    images: int

    @classmethod
    def of(cls, params: Params, *, on_gpu: bool, cores: int | None = None) -> Threads:
        """The threads of a run that computes ``on_gpu``, on ``cores`` (those it may use)."""
        cores = cores or allotment.cpus()
        within, between = params.num_intra_threads or 0, params.num_inter_threads or 0
        images = params.datasets_num_private_threads or 0
        if not on_gpu:
            return cls(within, between, 0, images)
        if params.num_intra_threads is None:
            # As tf_cnn_benchmarks: host threads cannot share the work of a GPU's operations.
            within = 1
        if params.gpu_thread_mode == "global":
            return cls(within, between, 0, images)
        own = params.per_gpu_thread_count or THREADS_OF_A_GPU
        every = own * params.num_gpus
        if params.datasets_use_prefetch and params.datasets_num_private_threads is None:
            images = max(cores - every - WATCHERS_OF_A_GPU * params.num_gpus, 1)
        shared = params.gpu_thread_mode == "gpu_shared"
        return cls(within, between or max(cores - every, 1), every if shared else own, images)

    def __str__(self) -> str:
        names = {
            "intra-op": self.within,
            "inter-op": self.between,
            "each GPU pool": self.gpu,
            "image": self.images,
        }
        given = [f"{count} {name}" for name, count in names.items() if count]
        return "threads requested: " + ", ".join(given)
