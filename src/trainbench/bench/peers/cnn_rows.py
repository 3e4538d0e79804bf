"""The rows of ``bench cnn --peers``: ResNet-50 at batch 8, training and forward passes."""

from __future__ import annotations

from typing import Any

from trainbench.bench.peers.rounds import Form, Row

BATCH = 8
# Steps a turn: about a second.
TRAINING_STEPS, FORWARD_STEPS = 2, 6
STOCK = "other mathematics: its convolutions have biases"
_TF, _TORCH = "trainbench.bench.peers.tensorflow_cnn", "trainbench.bench.peers.torch_cnn"


def rows() -> list[Row]:
    """Every row, in the order of the table."""
    return [
        Row(
            f"resnet50, batch 8, {what} {precision}",
            "images/s",
            forms(what, precision),
            bf16=precision == "bf16",
        )
        for what in ("training", "forward")
        for precision in ("fp32", "bf16")
    ]


def forms(what: str, precision: str) -> tuple[Form, ...]:
    """Ours and the others', of ``training`` or ``forward`` passes."""
    training, bf16 = what == "training", precision == "bf16"
    steps = TRAINING_STEPS if training else FORWARD_STEPS
    flags = {
        "model": "resnet50",
        "batch_size": BATCH,
        "optimizer": "momentum",
        "use_bf16": bf16,
        "forward_only": not training,
    }
    stock = {"batch": BATCH, "steps": steps, "training": training, "bf16": bf16}
    loop = "fit" if training else "predict"
    return (
        Form("ours", f"{_TF}:ours", {"flags": flags, "steps": steps}, own=True),
        Form("stock Keras, tf.function", f"{_TF}:stock", stock, other=STOCK),
        Form(f"stock Keras, {loop}", f"{_TF}:keras_loop", stock, other=STOCK),
        *_torch_forms(what, {"batch": BATCH, "steps": steps, "bf16": bf16}),
    )


def _torch_forms(what: str, every: dict[str, Any]) -> list[Form]:
    make, modules = f"{_TORCH}:{what}", ("torch",)
    last = {**every, "channels_last": True}
    compiled = {**last, "compiled": True}
    forms = [
        Form("PyTorch eager", make, every, modules),
        Form("PyTorch channels_last", make, last, modules),
        Form("PyTorch channels_last, compiled", make, compiled, modules, compiles=True),
    ]
    if what == "forward":
        name, frozen = "PyTorch compiled, frozen weights", {**compiled, "frozen": True}
        forms.append(Form(name, make, frozen, modules, compiles=True))
    return forms
