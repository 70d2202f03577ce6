"""Calls into the libraries that cut text, each imported when a file is opened and not before."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dragoman.errors import CheckpointError

T = TypeVar("T", int, str)
# Below this many texts threads cost more than they save.
THREADED_BATCH = 512


def open_sentencepiece(path: str | Path, changes: bytes = b"") -> Any:
    """The processor of a SentencePiece model file; CheckpointError if it is none.

    `changes` are fields of a serialized `ModelProto` that overrule those of the file: in a
    protocol buffer the last word counts.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=Path(path).read_bytes() + changes)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no SentencePiece model: {error}") from None


def cut_sentencepiece(processor: Any, texts: list[str], kind: type[T]) -> list[list[T]]:
    """The pieces of each text: as `int` their ids, as the file counts them, as `str` their spellings.

    Of characters that the file doesn't know the spelling is the characters themselves.
    """
    if len(texts) < THREADED_BATCH:
        # Given a list it starts a thread even for one, which takes longer than a sentence.
        return [processor.encode(text, out_type=kind) for text in texts]
    rows: list[list[T]] = processor.encode(texts, out_type=kind, num_threads=-1)
    return rows


@contextmanager
def reading_json(path: str | Path) -> Iterator[None]:
    """Turns what the `tokenizers` library makes of a damaged file into a CheckpointError."""
    try:
        yield
    except BaseException as error:
        # It raises a plain Exception or panics, and a panic is none.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{path} is no tokenizer.json: {error}") from None
