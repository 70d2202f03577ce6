"""Training a SentencePiece vocabulary in NLLB's layout."""

from collections.abc import Iterable, Iterator
from pathlib import Path


def train_tokenizer(sentences: Iterable[str], folder: Path, vocabulary: int) -> Path:
    """Write `sentencepiece.bpe.model` into `folder`: BPE with unk 0, <s> 1, </s> 2 as in NLLB-200."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "sentencepiece.bpe"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_iterator(sentences),
        model_prefix=str(prefix),
        vocab_size=vocabulary,
        model_type="bpe",
        # Few languages: every character that occurs gets a piece.
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="nmt_nfkc",
        minloglevel=1,
    )
    prefix.with_suffix(".bpe.vocab").unlink(missing_ok=True)
    return prefix.with_suffix(".bpe.model")


def _iterator(sentences: Iterable[str]) -> Iterator[str]:
    yield from sentences
