"""How the containers of this workflow run: ``popper run -f wf.yml -c settings.py`` in this folder.

The same as ``../settings.py``, with the same environment (RUNS, SEED, SETTINGS, DATA_DIR, MIRROR,
SHA256, REQUIRE_GPU, NOTE, TAGS, DROP_CACHES, KEEP_CONTAINERS), except for

    PRESET    quick (default), cifar10, imagenet
    MIRROR    another source of CIFAR-10, or the folder of ImageNet's TFRecord files

Popper mounts the folder that it runs in, so the code comes in as /checkout. Popper 2.6 and 2.7:
``python settings.py --popper-2.7 DIR``, as there.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parents[1]


def settings_above() -> ModuleType:
    """The settings of the workflow above: they look at the engine and prepare the data folder."""
    os.environ.setdefault("PRESET", "quick")
    spec = importlib.util.spec_from_file_location("trainbench_settings", CHECKOUT / "settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_ABOVE = settings_above()
ENGINE = {
    **_ABOVE.ENGINE,
    "volumes": [*_ABOVE.ENGINE["volumes"], f"{CHECKOUT}:/checkout:ro"],
    "environment": {**_ABOVE.ENGINE["environment"], "PYTHONPATH": "/checkout/src"},
}

if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    import popper_twin

    workflow = Path(__file__).resolve().with_name("wf.yml")
    popper_twin.main(_ABOVE, ENGINE, workflow, sys.argv[1:])
