"""The MLPerf lines of a run: what is logged, and at which point (docs/cnn_mlperf.md).

benchmark.start    start, offset          run_start, eval_offset
benchmark.run      training, evaluation   seeds, input, model, optimizer; the same of the evaluation
runs.train         TrainingLines          train_loop, the rate, every evaluation, the end

Every line goes through ``compliance.emit``, which writes nothing unless somebody listens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import is_synthetic
from trainbench.cnn.input.imagenet import SHUFFLE_BUFFER
from trainbench.cnn.input.preprocessing import EVAL_MARGIN, MEANS, Box, ImageOptions
from trainbench.cnn.mlperf import model as model_lines
from trainbench.cnn.plan import Plan
from trainbench.cnn.session import Session
from trainbench.cnn.train import schedules
from trainbench.cnn.train.evaluation import Accuracy
from trainbench.compliance.emit import emit, enabled
from trainbench.compliance.tags import resnet as tags
from trainbench.compliance.tags.ncf import (
    EVAL_ACCURACY,
    EVAL_SIZE,
    EVAL_START,
    EVAL_STOP,
    EVAL_TARGET,
    INPUT_BATCH_SIZE,
    INPUT_ORDER,
    INPUT_SHARD,
    INPUT_SIZE,
    MODEL_HP_LOSS_FN,
    OPT_LR,
    OPT_NAME,
    RUN_FINAL,
    RUN_START,
    RUN_STOP,
    TRAIN_EPOCH,
    TRAIN_LOOP,
)

PYTHON_SEED = 4321
RATE_EVERY_STEPS = 100
_OPTIMIZERS = {"momentum": tags.MOMENTUM, "sgd": tags.SGD, "lars": tags.LARS}


def start() -> None:
    """The clock starts: nothing has been read or built."""
    emit(RUN_START)


def offset(params: Params, plan: Plan) -> None:
    """The epoch of the first evaluation, counted from 0."""
    epochs = params.eval_during_training_at_specified_epochs
    every = params.eval_during_training_every_n_epochs
    first = float(epochs[0]) if epochs else every
    if plan.eval_length is None or not first:
        return
    value = first - 1
    emit(tags.EVAL_OFFSET, int(value) if value == int(value) else value)


def training(session: Session) -> None:
    """What was built for training: input, one network for each device, optimizers."""
    params, plan = session.params, session.plan
    # Python's own generator, whose seed v0.5 logs as a second one.
    random.seed(PYTHON_SEED + params.task_index)
    if not enabled():
        return
    _seeds(params)
    emit(INPUT_ORDER)
    emit(INPUT_BATCH_SIZE, plan.train_batch.total)
    _training_input(session)
    for _ in session.devices:
        _network(session)
        emit(MODEL_HP_LOSS_FN, tags.CROSS_ENTROPY)
        emit(tags.MODEL_EXCLUDE_BN_FROM_L2, True)
    emit(tags.MODEL_L2_REGULARIZATION, params.weight_decay)
    emit(tags.INPUT_BN_SPAN, plan.train_batch.device)
    optimizer(session)


def evaluation(session: Session) -> None:
    """What evaluates beside the training: its input and the same networks."""
    if not enabled():
        return
    params = session.params
    _seeds(params)
    emit(INPUT_ORDER)
    _evaluation_input(session)
    for _ in session.devices:
        _network(session)
    emit(tags.INPUT_BN_SPAN, session.plan.eval_batch.device)


@dataclass
class TrainingLines:
    """The lines of the training loop; also an observer of single steps.

    Attributes:
        global_step: steps so far, the warm-up included.
        evaluated_at: the same at the last evaluation, or at the start.
    """

    session: Session
    rate: schedules.Rate
    warmup: int
    global_step: int = 0
    evaluated_at: int = 0

    def __post_init__(self) -> None:
        self.evaluated_at = self.global_step
        emit(TRAIN_LOOP)

    def before_step(self, local_step: int) -> None:
        """Log the learning rate of every hundredth step."""
        step = local_step + self.warmup
        if step % RATE_EVERY_STEPS == 0 and enabled():
            # "deferred": known only while the steps run, as in the public logs.
            emit(OPT_LR, {"deferred": True, "value": self.rate(step)})

    def after_step(self) -> None:
        """Count the step."""
        self.global_step += 1

    def close(self) -> None:
        """Training is over; what was trained since the last evaluation."""
        self._input_size()

    def evaluation_starts(self, *, final: bool) -> None:
        """An evaluation begins; the final one comes after ``close``, which has logged the size."""
        if not final:
            self._input_size()
        emit(EVAL_START)

    def evaluated(self, accuracy: Accuracy) -> None:
        """An evaluation ended."""
        epoch = int(self.global_step * self._batch / self._examples)
        emit(EVAL_STOP)
        emit(EVAL_SIZE, accuracy.examples)
        emit(EVAL_ACCURACY, {"epoch": epoch, "value": accuracy.top_1})
        if self._target:
            emit(EVAL_TARGET, self._target)

    def end(self, accuracy: Accuracy | None) -> None:
        """The clock stops."""
        for epoch in epochs(self.global_step, self._batch, self._examples):
            emit(TRAIN_EPOCH, epoch)
        reached = accuracy is not None and accuracy.reaches(self._target)
        emit(RUN_STOP, {"success": reached})
        emit(RUN_FINAL)

    def _input_size(self) -> None:
        emit(INPUT_SIZE, (self.global_step - self.evaluated_at) * self._batch)
        self.evaluated_at = self.global_step

    @property
    def _batch(self) -> int:
        return self.session.plan.train_batch.total

    @property
    def _examples(self) -> int:
        return int(self.session.dataset.num_examples_per_epoch("train"))

    @property
    def _target(self) -> float | None:
        return self.session.params.stop_at_top_1_accuracy


def epochs(steps: int, global_batch: int, examples: int) -> list[int | str]:
    """The value of each train_epoch line: every whole epoch, and a sentence on the rest."""
    whole, rest = divmod(steps * global_batch, examples)
    values: list[int | str] = list(range(whole))
    if rest:
        # In this order of operations, to the last digit of the public logs.
        share = steps * global_batch / examples % 1 * 100
        values.append(
            f"{whole}, but this epoch only has {share}% of the examples of a normal epoch"
        )
    return values


def _seeds(params: Params) -> None:
    emit(tags.RUN_SET_RANDOM_SEED, params.tf_random_seed + params.task_index)
    emit(tags.RUN_SET_RANDOM_SEED, PYTHON_SEED + params.task_index)


def _training_input(session: Session) -> None:
    dataset, params = session.dataset, session.params
    if is_synthetic(dataset):
        return
    options, size = ImageOptions.of(params), _image_size(session)
    emit(tags.PREPROC_NUM_TRAIN_EXAMPLES, dataset.num_examples_per_epoch("train"))
    if dataset.name == "imagenet":
        box = Box()
        emit(INPUT_SHARD, SHUFFLE_BUFFER)
        emit(tags.INPUT_CROP_USES_BBOXES, options.use_boxes)
        emit(tags.INPUT_DISTORTED_CROP_MIN_OBJ_COV, box.min_object_covered)
        emit(tags.INPUT_DISTORTED_CROP_ASPECT_RATIO_RANGE, list(box.aspect_ratio_range))
        emit(tags.INPUT_DISTORTED_CROP_AREA_RANGE, list(box.area_range))
        emit(tags.INPUT_DISTORTED_CROP_MAX_ATTEMPTS, box.max_attempts)
    if dataset.name == "imagenet" or params.distortions:
        emit(tags.INPUT_RANDOM_FLIP)
    emit(tags.INPUT_RESIZE, [size, size])
    if options.means and dataset.name == "imagenet":
        emit(tags.INPUT_MEAN_SUBTRACTION, list(MEANS))


def _evaluation_input(session: Session) -> None:
    dataset = session.dataset
    if is_synthetic(dataset):
        return
    options, size = ImageOptions.of(session.params), _image_size(session)
    emit(tags.PREPROC_NUM_EVAL_EXAMPLES, dataset.num_examples_per_epoch("validation"))
    if dataset.name == "imagenet":
        short = options.short_side or int(size * EVAL_MARGIN)
        emit(tags.INPUT_CROP_USES_BBOXES, False)
        emit(tags.INPUT_RESIZE_ASPECT_PRESERVING, {"min": short})
        emit(tags.INPUT_CENTRAL_CROP, [size, size])
    emit(tags.INPUT_RESIZE, [size, size])
    if options.means and dataset.name == "imagenet":
        emit(tags.INPUT_MEAN_SUBTRACTION, list(MEANS))


def _image_size(session: Session) -> int:
    return int(session.network.model.inputs[0].shape[1])


def _network(session: Session) -> None:
    for tag, value in model_lines.lines(session.network.model):
        emit(tag, value)


def optimizer(session: Session) -> None:
    """What updates the variables of each copy, and how its rate falls."""
    params = session.params
    emit(tags.OPT_LR_WARMUP_STEPS, int(_warmup_epochs(session) * _batches_per_epoch(session)))
    for _ in session.step.copies:
        if params.optimizer in _OPTIMIZERS:
            emit(OPT_NAME, _OPTIMIZERS[params.optimizer])
        if params.optimizer in ("momentum", "lars"):
            emit(tags.OPT_MOMENTUM, params.momentum)
    if params.learning_rate_decay == "polynomial" and params.optimizer in _OPTIMIZERS:
        _later_optimizer(session)


def _later_optimizer(session: Session) -> None:
    """What the rules from 0.7 on want of a polynomial fall, under their own names."""
    params, steps = session.params, _batches_per_epoch(session)
    epochs = params.learning_rate_decay_epochs
    end = (
        session.plan.warmup + session.plan.length.num_batches
        if epochs is None
        else int(epochs * steps)
    )
    opt = "lars" if params.optimizer == "lars" else "sgd"
    values = (
        params.init_learning_rate,
        params.end_learning_rate,
        params.polynomial_power,
        end - int(_warmup_epochs(session) * steps),
        params.weight_decay,
        params.momentum if params.optimizer != "sgd" else 0.0,
    )
    for name, value in zip(tags.LATER_OPTIMIZER, values, strict=True):
        emit(f"{opt}_opt_{name}", value)
    if opt == "lars":
        emit(tags.LARS_WARMUP_EPOCHS, params.num_learning_rate_warmup_epochs)
        emit(tags.LARS_EPSILON, params.lars_epsilon)
    else:
        emit(tags.OPT_LR_WARMUP_EPOCHS, params.num_learning_rate_warmup_epochs)


def _batches_per_epoch(session: Session) -> float:
    examples = session.dataset.num_examples_per_epoch("train")
    return float(examples / session.plan.train_batch.total)


def _warmup_epochs(session: Session) -> float:
    params = session.params
    if params.init_learning_rate is not None or params.piecewise_learning_rate_schedule:
        return float(params.num_learning_rate_warmup_epochs)
    own = getattr(session.model, "learning_rate_fn", None)
    return float(getattr(own, "warmup_epochs", 0))
