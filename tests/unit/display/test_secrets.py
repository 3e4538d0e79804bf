"""Passwords and tokens in addresses, wherever an address stands and however it is written."""

from __future__ import annotations

import pytest

from trainbench.display.secrets import without_credentials, without_secrets

ADDRESSES = {
    "https://alice:S3CRET@host/d": "https://host/d",
    "https://alice:S3CRET@host:8443/d?token=S3CRET#S3CRET": "https://host:8443/d",
    "https://S3CRET@host/d": "https://host/d",
    "https://host/d?S3CRET": "https://host/d",
    "https://host/d?x=1&X-Amz-Signature=S3CRET": "https://host/d",
    "https://alice:S3%43RET@host/d": "https://host/d",
    "https://alice%3AS3CRET%40host/d": "https://host/d",
    "https%3A%2F%2Falice%3AS3CRET%40host%2Fd": "https://host/d",
    "https%253A%252F%252Falice%253AS3CRET%2540host%252Fd": "https://host/d",
    "https://alice:S3/CRET@host/d": "https://host/d",
    "https://alice:S3@CRET@host/d": "https://host/d",
    "https://alice:S3?CRET@host/d": "https://host/d",
    "https://alice:S3CRET@[::1]:80/d": "https://[::1]:80/d",
    "https:/alice:S3CRET@host/d": "https:/host/d",
    "//alice:S3CRET@host/d": "//host/d",
    "HTTP://alice:S3CRET@host": "HTTP://host",
    "ftp://alice:S3CRET@host/d": "ftp://host/d",
    "alice:S3CRET@host/x": "host/x",
    "alice:S3/CRET@host/x": "host/x",
    "alice:S3%43RET@host/x": "host/x",
    "alice%3AS3CRET%40host/x": "host/x",
    "host/x?token=S3CRET": "host/x",
    "--mirror=https://alice:S3CRET@host/d": "--mirror=https://host/d",
    "http_proxy=alice:S3CRET@proxy:3128": "http_proxy=proxy:3128",
    "https://web/save/https://alice:S3CRET@host/d": "https://web/save/https://host/d",
    "https://web/https%3A%2F%2Falice%3AS3CRET%40host": "https://web/https://host",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_its_password(address: str) -> None:
    assert without_credentials(address) == ADDRESSES[address]
    assert without_secrets(address) == ADDRESSES[address]
    assert without_credentials(ADDRESSES[address]) == ADDRESSES[address]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_sentence_keeps_its_words_and_loses_the_password(address: str) -> None:
    shown = ADDRESSES[address]
    for sentence in ("{}: not found; wanted {}.", "No adapter for '{}' (or {})", 'a "{}"\n{}\n'):
        assert without_secrets(sentence.format(address, address)) == sentence.format(shown, shown)


def test_a_password_of_any_characters_is_left_out_of_a_word_of_a_command() -> None:
    for password in ('S3"CRET', "S3 CRET", "S3'CRET", "S3<CRET>", "S3:CRET", "a@b"):
        shown = without_credentials(f"--mirror=https://alice:{password}@host/d")
        assert shown == "--mirror=https://host/d"


@pytest.mark.parametrize(
    "text",
    [
        "HR@10 0.635 at 12:30:01, best of 3",
        "image python:3.11@sha256:0123abc",
        "write to ada@example.org",
        "ratings.csv, line 3: 5 fields instead of 4",
        "/data/raw/50%25 of it/x",
        "https://files.grouplens.org/datasets/movielens/ml-20m.zip",
        "http://[::1]:8080/x, http://host:80/y.",
        "why? because",
        "",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "?" + "/" * 100_000,
        "?" + "//a" * 10_000,
        "?" + "%2F%2Fa" * 1_000,
        "?" + "%25252F%25252F%2540" * 100,
        "?" + "https:/" * 10_000,
    ],
    ids=["slashes", "folders", "encoded", "encoded often", "schemes"],
)
def test_a_word_of_many_addresses_is_shown_in_time_and_holds_no_password(text: str) -> None:
    # Each address within another one was once looked at four times: 4 to the power of their number.
    assert "S3CRET" not in without_secrets(f"{text}//alice:S3CRET@host/d")
