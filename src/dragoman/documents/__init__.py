"""Files that people have: parsed into segments to translate, and rendered with their translations.

    document = documents.open("report.md")
    document.segments
    document.render([None] * len(document.segments))  # the bytes of the file

Nothing here translates. Each format is a file of its own and a row in `formats.py`.
"""

from dragoman.documents.document import Document, Mark, Parts, Segment
from dragoman.documents.formats import FORMATS, Format, find_format, open, parse

__all__ = ["FORMATS", "Document", "Format", "Mark", "Parts", "Segment", "find_format", "open", "parse"]
