"""NLLB's tokenizer for transformers, with the published ids wherever it is loaded from."""

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import tokenizers
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.normalizers import Normalizer
from transformers import BatchEncoding, PreTrainedTokenizerFast

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.languages import all_languages, find, is_code, nllb_codes, of_code
from dragoman.text.tokenizers.added import AddedToken, Finder, added_tokens
from dragoman.text.tokenizers.backends import (
    JSON_NAME,
    SPM_NAME,
    TokenizersBackend,
    open_tokenizer_json,
    tidy,
)
from dragoman.text.tokenizers.characters import encodable
from dragoman.text.tokenizers.charsmap import Charsmap
from dragoman.text.tokenizers.layout import BOS, EOS, MASK, PAD, SPECIALS, UNK, NllbLayout
from dragoman.text.tokenizers.spm_file import piece_decoder, to_tokenizer_json


class NllbTokenizer(PreTrainedTokenizerFast):
    """Encodes sources as `[src_lang] X </s>` and targets as `[tgt_lang] X </s>`.

    With `legacy_behaviour` both are `X </s> [language]`, as the first published checkpoints were
    used. Languages may be spelled in any way that `dragoman.languages.find` knows, or be tokens that were
    added (`tyv_Cyrl`); one that is neither raises UnknownLanguage and never becomes `<unk>`.

    It reads `tokenizer.json`, or `sentencepiece.bpe.model` alone. Languages and mask have their
    published ids in both cases, whatever the files say of them; what was added follows. NLLB's special
    tokens and language codes written in a text are text, other added tokens are found in it;
    `split_special_tokens` says for once that all are found (False), or no special ones (True). Offsets
    count in the text after its characters were normalised.
    """

    vocab_files_names = {"vocab_file": SPM_NAME, "tokenizer_file": JSON_NAME}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    _tokenizer: Tokenizer
    _reader: "NllbTokenizer | None" = None

    def __init__(
        self,
        vocab_file: str | None = None,
        tokenizer_file: str | None = None,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
        legacy_behaviour: bool = False,
        **kwargs: Any,
    ) -> None:
        """`src_lang` is eng_Latn if left out; `tgt_lang` is needed for targets only."""
        parts = _read(tokenizer_file, vocab_file, kwargs.get("added_tokens_decoder") or {})
        self.layout = parts.layout
        self.legacy_behaviour = legacy_behaviour
        self._charsmap = parts.charsmap
        self._published_normalizer = parts.normalizer
        self._tokenizer = parts.tokenizer
        self._src_lang = "eng_Latn"
        self._tgt_lang: str | None = None
        super().__init__(
            vocab_file=vocab_file,
            src_lang=src_lang,
            tgt_lang=tgt_lang,
            legacy_behaviour=legacy_behaviour,
            **_with_special_tokens(kwargs, parts.layout),
        )
        # None: NLLB's own special tokens are split and others found, which neither True nor False says.
        self.split_special_tokens = kwargs.get("split_special_tokens")
        # Only now are all tokens there, and a language may be one that was added.
        self._src_lang = self._code(src_lang or "eng_Latn")
        self.tgt_lang = tgt_lang
        self._switch_to_input_mode()

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Leave the files to `__init__`."""
        return kwargs

    # Languages

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each of the 202 NLLB codes, and of codes that were added."""
        added = {token.content: i for i, token in self.added_tokens_decoder.items() if is_code(token.content)}
        return {**self.layout.languages, **added}

    def _code(self, language: str) -> str:
        """The token of a language in any spelling: one of the 202, or any token that was added."""
        if language in self.layout.languages:
            return language
        added = {str(token) for token in self.added_tokens_decoder.values()} - {*SPECIALS, MASK}
        if language in added:
            return language
        taught = tuple(of_code(code) for code in added - {*nllb_codes()} if is_code(code))
        return find(language, (*all_languages(), *taught) if taught else None).nllb

    @property
    def src_lang(self) -> str:
        """The NLLB code of sources."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self._src_lang = self._code(language)
        self._switch_to_input_mode()

    @property
    def tgt_lang(self) -> str | None:
        """The NLLB code of targets (`text_target`)."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        self._tgt_lang = None if language is None else self._code(language)

    def set_src_lang_special_tokens(self, src_lang: str) -> None:
        """Encode what comes next as source in this language."""
        self._frame(src_lang)

    def set_tgt_lang_special_tokens(self, lang: str) -> None:
        """Encode what comes next as target in this language."""
        self._frame(lang)

    def _switch_to_input_mode(self) -> None:
        self._frame(self._src_lang)

    def _switch_to_target_mode(self) -> None:
        if self._tgt_lang is None:
            raise InvalidOption("the language of the targets is not known; set tgt_lang, such as 'fra_Latn'")
        self._frame(self._tgt_lang)

    def update_post_processor(self) -> None:
        """Called by transformers when special tokens change; ours depend on the language alone."""
        self._switch_to_input_mode()

    def _frame(self, language: str) -> None:
        """Put this language and `</s>` around texts."""
        code = self._code(language)
        self.cur_lang_code = self._tokenizer.token_to_id(code)
        eos = SPECIALS[EOS]
        before, after = ([], [eos, code]) if self.legacy_behaviour else ([code], [eos])
        ids = {eos: EOS, code: self.cur_lang_code}
        self.prefix_tokens = [ids[name] for name in before]
        self.suffix_tokens = [ids[name] for name in after]
        self._tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", "$B", *after],
            special_tokens=list(ids.items()),
        )

    def _convert_token_to_id_with_added_voc(self, token: str) -> int:
        """The id of a token; `<unk>`'s for an unknown one, but UnknownLanguage for a language code."""
        found = self._tokenizer.token_to_id(token)
        if found is None and is_code(token):
            return self.layout.languages[find(token).nllb]
        return UNK if found is None else found

    # Texts

    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, split_special_tokens: bool | None = None, **kwargs: Any
    ) -> BatchEncoding:
        split = self.split_special_tokens if split_special_tokens is None else split_special_tokens
        reader = self if split is not None else self._reading()
        finder = Finder({i: AddedToken.of(token) for i, token in self.added_tokens_decoder.items()})
        texts = self._tidy(text, finder), self._tidy(text_pair, finder)
        return super(NllbTokenizer, reader)._encode_plus(
            *texts, split_special_tokens=split is not False, **kwargs
        )

    def _reading(self) -> "NllbTokenizer":
        """This tokenizer as it reads texts: only NLLB's own special tokens and the codes are special in it.

        `tokenizers` can be told to split special tokens and to find others. But which are special also
        decides what decoding leaves out, so there are two of them.
        """
        if self._reader is None:
            self._reader = copy(self)
            self._reader._tokenizer = working = Tokenizer(self._tokenizer.model)
            for part in ("normalizer", "pre_tokenizer", "decoder"):
                setattr(working, part, getattr(self._tokenizer, part))
            for _, token in sorted(self._tokenizer.get_added_tokens_decoder().items()):
                token.special = not AddedToken.of(token).is_found_in_text
                working.add_tokens([token])
        self._reader._tokenizer.post_processor = self._tokenizer.post_processor
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def _add_tokens(self, *args: Any, **kwargs: Any) -> int:
        self._reader = None
        return super()._add_tokens(*args, **kwargs)

    def _tidy(self, text: Any, finder: Finder) -> Any:
        """A text, or lists of them at any depth, with characters normalised as SentencePiece does it.

        Those of added tokens stay as they are.
        """
        if isinstance(text, list | tuple):
            return type(text)(self._tidy(part, finder) for part in text)
        if text is None:
            return None
        return tidy("".join(map(self._normal, finder.split(encodable(text)))))

    def _normal(self, part: str | int) -> str:
        """Text with its characters normalised, or the added token with this id."""
        if isinstance(part, int):
            return str(self._tokenizer.id_to_token(part))
        return part if self._charsmap is None else self._charsmap.normalize(part)

    # Files

    def _save_pretrained(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        """Save with the normaliser that the file had, for which Python stands in while texts are encoded."""
        working, self._tokenizer.normalizer = self._tokenizer.normalizer, self._published_normalizer
        try:
            return super()._save_pretrained(*args, **kwargs)
        finally:
            self._tokenizer.normalizer = working

    def train_new_from_iterator(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a vocabulary trained here would not keep NLLB's ids."""
        raise NotImplementedError(f"train a SentencePiece BPE model and open its folder, as {SPM_NAME}")

    @classmethod
    def _patch_mistral_regex(cls, tokenizer: Tokenizer, *args: Any, **kwargs: Any) -> Tokenizer:
        """Skip a repair for other models, for which transformers would ask the hub about this one."""
        return tokenizer


class NllbTokenizerFast(NllbTokenizer):
    """The name that transformers 4 had for it, as old folders still call it."""


@dataclass(frozen=True)
class _Parts:
    """What was read: the working tokenizer, and the normaliser it had in its file."""

    tokenizer: Tokenizer
    layout: NllbLayout
    charsmap: Charsmap | None
    normalizer: Normalizer | None


def _read(tokenizer_file: str | None, vocab_file: str | None, listed: Mapping[Any, Any]) -> _Parts:
    """listed: the tokens by id that a tokenizer_config.json names."""
    if tokenizer_file is not None and Path(tokenizer_file).is_file():
        return _read_json(Path(tokenizer_file), {})
    if vocab_file is not None and Path(vocab_file).is_file():
        with TemporaryDirectory() as folder:
            converted = Path(folder) / JSON_NAME
            to_tokenizer_json(vocab_file, converted)
            return _read_json(converted, {int(i): AddedToken.of(token) for i, token in listed.items()})
    raise CheckpointError(f"there is no tokenizer: neither {JSON_NAME} nor {SPM_NAME} was found")


def _read_json(path: Path, listed: Mapping[int, AddedToken]) -> _Parts:
    """Vocabulary, merges and character rules of the file, and the special tokens where they have to be.

    Tokens that someone added follow after the languages, those of the file or else those `listed`.
    CheckpointError if ids contradict NLLB's.
    """
    whole = open_tokenizer_json(path)
    backend = TokenizersBackend(path, whole)
    layout, added = backend.layout, backend.added
    if listed:
        layout, added = added_tokens(layout.vocabulary, listed, (), backend.piece_id, path)

    tokenizer = Tokenizer(whole.model)  # shares the vocabulary, doesn't copy it
    tokenizer.normalizer = None if backend.charsmap is not None else whole.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.decoder = piece_decoder(tokenizer)
    published = [*SPECIALS, *nllb_codes()]
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(name, special=True, normalized=False) for name in published]
    )
    for place, name in enumerate(layout.tail, layout.first_free):
        token = added.get(place, AddedToken(name, special=True))
        tokenizer.add_tokens([_theirs(token)])
        assert tokenizer.token_to_id(name) == place
    for place, token in added.items():
        if layout.is_piece(place):
            tokenizer.add_tokens([_theirs(token)])
    return _Parts(tokenizer, layout, backend.charsmap, whole.normalizer)


def _theirs(token: AddedToken) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(**asdict(token))


def _with_special_tokens(kwargs: dict[str, Any], layout: NllbLayout) -> dict[str, Any]:
    """Arguments for transformers' constructor: NLLB's special tokens first, then those that were given."""
    kwargs = dict(kwargs)
    extra = kwargs.pop("extra_special_tokens", None)
    extra = kwargs.pop("additional_special_tokens", None) if extra is None else extra
    if isinstance(extra, dict):
        kwargs["model_specific_special_tokens"] = extra
        extra = None
    codes = list(layout.languages)
    own = [token for token in extra or () if str(token) not in layout.languages]
    named = {"bos": BOS, "eos": EOS, "sep": EOS, "cls": BOS, "unk": UNK, "pad": PAD}
    defaults = {f"{name}_token": SPECIALS[place] for name, place in named.items()}
    added = kwargs.pop("added_tokens_decoder", None) or {}
    known = {*SPECIALS, *codes, *layout.tail}
    return {
        **defaults,
        "mask_token": MASK,
        **kwargs,
        "extra_special_tokens": [*codes, *own],
        "added_tokens_decoder": {i: token for i, token in added.items() if str(token) not in known},
    }
