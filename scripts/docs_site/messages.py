"""Every error text of the package, read from its source: what stands in each error that is made.

What a message takes in while the program runs is ``...`` in its pattern. A text that is put
together elsewhere is followed there: into a function's returned strings, a local name's values, a
table's entries, and from a parameter to the callers of its function.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

GAP = "..."
ROOT_ERROR = "TrainbenchError"
# Raised by click, with its code; and texts that other errors take in.
_OTHERS = {"UsageError": 2, "BadParameter": 2, "ClickException": 1}
INSIDE = "ValueError"
_LEAST_LETTERS = 8
_MOST_FORMS = 100
_DEPTH = 4

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Message:
    """One text of an error: its exit code (None: a part of others), its folder and its pattern."""

    exit_code: int | None
    area: str
    text: str


@dataclass(frozen=True)
class Error:
    """One class of error, by the docstring of its class."""

    name: str
    exit_code: int
    meaning: str


@dataclass(frozen=True)
class _Module:
    path: Path
    tree: ast.Module

    @cached_property
    def functions(self) -> dict[str, Function]:
        return {n.name: n for n in ast.walk(self.tree) if isinstance(n, Function)}

    @cached_property
    def calls(self) -> list[tuple[ast.Call, Function | None]]:
        """Each call with the innermost function that it stands in."""
        return list(_calls(self.tree, None))

    @cached_property
    def constants(self) -> dict[str, ast.expr | None]:
        found: dict[str, ast.expr | None] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                found[_name(node.targets[0])] = node.value
            elif isinstance(node, ast.AnnAssign):
                found[_name(node.target)] = node.value
        return found


def errors(package: Path) -> list[Error]:
    """The classes of error below ``TrainbenchError``, itself first, by exit code."""
    classes = [
        node
        for module in _modules(package)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    codes: dict[str, int] = {}
    found: list[Error] = []
    while True:
        new = [c for c in classes if c.name not in codes and _parent_code(c, codes) is not None]
        if not new:
            return sorted(found, key=lambda error: (error.exit_code, error.name != ROOT_ERROR))
        for node in new:
            codes[node.name] = _own_code(node, _parent_code(node, codes) or 1)
            meaning = (ast.get_docstring(node) or "").split("\n\n")[0]
            found.append(Error(node.name, codes[node.name], " ".join(meaning.split())))


def _parent_code(node: ast.ClassDef, codes: dict[str, int]) -> int | None:
    if node.name == ROOT_ERROR:
        return 1
    return next((codes[n] for base in node.bases if (n := _name(base)) in codes), None)


def _own_code(node: ast.ClassDef, inherited: int) -> int:
    for statement in node.body:
        if (
            isinstance(statement, ast.Assign)
            and _name(statement.targets[0]) == "exit_code"
            and isinstance(statement.value, ast.Constant)
        ):
            return int(str(statement.value.value))
    return inherited


@cache
def messages(package: Path) -> tuple[Message, ...]:
    """Every pattern of every error that the package makes, each once for its code and folder."""
    modules = _modules(package)
    codes: dict[str, int | None] = {error.name: error.exit_code for error in errors(package)}
    codes |= {**_OTHERS, INSIDE: None}
    found = set()
    for module in modules:
        area = module.path.relative_to(package).parts[0].removesuffix(".py")
        texts = _Texts(module, modules)
        for call, function in module.calls:
            name = _name(call.func)
            if name in codes and call.args:
                for text in texts.of(call.args[0], function):
                    if sum(map(str.isalpha, text)) >= _LEAST_LETTERS:
                        found.add(Message(codes[name], area, text.strip()))
    return tuple(
        sorted(found, key=lambda m: (m.exit_code is None, m.exit_code or 0, m.area, m.text))
    )


@cache
def _modules(package: Path) -> tuple[_Module, ...]:
    return tuple(_Module(p, ast.parse(p.read_text())) for p in sorted(package.rglob("*.py")))


def _calls(node: ast.AST, function: Function | None) -> Iterator[tuple[ast.Call, Function | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, function
        yield from _calls(child, child if isinstance(child, Function) else function)


def _name(node: ast.AST) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


@dataclass(frozen=True)
class _Texts:
    """What an expression of ``module`` can say."""

    module: _Module
    modules: tuple[_Module, ...]

    def of(self, node: ast.expr, function: Function | None, depth: int = _DEPTH) -> list[str]:
        found = {_tidy(form) for form in self._forms(node, function, depth)}
        return sorted(found) if len(found) <= _MOST_FORMS else [GAP]

    def _forms(self, node: ast.expr, function: Function | None, depth: int) -> list[str]:
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case _ if depth == 0:
                return [GAP]
            case ast.JoinedStr():
                return self._joined(node, function, depth)
            case ast.BinOp(op=ast.Add()):
                return self._product([node.left, node.right], function, depth)
            case ast.IfExp():
                return self._all([node.body, node.orelse], function, depth)
            case ast.BoolOp():
                return self._all(node.values, function, depth)
            case ast.Call():
                return self._called(node, function, depth)
            case ast.Name():
                return self._named(node.id, function, depth)
            case ast.Subscript(value=ast.Name(id=name)):
                table = self._constant(name)
                return (
                    self._all(table.values, None, depth) if isinstance(table, ast.Dict) else [GAP]
                )
        return [GAP]

    def _all(self, nodes: list[ast.expr], function: Function | None, depth: int) -> list[str]:
        return [text for node in nodes for text in self.of(node, function, depth - 1)] or [GAP]

    def _product(self, nodes: list[ast.expr], function: Function | None, depth: int) -> list[str]:
        parts = [self.of(node, function, depth) for node in nodes]
        return ["".join(forms) for forms in itertools.islice(itertools.product(*parts), 99)]

    def _joined(self, node: ast.JoinedStr, function: Function | None, depth: int) -> list[str]:
        """A text with enough words of its own keeps its gaps; otherwise they are followed."""
        words = sum(len(str(v.value)) for v in node.values if isinstance(v, ast.Constant))
        parts = [
            [str(value.value)]
            if isinstance(value, ast.Constant)
            else self._gap(value, function, depth if words < 2 * _LEAST_LETTERS else 0)
            for value in node.values
        ]
        return ["".join(forms) for forms in itertools.islice(itertools.product(*parts), 99)]

    def _gap(self, node: ast.expr, function: Function | None, depth: int) -> list[str]:
        value = node.value if isinstance(node, ast.FormattedValue) else node
        if isinstance(value, ast.Constant):
            return [str(value.value)]
        return self.of(value, function, depth - 1) if depth else [GAP]

    def _called(self, node: ast.Call, function: Function | None, depth: int) -> list[str]:
        name = _name(node.func)
        if name in ("format", "join", "removesuffix", "strip") and isinstance(
            node.func, ast.Attribute
        ):
            forms = self.of(node.func.value, function, depth - 1) if name == "format" else [GAP]
            return [re.sub(r"\{[^}]*\}", GAP, form) for form in forms]
        for module in [self.module, *self.modules]:
            found = module.functions.get(name)
            if found is not None and found is not function:
                texts = _Texts(module, self.modules)
                returned = [
                    r.value
                    for r in ast.walk(found)
                    if isinstance(r, ast.Return) and r.value is not None
                ]
                return texts._all(returned, found, depth)
        return [GAP]

    def _named(self, name: str, function: Function | None, depth: int) -> list[str]:
        if function is not None:
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign | ast.NamedExpr | ast.AugAssign)
                and name in _targets(node)
            ]
            if values:
                return self._all(values, function, depth)
            places = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
            if name in places:
                return self._passed(function.name, places.index(name), depth)
        constant = self._constant(name)
        return self.of(constant, None, depth - 1) if constant is not None else [GAP]

    def _passed(self, function: str, place: int, depth: int) -> list[str]:
        """What the callers of ``function`` in this module give it at ``place``."""
        texts = []
        for call, caller in self.module.calls:
            if _name(call.func) == function and len(call.args) > place:
                texts += self.of(call.args[place], caller, depth - 1)
        return texts or [GAP]

    def _constant(self, name: str) -> ast.expr | None:
        if name in self.module.constants:
            return self.module.constants[name]
        found = [m.constants[name] for m in self.modules if name in m.constants]
        return found[0] if len(found) == 1 else None


def _targets(node: ast.Assign | ast.NamedExpr | ast.AugAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [_name(target) for target in targets]


def _tidy(text: str) -> str:
    return re.sub(r"(\.\.\.)( ?\.\.\.)+", GAP, re.sub(r"\s+", " ", text))
