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

    def chunks(self, most_cells: int) -> list[tuple[int, int]]:
        """The parts that negatives are drawn for: first users and ends, some 20,000 pairs each."""
        most_users = max(32, most_cells // len(self.item_ids))
        bounds = [0]
        while (first := bounds[-1]) < len(self.test_items):
            most_pairs = self.row_starts[first] + 20_000
            by_pairs = int(np.searchsorted(self.row_starts, most_pairs, side="right")) - 1
            end = min(max(by_pairs, first + 1), first + most_users, len(self.test_items))
            bounds.append(int(end))
        return list(itertools.pairwise(bounds))

    def rated(self, first: int, end: int) -> np.ndarray:
        """Whether each of these users has rated each item in training."""
        pairs = slice(self.row_starts[first], self.row_starts[end])
        rated = np.zeros((end - first, len(self.item_ids)), dtype=bool)
        rated[self.users[pairs] - first, self.items[pairs]] = True
        return rated


def load_split(cache: Path) -> Split:
    """The split in a cache folder: plain arrays."""
    names = ("users", "items", "row_starts", "test_items", "item_ids")
    return Split(*(np.load(cache / f"{name}.npy") for name in names))


# Every draw has a generator of its own by purpose, epoch and part, so that the product may make
# the parts on any number of workers. Here they are made one after the other.
EVAL_NEGATIVES, DEALING, CHUNK_ORDER, CELL_ORDER, NEGATIVES_BY_PLACE, REPEATS = 1, 6, 7, 8, 9, 10
SLICES = 64  # of each batch


def key(seed: int, purpose: int, epoch: int, part: int) -> np.random.SeedSequence:
    """The seed of one part of one epoch."""
    return np.random.SeedSequence(seed, spawn_key=(purpose, epoch, part))


def stream(seed: int, purpose: int, epoch: int, part: int) -> np.random.Generator:
    """The random generator of one part of one epoch."""
    return np.random.Generator(np.random.PCG64DXSM(key(seed, purpose, epoch, part)))


def draw_candidates(split: Split, settings: Settings, seed: int) -> np.ndarray:
    """What each user's held-out item is ranked among, drawn once: [users, 999 + 1], it the last.

    Items without a training rating of the user, with replacement; the held-out item may be drawn
    (reference convert.py).
    """
    drawn, num_items = [], len(split.item_ids)
    for part, (first, end) in enumerate(split.chunks(1 << 22)):
        rng, rated = stream(seed, EVAL_NEGATIVES, 0, part), split.rated(first, end)
        rows = np.repeat(np.arange(end - first), settings.eval_negatives)
        items = rng.integers(0, num_items, len(rows), dtype=np.int32)
        again = np.flatnonzero(rated[rows, items])
        for _ in range(16 * bool(again.size)):
            items[again] = rng.integers(0, num_items, again.size, dtype=np.int32)
            again = again[rated[rows[again], items[again]]]
            if not again.size:
                break
        # Whoever is left has rated nearly everything: what is not rated is listed and drawn from.
        for row in np.unique(rows[again]):
            places, unrated = again[rows[again] == row], np.flatnonzero(~rated[row])
            items[places] = unrated[rng.integers(0, len(unrated), places.size)]
        drawn.append(items.reshape(end - first, settings.eval_negatives))
    return np.concatenate([np.concatenate(drawn), split.test_items[:, None]], axis=1)


def draw_below(bound: int, start: int, places: np.ndarray, attempt: int) -> tuple[np.ndarray, ...]:
    """A number below ``bound`` for each place, and which of them to draw again for no bias.

    Numbers of SplitMix64 (Steele et al. 2014), which any place has without the others, made
    smaller as Lemire 2019 does.
    """
    word = np.uint64(start) + (places.astype(np.uint64) + (attempt << 32)) * 0x9E3779B97F4A7C15
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9
    word = (word ^ word >> 27) * 0x94D049BB133111EB
    product = ((word ^ word >> 31) >> 32) * bound
    return (product >> 32).astype(np.int64), product & 0xFFFF_FFFF < (1 << 32) % bound


def draw_negatives(rated: np.ndarray, rows: np.ndarray, start: int) -> np.ndarray:
    """An item for each row, uniform over those that its user has not rated (dataset.py)."""
    items, again = np.empty(len(rows), np.int64), np.arange(len(rows))
    for attempt in range(16):
        items[again], wrong = draw_below(rated.shape[1], start, again, attempt)
        again = again[wrong | rated[rows[again], items[again]]]
    for row in np.unique(rows[again]):
        places, unrated, attempt = again[rows[again] == row], np.flatnonzero(~rated[row]), 16
        while places.size:
            chosen, wrong = draw_below(len(unrated), start, places, attempt)
            items[places], places, attempt = unrated[chosen], places[wrong], attempt + 1
    return items


def draw_epoch(split: Split, settings: Settings, seed: int, epoch: int) -> Batches:
    """Every training pair once and four fresh negatives for each (reference dataset.py)."""
    users, items, labels, sizes = [], [], [], []
    for part, (first, end) in enumerate(split.chunks(1 << 62)):
        pairs = slice(split.row_starts[first], split.row_starts[end])
        repeated = np.repeat(split.users[pairs], settings.train_negatives)
        start = key(seed, NEGATIVES_BY_PLACE, epoch, part).generate_state(1, np.uint64)[0]
        users += [split.users[pairs], repeated]
        items += [
            split.items[pairs],
            draw_negatives(split.rated(first, end), repeated - first, start),
        ]
        labels += [np.ones(len(split.users[pairs])), np.zeros(len(repeated))]
        sizes.append(len(split.users[pairs]) + len(repeated))
    order = draw_order(sizes, settings.batch_size, seed, epoch)
    kinds = ((users, np.int32), (items, np.int32), (labels, np.uint8))
    return list(zip(*(np.concatenate(a).astype(kind)[order] for a, kind in kinds), strict=True))


def draw_order(sizes: list[int], batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """A uniformly random order of the samples of parts of these sizes: [steps, batch_size].

    The samples are dealt to cells, each a 64th of the batches of a span, like cards to hands; then
    every cell is shuffled. What fills the last batch is repeated samples; they come first
    (tensorflow/models#5576).
    """
    total, steps = sum(sizes), math.ceil(sum(sizes) / batch_size)
    columns, missing = np.arange(SLICES + 1) * batch_size // SLICES, -total % batch_size
    most = min(math.ceil(total / 2**23), (1 << 20) // len(sizes), total // batch_size)
    bounds = np.arange(max(1, most) + 1) * steps // max(1, most)
    cells = np.outer(np.diff(bounds), np.diff(columns))
    cells[0] -= np.diff(np.minimum(columns, missing))
    left, rng, parts, start = np.append(cells, 0), stream(seed, DEALING, epoch, 0), [], 0
    for part, size in enumerate(sizes):
        numbers, is_last = np.arange(start, start + size), part == len(sizes) - 1
        stream(seed, CHUNK_ORDER, epoch, part).shuffle(numbers)
        deal = rng.multivariate_hypergeometric
        counts = left if is_last else deal(left, size, method="marginals")
        parts.append(np.split(numbers, np.cumsum(counts)[:-1]))
        left, start = left - counts, start + size
    repeated = stream(seed, REPEATS, epoch, 0).integers(0, total, missing)
    slices = [[r] for r in np.split(repeated, np.minimum(columns[1:-1], missing))]
    for cell in range(cells.size):
        samples = np.concatenate([of_part[cell] for of_part in parts])
        stream(seed, CELL_ORDER, epoch, cell).shuffle(samples)
        slices[cell % SLICES].append(samples)
    widths = np.diff(columns)
    return np.hstack(
        [np.concatenate(s).reshape(steps, w) for s, w in zip(slices, widths, strict=True)]
    )


def epoch_sha256(batches: Batches) -> str:
    """What the product logs under this name: where it is equal, all samples and batches are."""
    arrays, digest = [np.stack(a) for a in zip(*batches, strict=True)], hashlib.sha256()
    bounds = np.arange(SLICES + 1) * len(batches[0][0]) // SLICES
    for first, end in itertools.pairwise(bounds):
        three = [hashlib.sha256(a[:, first:end].tobytes()).digest() for a in arrays]
        digest.update(hashlib.sha256(b"".join(three)).digest())
    return digest.hexdigest()


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
