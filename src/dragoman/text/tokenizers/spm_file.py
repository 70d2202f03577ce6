"""Reads a SentencePiece model file without its library, and converts it to a tokenizer.json.

The file is a protocol buffer (`sentencepiece_model.proto`); only the few fields needed are read.
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError
from dragoman.text.tokenizers.layout import MASK, SPECIALS, UNK, NllbLayout

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BPE_MODEL = 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SpmFile:
    """The part of a SentencePiece model that says how text is cut."""

    pieces: list[tuple[str, float, int]]
    """Each piece with its score and its type (NORMAL, CONTROL, ...), by id."""
    charsmap: bytes
    """The precompiled normalisation rules; empty if characters stay as they are."""
    is_bpe: bool
    dummy_prefix: bool
    """A space is put in front of a text."""
    tidies_spaces: bool
    """Runs of spaces become one, and those at either end go."""
    marks_spaces: bool
    """A space is written `▁` and belongs to the word behind it."""

    @property
    def plain_spaces(self) -> bool:
        """Whether spaces are treated in NLLB's ways."""
        return self.dummy_prefix and self.tidies_spaces and self.marks_spaces

    @classmethod
    def read(cls, path: str | Path) -> "SpmFile":
        """Parse the file; CheckpointError if it is no SentencePiece model."""
        try:
            return _parse(Path(path).read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error}") from None
        except (ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
            raise CheckpointError(f"{path} is no SentencePiece model: {error}") from None

    def merges(self) -> list[tuple[str, str]]:
        """Every pair of pieces that makes another one, best first.

        SentencePiece needs no such list, as it joins any two neighbours that together are a
        piece, the piece of the highest score first.
        """
        score = {piece: score for piece, score, kind in self.pieces if kind == NORMAL}
        ranked = sorted(score, key=lambda piece: -score[piece])
        return [
            (piece[:cut], piece[cut:])
            for piece in ranked
            for cut in range(1, len(piece))
            if piece[:cut] in score and piece[cut:] in score
        ]


def without_pieces(path: str | Path, gone: Collection[str]) -> bytes:
    """The file without some of its ordinary pieces; all else stays as it is, to the byte.

    CheckpointError if it is no SentencePiece model.
    """
    try:
        data = Path(path).read_bytes()
        return b"".join(data[start:end] for start, end in _left(data, gone))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None
    except (ValueError, LookupError, struct.error) as error:
        raise CheckpointError(f"{path} is no SentencePiece model: {error}") from None


def _left(data: bytes, gone: Collection[str]) -> Iterator[tuple[int, int]]:
    """Where the fields that stay begin and end."""
    start = 0
    for number, value, end in _spans(data):
        name, _, kind = _piece(value) if number == 1 else ("", 0.0, UNKNOWN)
        if kind != NORMAL or name not in gone:
            yield start, end
        start = end


def to_tokenizer_json(model: str | Path, target: str | Path) -> None:
    """Write the SentencePiece BPE model of an NLLB model as a tokenizer.json with NLLB's ids.

    The file has the languages and the mask where the layout wants them, and no post-processor:
    it depends on the source language. CheckpointError if the model cuts text in a way that
    tokenizer.json can't express.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    spm = SpmFile.read(model)
    _check_convertible(spm, model)
    layout = NllbLayout(len(spm.pieces))
    names = [*SPECIALS, *(piece for piece, _, _ in spm.pieces[3:])]
    vocabulary = {name: place for place, name in enumerate(names)}
    has_bytes = any(kind == BYTE for _, _, kind in spm.pieces)
    bpe = BPE(vocabulary, spm.merges(), unk_token=SPECIALS[UNK], fuse_unk=True, byte_fallback=has_bytes)
    tokenizer = Tokenizer(bpe)
    tidy = [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    rules = [normalizers.Precompiled(spm.charsmap)] if spm.charsmap else []
    tokenizer.normalizer = normalizers.Sequence([*rules, *tidy])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.decoder = piece_decoder(tokenizer)
    added = [*SPECIALS, *layout.languages, MASK]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in added])
    assert tokenizer.token_to_id(MASK) == layout.mask
    tokenizer.save(str(target))


def piece_decoder(tokenizer: Any) -> Any:
    """What makes text of the pieces of a `tokenizers.Tokenizer`: spaces of `▁`, and characters of bytes."""
    from tokenizers import decoders

    spaces = decoders.Metaspace("▁", prepend_scheme="always", split=True)
    if not getattr(tokenizer.model, "byte_fallback", False):
        return spaces
    return decoders.Sequence([decoders.ByteFallback(), spaces])


def _check_convertible(spm: SpmFile, model: str | Path) -> None:
    kinds = [kind for _, _, kind in spm.pieces]
    reasons = {
        "it is not a BPE model": not spm.is_bpe,
        "it treats spaces in another way than NLLB": not spm.plain_spaces,
        "it has user-defined pieces": USER_DEFINED in kinds,
        "it has unused pieces": UNUSED in kinds,
        "its first pieces are not <unk>, <s>, </s>": kinds[:3] != [UNKNOWN, CONTROL, CONTROL],
        "it has control pieces of its own": CONTROL in kinds[3:],
    }
    for reason, applies in reasons.items():
        if applies:
            raise CheckpointError(f"{model} can't become a tokenizer.json: {reason}; use the file as it is")


def _parse(data: bytes) -> SpmFile:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(value))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("it holds no pieces")
    escapes, as_suffix = normalizer.get(5, 1), trainer.get(24, 0)
    return SpmFile(
        pieces,
        charsmap=normalizer.get(2, b""),
        is_bpe=trainer.get(3, 1) == BPE_MODEL,
        dummy_prefix=bool(normalizer.get(3, 1)),
        tidies_spaces=bool(normalizer.get(4, 1)),
        marks_spaces=bool(escapes and not as_suffix),
    )


def _piece(data: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(data))
    (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
    return fields[1].decode("utf-8"), score, fields.get(3, NORMAL)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: numbers as int, everything else as bytes."""
    return ((number, value) for number, value, _ in _spans(data))


def _spans(data: bytes) -> Iterator[tuple[int, Any, int]]:
    """Its fields, and where each ends."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value, at
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"a field of unknown kind {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"it ends in the middle of a field, at byte {at}")
        yield key >> 3, data[at : at + size], at + size
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1
