"""What may be in a text that is to be encoded."""

import re
from collections.abc import Sequence

from dragoman.errors import InvalidText

# The C0 controls but tab, line feed and carriage return: NUL would end the text in code written
# in C and is <unk> to the model; the others SentencePiece deletes, which glues words together.
# U+2581 is SentencePiece's mark for a space, so to it a text with one and a text with a space are
# the same.
_SPACES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\u2581]")


def encodable(text: object, which: str = "the text") -> str:
    """`text` with control characters and U+2581 as spaces; InvalidText as `valid_text` raises it."""
    return _SPACES.sub(" ", valid_text(text, which))


def valid_text(text: object, which: str = "the text") -> str:
    """`text` as it is.

    Raises InvalidText, with `which` as the subject of the message, if it is no str or holds a
    lone surrogate: half a character, which is what careless decoding of JSON or UTF-16 leaves.
    """
    if not isinstance(text, str):
        hint = "; decode bytes to str first" if isinstance(text, bytes | bytearray) else ""
        raise InvalidText(f"{which} must be a str, but it is of type {type(text).__name__}{hint}")
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"{which} has a lone surrogate U+{ord(text[error.start]):04X} at position {error.start}, "
            "which no encoding can hold; decode the input with errors='replace'"
        ) from None
    return text


def valid_texts(texts: Sequence[str]) -> list[str]:
    """A batch of texts as it is; InvalidText says which one is at fault."""
    if isinstance(texts, str):
        raise InvalidText("a list of texts is needed, but a single str came; put it in a list")
    which = "text {} of the batch (counted from 0)" if len(texts) > 1 else "the text"
    return [valid_text(text, which.format(i)) for i, text in enumerate(texts)]


def begins_character(data: bytes) -> bool:
    """Whether bytes are the beginning of a character in UTF-8 and not yet all of it."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
