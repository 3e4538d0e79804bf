"""The tags of a v0.5 ResNet compliance log that NCF's (``keys``) do not have.

``RESNET_TAGS`` equals ``mlperf_compliance.tags.RESNET_TAGS`` (0.0.10), which a test asserts.
``OWN_TAGS`` are keys of the rules from 0.7 on: the later dialect asks for them and v0.5 has no tag
for them, so the v0.5 log carries them to the translation (``mllog_resnet``).
"""

from __future__ import annotations

from trainbench.compliance.tags import ncf as tags

BENCHMARK = "resnet"
RAW_PREFIX = "RESNET_RAW_"

# Evaluation
EVAL_OFFSET = "eval_offset"

# Input
INPUT_BN_SPAN = "input_bn_span"
INPUT_CENTRAL_CROP = "input_central_crop"
INPUT_CROP_USES_BBOXES = "input_crop_uses_bboxes"
INPUT_DISTORTED_CROP_AREA_RANGE = "input_distorted_crop_area_range"
INPUT_DISTORTED_CROP_ASPECT_RATIO_RANGE = "input_distorted_crop_aspect_ratio_range"
INPUT_DISTORTED_CROP_MAX_ATTEMPTS = "input_distorted_crop_max_attempts"
INPUT_DISTORTED_CROP_MIN_OBJ_COV = "input_distorted_crop_min_object_covered"
INPUT_MEAN_SUBTRACTION = "input_mean_subtraction"
INPUT_RANDOM_FLIP = "input_random_flip"
INPUT_RESIZE = "input_resize"
INPUT_RESIZE_ASPECT_PRESERVING = "input_resize_aspect_preserving"

# Model; the missing letter of MODEL_HP_SHORCUT_ADD is v0.5's own
MODEL_EXCLUDE_BN_FROM_L2 = "model_exclude_bn_from_l2"
MODEL_HP_BATCH_NORM = "model_hp_batch_norm"
MODEL_HP_BEGIN_BLOCK = "model_hp_begin_block"
MODEL_HP_BLOCK_TYPE = "model_hp_block_type"
MODEL_HP_CONV2D_FIXED_PADDING = "model_hp_conv2d_fixed_padding"
MODEL_HP_DENSE = "model_hp_dense"
MODEL_HP_END_BLOCK = "model_hp_end_block"
MODEL_HP_FINAL_SHAPE = "model_hp_final_shape"
MODEL_HP_INITIAL_MAX_POOL = "model_hp_initial_max_pool"
MODEL_HP_INITIAL_SHAPE = "model_hp_initial_shape"
MODEL_HP_PROJECTION_SHORTCUT = "model_hp_projection_shortcut"
MODEL_HP_RELU = "model_hp_relu"
MODEL_HP_RESNET_TOPOLOGY = "model_hp_resnet_topology"
MODEL_HP_SHORCUT_ADD = "model_hp_shorcut_add"
MODEL_L2_REGULARIZATION = "model_l2_regularization"

# Optimizer
OPT_LR_WARMUP_STEPS = "opt_learning_rate_warmup_steps"
OPT_MOMENTUM = "opt_momentum"

# Preprocessing
PREPROC_NUM_EVAL_EXAMPLES = "preproc_num_eval_examples"
PREPROC_NUM_TRAIN_EXAMPLES = "preproc_num_train_examples"

# Run
RUN_SET_RANDOM_SEED = "run_set_random_seed"

_SHARED = (
    tags.EVAL_ACCURACY,
    tags.EVAL_SIZE,
    tags.EVAL_START,
    tags.EVAL_STOP,
    tags.EVAL_TARGET,
    tags.INPUT_BATCH_SIZE,
    tags.INPUT_ORDER,
    tags.INPUT_SHARD,
    tags.INPUT_SIZE,
    tags.MODEL_HP_LOSS_FN,
    tags.OPT_LR,
    tags.OPT_NAME,
    tags.RUN_CLEAR_CACHES,
    tags.RUN_FINAL,
    tags.RUN_START,
    tags.RUN_STOP,
    tags.TRAIN_EPOCH,
    tags.TRAIN_LOOP,
)
_SECTIONS = ("eval_", "input_", "model_", "opt_", "preproc_", "run_", "train_")

RESNET_TAGS = frozenset(_SHARED) | frozenset(
    value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str) and value.startswith(_SECTIONS)
)

# Of the rules from 0.7 on, for either optimizer: opt is "sgd" or "lars".
LATER_OPTIMIZER = (
    "base_learning_rate",
    "end_learning_rate",
    "learning_rate_decay_poly_power",
    "learning_rate_decay_steps",
    "weight_decay",
    "momentum",
)
OPT_LR_WARMUP_EPOCHS = "opt_learning_rate_warmup_epochs"
LARS_WARMUP_EPOCHS = "lars_opt_learning_rate_warmup_epochs"
LARS_EPSILON = "lars_epsilon"

OWN_TAGS = frozenset(
    {
        OPT_LR_WARMUP_EPOCHS,
        LARS_WARMUP_EPOCHS,
        LARS_EPSILON,
        *(f"{opt}_opt_{name}" for opt in ("sgd", "lars") for name in LATER_OPTIMIZER),
    }
)

# Values that several modules share
CROSS_ENTROPY = "categorical_cross_entropy"
LARS = "lars"
MOMENTUM = "stochastic_gradient_descent_with_momentum"
SGD = "stochastic_gradient_descent"
