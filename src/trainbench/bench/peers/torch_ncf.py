"""NeuMF as the reference writes it in PyTorch: its training steps and its scores of candidates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from trainbench.bench.batches import random_candidates
from trainbench.bench.peers.rounds import Turn, timed
from trainbench.machine import allotment
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.batches import random_batches

# Users whose candidates are scored at a time, a few as in ours, so that they stay in the cache.
USERS_AT_ONCE = 32


class NeuMF(nn.Module):
    """Two embeddings a side, an MLP over one pair and a product of the other, one last layer."""

    def __init__(self, config: NcfConfig, users: int, items: int, *, sparse: bool) -> None:
        super().__init__()
        sizes, half = config.mlp_layer_sizes, config.mlp_layer_sizes[0] // 2
        self.user_mf = nn.Embedding(users, config.mf_dim, sparse=sparse)
        self.item_mf = nn.Embedding(items, config.mf_dim, sparse=sparse)
        self.user_mlp = nn.Embedding(users, half, sparse=sparse)
        self.item_mlp = nn.Embedding(items, half, sparse=sparse)
        pairs = itertools.pairwise(sizes)
        self.mlp = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairs)
        self.final = nn.Linear(config.mf_dim + sizes[-1], 1)
        for table in self.tables():
            nn.init.normal_(table.weight, std=0.01)

    def tables(self) -> list[Any]:
        """The four embeddings."""
        return [self.user_mf, self.item_mf, self.user_mlp, self.item_mlp]

    def forward(self, users: Any, items: Any) -> Any:
        """Logits [batch] of int64 [batch] users and items."""
        return self.of_rows(*self.rows(users, items))

    def rows(self, users: Any, items: Any) -> tuple[Any, ...]:
        """The rows of ``tables`` that the pairs name, [batch, width] each."""
        pairs = zip(self.tables(), (users, items, users, items), strict=True)
        return tuple(table(numbers) for table, numbers in pairs)

    def of_rows(self, user_mf: Any, item_mf: Any, user_mlp: Any, item_mlp: Any) -> Any:
        """Logits [batch] of the rows of its pairs."""
        hidden = torch.cat((user_mlp, item_mlp), dim=1)
        for layer in self.mlp:
            hidden = torch.relu(layer(hidden))
        return self.final(torch.cat((user_mf * item_mf, hidden), dim=1))[:, 0]

    def take(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take parameters by their names in ``weights.npz``, as the current ones."""
        named = {name: getattr(self, name).weight for name in weights if hasattr(self, name)}
        layers = {f"mlp_{number}": layer for number, layer in enumerate(self.mlp, start=1)}
        for name, layer in {**layers, "final": self.final}.items():
            named |= {f"{name}_kernel": layer.weight, f"{name}_bias": layer.bias}
        with torch.no_grad():
            for name, values in weights.items():
                turned = values.T if name.endswith("_kernel") else values
                named[name].copy_(torch.from_numpy(np.ascontiguousarray(turned)))


class Training:
    """A model, its loss and its optimizer; ``step`` takes one step and returns the loss.

    Args:
        sparse: SparseAdam for the tables, which moves the rows of a batch alone.
        compiled: forward and backward pass by ``torch.compile`` with its defaults. With ``sparse``
            without the tables: inductor has no sparse gradients.
    """

    def __init__(
        self, config: NcfConfig, geometry: tuple[int, int], *, sparse: bool, compiled: bool
    ) -> None:
        self.model = NeuMF(config, *geometry, sparse=sparse)
        options: dict[str, Any] = {
            "lr": config.learning_rate,
            "betas": (config.beta1, config.beta2),
            "eps": config.epsilon,
        }
        tables = [table.weight for table in self.model.tables()] if sparse else []
        left_out = {id(table) for table in tables}
        dense = [p for p in self.model.parameters() if id(p) not in left_out]
        self.optimizers: list[Any] = [torch.optim.Adam(dense, fused=True, **options)]
        if sparse:
            self.optimizers.append(torch.optim.SparseAdam(tables, **options))
        self._bf16 = config.precision == "bf16"
        self._of_rows, self._loss = self._loss_of_rows, self._whole_loss
        if compiled and sparse:
            self._of_rows = torch.compile(self._loss_of_rows)
        elif compiled:
            self._loss = torch.compile(self._whole_loss)

    def step(self, users: Any, items: Any, labels: Any) -> Any:
        """The mean loss before the step, over int64 [batch] ids and float32 [batch] labels."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self._loss(users, items, labels)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()

    def _whole_loss(self, users: Any, items: Any, labels: Any) -> Any:
        return self._of_rows(self.model.rows(users, items), labels)

    def _loss_of_rows(self, rows: tuple[Any, ...], labels: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            logits = self.model.of_rows(*rows)
            return nn.functional.binary_cross_entropy_with_logits(logits, labels)


def training(
    *,
    config: NcfConfig,
    geometry: tuple[int, int],
    steps: int,
    sparse: bool = False,
    compiled: bool = False,
) -> Turn:
    """Turns of ``steps`` training steps over ids in memory."""
    _prepare()
    trainer = Training(config, geometry, sparse=sparse, compiled=compiled)
    data = random_batches(geometry, steps=steps, batch=config.batch_size)
    users, items = (torch.from_numpy(ids.astype(np.int64)) for ids in (data.users, data.items))
    labels = torch.from_numpy(data.labels.astype(np.float32))

    def work() -> int:
        for batch in zip(users, items, labels, strict=True):
            loss = trainer.step(*batch)
        float(loss)
        return data.users.size

    return timed(work)


def evaluation(
    *, config: NcfConfig, geometry: tuple[int, int], users: int, compiled: bool = False
) -> Turn:
    """Turns that score every candidate of ``users`` users and rank each one's last."""
    _prepare()
    model = NeuMF(config, *geometry, sparse=False).eval()
    candidates = random_candidates(geometry[1], users=users, negatives=config.eval_negatives)
    items = torch.from_numpy(candidates.items.astype(np.int64))
    ranks = ranking(model, bf16=config.precision == "bf16")
    ranks = torch.compile(ranks) if compiled else ranks

    def work() -> int:
        with torch.inference_mode():
            for start in range(0, users, USERS_AT_ONCE):
                part = items[start : start + USERS_AT_ONCE]
                numbers = torch.arange(start, start + len(part))
                ranks(numbers, part)
        return candidates.items.size

    return timed(work)


def ranking(model: NeuMF, *, bf16: bool) -> Callable[[Any, Any], Any]:
    """A function of users [n] and items [n, width]: how many are ahead of each row's last."""

    def ranks(users: Any, items: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(users.repeat_interleave(items.shape[1]), items.reshape(-1))
        scores = logits.float().reshape(items.shape)
        return (scores[:, :-1] > scores[:, -1:]).sum(1)

    return ranks


def _prepare() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(allotment.cpus())
