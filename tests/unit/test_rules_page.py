"""docs/rules.md names every rule that the code applies, in the words of the code."""

from __future__ import annotations

from checkout import CHECKOUT

from trainbench.compliance.rules.cross_log import SET_RULES
from trainbench.compliance.rules.levels import described
from trainbench.compliance.rules.strict import CLOCKS, STRICT
from trainbench.compliance.rules.strict_resnet import STRICT_RESNET
from trainbench.compliance.tags import ncf as tags

PAGE = (CHECKOUT / "docs" / "rules.md").read_text()


def test_every_strict_rule_has_its_row() -> None:
    for rule in STRICT:
        if rule.name.startswith("present/"):
            assert f"`{rule.name.removeprefix('present/')}`" in PAGE
        else:
            assert f"| `{rule.id}` | {rule.wanted} |" in PAGE


def test_every_strict_rule_of_resnet_has_its_row() -> None:
    for rule in STRICT_RESNET:
        assert f"| `{rule.id}` | {rule.wanted} |" in PAGE


def test_every_rule_on_the_clocks_has_its_row() -> None:
    for rule in CLOCKS:
        assert f"| `{rule.id}` | {rule.wanted} |" in PAGE


def test_every_rule_on_sets_has_its_row() -> None:
    for rule, wanted in SET_RULES:
        assert f"| `{rule}` | {wanted} |" in PAGE


def test_every_required_tag_and_every_own_tag_is_named() -> None:
    for rule, _ in described("2"):
        assert f"`{rule}`" in PAGE or f"`{rule.rsplit('/', 1)[1]}`" in PAGE
    for tag in tags.OWN_TAGS:
        assert f"`{tag}`" in PAGE


def test_every_named_module_exists() -> None:
    folders = (CHECKOUT / "src" / "trainbench", CHECKOUT / "tests" / "unit")
    named = {part for part in PAGE.split("`") if part.endswith(".py") and "/" in part}
    assert named
    assert [name for name in named if not any((f / name).exists() for f in folders)] == []
