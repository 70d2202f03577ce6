"""What is to be said about single lines: some at once, the rest in a sum."""

import re

from dragoman.cli.messages import say

SHOWN = 3
"""So many lines of a kind are shown one by one."""
KINDS = 50
RANGES = 8


class _Told:
    """Lines of which the same is to be said."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        """Those that were said."""
        self.more = 0
        """How many lines there were of which nothing was said."""
        self._ranges: list[list[int]] = []

    def count(self, number: int) -> None:
        self.more += 1
        if self._ranges and number == self._ranges[-1][1] + 1:
            self._ranges[-1][1] = number
        elif len(self._ranges) <= RANGES:
            self._ranges.append([number, number])

    @property
    def where(self) -> str:
        """Their numbers, as in `2-5, 9`."""
        shown = [str(first) if first == last else f"{first}-{last}" for first, last in self._ranges[:RANGES]]
        return ", ".join(shown + (["…"] if len(self._ranges) > RANGES else []))


class Report:
    """Says things about lines on standard error.

    A thousand bad lines give no thousand messages: of each kind the first few are said, equal
    messages once, and `close` says how many more there are and where.
    """

    def __init__(self, unit: str) -> None:
        """unit: what to call a line."""
        self._unit = unit
        self._told: dict[str, _Told] = {}

    def tell(self, number: int, message: str, kind: str | None = None) -> None:
        """Say `message` of a line. kind: what makes it like others; if None, its words without details."""
        kind = _template(message) if kind is None else kind
        if kind not in self._told and len(self._told) >= KINDS:
            kind = "others"
        told = self._told.setdefault(kind, _Told())
        if len(told.messages) < SHOWN and message not in told.messages:
            told.messages.append(message)
            say(f"{self._unit} {number}: {message}")
        else:
            told.count(number)

    def close(self) -> None:
        """Say what was not said of single lines."""
        for told in self._told.values():
            if told.more:
                units = self._unit if told.more == 1 else f"{self._unit}s"
                example = (
                    re.split("[;(]", told.messages[-1])[0].strip() if told.messages else "other messages"
                )
                say(f"{told.more} more {units} with: {example} ({units} {told.where})")


def _template(message: str) -> str:
    """A message without what differs from line to line: numbers, and what stands in quotes or brackets."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\d+", "", message)
