"""Every form in PyTorch does its turn, on a small model; what is compiled is only traced."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from trainbench.bench.peers import cnn_rows, ncf_rows
from trainbench.bench.peers.rounds import Form
from trainbench.benchmark import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

SMALL = {"mf_dim": 4, "mlp_layer_sizes": (8, 8, 4), "batch_size": 16, "eval_negatives": 12}


def small(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same for a small model, of NCF or of images."""
    if "config" not in arguments:
        return {**arguments, "batch": 2, "steps": 1}
    amount = {"steps": 2} if "steps" in arguments else {"users": 64}
    config = replace(arguments["config"], **SMALL)
    return {**arguments, "config": config, "geometry": (90, 70), **amount}


def forms() -> dict[str, Form]:
    every = [row for row in [*ncf_rows.rows(), *cnn_rows.rows()] if "65,536" not in row.name]
    named = {f"{row.name}, {form.name}": form for row in every for form in row.forms}
    return {name: form for name, form in named.items() if "torch" in form.modules}


@pytest.mark.parametrize("form", forms().values(), ids=forms().keys())
def test_a_turn_says_how_much_it_did(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainbench.bench.peers import torch_cnn

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(torch_cnn, "ResNet", partial(torch_cnn.ResNet, (1, 1, 1, 1)))
    monkeypatch.setattr(torch_cnn, "IMAGE_SIZE", 32)
    done, seconds = load(form.make)(**small(dict(form.arguments)))()
    assert done in (2, 32, 64 * 13)
    assert seconds > 0
