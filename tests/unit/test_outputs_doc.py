from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from checkout import CHECKOUT
from run_dir import build_run, seal

from trainbench.image_classification.benchmark import RESNET
from trainbench.image_classification.report import ImagesStatus
from trainbench.machine.load import Gpu, Sample
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.report import Epoch, NcfStatus
from trainbench.reporting.page.render import write_report
from trainbench.reporting.records import CacheDrop, Phase, Run

TEXT = (CHECKOUT / "docs" / "outputs.md").read_text()
RECORDS = (Run, NcfStatus, ImagesStatus, Epoch, Phase, CacheDrop, Sample, Gpu)
QUOTED = set(re.findall(r"`([^`]+)`", TEXT))


def test_every_file_of_a_run_is_documented(tmp_path: Path) -> None:
    run = seal(build_run(tmp_path / "run", trials=1))
    write_report(run, benchmark=NCF)
    names = {re.sub(r"_\d+\.txt$", "_<i>.txt", p.name) for p in run.root.rglob("*") if p.is_file()}
    documented = {name.rsplit("/", 1)[-1] for name in QUOTED}
    assert names <= documented


@pytest.mark.parametrize("record", RECORDS)
def test_every_field_that_the_report_reads_is_documented(record: type) -> None:
    fields = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    assert fields - {"best", "target"} <= QUOTED


def test_the_names_of_every_quality_are_documented() -> None:
    names = {name for b in (NCF, RESNET) for name in (b.quality.best, b.quality.target)}
    assert names <= QUOTED
