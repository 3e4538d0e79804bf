"""What steers a terminal, a page or a spreadsheet is made visible; everything else stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainbench.display.visible import cell, one_line, presentable, visible
from trainbench.errors import MachineError, system_text


def test_characters_that_steer_are_shown_as_their_numbers() -> None:
    assert visible("a\x1b[31mb\x07\r\x7f\x9b") == r"a\x1b[31mb\x07\x0d\x7f\x9b"
    assert visible("\u202egpj.exe\u2066\u200b\ufeff") == r"\u202egpj.exe\u2066\u200b\ufeff"
    assert visible("\ud800 \ufffe\uffff\U000e0041") == r"\ud800 \ufffe\uffff\U000e0041"


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("", "a\tb\n", "Grüße, Ωμέγα, 日本語, עברית, क्‍ष, 👩‍💻", "100 % \\x1b"):
        assert visible(text) == text
        assert presentable(text) == text


def test_a_file_name_cannot_write_a_line_of_its_own() -> None:
    assert one_line("a\nall.txt: compliant\t") == r"a\nall.txt: compliant\t"


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
)
def test_a_cell_that_a_spreadsheet_would_run_gets_a_quote_in_front(text: str) -> None:
    assert cell(text) == f"'{visible(text)}"


@pytest.mark.parametrize("value", [-1.5, 3, None, True, "-1.5", "+3", "-inf", "ml-1m", "", "a=b"])
def test_numbers_and_ordinary_text_are_cells_as_they_are(value: object) -> None:
    assert cell(value) == value


def test_an_error_is_one_clean_line_wherever_it_goes() -> None:
    error = MachineError("https://alice:S3CRET@host/x: answers 418 \x1b[31mred\nerror: none")
    assert str(error) == r"https://host/x: answers 418 \x1b[31mred\nerror: none"
    said = system_text(FileNotFoundError(2, "No such file or directory", "a\x1b\n"))
    assert said == r"a\x1b\n: No such file or directory"


PROGRAM = r"""
import sys
from trainbench.display.visible import guard_terminal, steer
guard_terminal()
print("out \x1b[31m \u202e https://a:b@host/?t=1")
print("err \x1b[31m https://alice:S3CRET@host/x?t=1", file=sys.stderr)
steer(sys.stderr, "\r\x1b[K")
print("\u00e9")
sys.stdout.buffer.write(b"\x1b raw\n")
raise ValueError("https://alice:S3CRET@host/ \x1b")
"""


def test_what_a_process_prints_is_guarded_down_to_its_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONIOENCODING": "ascii"},
    )
    out, error = done.stdout, done.stderr
    assert rb"out \x1b[31m \u202e https://a:b@host/?t=1" in out
    assert rb"\xe9" in out
    assert b"\x1b raw\n" in out
    assert rb"err \x1b[31m https://host/x" in error
    assert error.count(b"\x1b") == 1
    assert b"\r\x1b[K" in error
    assert rb"ValueError: https://host/ \x1b" in error
    assert b"S3CRET" not in out + error.replace(PROGRAM.encode(), b"")
