"""The ids of one column: numbered in the order of their first appearance, and kept as they are.

A column of whole numbers keeps them. A column in which one id is not a whole number is a column of
text, in which 7 and 007 are two ids. Nothing passes through a float, which above 2^53 would round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainbench.errors import DataIntegrityError

WHOLE, TEXT = "whole numbers", "text"
_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?", re.I)
_MISSING = {"nan", "null", "none", "<na>", "na", "n/a", "#n/a", "nat", "\\n"}


class Ids:
    """Collects the ids of a column, block by block."""

    def __init__(self, column: str, source: str, unit: str) -> None:
        self._column, self._source, self._unit = column, source, unit
        self._numbers: dict[str, int] = {}
        self._whole = True
        self._text = False
        self._fraction: tuple[int, str] | None = None

    def number(self, values: Sequence[str], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The number of each id of a block; ``places`` are the lines or rows they stand in.

        Raises:
            DataIntegrityError: an id that is empty or says that it is missing.
        """
        codes, unique = pd.factorize(np.array(values, dtype=object))
        numbers = np.empty(len(unique), dtype=np.int32)
        for code, value in enumerate(unique):
            text = value.strip(" \t")
            known = self._numbers.get(text)
            if known is None:
                known = self._added(text, codes, code, places)
            numbers[code] = known
        return numbers[codes]

    def _added(
        self,
        text: str,
        codes: npt.NDArray[np.intp],
        code: int,
        places: npt.NDArray[np.int64],
    ) -> int:
        if not text or text.lower() in _MISSING:
            what = f"{text!r}, which marks a missing one" if text else "an empty one"
            place = int(places[(codes == code).argmax()])
            raise self._bad(place, f"found {what}", "repair or remove the row")
        if not (_CANONICAL.fullmatch(text) and -(2**63) <= int(text) < 2**63):
            self._whole = False
            if not _NUMBER.fullmatch(text) or text.lstrip("+-").isdigit():
                self._text = True
            elif self._fraction is None:
                self._fraction = int(places[(codes == code).argmax()]), text
        self._numbers[text] = len(self._numbers)
        return self._numbers[text]

    def _bad(self, place: int, found: str, advice: str) -> DataIntegrityError:
        return DataIntegrityError(
            f"{self._source}, {self._unit} {place:,}: {self._column}: {found}, wanted an id; "
            f"{advice}"
        )

    @property
    def kind(self) -> str:
        """Whole numbers or text, when all blocks were seen.

        Raises:
            DataIntegrityError: numbers, of which one is not whole.
        """
        if self._fraction and not self._text:
            place, text = self._fraction
            raise self._bad(
                place,
                f"found {text}, which is not a whole number, in a column of numbers",
                "write it without fraction and exponent, or put a letter before each id",
            )
        return WHOLE if self._whole else TEXT

    def of(self, numbers: npt.NDArray[np.int32]) -> list[str]:
        """The ids that have these numbers."""
        every = list(self._numbers)
        return [every[number] for number in numbers.tolist()]
