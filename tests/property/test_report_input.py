from __future__ import annotations

import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_dir import build_run

from trainbench.ncf.benchmark import NCF
from trainbench.reporting.collect import collect
from trainbench.reporting.junit import junit
from trainbench.reporting.page.render import html, markdown, results_json

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(resources.files("trainbench.reporting").joinpath("results.schema.json").read_text())
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FILES = [
    "run.json",
    "config.json",
    "manifest.json",
    "cache.json",
    "trial_0/status.json",
    "trial_0/cache_drop.json",
    "trial_0/system.json",
    "trial_0/epochs.jsonl",
    "trial_0/phases.jsonl",
    "results/findings.json",
]


def damage(path: Path, changes: dict[str, Any]) -> None:
    """Changes the JSON object of a file, or that of the first line of a .jsonl file."""
    first, *rest = lines(path)
    path.write_text("\n".join([json.dumps({**json.loads(first), **changes}), *rest]))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_a_file_holds_the_results_keep_to_the_schema(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(Path(folder) / "run", trials=1)
        path = run.root / data.draw(st.sampled_from(FILES))
        keys = st.sampled_from(sorted(json.loads(lines(path)[0]))) | st.text()
        damage(path, data.draw(st.dictionaries(keys, anything, min_size=1, max_size=3)))
        results = collect(run, NCF)
        SCHEMA.validate(json.loads(results_json(results)))
        assert markdown(results).encode()
        ET.fromstring(junit(results))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_an_epoch_or_a_phase_holds_the_page_is_drawn(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(Path(folder) / "run", trials=2)
        path = data.draw(st.sampled_from([run.trial(0).epochs, run.trial(0).phases]))
        keys = st.sampled_from(sorted(json.loads(lines(path)[0])))
        numbers = st.integers() | st.floats()
        damage(path, data.draw(st.dictionaries(keys, numbers | anything, min_size=1)))
        assert html(collect(run, NCF)).encode()
