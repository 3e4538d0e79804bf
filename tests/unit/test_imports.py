"""Neither the command line nor a reviewer waits for TensorFlow or needs Docker."""

from __future__ import annotations

import subprocess
import sys

HEAVY = """
import importlib, pkgutil, sys
import trainbench.cli, trainbench.compliance, trainbench.reporting

for package in (trainbench.cli, trainbench.compliance, trainbench.reporting):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
print(sorted({"docker", "keras", "tensorflow"} & set(sys.modules)))
"""


def test_the_command_line_compliance_and_the_report_import_no_tensorflow_and_no_docker() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
