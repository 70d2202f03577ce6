"""NLLB's tokenizer for transformers, with the published ids wherever it is loaded from."""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.normalizers import Normalizer
from transformers import BatchEncoding, PreTrainedTokenizerFast

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.languages import find
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
from dragoman.text.tokenizers.spm_file import to_tokenizer_json

_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")


class NllbTokenizer(PreTrainedTokenizerFast):
    """Encodes sources as `[src_lang] X </s>` and targets as `[tgt_lang] X </s>`.

    With `legacy_behaviour` both are `X </s> [language]`, as the first published checkpoints were
    used. Languages may be spelled in any way that `dragoman.languages.find` knows; one that
    NLLB hasn't got raises UnknownLanguage and never becomes `<unk>`.

    It reads `tokenizer.json`, or `sentencepiece.bpe.model` alone. Languages and mask have their
    published ids in both cases, whatever the files say of them. Special tokens and language codes
    written in a text are text, unless `split_special_tokens=False`. Offsets count in the text
    after its characters were normalised.
    """

    vocab_files_names = {"vocab_file": SPM_NAME, "tokenizer_file": JSON_NAME}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    _tokenizer: Tokenizer

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
        parts = _read(tokenizer_file, vocab_file)
        self.layout = parts.layout
        self.legacy_behaviour = legacy_behaviour
        self._charsmap = parts.charsmap
        self._published_normalizer = parts.normalizer
        self._tokenizer = parts.tokenizer
        self._src_lang = find(src_lang or "eng_Latn").nllb
        self._tgt_lang = None if tgt_lang is None else find(tgt_lang).nllb
        super().__init__(
            vocab_file=vocab_file,
            src_lang=self._src_lang,
            tgt_lang=self._tgt_lang,
            legacy_behaviour=legacy_behaviour,
            **_with_special_tokens(kwargs, parts.layout),
        )
        self._switch_to_input_mode()

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Leave the files to `__init__`."""
        return kwargs

    # Languages

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each of the 202 NLLB codes."""
        return dict(self.layout.languages)

    @property
    def src_lang(self) -> str:
        """The NLLB code of sources."""
        return self._src_lang

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self._src_lang = find(language).nllb
        self._switch_to_input_mode()

    @property
    def tgt_lang(self) -> str | None:
        """The NLLB code of targets (`text_target`)."""
        return self._tgt_lang

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        self._tgt_lang = None if language is None else find(language).nllb

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
        code = find(language).nllb
        self.cur_lang_code = self.layout.languages[code]
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
        if found is None and _CODE.fullmatch(token):
            return self.layout.languages[find(token).nllb]
        return UNK if found is None else found

    # Texts

    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        return super()._encode_plus(self._tidy(text), self._tidy(text_pair), **kwargs)

    def _tidy(self, text: Any) -> Any:
        """A text, or lists of them at any depth, with characters normalised as SentencePiece does it."""
        if isinstance(text, list | tuple):
            return type(text)(self._tidy(part) for part in text)
        return None if text is None else tidy(encodable(text), self._charsmap)

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


def _read(tokenizer_file: str | None, vocab_file: str | None) -> _Parts:
    if tokenizer_file is not None and Path(tokenizer_file).is_file():
        return _read_json(Path(tokenizer_file))
    if vocab_file is not None and Path(vocab_file).is_file():
        with TemporaryDirectory() as folder:
            converted = Path(folder) / JSON_NAME
            to_tokenizer_json(vocab_file, converted)
            return _read_json(converted)
    raise CheckpointError(f"there is no tokenizer: neither {JSON_NAME} nor {SPM_NAME} was found")


def _read_json(path: Path) -> _Parts:
    """Vocabulary, merges and character rules of the file, and the special tokens where they have to be.

    Tokens that someone added to it follow after them. CheckpointError if ids contradict NLLB's.
    """
    whole = open_tokenizer_json(path)
    bare = Tokenizer(whole.model)  # shares the vocabulary, doesn't copy it
    bare.normalizer = whole.normalizer
    backend = TokenizersBackend(path, bare)
    layout = backend.layout

    tokenizer = Tokenizer(whole.model)
    tokenizer.normalizer = None if backend.charsmap is not None else whole.normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always", split=True)
    names = [*SPECIALS, *layout.languages, MASK]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    assert tokenizer.token_to_id(MASK) == layout.mask
    for place, token in sorted(whole.get_added_tokens_decoder().items()):
        if token.content in names:
            continue
        tokenizer.add_tokens([token])
        found = tokenizer.token_to_id(token.content)
        if found != place:
            raise CheckpointError(
                f"{path} gives the added token {token.content!r} the id {place}, but as languages and mask "
                f"come first it would have {found}; remove it from the file and add it again"
            )
    return _Parts(tokenizer, layout, backend.charsmap, whole.normalizer)


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
    known = {*SPECIALS, *codes, MASK}
    return {
        **defaults,
        "mask_token": MASK,
        "split_special_tokens": True,
        **kwargs,
        "extra_special_tokens": [*codes, *own],
        "added_tokens_decoder": {i: token for i, token in added.items() if str(token) not in known},
    }
