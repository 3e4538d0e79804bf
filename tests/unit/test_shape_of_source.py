"""Functions, folders and modules stay small enough to be read; each failure names the offender."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import trainbench

ROOT = Path(trainbench.__file__).parent
LONGEST_FUNCTION = 50
MOST_MODULES = 16
MOST_MODULES_IN_ROOT = 8


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def functions(module: Path) -> Iterator[tuple[str, int]]:
    """Name and lines, from ``def`` to the last, of every function of ``module``."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT.parent))


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name_of(module)}: {name} has {lines} lines"
        for module in modules()
        for name, lines in functions(module)
        if lines > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_no_folder_is_a_heap() -> None:
    counts = Counter(module.parent for module in modules())
    heaps = [
        f"{name_of(folder)}: {count} modules"
        for folder, count in sorted(counts.items())
        if count > (MOST_MODULES_IN_ROOT if folder == ROOT else MOST_MODULES)
    ]
    assert not heaps, "\n".join(heaps)


def test_every_module_says_what_it_is() -> None:
    silent = [
        name_of(module)
        for module in modules()
        if ast.get_docstring(ast.parse(module.read_text())) is None
    ]
    assert not silent, "\n".join(silent)
