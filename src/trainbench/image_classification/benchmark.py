"""Image classification to a top-1 accuracy as a benchmark: its record."""

from __future__ import annotations

from trainbench.benchmark import Benchmark, Quality, RunRule
from trainbench.compliance.tags import resnet as tags
from trainbench.image_classification import config
from trainbench.image_classification.config import ImagesConfig

RESNET = Benchmark(
    name=tags.BENCHMARK,
    command="images",
    title="Image classification",
    config=ImagesConfig,
    presets=config.PRESETS,
    with_settings=config.with_settings,
    from_json=config.from_json,
    default_preset=lambda options: "quick",
    reference="imagenet",
    task=lambda config: f"{config.model} on {config.dataset}",
    quality=Quality("top-1", best="best_top_1", target="target_top_1", every="evaluation"),
    run_rule=RunRule(runs=5, counted=5),
    gpu_setting="device=gpu",
    download="trainbench.image_classification.source:download",
    prepare_step="convert",
    prepare="trainbench.image_classification.convert:convert",
    inputs="trainbench.image_classification.convert:inputs",
    trial="trainbench.image_classification.trial:run_trial",
    strict_rules="trainbench.compliance.rules.strict_resnet:STRICT_RESNET",
    extras={"convert": ("absl", "tensorflow"), "train": ("absl", "tensorflow")},
    report="trainbench.image_classification.report:RESNET",
)
