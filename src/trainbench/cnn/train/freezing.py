"""Whether a run of forward passes is long enough for its weights to be made constants of a graph.

Making them constants takes about a second for each 10 MB of weights. It saves a share of every
step: 6 % where normalizations can be folded into convolutions (resnet50), 2 % otherwise (alexnet).
The step is taken to run at the rate of a usual device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CHEAP_BYTES = 10_000_000
_S_PER_BYTE = 1e-7
_SAVED_BY_FOLDING, _SAVED_OTHERWISE = 0.06, 0.02
_FLOPS_PER_S = {"cpu": 1e11, "gpu": 1e13}


@dataclass(frozen=True)
class Passes:
    """The forward passes of a run: ``images`` of them, through weights of ``weight_bytes``."""

    images: int
    weight_bytes: int
    has_normalization: bool
    device: str

    def repay_constants(self, count_flops: Callable[[], int | None]) -> bool:
        """Whether the steps save what making constants costs.

        ``count_flops`` gives the operations of one image; it is asked only where they decide.
        """
        if self.weight_bytes <= CHEAP_BYTES:
            return True
        share = _SAVED_BY_FOLDING if self.has_normalization else _SAVED_OTHERWISE
        run_s = self.images * (count_flops() or 0) / _FLOPS_PER_S[self.device]
        return share * run_s >= self.weight_bytes * _S_PER_BYTE
