"""SentencePiece's character normalisation, applied exactly as SentencePiece does.

A model file carries its rules (in NLLB's NFKC and a few more) as a "precompiled charsmap": a
double-array trie of what to replace, then the replacements. The `tokenizers` library reads it too,
but takes the shortest rule that begins a grapheme where SentencePiece takes the longest. So it
drops accents of decomposed Vietnamese and voicing marks of half-width katakana, and other ids follow.
"""

import sys
from array import array
from itertools import zip_longest

# What is remembered about characters stays below some 20 MB, whatever texts come.
MAX_REMEMBERED = 1 << 16
DEAD = -1


class Charsmap:
    """The rules of one model file. Raises ValueError if `blob` is no precompiled charsmap."""

    def __init__(self, blob: bytes) -> None:
        size = int.from_bytes(blob[:4], "little")
        if size % 4 or not 4 <= size <= len(blob) - 4:
            raise ValueError(f"its trie should have {size} bytes, but {max(len(blob) - 4, 0)} are there")
        self._units = array("I", blob[4 : 4 + size])
        if sys.byteorder == "big":
            self._units.byteswap()
        self._replacements = blob[4 + size :]
        self._root = _offset(self._units[0])
        self._steps: dict[tuple[int, str], tuple[int, str | None]] = {}
        self._inert: set[tuple[str, str]] = set()

    def normalize(self, text: str) -> str:
        """`text` with the rules applied from left to right, at each place the longest that fits."""
        # Most text has nothing to replace, which its pairs of neighbours tell quickly.
        if self._inert.issuperset(zip_longest(text, text[1:], fillvalue="")):
            return text
        out: list[str] = []
        start = 0
        while start < len(text):
            replacement, length = self._longest_rule(text, start)
            out.append(text[start] if replacement is None else replacement)
            start += length
        return "".join(out)

    def _longest_rule(self, text: str, start: int) -> tuple[str | None, int]:
        """What to put for how many characters from `start` on; None and 1 where no rule begins."""
        replacement, length = None, 1
        node, at = self._root, start
        while node != DEAD and at < len(text):
            node, found = self._step(node, text[at])
            at += 1
            if found is not None:
                replacement, length = found, at - start
        if replacement is None and at <= start + 2 and (node == DEAD or at == len(text)):
            # Neither this character nor it with the next begins a rule.
            self._remember(text[start], text[start + 1 : start + 2])
        return replacement, length

    def _remember(self, char: str, following: str) -> None:
        if len(self._inert) < MAX_REMEMBERED:
            self._inert.add((char, following))

    def _step(self, node: int, char: str) -> tuple[int, str | None]:
        """Follow `char` from `node`: the next node (DEAD if no rule goes on) and the rule that ends there."""
        known = self._steps.get((node, char))
        if known is None:
            known = self._walk(node, char)
            if len(self._steps) < MAX_REMEMBERED:
                self._steps[node, char] = known
        return known

    def _walk(self, node: int, char: str) -> tuple[int, str | None]:
        # The layout of a unit is that of Darts-clone: label in bits 0-7 and 31, "a rule ends
        # here" in bit 8, offset to the children above; a rule's unit holds its value.
        units, ends = self._units, False
        for byte in char.encode("utf-8"):
            place = node ^ byte
            if place >= len(units) or units[place] & 0x800000FF != byte:
                return DEAD, None
            ends = bool(units[place] >> 8 & 1)
            node = place ^ _offset(units[place])
        return node, self._replacement(units[node] & 0x7FFFFFFF) if ends else None

    def _replacement(self, at: int) -> str:
        return self._replacements[at : self._replacements.index(b"\0", at)].decode("utf-8")


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)
