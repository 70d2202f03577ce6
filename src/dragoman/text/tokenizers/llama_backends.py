"""The two libraries that cut text into Llama-2's pieces, behind one face.

Both cut a text as it stands, without the space that Llama puts in front: that is the tokenizer's
affair. Neither ever makes a special or a byte piece out of text that spells one, such as `</s>`
or `<0x0A>`; byte pieces come only from characters that have no piece.

Their ids are the same. Where the scores of two pieces are equal, as those of runs of spaces may
be, SentencePiece joins the leftmost first, and of a tokenizer.json the order of its merges counts.
"""

import json
from pathlib import Path
from typing import Any, Protocol

from dragoman.errors import CheckpointError
from dragoman.text.tokenizers.libraries import cut_sentencepiece, open_sentencepiece, reading_json
from dragoman.text.tokenizers.spm_file import BYTE, CONTROL, NORMAL, UNKNOWN, SpmFile

SPM_NAME, JSON_NAME = "tokenizer.model", "tokenizer.json"
UNK, BOS, EOS, FIRST_BYTE = 0, 1, 2, 3
SPECIALS = ("<unk>", "<s>", "</s>")
HEAD = (*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)))
"""The names of the first ids, the same in every model."""
MARK = "▁"
"""How pieces write a space."""
# ModelProto.normalizer_spec.add_dummy_prefix = false
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class LlamaBackend(Protocol):
    """Cuts text into pieces; knows no special tokens."""

    added: dict[str, int]
    """The tokens above the pieces that the file names."""
    legacy: bool | None
    """Whether text right after a special token gets a space in front; None if the file doesn't say."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of the pieces of each text, 3 and above; a `▁` in a text is a space."""

    def pieces(self) -> list[str]:
        """The name of every id but the added ones."""

    def save(self, folder: Path) -> None:
        """Write the file that this was read from into an existing folder."""


class SentencePieceBackend:
    """Reads `tokenizer.model`."""

    legacy: bool | None = None

    def __init__(self, path: str | Path) -> None:
        spm = SpmFile.read(path)
        _check_model(spm, path)
        self.added: dict[str, int] = {}
        self._pieces = [piece for piece, _, _ in spm.pieces]
        self._content = Path(path).read_bytes()
        self._processor = open_sentencepiece(path, _NO_DUMMY_PREFIX)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return cut_sentencepiece(self._processor, texts, int)

    def pieces(self) -> list[str]:
        return self._pieces

    def save(self, folder: Path) -> None:
        (folder / SPM_NAME).write_bytes(self._content)


class TokenizersBackend:
    """Reads `tokenizer.json`: its pieces, its merges, and where it puts a space in front.

    Its added tokens are left out, so that none of them can come out of text, as are merges that
    would make one of them or a byte piece, and its post-processor.
    """

    def __init__(self, path: str | Path) -> None:
        from tokenizers import Tokenizer, normalizers
        from tokenizers.models import BPE

        try:
            self._content = Path(path).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error}") from None
        with reading_json(path):
            spec = json.loads(self._content)
            model = spec["model"]
            vocabulary = {**model["vocab"]}
            merges = [_pair(merge) for merge in model["merges"]]
            added = {token["content"]: token["id"] for token in spec.get("added_tokens", [])}
            problem = _unlike_llama(model)
            self.legacy: bool | None = _legacy(spec)
        if problem:
            raise CheckpointError(f"{path} is not Llama-2's kind of tokenizer: {problem}")
        if self.legacy is None:
            raise CheckpointError(
                f"{path} treats spaces in another way than Llama-2: its normalizer is "
                f"{spec.get('normalizer')!r:.120}, its pre_tokenizer {spec.get('pre_tokenizer')!r:.120}"
            )
        self._pieces = _in_order(vocabulary, path)
        self.added = {name: place for name, place in added.items() if vocabulary.get(name) != place}
        named = {*HEAD, *added}
        safe = [pair for pair in merges if "".join(pair) not in named]
        with reading_json(path):
            self._cutter = Tokenizer(BPE(vocabulary, safe, byte_fallback=True))
        self._cutter.normalizer = normalizers.Replace(" ", MARK)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._cutter.encode_batch_fast(texts, add_special_tokens=False)]

    def pieces(self) -> list[str]:
        return self._pieces

    def save(self, folder: Path) -> None:
        (folder / JSON_NAME).write_bytes(self._content)


def _check_model(spm: SpmFile, path: str | Path) -> None:
    kinds = [kind for _, _, kind in spm.pieces]
    wanted = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(kinds) - len(HEAD))]
    reasons = {
        "it is not a BPE model": not spm.is_bpe,
        "it replaces characters before it cuts": bool(spm.charsmap),
        "it treats spaces in another way": not spm.dummy_prefix or spm.tidies_spaces or not spm.marks_spaces,
        "its pieces are not <unk>, <s>, </s>, the 256 bytes, and then text alone": kinds != wanted
        or tuple(piece for piece, _, _ in spm.pieces[: len(HEAD)]) != HEAD,
    }
    for reason, applies in reasons.items():
        if applies:
            raise CheckpointError(f"{path} is not Llama-2's kind of tokenizer: {reason}")


def _unlike_llama(model: dict[str, Any]) -> str | None:
    if model.get("type") != "BPE":
        return f"its model is of type {model.get('type')!r}, not BPE"
    return None if model.get("byte_fallback") else "it doesn't fall back to bytes"


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _in_order(vocabulary: dict[str, int], path: str | Path) -> list[str]:
    """The pieces by id; CheckpointError if the ids have gaps or begin in another way than Llama's."""
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    for expected, piece in enumerate(pieces):
        if vocabulary[piece] != expected:
            raise CheckpointError(
                f"{path} gives {piece!r} the id {vocabulary[piece]} where {expected} is due"
            )
    for place, name in enumerate(HEAD):
        if vocabulary.get(name) != place:
            raise CheckpointError(
                f"{path} gives {name} the id {vocabulary.get(name)}, but Llama-2 has it at {place}"
            )
    return pieces


def _legacy(spec: dict[str, Any]) -> bool | None:
    """Whether text after a special token gets a space, read from the rules; None if they are foreign."""
    normalizer, pre_tokenizer = spec.get("normalizer"), spec.get("pre_tokenizer")
    if normalizer is None and pre_tokenizer is not None:
        own = (pre_tokenizer["type"], pre_tokenizer.get("replacement"), pre_tokenizer.get("split"))
        schemes = {"always": True, "first": False}
        return schemes.get(pre_tokenizer.get("prepend_scheme")) if own == ("Metaspace", MARK, False) else None
    if normalizer is not None and pre_tokenizer is None:
        prepend = {"type": "Prepend", "prepend": MARK}
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
        return True if normalizer.get("normalizers") == [prepend, replace] else None
    return None
