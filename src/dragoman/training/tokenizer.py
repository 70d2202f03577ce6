"""Training a SentencePiece vocabulary in NLLB's layout."""

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption

# What every vocabulary writes without falling back to bytes, however rare it is in the text it is made of.
_TYPOGRAPHIC = "–—‘’‚“”„…«»‹›•·°€£¥©®™§¶±×÷²³½¼¾µ→←¿¡ºª"
_SPACES = "\t\n\r\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = "\u00ad\u200b\u2060\ufeff"


def train_tokenizer(
    sentences: Iterable[str], folder: Path, vocabulary: int, byte_fallback: bool = False, threads: int = 2
) -> Path:
    """Write `sentencepiece.bpe.model` into `folder`: BPE with unk 0, <s> 1, </s> 2 as in NLLB-200.

    With `byte_fallback` no text becomes `<unk>`: every ASCII and Latin-1 letter and sign has a piece, a
    character without one becomes the bytes of its UTF-8, digits stand alone, and characters are only
    normalised to NFC (NLLB's own vocabulary has compatibility characters as others: ½ as 1⁄2).
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "sentencepiece.bpe"
    options: dict[str, Any] = {"normalization_rule_name": "nmt_nfkc", "character_coverage": 1.0}
    if byte_fallback:
        rules = folder / "normalization.tsv"
        rules.write_text("".join(canonical_rules()), encoding="utf-8")
        options = {
            "normalization_rule_tsv": str(rules),
            "character_coverage": 0.9999,
            "required_chars": required_characters(),
            "byte_fallback": True,
            "split_digits": True,
        }
    _train(
        sentences,
        model_prefix=str(prefix),
        vocab_size=vocabulary,
        model_type="bpe",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=threads,
        minloglevel=1,
        **options,
    )
    for leftover in (prefix.with_suffix(".bpe.vocab"), folder / "normalization.tsv"):
        leftover.unlink(missing_ok=True)
    return prefix.with_suffix(".bpe.model")


def train_llama_tokenizer(sentences: Iterable[str], folder: Path, vocabulary: int, threads: int = 2) -> Path:
    """Write `tokenizer.model` into `folder`: BPE of Llama-2's kind, with bytes for what has no piece."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "tokenizer"
    _train(
        sentences,
        model_prefix=str(prefix),
        vocab_size=vocabulary,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=0.9999,
        num_threads=threads,
        minloglevel=1,
    )
    prefix.with_suffix(".vocab").unlink(missing_ok=True)
    return prefix.with_suffix(".model")


def required_characters() -> str:
    """ASCII, the letters and signs of Latin-1, and what typesetting adds to them."""
    latin = (chr(c) for c in range(0xA1, 0x100) if c != 0xAD)
    return "".join(chr(c) for c in range(0x21, 0x7F)) + "".join(sorted({*latin, *_TYPOGRAPHIC}))


def canonical_rules() -> Iterator[str]:
    """Lines for SentencePiece: canonical composition, all spaces plain, nothing invisible."""
    for space in _SPACES:
        yield f"{ord(space):X}\t20\n"
    for invisible in _INVISIBLE:
        yield f"{ord(invisible):X}\t\n"
    for code in range(0xC0, 0x2000):
        character = chr(code)
        parts = unicodedata.normalize("NFD", character)
        if len(parts) > 1 and unicodedata.normalize("NFC", parts) == character:
            yield " ".join(f"{ord(part):X}" for part in parts) + f"\t{code:X}\n"


def _train(sentences: Iterable[str], **options: Any) -> None:
    """InvalidOption where SentencePiece can't make such a vocabulary of these sentences."""
    import sentencepiece

    try:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), **options)
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise InvalidOption(
            f"no vocabulary of {options['vocab_size']} pieces can be made of the texts: {reason}"
        ) from None
