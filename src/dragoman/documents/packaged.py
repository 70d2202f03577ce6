"""A package of files some of which are texts with segments; the others stay byte for byte."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from dragoman.documents.document import Document, Parts, Segment, TextDocument
from dragoman.documents.zipped import Package


class PackageDocument(Document):
    """A package whose segments are those of its files, one file after the other."""

    def __init__(self, package: Package, unit: str) -> None:
        self.unit = unit
        self.segments: list[Segment] = []
        self.skipped: list[int] = []
        self._package = package
        self._files: list[tuple[str, TextDocument]] = []
        self._firsts: list[int] = []
        """The number of each file's first segment."""

    def add(self, name: str, file: TextDocument, is_place: bool = False) -> None:
        """A file of the package. is_place: whether segments are counted, and named after it."""
        first = len(self.segments)
        self._firsts.append(first)
        self._files.append((name, file))
        for number, segment in enumerate(file.segments, first + 1):
            self.segments.append(replace(segment, place=number, name=name) if is_place else segment)
        self.skipped += [first + 1] * len(file.skipped) if is_place else file.skipped

    def render(self, translations: Sequence[Parts | None], language: str | None = None) -> bytes:
        if len(translations) != len(self.segments):
            raise ValueError(f"{len(translations)} translations for {len(self.segments)} segments")
        changed = {}
        for first, (name, file) in zip(self._firsts, self._files, strict=True):
            data = file.render(translations[first : first + len(file.segments)], language)
            if data != file.encoded.data:
                changed[name] = data
        return self._package.replaced(changed) if changed else self._package.data

    def accepts(self, place: int, parts: Parts) -> bool:
        file = bisect_right(self._firsts, place) - 1
        return self._files[file][1].accepts(place - self._firsts[file], parts)
