"""Llama-2's tokenizer, which ALMA and X-ALMA use: text to ids and back, without torch or transformers.

Text stays text: `<s>`, `</s>`, `[INST]` or `<0x0A>` in it never become the token of that name.
Decoding gives back exactly what was encoded, as characters that have no piece become bytes. That
goes for NUL and for U+2581 too, although SentencePiece would take the latter for a space.

A space is put in front of every text, so that its first word is cut like any other. What about
text behind a special token, such as `[INST]` behind `<s>`? There are two conventions:

| `legacy` | `<s>[INST]` is cut into | used by                                                     |
|----------|-------------------------|-------------------------------------------------------------|
| true     | `<s>` `▁[` `INST` `]`   | Meta's own code, transformers up to 4.x unless told otherwise |
| false    | `<s>` `[` `INST` `]`    | transformers 5 unless told otherwise                        |

The `legacy` of tokenizer_config.json decides, as a model was trained with what stands there; else
the rules of tokenizer.json; and true where neither says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import read_json, write_json
from dragoman.text.tokenizers.characters import valid_text, valid_texts
from dragoman.text.tokenizers.ids import pad, valid_ids
from dragoman.text.tokenizers.llama_backends import (
    BOS,
    EOS,
    FIRST_BYTE,
    JSON_NAME,
    MARK,
    SPECIALS,
    SPM_NAME,
    UNK,
    LlamaBackend,
    SentencePieceBackend,
    TokenizersBackend,
)

CONFIG_NAME = "tokenizer_config.json"


class LlamaTokenizer:
    """Encodes text as `<s> X`, and decodes it.

    `config` is what tokenizer_config.json says: of it `legacy`, `pad_token` and
    `added_tokens_decoder` are read, and all of it is kept for `save`. `pad_id` and `legacy` come
    before it. Without either, padding is `<unk>`, as ALMA and X-ALMA were trained.
    """

    unk_id, bos_id, eos_id = UNK, BOS, EOS

    def __init__(
        self,
        backend: LlamaBackend,
        pad_id: int | None = None,
        legacy: bool | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._backend = backend
        self._config = dict(config or {})
        if self._config.get("add_prefix_space") is False:
            raise CheckpointError(
                f"{CONFIG_NAME} has add_prefix_space false; Llama-2 puts a space in front of a text"
            )
        stated = self._config.get("legacy")
        choices = (legacy, stated, backend.legacy, True)
        self.legacy = next(choice for choice in choices if isinstance(choice, bool))
        self._tokens = [*backend.pieces(), *_added(backend, self._config)]
        self.pad_id = self._padding() if pad_id is None else pad_id
        if not 0 <= self.pad_id < len(self):
            raise InvalidOption(f"pad_id must be from 0 to {len(self) - 1}, but it is {self.pad_id}")

    @classmethod
    def from_folder(
        cls, folder: str | Path, pad_id: int | None = None, legacy: bool | None = None
    ) -> "LlamaTokenizer":
        """Open the tokenizer.model in `folder`, or else the tokenizer.json, and tokenizer_config.json.

        Both cut text alike. Of a tokenizer.json beside a tokenizer.model only the rules for
        spaces count, and only if nothing else states `legacy`.
        """
        spm, fast = Path(folder) / SPM_NAME, Path(folder) / JSON_NAME
        config = _read_config(Path(folder) / CONFIG_NAME)
        if not spm.is_file() and not fast.is_file():
            raise CheckpointError(f"{folder} has no tokenizer: neither {SPM_NAME} nor {JSON_NAME} is in it")
        if not spm.is_file():
            return cls(TokenizersBackend(fast), pad_id, legacy, config)
        if legacy is None and config.get("legacy") is None and fast.is_file():
            legacy = TokenizersBackend(fast).legacy
        return cls(SentencePieceBackend(spm), pad_id, legacy, config)

    @classmethod
    def from_sentencepiece(
        cls, path: str | Path, pad_id: int | None = None, legacy: bool | None = None
    ) -> "LlamaTokenizer":
        """Open a SentencePiece model file; CheckpointError if it is not of Llama-2's kind."""
        return cls(SentencePieceBackend(path), pad_id, legacy)

    @classmethod
    def from_tokenizer_json(
        cls, path: str | Path, pad_id: int | None = None, legacy: bool | None = None
    ) -> "LlamaTokenizer":
        """Open a file of the `tokenizers` library; CheckpointError if it is not of Llama-2's kind."""
        return cls(TokenizersBackend(path), pad_id, legacy)

    def save(self, folder: str | Path) -> None:
        """Write this tokenizer's file and configuration into `folder`, which then opens the same again."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._backend.save(Path(folder))
        names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIALS, strict=True))
        config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **names}
        config |= {**self._config, "legacy": self.legacy, "pad_token": self._tokens[self.pad_id]}
        write_json(Path(folder) / CONFIG_NAME, config)

    # Ids and names

    def __len__(self) -> int:
        """How many ids have a token, added ones with them."""
        return len(self._tokens)

    @property
    def vocabulary(self) -> int:
        """The number of pieces, special and byte pieces with them: 32000 in Llama-2."""
        return len(self._backend.pieces())

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as it is spelled; None if there is none."""
        return self._ids.get(token)

    def id_to_token(self, token_id: int) -> str:
        return self.tokens([token_id])[0]

    @cached_property
    def within_words(self) -> frozenset[int]:
        """The ids of pieces that go on with the word before them."""
        return frozenset(i for i, token in enumerate(self._tokens) if token[:1].isalpha())

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The name of each id; InvalidText if one is unknown."""
        return [self._tokens[i] for i in valid_ids(ids, len(self))]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self._tokens)}

    def _padding(self) -> int:
        token = self._config.get("pad_token")
        name = token.get("content") if isinstance(token, dict) else token
        # Padding is masked, so for a token that the folder doesn't define any other one will do.
        return self._ids.get(name, UNK) if isinstance(name, str) else UNK

    # Text to ids

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """The ids of one text, with `<s>` in front unless told not to.

        They are SentencePiece's. Those of transformers 5 differ in spaces: where a text begins
        with some it loses one, and from a tokenizer.model alone it joins runs of them too early.
        """
        return [BOS] * bos + self.encode_pieces([valid_text(text)])[0]

    def encode_batch(self, texts: Sequence[str], bos: bool = True) -> list[list[int]]:
        return [[BOS] * bos + row for row in self.encode_pieces(texts)]

    def encode_pieces(self, texts: Sequence[str], prefix: bool = True) -> list[list[int]]:
        """The ids of the pieces of each text; none for an empty text.

        Without `prefix` no space is put in front: for text that goes on after other text.
        """
        front = " " if prefix else ""
        rows = [(front + text if text else "").split(MARK) for text in valid_texts(texts)]
        ids = iter(self._backend.encode([part for row in rows for part in row]))
        mark = self.encode_bytes(MARK)
        found = []
        for row in rows:
            joined = next(ids)
            for _ in row[1:]:
                joined = [*joined, *mark, *next(ids)]
            found.append(joined)
        return found

    def encode_bytes(self, text: str) -> list[int]:
        """The ids of the bytes of a text, which is not how text is cut: it decodes to the same."""
        return [FIRST_BYTE + byte for byte in valid_text(text).encode("utf-8")]

    def pad(
        self, rows: Sequence[Sequence[int]], left: bool = True
    ) -> tuple[list[list[int]], list[list[bool]]]:
        """Rows of equal length, and which ids are real: [batch, time] each."""
        return pad(rows, self.pad_id, left)

    # Ids to text

    def decode(self, ids: Iterable[int], skip_special: bool = True, prefix: bool = True) -> str:
        """The text of some ids, without special and added tokens unless they are wanted.

        Unless `prefix` is false, a space at the very beginning goes: the one that encoding put
        there. Bytes that make no character become U+FFFD.
        """
        spelled, count = self._spelled, self.vocabulary
        kept = [i for i in valid_ids(ids, len(self)) if not skip_special or EOS < i < count]
        text = b"".join([spelled[i] for i in kept]).decode("utf-8", errors="replace")
        return text[1:] if prefix and text.startswith(" ") else text

    def decode_batch(
        self, rows: Iterable[Iterable[int]], skip_special: bool = True, prefix: bool = True
    ) -> list[str]:
        return [self.decode(row, skip_special, prefix) for row in rows]

    @cached_property
    def _spelled(self) -> list[bytes]:
        """What each id writes."""
        spelled = [token.replace(MARK, " ").encode("utf-8") for token in self._tokens]
        spelled[FIRST_BYTE : FIRST_BYTE + 256] = [bytes([byte]) for byte in range(256)]
        return spelled


def _read_config(path: Path) -> dict[str, Any]:
    return read_json(path, CheckpointError) if path.is_file() else {}


def _added(backend: LlamaBackend, config: Mapping[str, Any]) -> list[str]:
    """The tokens above the pieces, by id; CheckpointError if their ids don't follow on."""
    pieces = backend.pieces()
    found = {place: name for name, place in backend.added.items()}
    try:
        for key, token in (config.get("added_tokens_decoder") or {}).items():
            found[int(key)] = token["content"]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"added_tokens_decoder of {CONFIG_NAME} is damaged: {error!r}") from None
    names: list[str] = []
    for place, name in sorted(found.items()):
        free = len(pieces) + len(names)
        if place == free:
            names.append(name)
        elif not (0 <= place < len(pieces) and pieces[place] == name):
            raise CheckpointError(
                f"the added token {name!r} has the id {place}, but {free} is the next free one"
            )
    return names
