"""Claims about ``--peers``: forms in turn, in processes of their own, and what the table says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from trainbench.bench.peers import cnn_rows, ncf_rows, table
from trainbench.bench.peers.rounds import Form, FormProcess, Measured, Pace, Row
from trainbench.errors import ConfigError, MachineError

OURS = Form("ours", "toy_turns:steady", {"amount": 300, "seconds": 2.0}, own=True)
SLOW = Form("slow", "toy_turns:steady", {"amount": 100, "seconds": 1.0}, other="a square less")
BROKEN = Form("broken", "toy_turns:broken", {})
DEAD = Form("dead", "toy_turns:dies", {})
ABSENT = Form("absent", "toy_turns:broken", {}, modules=("torch", "no_such_module"))


def row(*forms: Form) -> Row:
    return Row("toy row", "things/s", forms)


def test_forms_are_measured_in_turn_and_ours_is_compared_with_each() -> None:
    out = io.StringIO()
    (found,) = table.run([row(OURS, SLOW)], repeats=3, out=out)
    assert found.rates == {"ours": [150.0] * 3, "slow": [100.0] * 3}
    assert found.ratios("slow") == [1.5] * 3
    ours, slow = out.getvalue().splitlines()[-2:]
    assert ours.split() == ["ours", "150.00", "150.00", "150.00", "compared"]
    assert slow.split()[:8] == [
        "slow*",
        "100.00",
        "100.00",
        "100.00",
        "1.50x",
        "1.50",
        "to",
        "1.50",
    ]
    assert slow.endswith("*a square less")


def test_what_cannot_be_measured_is_left_out_with_its_reason_and_the_code_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainbench.machine.extras.missing", lambda names: list(names[:1]))
    out = io.StringIO()
    with pytest.raises(MachineError, match="broken: ValueError: no kernel") as raised:
        table.run([row(OURS, BROKEN, DEAD, ABSENT)], repeats=1, out=out)
    told = out.getvalue()
    assert raised.value.exit_code == 6
    assert "dead: left out: its process ended with code 9" in told
    assert "absent: left out: torch is not installed: pip install torch --index-url" in told
    assert "150.00" in told


def test_ours_must_be_measured() -> None:
    with pytest.raises(MachineError, match="toy row: ours: ValueError"):
        table.run([row(replace(BROKEN, name="ours", own=True))], repeats=1, out=io.StringIO())


def test_the_fastest_of_ours_is_compared() -> None:
    faster = replace(OURS, name="ours, other", arguments={"amount": 400, "seconds": 1.0})
    found = Measured(row(OURS, faster, SLOW))
    found.rates = {"ours": [150.0], "ours, other": [400.0], "slow": [100.0]}
    assert found.ours is faster
    assert found.as_json()["ours"] == "ours, other"
    assert found.ratios("slow") == [4.0]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interruption_leaves_what_was_measured(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter([1.0, 2.0, 3.0])

    def turn(self: Any) -> float:
        try:
            return next(turns)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(FormProcess, "turn", turn)
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        table.run([row(OURS, SLOW)], repeats=5, as_json=as_json, out=out)
    if as_json:
        document = json.loads(out.getvalue())
        assert document["interrupted"] is True
        assert [form["rates"] for form in document["rows"][0]["forms"]] == [[1.0], [2.0, 3.0]]
    else:
        assert "toy row, things/s, 2 rounds" in out.getvalue()


def test_json_holds_the_machine_and_every_rate() -> None:
    out = io.StringIO()
    table.run([row(OURS, SLOW)], repeats=2, as_json=True, out=out)
    document = json.loads(out.getvalue())
    assert set(document["machine"]) == {"cpu", "threads", "load", "packages"}
    slow = document["rows"][0]["forms"][1]
    assert slow["ratios"] == [1.5, 1.5]
    assert slow["differs"] == "a square less"
    assert document["interrupted"] is False


def test_the_table_names_the_cpu_and_its_instructions() -> None:
    machine = {
        "cpu": {"model": "A CPU", "instruction_sets": ["avx2", "avx512f"]},
        "threads": 2,
        "load": 0.5,
        "packages": {"tensorflow": "2.21", "torch": None},
    }
    assert table.machine_lines(machine) == [
        "A CPU, 2 threads for every form, load 0.5",
        "instructions: avx2, avx512f",
        "tensorflow 2.21",
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_rows_in_bfloat16_are_not_measured_where_it_would_be_emulated(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.system, "bfloat16_obstacle", lambda: "this CPU has no amx_bf16")
    half, out = Row("toy bf16", "things/s", (OURS,), bf16=True), io.StringIO()
    (found,) = table.run([row(OURS), half], repeats=1, as_json=as_json, out=out)
    assert found.row.name == "toy row"
    if as_json:
        told = json.loads(out.getvalue())["not_measured"]
        assert told == {"toy bf16": "this CPU has no amx_bf16"}
    else:
        assert "toy bf16: not measured: this CPU has no amx_bf16\n" in out.getvalue()
    with pytest.raises(MachineError, match="nothing was measured: toy bf16: this CPU"):
        table.run([half], repeats=1, as_json=as_json, out=out)


def test_every_geometry_has_a_row_in_both_precisions_and_so_has_evaluation() -> None:
    names = [found.name for found in ncf_rows.rows()]
    for start in ("train ml-1m 2,048", "train ml-20m 2,048", "train ml-20m 65,536", "eval ml-20m"):
        assert {f"{start} fp32", f"{start} bf16"} <= set(names)
    assert len(cnn_rows.rows()) == 4
    for found in [*ncf_rows.rows(), *cnn_rows.rows()]:
        assert found.bf16 == ("bf16" in found.name)
        assert found.forms[0].own
        assert sum("PyTorch" in form.name for form in found.forms) >= 2
        assert any("Keras" in form.name for form in found.forms)
        assert len({form.name for form in found.forms}) == len(found.forms)


def test_forms_of_a_framework_that_is_not_wanted_are_not_missed() -> None:
    left = table.wanted(ncf_rows.rows()[0], ["torch"])
    assert left.forms
    assert not any("PyTorch" in form.name for form in left.forms)


def test_of_the_others_only_forms_that_are_asked_for_are_measured_beside_ours() -> None:
    (found,) = table.run([row(OURS, SLOW, DEAD)], forms="slow", repeats=1, out=io.StringIO())
    assert set(found.rates) == {"ours", "slow"}
    with pytest.raises(ConfigError, match="no form of toy row contains fast; name one of: ours"):
        table.run([row(OURS, SLOW)], forms="fast", repeats=1)


def test_an_unknown_row_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"contains nothing; name one of: toy row"):
        table.run([row(OURS)], names=["nothing"], repeats=1)


def test_the_time_left_counts_preparing_and_turns_apart() -> None:
    pace = Pace(forms=2, repeats=3)
    with pace.one("prepared"):
        pass
    pace.skip(3)
    assert "1 of 2 forms prepared, 3 of 6 turns measured  ETA" in pace.line()
