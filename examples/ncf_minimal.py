"""NCF to its quality target, written plainly: what trainbench times, without what makes it fast.

The same data, draws, model, Adam and evaluation as ``trainbench train``: for one seed the same
samples byte by byte, the same losses up to the rounding of float32 and the same hits
(tests/workflow/test_minimal_example.py). It reads what ``trainbench preprocess`` wrote and imports
nothing of trainbench. It keeps an epoch in memory (about 4 GB for ml-20m) and updates all rows of
all tables in every step.

Sources. "Reference" is MLPerf v0.5's, mlcommons/training@fe17e837 recommendation/pytorch; "rules"
are mlperf/training_policies training_rules.adoc@6e02163; the model is that of He et al. 2017,
Neural Collaborative Filtering, arXiv 1708.05031.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

EXAMPLE = """example, after ``python -m trainbench preprocess --preset quick --data-dir data``:
  python examples/ncf_minimal.py --data-dir data --target 0.4 --learning-rate 1e-3 --seed 1"""
Weights = dict[str, tf.Variable]
Batches = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # users, items, labels (1: rated)


@dataclass(frozen=True)
class Settings:
    """The reference's own; the rules leave free only the batch size and the numbers of Adam."""

    target: float = 0.635
    epochs: int = 20
    batch_size: int = 2_048
    train_negatives: int = 4
    eval_negatives: int = 999
    mf_dim: int = 64
    mlp_layer_sizes: tuple[int, ...] = (256, 256, 128, 64)
    learning_rate: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Split:
    """Who rated what in training, and what was held out; a rating's value does not matter.

    users, items: the training pairs, grouped by user; those of user u are row_starts[u] up to
    row_starts[u + 1]. test_items: each user's last item by time (reference convert.py).
    """

    users: np.ndarray
    items: np.ndarray
    row_starts: np.ndarray
    test_items: np.ndarray

    @property
    def num_items(self) -> int:
        """Every item is in somebody's training pairs or held out."""
        return int(max(self.items.max(), self.test_items.max())) + 1

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """The parts that negatives are drawn for: first users and ends, some 20,000 pairs each."""
        num_users, most_users = len(self.test_items), max(1, (1 << 22) // self.num_items)
        bounds = [0]
        while (first := bounds[-1]) < num_users:
            most_pairs = self.row_starts[first] + 20_000
            by_pairs = int(np.searchsorted(self.row_starts, most_pairs, side="right")) - 1
            bounds.append(min(max(by_pairs, first + 1), first + most_users, num_users))
        return list(itertools.pairwise(bounds))


def load_split(cache: Path) -> Split:
    """The split in a cache folder: plain arrays."""
    names = ("users", "items", "row_starts", "test_items")
    return Split(**{name: np.load(cache / f"{name}.npy") for name in names})


# Every draw has a generator of its own by purpose, epoch and part, so that the product may make
# the parts on any number of workers. Here they are made one after the other.
EVAL_NEGATIVES, TRAIN_NEGATIVES, BUCKETS, SHUFFLE, PADDING = range(1, 6)


def stream(seed: int, purpose: int, epoch: int, part: int) -> np.random.Generator:
    """The random generator of one part of one epoch."""
    key = np.random.SeedSequence(seed, spawn_key=(purpose, epoch, part))
    return np.random.Generator(np.random.PCG64DXSM(key))


def draw_negatives(
    split: Split, chunk: tuple[int, int], users: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """An item for each of ``users``, uniform over those that the user has not rated in training.

    With replacement; the held-out item may be drawn (reference dataset.py and convert.py).
    """
    first, end = chunk
    pairs = slice(split.row_starts[first], split.row_starts[end])
    rated = np.zeros((end - first, split.num_items), dtype=bool)
    rated[split.users[pairs] - first, split.items[pairs]] = True
    rows = users - first
    drawn = rng.integers(0, split.num_items, len(rows), dtype=np.int32)
    again = np.flatnonzero(rated[rows, drawn])
    for _ in range(16):
        if not again.size:
            return drawn
        drawn[again] = rng.integers(0, split.num_items, again.size, dtype=np.int32)
        again = again[rated[rows[again], drawn[again]]]
    # Whoever is left has rated nearly everything: what is not rated is listed and drawn from.
    for row in np.unique(rows[again]):
        places, unrated = again[rows[again] == row], np.flatnonzero(~rated[row])
        drawn[places] = unrated[rng.integers(0, len(unrated), places.size)]
    return drawn


def draw_candidates(split: Split, settings: Settings, seed: int) -> np.ndarray:
    """What each user's held-out item, the last, is ranked among: int32 [users, 999 + 1].

    Drawn once a run. An item may be there twice, the held-out one too (reference convert.py).
    """
    drawn = []
    for part, chunk in enumerate(split.chunks):
        users = np.repeat(np.arange(*chunk), settings.eval_negatives)
        drawn.append(draw_negatives(split, chunk, users, stream(seed, EVAL_NEGATIVES, 0, part)))
    negatives = np.concatenate(drawn).reshape(len(split.test_items), settings.eval_negatives)
    return np.concatenate([negatives, split.test_items[:, None]], axis=1)


def draw_epoch(split: Split, settings: Settings, seed: int, epoch: int) -> Batches:
    """Every training pair once and four fresh negatives for each (reference dataset.py)."""
    users, items, labels, sizes = [], [], [], []
    for part, chunk in enumerate(split.chunks):
        pairs = slice(split.row_starts[chunk[0]], split.row_starts[chunk[1]])
        positives = split.users[pairs]
        repeated = np.repeat(positives, settings.train_negatives)
        rng = stream(seed, TRAIN_NEGATIVES, epoch, part)
        users += [positives, repeated]
        items += [split.items[pairs], draw_negatives(split, chunk, repeated, rng)]
        labels += [np.ones(len(positives), np.uint8), np.zeros(len(repeated), np.uint8)]
        sizes.append(len(positives) + len(repeated))
    order = draw_order(sizes, settings.batch_size, seed, epoch).reshape(-1, settings.batch_size)
    arrays = (np.concatenate(parts)[order] for parts in (users, items, labels))
    return list(zip(*arrays, strict=True))


def draw_order(sizes: list[int], batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """A uniformly random order of the samples of parts of these sizes, in whole batches.

    Each sample goes to a random bucket, then every bucket is shuffled (Rao 1961, Sandelius 1962).
    Random samples are repeated to fill a batch, at the start: before the evaluation they would
    count for more (tensorflow/models#5576).
    """
    total = sum(sizes)
    buckets = 1 << (math.ceil(total / (1 << 17)) - 1).bit_length()
    dtype = np.uint8 if buckets <= 256 else np.uint16
    streams = [stream(seed, BUCKETS, epoch, part) for part in range(len(sizes))]
    bucket_of = np.concatenate(
        [rng.integers(0, buckets, size, dtype) for rng, size in zip(streams, sizes, strict=True)]
    )
    order = np.argsort(bucket_of, kind="stable")
    repeated = order[stream(seed, PADDING, epoch, 0).integers(0, total, -total % batch_size)]
    ends = np.cumsum(np.bincount(bucket_of, minlength=buckets))
    for bucket, samples in enumerate(np.split(order, ends[:-1])):
        stream(seed, SHUFFLE, epoch, bucket).shuffle(samples)  # a view: ``order`` is shuffled
    return np.concatenate([repeated, order])


def epoch_sha256(batches: Batches) -> str:
    """What the product logs under this name: equal hashes, equal samples in equal order."""
    digest = hashlib.sha256()
    for part in itertools.chain.from_iterable(batches):
        digest.update(part.tobytes())
    return digest.hexdigest()


def initial_weights(split: Split, settings: Settings, seed: int) -> Weights:
    """Embeddings N(0, 0.01); MLP Glorot, last layer LeCun uniform; biases U(+-1/sqrt(fan_in)).

    The last is PyTorch's default, and so part of the reference's initialisation (neumf.py).
    """
    rng, sizes = np.random.default_rng(seed), settings.mlp_layer_sizes
    weights = {}

    def uniform(name: str, fan_in: int, fan_out: int, limit: float) -> None:
        for kind, shape, half in (
            ("kernel", (fan_in, fan_out), limit),
            ("bias", (fan_out,), 1 / math.sqrt(fan_in)),
        ):
            drawn = 2 * rng.random(shape, np.float32) - 1
            weights[f"{name}_{kind}"] = tf.Variable(drawn * np.float32(half))

    for side, rows in (("user", len(split.test_items)), ("item", split.num_items)):
        for table, width in (("mf", settings.mf_dim), ("mlp", sizes[0] // 2)):
            drawn = rng.standard_normal((rows, width), np.float32)
            weights[f"{side}_{table}"] = tf.Variable(drawn * np.float32(0.01))
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
        uniform(f"mlp_{layer}", fan_in, fan_out, math.sqrt(6 / (fan_in + fan_out)))
    last = settings.mf_dim + sizes[-1]
    uniform("final", last, 1, math.sqrt(3 / last))
    return weights


def logits(weights: Weights, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """NeuMF, [batch]: the sigmoid makes it the probability that the user rates the item.

    Two models with embeddings of their own, the product of a user's and an item's (GMF) and an MLP
    over both; one linear layer reads the two (He et al. 2017, section 3.4; reference neumf.py).
    """
    gmf = tf.gather(weights["user_mf"], users) * tf.gather(weights["item_mf"], items)
    user, item = tf.gather(weights["user_mlp"], users), tf.gather(weights["item_mlp"], items)
    hidden = tf.concat([user, item], axis=1)
    for layer in range(1, len(weights) // 2 - 2):  # two of a layer, after four tables, before final
        hidden = hidden @ weights[f"mlp_{layer}_kernel"] + weights[f"mlp_{layer}_bias"]
        hidden = tf.nn.relu(hidden)
    both = tf.concat([gmf, hidden], axis=1)
    return (both @ weights["final_kernel"] + weights["final_bias"])[:, 0]


class Adam:
    """Kingma and Ba 2015, algorithm 1, on every row of every table in every step, as the reference.

    A row that no sample of the batch names has gradient 0, and its first moment moves it on.
    """

    def __init__(self, settings: Settings, weights: Weights) -> None:
        self.settings, self.weights = settings, weights
        self.m = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in weights.items()}
        self.v = {name: tf.Variable(tf.zeros_like(weight)) for name, weight in weights.items()}
        self.step = tf.Variable(0, dtype=tf.float64)

    @tf.function
    def train_step(self, users: tf.Tensor, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Take one step; returns the batch's mean binary cross-entropy before it."""
        with tf.GradientTape() as tape:
            outputs, truth = logits(self.weights, users, items), tf.cast(labels, tf.float32)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=outputs)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, self.weights)
        beta1, beta2, epsilon = self.settings.beta1, self.settings.beta2, self.settings.epsilon
        # Bias corrections in float64: of 1 - 0.999, float32 has four digits.
        step = self.step.assign_add(1)
        rate = tf.cast(self.settings.learning_rate / (1 - beta1**step), tf.float32)
        scale = tf.cast(tf.sqrt(1 - beta2**step), tf.float32)
        for name, weight in self.weights.items():
            gradient = tf.convert_to_tensor(gradients[name])
            m = self.m[name].assign(beta1 * self.m[name] + (1 - beta1) * gradient)
            v = self.v[name].assign(beta2 * self.v[name] + (1 - beta2) * gradient**2)
            weight.assign_sub(rate * m / (tf.sqrt(v) / scale + epsilon))
        return loss


def evaluate(weights: Weights, candidates: np.ndarray) -> tuple[int, float]:
    """Hits, the users whose held-out item is among their ten best candidates, and NDCG@10.

    As the reference ranks (ncf.py): an item that was drawn twice counts once, because it is a key,
    and nlargest prefers the earlier of equal scores, so the held-out item, the last, loses ties.
    """
    score, ranks = tf.function(logits), []
    for user, items in enumerate(candidates):
        scores = score(weights, np.full_like(items, user), items).numpy()
        score_of = dict(zip(items.tolist(), scores.tolist(), strict=True))
        best = heapq.nlargest(10, score_of, key=score_of.__getitem__)
        if items[-1] in best:
            ranks.append(best.index(items[-1]))
    gains = [math.log(2) / math.log(rank + 2) for rank in ranks]
    return len(ranks), sum(gains) / len(candidates)


class Epoch(NamedTuple):
    """What one epoch came to."""

    sha256: str
    mean_loss: float
    hits: int
    hit_rate: float
    ndcg: float


def train(split: Split, settings: Settings, seed: int) -> Iterator[Epoch]:
    """Train and evaluate until the target is reached, at most ``settings.epochs`` times (rules)."""
    candidates = draw_candidates(split, settings, seed)
    weights = initial_weights(split, settings, seed)
    adam = Adam(settings, weights)
    for epoch in range(settings.epochs):
        batches = draw_epoch(split, settings, seed, epoch)
        mean_loss = float(np.mean([adam.train_step(*batch) for batch in batches]))
        hits, ndcg = evaluate(weights, candidates)
        yield Epoch(epoch_sha256(batches), mean_loss, hits, hits / len(candidates), ndcg)
        if hits / len(candidates) >= settings.target:
            return


def main() -> None:
    """Train on the cache in the data directory; one line per epoch."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="has cache/<key>/")
    parser.add_argument("--cache", default="*", help="the key, where there are several")
    parser.add_argument("--seed", type=int, default=1, help="decides every draw (default 1)")
    for name in ("target", "epochs", "batch_size", "learning_rate", "beta1", "beta2", "epsilon"):
        value = getattr(Settings, name)
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    given = vars(parser.parse_args())
    data, key, seed = given.pop("data_dir"), given.pop("cache"), given.pop("seed")
    caches = [path.parent for path in data.glob(f"cache/{key}/row_starts.npy")]
    if len(caches) != 1:
        found = ", ".join(cache.name for cache in caches) or "none"
        parser.error(f"wanted one cache in {data}/cache, found {found}; preprocess, or say --cache")
    settings, split = Settings(**given), load_split(caches[0])
    print(f"{caches[0].name}: {len(split.users):,} training pairs, seed {seed}", flush=True)
    started = time.perf_counter()
    for number, epoch in enumerate(train(split, settings, seed), start=1):
        print(
            f"epoch {number}/{settings.epochs}  hr@10 {epoch.hit_rate:.4f} ({epoch.hits:,} hits, "
            f"target {settings.target})  ndcg@10 {epoch.ndcg:.4f}  loss {epoch.mean_loss:.6f}  "
            f"{time.perf_counter() - started:.0f} s  samples {epoch.sha256[:12]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
