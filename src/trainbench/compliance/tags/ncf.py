"""The tags of a v0.5 NCF compliance log, by name: ``tags.RUN_START``.

``NCF_TAGS`` equals ``mlperf_compliance.tags.NCF_TAGS`` (0.0.10), which a test asserts. Checkers
ignore tags they do not know, so ``OWN_TAGS`` can carry what v0.5 forgot to ask for.
"""

from __future__ import annotations

BENCHMARK = "ncf"
VERSION = "0.5.0"
RAW_PREFIX = "NCF_RAW_"

# Evaluation
EVAL_ACCURACY = "eval_accuracy"
EVAL_HP_NUM_NEG = "eval_hp_num_neg"
EVAL_HP_NUM_USERS = "eval_hp_num_users"
EVAL_SIZE = "eval_size"
EVAL_START = "eval_start"
EVAL_STOP = "eval_stop"
EVAL_TARGET = "eval_target"

# Input
INPUT_BATCH_SIZE = "input_batch_size"
INPUT_HP_NUM_NEG = "input_hp_num_neg"
INPUT_HP_SAMPLE_TRAIN_REPLACEMENT = "input_hp_sample_train_replacement"
INPUT_ORDER = "input_order"
INPUT_SHARD = "input_shard"
INPUT_SIZE = "input_size"
INPUT_STEP_EVAL_NEG_GEN = "input_step_eval_neg_gen"
INPUT_STEP_TRAIN_NEG_GEN = "input_step_train_neg_gen"

# Model
MODEL_HP_LOSS_FN = "model_hp_loss_fn"
MODEL_HP_MF_DIM = "model_hp_mf_dim"
MODEL_HP_MLP_LAYER_SIZES = "model_hp_mlp_layer_sizes"

# Optimizer
OPT_HP_ADAM_BETA1 = "opt_hp_Adam_beta1"
OPT_HP_ADAM_BETA2 = "opt_hp_Adam_beta2"
OPT_HP_ADAM_EPSILON = "opt_hp_Adam_epsilon"
OPT_LR = "opt_learning_rate"
OPT_NAME = "opt_name"

# Preprocessing
PREPROC_HP_MIN_RATINGS = "preproc_hp_min_ratings"
PREPROC_HP_NUM_EVAL = "preproc_hp_num_eval"
PREPROC_HP_SAMPLE_EVAL_REPLACEMENT = "preproc_hp_sample_eval_replacement"

# Run
RUN_CLEAR_CACHES = "run_clear_caches"
RUN_FINAL = "run_final"
RUN_START = "run_start"
RUN_STOP = "run_stop"

# Training
TRAIN_EPOCH = "train_epoch"
TRAIN_LOOP = "train_loop"

_SECTIONS = ("eval_", "input_", "model_", "opt_", "preproc_", "run_", "train_")

NCF_TAGS = frozenset(
    value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str) and value.startswith(_SECTIONS)
)

# Ours: what a reviewer needs and v0.5 has no tag for. Intel's v0.5 logs set the example of "seed".
CANDIDATES_SHA256 = "candidates_sha256"
DEGRADED = "degraded"
EVAL_HITS = "eval_hits"
PRECISION = "precision"
SEED = "seed"

OWN_TAGS = frozenset({CANDIDATES_SHA256, DEGRADED, EVAL_HITS, PRECISION, SEED})

# Values that several tags share
ADAM = "adam"
BCE = "binary_cross_entropy"
LAZY_ADAM = "lazy_adam"
OWN_DATA = "own_data"  # a value of DEGRADED: somebody's own ratings in place of MovieLens
