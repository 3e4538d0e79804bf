"""What is written is what is read, for any event."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from v05_log import run

from trainbench.compliance.check import check
from trainbench.compliance.dialects.mllog import format_lines
from trainbench.compliance.dialects.mllog import parse_line as parse_mllog
from trainbench.compliance.dialects.v05 import format_line
from trainbench.compliance.event import Event, Finding
from trainbench.compliance.parse import parse_line
from trainbench.compliance.reading import CHECKERS
from trainbench.compliance.rules.levels import LEVELS, ruleset
from trainbench.compliance.stitch import stitch
from trainbench.compliance.tags import ncf as tags

TEXT = st.text(max_size=8).filter(lambda text: ":::ML" not in text)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,30}", fullmatch=True)

EVENTS = st.builds(
    Event,
    key=NAMES,
    value=JSON,
    timestamp=st.from_regex(r"[0-9]{1,10}\.[0-9]{1,9}", fullmatch=True),
    file=st.from_regex(r"[A-Za-z0-9_./<>-]{1,40}", fullmatch=True),
    line=st.integers(0, 10**6),
    benchmark=st.from_regex(r"[a-z]{1,12}", fullmatch=True),
    version=st.from_regex(r"[0-9]{1,3}\.[0-9]\.[0-9]", fullmatch=True),
)


@given(EVENTS, st.sampled_from(["", tags.RAW_PREFIX, " 37%|###  | 5/9 "]))
def test_parse_gives_back_what_was_written(event: Event, prefix: str) -> None:
    assert parse_line(prefix + format_line(event)) == event


@given(EVENTS)
def test_line_is_written_the_same_twice(event: Event) -> None:
    line = format_line(event)
    again = parse_line(line)
    assert isinstance(again, Event)
    assert format_line(again) == line


@given(st.text())
def test_any_text_is_read_or_found_or_no_compliance_line(text: str) -> None:
    parsed = parse_line(text, 1)
    assert parsed is None or isinstance(parsed, Event | Finding)
    assert (parsed is None) == (":::ML" not in text)


@given(st.text().map(lambda text: ":::MLP" + text) | EVENTS.map(format_line))
def test_line_with_a_token_never_vanishes(text: str) -> None:
    assert parse_line("progress " + text, 1) is not None


@settings(deadline=None)
@given(st.lists(EVENTS | st.sampled_from(run()), max_size=6))
def test_any_log_is_judged(events: list[Event]) -> None:
    for level in LEVELS:
        for checker in CHECKERS:
            check([format_line(event) for event in events], ruleset(level, checker=checker))


@given(st.lists(EVENTS, max_size=6), st.randoms())
def test_stitching_loses_and_invents_nothing(events: list[Event], random: object) -> None:
    raw = {format_line(event) for event in events}
    shuffled = [*events, *events[:3]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    result = stitch(shuffled)
    assert sorted(result.lines) == sorted(raw)
    assert [event.time for event in result.events] == sorted(event.time for event in events_of(raw))


def events_of(raw: set[str]) -> list[Event]:
    parsed = [parse_line(line) for line in raw]
    return [event for event in parsed if isinstance(event, Event)]


# The first call imports the writer.
@settings(deadline=None)
@given(st.sampled_from(run()))
def test_modern_dialect_says_the_same_to_the_millisecond(event: Event) -> None:
    (line,) = format_lines([event])
    again = parse_mllog(line)
    assert isinstance(again, Event)
    assert (again.key, again.value, again.file, again.line) == (
        event.key,
        event.value,
        event.file,
        event.line,
    )
    assert 0 <= event.time - again.time < 1
