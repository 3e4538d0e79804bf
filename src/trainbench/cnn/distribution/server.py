"""A process that lends its devices to another one, until that one has ended."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainbench.cnn import console
from trainbench.cnn.cluster import is_coordinated
from trainbench.cnn.distribution.coordinator import threads_wanted
from trainbench.cnn.flags.params import Params
from trainbench.distribution.cluster import Cluster
from trainbench.distribution.liveness import Liveness, first_line
from trainbench.errors import MachineError
from trainbench.progress import log_line

_NAME = "/proc/self/comm"
_ENDED = "run-has-ended"
_TOTAL = "end "
# The kernel keeps this much of a name: the speed with two decimals fits up to 10^8 images/s.
_NAME_CHARS = 15


def watch(cluster: Cluster, params: Params) -> Liveness:
    """Whether the processes that this one needs are there; ``start`` begins to look."""
    return Liveness(cluster, timeout_s=params.cluster_timeout_s, option="--cluster_timeout_s")


def serve(cluster: Cluster, params: Params) -> None:
    """Serve until the coordinator says that the run has ended; print the speed that it says.

    Raises:
        MachineError: the port is taken.
    """
    if cluster.me.job == "ps":
        console.print_result(f"Running parameter server {cluster.me.index}")
    else:
        console.print_result(f"Starting worker {cluster.me.index}")
    if not is_coordinated(params):
        log_line(
            f"variable_update={params.variable_update}: workers keep the variables, none are kept "
            "here"
        )
        return
    server = start(cluster, params)
    looking = watch(cluster, params).start()
    while not _has_ended(name := Path(_NAME).read_text(encoding="utf-8").strip()):
        time.sleep(0.1)
    looking.stop()
    if name.startswith(_TOTAL):
        console.print_result(console.totals(float(name.removeprefix(_TOTAL))))
    log_line("the run has ended")
    del server


def start(cluster: Cluster, params: Params) -> Any:
    """TensorFlow's server of this process, which listens until the process ends.

    Raises:
        MachineError: the port is taken.
    """
    options = tf.compat.v1.ConfigProto(device_count={"CPU": params.num_gpus})
    options.gpu_options.allow_growth = bool(params.allow_growth)
    options.intra_op_parallelism_threads = params.num_intra_threads or 0
    options.inter_op_parallelism_threads = threads_wanted(cluster, params)
    try:
        return tf.distribute.Server(
            # The controller is no server: it connects to those that are.
            tf.train.ClusterSpec({j: a for j, a in cluster.jobs().items() if j != "chief"}),
            job_name=cluster.me.job,
            task_index=cluster.me.index,
            protocol=cluster.protocol,
            config=options,
        )
    except tf.errors.OpError as error:
        raise MachineError(
            f"{cluster.me}: cannot listen there ({first_line(error)}); is another "
            "process running on that port?"
        ) from None


def dismiss(cluster: Cluster, images_per_s: float | None) -> None:
    """Tell the processes that serve this one that the run has ended, and how fast it was.

    A server of TensorFlow cannot be told to end. What it can do is run an operation, and the one
    thing about a process that such an operation can change and the process can see is its name.
    """
    ending = _ENDED if images_per_s is None else f"{_TOTAL}{images_per_s:.2f}"[:_NAME_CHARS]
    for job, addresses in cluster.jobs().items():
        for index, address in enumerate(addresses):
            if address == cluster.me.address:
                continue
            device = f"/job:{job}/replica:0/task:{index}/device:CPU:0"
            # One that is gone already needs no telling.
            with contextlib.suppress(tf.errors.OpError), tf.device(device):
                tf.io.write_file(_NAME, ending)
                # An operation elsewhere is sent and not waited for; what comes back from the next
                # one there says that this one is done, before this process ends.
                tf.io.read_file(_NAME).numpy()


def _has_ended(name: str) -> bool:
    return name == _ENDED or name.startswith(_TOTAL)
