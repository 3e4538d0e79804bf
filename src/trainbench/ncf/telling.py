"""What people read while a trial trains."""

from __future__ import annotations

import time
from typing import Any

from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.producer import Producer
from trainbench.progress import duration, log_line, scaled


def epoch_line(epoch: dict[str, Any], config: NcfConfig) -> str:
    """The line that people read after every epoch."""
    return (
        f"epoch {epoch['epoch'] + 1}/{config.max_epochs}  hr@10 {epoch['hit_rate']:.4f} "
        f"(target {config.target_hit_rate})  ndcg@10 {epoch['ndcg']:.4f}  "
        f"loss {epoch['mean_loss']:.4f}  train {duration(epoch['train_s'])}  "
        f"eval {duration(epoch['eval_s'])}  {scaled(epoch['samples_per_s'], 'samples/s')}  "
        f"wait {duration(epoch['input_wait_s'])}  elapsed {duration(epoch['elapsed_s'])}"
    )


class Steps:
    """Stops a trial whose producer failed; says how far an epoch is, at most every ten seconds."""

    def __init__(self, epoch: int, producer: Producer) -> None:
        self._epoch, self._producer, self._started = epoch, producer, time.monotonic()
        self._said = self._started

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        """``done`` of ``total`` samples are trained on."""
        self._producer.check()
        now = time.monotonic()
        if now - self._said < 10:
            return
        self._said = now
        rate = done / (now - self._started)
        tail = "" if loss is None else f"  loss {loss:.4f}"
        log_line(
            f"epoch {self._epoch + 1}: {100 * done / total:.0f} %  "
            f"{scaled(rate, 'samples/s')}  ETA {duration((total - done) / rate)}{tail}"
        )
