"""NCF to its quality target, written plainly: what trainbench times, without what makes it fast.

The same data, draws, model, Adam and evaluation as ``trainbench train``: for one seed the same
samples byte by byte, and losses and hits that differ by the rounding of float32 alone
(docs/performance.md). Sources: "reference" is mlcommons/training@fe17e837 recommendation/pytorch;
"rules" are mlperf/training_policies training_rules.adoc@6e02163; He et al. 2017 is Neural
Collaborative Filtering, arXiv 1708.05031.
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

import numpy as np
import tensorflow as tf

EXAMPLE = """example, after `python -m trainbench preprocess --preset quick --data-dir data`:
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

    users, items: the training pairs by user; user u has row_starts[u] up to row_starts[u + 1].
    test_items: each user's last item by time (reference convert.py). item_ids: the dataset's own.
    """

    users: np.ndarray
    items: np.ndarray
    row_starts: np.ndarray
    test_items: np.ndarray
    item_ids: np.ndarray

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """The parts that negatives are drawn for: first users and ends, some 20,000 pairs each."""
        num_users, most_users = len(self.test_items), max(1, (1 << 22) // len(self.item_ids))
        bounds = [0]
        while (first := bounds[-1]) < num_users:
            most_pairs = self.row_starts[first] + 20_000
            by_pairs = int(np.searchsorted(self.row_starts, most_pairs, side="right")) - 1
            bounds.append(min(max(by_pairs, first + 1), first + most_users, num_users))
        return list(itertools.pairwise(bounds))


def load_split(cache: Path) -> Split:
    """The split in a cache folder: plain arrays."""
    names = ("users", "items", "row_starts", "test_items", "item_ids")
    return Split(*(np.load(cache / f"{name}.npy") for name in names))


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
    (first, end), num_items = chunk, len(split.item_ids)
    pairs = slice(split.row_starts[first], split.row_starts[end])
    rated = np.zeros((end - first, num_items), dtype=bool)
    rated[split.users[pairs] - first, split.items[pairs]] = True
    rows = users - first
    drawn = rng.integers(0, num_items, len(rows), dtype=np.int32)
    again = np.flatnonzero(rated[rows, drawn])
    for _ in range(16):
        if not again.size:
            return drawn
        drawn[again] = rng.integers(0, num_items, again.size, dtype=np.int32)
        again = again[rated[rows[again], drawn[again]]]
    # Whoever is left has rated nearly everything: what is not rated is listed and drawn from.
    for row in np.unique(rows[again]):
        places, unrated = again[rows[again] == row], np.flatnonzero(~rated[row])
        drawn[places] = unrated[rng.integers(0, len(unrated), places.size)]
    return drawn


def draw_candidates(split: Split, settings: Settings, seed: int) -> np.ndarray:
    """What each user's held-out item is ranked among, drawn once: [users, 999 + 1], it the last."""
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
    return list(zip(*(np.concatenate(a)[order] for a in (users, items, labels)), strict=True))


