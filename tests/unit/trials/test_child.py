"""What is told of a child process that failed."""

from __future__ import annotations

from trainbench.trials import child


def test_the_last_error_line_is_the_reason() -> None:
    text = "12:00:00 compiling\nTraceback (most recent call last):\nValueError: no\n\nbye\n"
    assert child.last_error(text) == "ValueError: no"
    assert child.last_error("12:00:00 x\nerror: wrong flag\n") == "wrong flag"
    assert child.last_error("") == ""
