"""The steps of NCF as its record names them: download, verify, prepare, and what a run copies."""

from __future__ import annotations

from trainbench.benchmark import PUBLISHER, Inputs, Source
from trainbench.errors import ConfigError, DataIntegrityError
from trainbench.movielens import archive, datasets, split, synthetic
from trainbench.movielens.cache import RECORD, find_cache, open_cache
from trainbench.ncf.config import NcfConfig
from trainbench.progress import heartbeat
from trainbench.trials.paths import DataDir


def download(config: NcfConfig, data: DataDir, source: Source = PUBLISHER) -> None:
    """Fetch and verify, or generate, the dataset of ``config``."""
    dataset = datasets.dataset(config.dataset)
    if config.dataset == "synthetic":
        if config.synthetic is None:
            raise ConfigError(
                "dataset synthetic: its size is missing; add --set synthetic=USERSxITEMSxRATINGS"
            )
        synthetic.generate(config.synthetic, data)
        return
    archive.download(
        dataset, data, mirror=source.mirror, archive=source.archive, sha256=source.sha256
    )


def verify(config: NcfConfig, data: DataDir) -> None:
    """Compare the downloaded dataset with its manifest and its published checksums.

    Raises:
        DataIntegrityError: one comparison failed; all of them are printed.
    """
    checks = archive.verify(datasets.dataset(config.dataset), data)
    for check in checks:
        print(f"{'OK  ' if check.ok else 'FAIL'} {check.name}: {check.found}")
    if not all(check.ok for check in checks):
        raise DataIntegrityError(
            f"{data.raw(config.dataset)}: not the dataset {config.dataset}; delete the folder and "
            "run the download step again"
        )


def prepare(config: NcfConfig, data: DataDir) -> None:
    """Build the cache that training reads, unless a valid one is there."""
    split.run(config.split_spec, data)


def inputs(config: NcfConfig, data: DataDir) -> Inputs:
    """What a run copies of its data; the cache is verified.

    Raises:
        MachineError: no cache. DataIntegrityError: it is damaged.
    """
    folder = find_cache(config.split_spec, data)
    with heartbeat("verifying the cache"):
        open_cache(folder, verify=True)
    return Inputs(folder / RECORD, data.manifest(config.dataset))
