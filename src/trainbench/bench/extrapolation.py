"""What more workers would make of a step, from what one worker and the traffic measure.

A model, not a measurement: a step of one fixed batch, divided over workers whose tables are divided
too. Its parts follow each other; nothing overlaps. docs/scale.md states its assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass

INT32 = FLOAT32 = 4
# Messages of a step: ids, rows and gradients of rows, each to every other worker.
_EXCHANGES = 3


@dataclass(frozen=True)
class Network:
    """A link between any two workers: bytes/s each way, and seconds a message."""

    name: str
    bytes_per_s: float
    latency_s: float


ETHERNET_10G = Network("10 Gbit/s Ethernet, 50 us", 1.25e9, 50e-6)
ETHERNET_100G = Network("100 Gbit/s Ethernet, 20 us", 12.5e9, 20e-6)
INFINIBAND_200G = Network("200 Gbit/s InfiniBand, 5 us", 25e9, 5e-6)
NETWORKS = (ETHERNET_10G, ETHERNET_100G, INFINIBAND_200G)


@dataclass(frozen=True)
class Measured:
    """What the model is fed with.

    Attributes:
        samples_per_s: of one worker that trains whole batches.
        batch: samples of a step, of all workers together.
        items: rows of the divided table whose rows travel.
        row_bytes: one row's values. dense_bytes: of the layers, which every worker has.
        label_s: seconds a sample of what every worker draws for the whole batch.
    """

    samples_per_s: float
    batch: int
    items: int
    row_bytes: int
    dense_bytes: int
    label_s: float = 0.0


@dataclass(frozen=True)
class Step:
    """Seconds of one step with ``workers``, by part, and bytes that each worker sends."""

    workers: int
    compute_s: float
    exchange_s: float
    reduce_s: float
    undivided_s: float
    sent_bytes: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute_s + self.exchange_s + self.reduce_s + self.undivided_s

    def limit(self) -> str:
        """The part that takes longest."""
        parts = {
            "compute": self.compute_s,
            "exchange of rows": self.exchange_s,
            "reduction of layers": self.reduce_s,
            "label draws": self.undivided_s,
        }
        return max(parts, key=lambda name: parts[name])


def distinct(draws: float, items: int) -> float:
    """How many of ``items`` are named by ``draws`` uniform draws, in expectation.

    Popular positives repeat more often, so this is an upper estimate for a batch.
    """
    return float(items * (1 - (1 - 1 / items) ** draws))


def step(measured: Measured, workers: int, network: Network) -> Step:
    """One step of ``workers`` workers, each as fast as the one that was measured.

    A worker asks the others for the distinct rows of its samples and sends their gradients back;
    the layers' gradients are summed in a ring.
    """
    others = (workers - 1) / workers
    rows = distinct(measured.batch / workers, measured.items)
    exchanged = others * rows * (INT32 + 2 * measured.row_bytes)
    reduced = 2 * others * measured.dense_bytes
    wire = network.bytes_per_s
    return Step(
        workers=workers,
        compute_s=measured.batch / workers / measured.samples_per_s,
        exchange_s=exchanged / wire + _EXCHANGES * (workers - 1) * network.latency_s,
        reduce_s=reduced / wire + 2 * (workers - 1) * network.latency_s,
        undivided_s=measured.batch * measured.label_s,
        sent_bytes=exchanged + reduced,
    )


def speed_up(measured: Measured, workers: int, network: Network) -> float:
    """How many times as many samples per second as one worker."""
    alone = step(measured, 1, network).seconds
    return alone / step(measured, workers, network).seconds