def draw_order(sizes: list[int], batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """A uniformly random order of the samples of parts of these sizes, in whole batches.

    Each sample goes to a random bucket, then every bucket is shuffled (Rao 1961, Sandelius 1962).
    What fills the last batch is repeated samples; they come first (tensorflow/models#5576).
    """
    total = sum(sizes)
    buckets = 1 << (math.ceil(total / (1 << 17)) - 1).bit_length()
    dtype = np.uint8 if buckets <= 256 else np.uint16
    drawn = []
    for part, size in enumerate(sizes):
        drawn.append(stream(seed, BUCKETS, epoch, part).integers(0, buckets, size, dtype))
    bucket_of = np.concatenate(drawn)
    order = np.argsort(bucket_of, kind="stable")
    repeated = order[stream(seed, PADDING, epoch, 0).integers(0, total, -total % batch_size)]
    ends = np.cumsum(np.bincount(bucket_of, minlength=buckets))
    for bucket, samples in enumerate(np.split(order, ends[:-1])):
        stream(seed, SHUFFLE, epoch, bucket).shuffle(samples)  # a view: ``order`` is shuffled
    return np.concatenate([repeated, order])


def epoch_sha256(batches: Batches) -> str:
    """What the product logs under this name: where it is equal, all samples and batches are."""
    return hashlib.sha256(b"".join(map(bytes, itertools.chain(*batches)))).hexdigest()


def initial_weights(split: Split, settings: Settings, seed: int) -> Weights:
    """Embeddings N(0, 0.01); MLP Glorot, last layer LeCun uniform; biases U(+-1/sqrt(fan_in)).

    The last is PyTorch's default, and so part of the reference's initialisation (neumf.py).
    """
    rng, sizes, weights = np.random.default_rng(seed), settings.mlp_layer_sizes, {}

    def normal(*shape: int) -> tf.Variable:
        return tf.Variable(rng.standard_normal(shape, np.float32) * np.float32(0.01))

    def uniform(limit: float, *shape: int) -> tf.Variable:
        return tf.Variable((2 * rng.random(shape, np.float32) - 1) * np.float32(limit))

    for side, rows in (("user", len(split.test_items)), ("item", len(split.item_ids))):
        weights[f"{side}_mf"] = normal(rows, settings.mf_dim)
        weights[f"{side}_mlp"] = normal(rows, sizes[0] // 2)
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
        weights[f"kernel_{layer}"] = uniform(math.sqrt(6 / (fan_in + fan_out)), fan_in, fan_out)
        weights[f"bias_{layer}"] = uniform(1 / math.sqrt(fan_in), fan_out)
    fan_in = settings.mf_dim + sizes[-1]
    weights["final_kernel"] = uniform(math.sqrt(3 / fan_in), fan_in, 1)
    weights["final_bias"] = uniform(1 / math.sqrt(fan_in), 1)
    return weights


def logits(weights: Weights, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """NeuMF, [batch]: the sigmoid makes it the probability that the user rates the item.

    Two models with embeddings of their own, the product of a user's and an item's (GMF) and an MLP
    over both; one linear layer reads the two (He et al. 2017, section 3.4; reference neumf.py).
    """
    gmf = tf.gather(weights["user_mf"], users) * tf.gather(weights["item_mf"], items)
    user, item = tf.gather(weights["user_mlp"], users), tf.gather(weights["item_mlp"], items)
    hidden = tf.concat([user, item], axis=1)
    for layer in range(1, len(weights) // 2 - 2):  # four tables, two of the last layer, two of each
        hidden = tf.nn.relu(hidden @ weights[f"kernel_{layer}"] + weights[f"bias_{layer}"])
    both = tf.concat([gmf, hidden], axis=1)
    return (both @ weights["final_kernel"] + weights["final_bias"])[:, 0]


class Adam:
    """Kingma and Ba 2015, algorithm 1, on every row of every table in every step, as the reference.

    A row that no sample of the batch names has gradient 0, and its first moment moves it on.
    """

    def __init__(self, settings: Settings, weights: Weights) -> None:
        self.settings, self.weights = settings, weights
        self.m = {name: tf.Variable(tf.zeros_like(value)) for name, value in weights.items()}
        self.v = {name: tf.Variable(tf.zeros_like(value)) for name, value in weights.items()}
        self.step = tf.Variable(0, dtype=tf.float64)

    @tf.function
    def train_step(self, users: tf.Tensor, items: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Take one step; returns the batch's mean binary cross-entropy before it."""
        truth, cross_entropy = tf.cast(labels, tf.float32), tf.nn.sigmoid_cross_entropy_with_logits
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(truth, logits(self.weights, users, items)))
        gradients = tape.gradient(loss, self.weights)
        beta1, beta2, epsilon = self.settings.beta1, self.settings.beta2, self.settings.epsilon
        # Bias corrections in float64: of 1 - 0.999, float32 has four digits.
        step = self.step.assign_add(1)
        rate = tf.cast(self.settings.learning_rate / (1 - beta1**step), tf.float32)
        scale = tf.cast(tf.sqrt(1 - beta2**step), tf.float32)
        for name, weight in self.weights.items():
            gradient, m, v = tf.convert_to_tensor(gradients[name]), self.m[name], self.v[name]
            m.assign(beta1 * m + (1 - beta1) * gradient)
            v.assign(beta2 * v + (1 - beta2) * gradient**2)
            weight.assign_sub(rate * m / (tf.sqrt(v) / scale + epsilon))
        return loss


def evaluate(weights: Weights, candidates: np.ndarray) -> tuple[int, float]:
    """Hits, the users whose held-out item is among their ten best, and mean NDCG@10.

    As in the reference (ncf.py): an item that was drawn twice is one key, and nlargest takes the
    earlier of equal scores, so the held-out item, the last, loses ties.
    """
    score, hits, gain = tf.function(logits), 0, 0.0
    for user, items in enumerate(candidates):
        scores = score(weights, np.full_like(items, user), items).numpy()
        score_of = dict(zip(items.tolist(), scores.tolist(), strict=True))
        best = heapq.nlargest(10, score_of, key=score_of.__getitem__)
        if items[-1] in best:
            hits += 1
            gain += math.log(2) / math.log(best.index(items[-1]) + 2)
    return hits, gain / len(candidates)


def train(split: Split, settings: Settings, seed: int) -> Iterator[tuple[str, float, int, float]]:
    """Train to the target, evaluating every epoch (rules); yields hash, mean loss, hits, NDCG."""
    candidates = draw_candidates(split, settings, seed)
    weights = initial_weights(split, settings, seed)
    adam = Adam(settings, weights)
    for epoch in range(settings.epochs):
        batches = draw_epoch(split, settings, seed, epoch)
        mean_loss = float(np.mean([adam.train_step(*batch) for batch in batches], dtype=float))
        hits, ndcg = evaluate(weights, candidates)
        yield epoch_sha256(batches), mean_loss, hits, ndcg
        if hits / len(candidates) >= settings.target:
            return


def main() -> None:
    """Train on the cache in the data directory; one line per epoch."""
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE, formatter_class=text)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="has cache/<key>/")
    parser.add_argument("--cache", default="*", help="the key, where there are several caches")
    parser.add_argument("--seed", type=int, default=1, help="a trial's is in its status.json")
    for name in ("target", "epochs", "batch_size", "learning_rate", "beta1", "beta2", "epsilon"):
        value, flag = getattr(Settings, name), "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    given = vars(parser.parse_args())
    data_dir, key, seed = (given.pop(name) for name in ("data_dir", "cache", "seed"))
    caches = [path.parent for path in data_dir.glob(f"cache/{key}/cache.json")]
    if len(caches) != 1:
        parser.error(f"wanted one cache in {data_dir}/cache, found {[c.name for c in caches]}")
    split, settings, started = load_split(caches[0]), Settings(**given), time.perf_counter()
    print(f"{caches[0].name}: {len(split.users):,} training pairs, seed {seed}", flush=True)
    for number, (sha256, loss, hits, ndcg) in enumerate(train(split, settings, seed), start=1):
        hit_rate, seconds = hits / len(split.test_items), time.perf_counter() - started
        print(
            f"epoch {number}/{settings.epochs}  hr@10 {hit_rate:.4f} (target {settings.target}, "
            f"{hits:,} hits)  ndcg@10 {ndcg:.4f}  loss {loss:.6f}  {seconds:.0f} s  {sha256[:12]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
