"""What a run begins with: a model that is there, perhaps with new languages, or a new one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from dragoman.checkpoints.catalog import base_of, locate
from dragoman.checkpoints.families import family_of, has_tokenizer, is_adapter
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.telling import NLLB
from dragoman.errors import InvalidOption
from dragoman.files import write_json
from dragoman.languages import is_code
from dragoman.models.config import read_config
from dragoman.models.llama import Llama
from dragoman.models.llama_config import XALMA
from dragoman.models.nllb import Nllb, initialize_
from dragoman.text.prompt_style import Style, known_style, style_of
from dragoman.text.tokenizers.added import (
    CONFIG_NAME,
    JSON_NAME,
    AddedToken,
    listed_in,
    named_in,
    save_listed,
)
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.training.collecting import AnyPart, rows_of, sides_of
from dragoman.training.config import TRANSLATION, TrainingConfig
from dragoman.training.precision import resolve_precision
from dragoman.training.tokenizer import train_llama_tokenizer, train_tokenizer
from dragoman.training.trainable import add_lora_, train_module_
from dragoman.training.warm_start import warm_start_

TOKENIZER_LINES = 60_000
"""Per language: enough for a vocabulary of thousands."""
CAPITALS = 6_000
"""Lines that are in the vocabulary's text in capitals, too."""


@dataclass(frozen=True)
class Subject:
    """What is trained."""

    model: Nllb | Llama
    tokenizer: NllbTokenizer | LlamaTokenizer
    style: Style
    """Of prompts; NLLB has none."""
    base: Path | None
    """The folder of the model that it goes on from, an adapter's base; None for a new one."""
    start: Path | None = None
    """The folder that was named: the base, or an adapter."""

    @property
    def size(self) -> str:
        """How many weights there are, and how many of them learn."""
        counts = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        trained = sum(count for count, learns in counts if learns)
        return f"{trained:,} of {sum(count for count, _ in counts):,} weights are trained"


def begin(config: TrainingConfig, parts: Sequence[AnyPart], out: Path) -> Subject:
    """The model and tokenizer that a run begins with, with what is trained told from what is frozen.

    A new tokenizer is trained once, and kept in `out`/tokenizer. InvalidOption if the model is of another
    kind than the objective needs.
    """
    subject = _from_start(config, out) if config.start else _new(config, parts, out)
    if config.train == "lora":
        add_lora_(subject.model, config.lora, config.seed)
    elif config.train == "module":
        assert isinstance(subject.model, Llama)
        train_module_(subject.model, config.group, config.lora, config.seed)
    longest = subject.model.config.max_position_embeddings
    if config.max_tokens > longest:
        raise InvalidOption(
            f"max_tokens is {config.max_tokens}, but the model has {longest} positions; lower max_tokens"
        )
    return subject


def open_start_tokenizer(config: TrainingConfig, out: Path) -> tuple[NllbTokenizer | LlamaTokenizer, Style]:
    """That of the model to start from, with the new languages; and the style of its prompts."""
    start = locate(config.start)
    base = base_of(start) if is_adapter(start) else start
    folder = start if has_tokenizer(start) else base
    if _is_nllb(config, base):
        tokenizer = NllbTokenizer.from_folder(folder)
        return (_taught(tokenizer, folder, config, out) if config.new_languages else tokenizer), "plain"
    return LlamaTokenizer.from_folder(folder), _style(config, base)


def _style(config: TrainingConfig, base: Path) -> Style:
    if config.group:
        return "chat"
    known = style_of(base, config.start or None) if config.train == "lora" or not config.prompts else None
    if known is not None and config.prompts not in ("", known):
        raise InvalidOption(
            f"prompts is {config.prompts!r}, but {config.start} is one that reads {known!r} prompts, and a "
            "LoRA beside it can't tell; leave prompts out"
        )
    return known or known_style(config.prompts)


def _is_nllb(config: TrainingConfig, base: Path) -> bool:
    """Whether it is an NLLB; InvalidOption if it isn't what the objective needs."""
    family = family_of(base).name
    wanted = NLLB if config.objective == TRANSLATION else "X-ALMA"
    if family != wanted:
        raise InvalidOption(
            f"objective {config.objective!r} trains models of the family {wanted}; {config.start} is {family}"
        )
    return family == NLLB


def _from_start(config: TrainingConfig, out: Path) -> Subject:
    start = locate(config.start)
    base = base_of(start) if is_adapter(start) else start
    tokenizer, style = open_start_tokenizer(config, out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # What learns is kept in full precision, what is frozen in that of the products.
    dtype = torch.float32 if config.train == "all" else resolve_precision(config.precision, device)
    if isinstance(tokenizer, NllbTokenizer):
        model = load_nllb(start, dtype)
        if config.new_languages:
            _make_room_(model, tokenizer, config.new_languages)
        return Subject(model, tokenizer, style, base, start)
    return Subject(_llama(config, start, base, dtype), tokenizer, style, base, start)


def _llama(config: TrainingConfig, start: Path, base: Path, dtype: torch.dtype) -> Llama:
    """The base alone, or with the one module that is trained on."""
    if start == base and read_config(base).get("model_type") == XALMA:
        if config.group:
            raise InvalidOption(
                f"{config.start} holds the base and all modules; take both apart first, and start from the "
                f"module: dragoman modules extract {config.start} --base -o BASE; then with "
                f"--group {config.group} --base-name BASE -o MODULE"
            )
        return load_xalma(start, (), dtype=dtype)
    if start == base:
        return load_xalma(start, dtype=dtype)
    if not config.group:
        raise InvalidOption(
            f'{config.start} is a module or adapter; go on training it with train = "module" and its group, '
            "or merge it into its base first (dragoman modules merge)"
        )
    return load_xalma(start, (config.group,), dtype=dtype)


# ---- new languages ----


def _taught(tokenizer: NllbTokenizer, folder: Path, config: TrainingConfig, out: Path) -> NllbTokenizer:
    """The tokenizer with tokens for new languages after all it has, kept in `out`/tokenizer."""
    for code in config.new_languages:
        if not is_code(code):
            raise InvalidOption(
                f'new_languages has {code!r}; a code is three letters and a script, as "tyv_Cyrl"'
            )
        if code in tokenizer.layout.languages:
            raise InvalidOption(f"new_languages has {code}, which the model knows; leave it out")
    place = out / "tokenizer"
    tokenizer.save(place)
    codes = list(config.new_languages)
    if (place / JSON_NAME).is_file():
        named = [*named_in(folder), *codes]
        write_json(place / CONFIG_NAME, {"extra_special_tokens": named, "tokenizer_class": "NllbTokenizer"})
    else:
        first = len(tokenizer)
        new = {first + i: AddedToken(code, special=True) for i, code in enumerate(codes)}
        save_listed(place, {**listed_in(place), **new})
    return NllbTokenizer.from_folder(place)


def _make_room_(model: Nllb, tokenizer: NllbTokenizer, new_languages: dict[str, str]) -> None:
    """Give the model a row for each new language, which begins as the one it is like."""
    rows = max(model.config.vocab_size, tokenizer.layout.needed)
    with torch.no_grad():
        for name in ("shared", "lm_head"):
            layer = model.get_submodule(name)
            old = layer.get_parameter("weight")
            weight = old.new_zeros(rows, old.shape[1])
            weight[: len(old)] = old
            for code, like in new_languages.items():
                weight[tokenizer.language_id(code)] = old[tokenizer.language_id(like)]
            layer.weight = nn.Parameter(weight)
    model.shared.num_embeddings = model.lm_head.out_features = rows
    model.config = replace(model.config, vocab_size=rows)
    model.tie_weights()


# ---- new models ----


def _new(config: TrainingConfig, parts: Sequence[AnyPart], out: Path) -> Subject:
    if config.is_llama:
        llama_tokenizer = _llama_tokenizer(config, parts, out)
        rows = len(llama_tokenizer)
        llama = Llama(config.llama_config(rows))
        initialize_llama_(llama, config.seed)
        return Subject(llama, llama_tokenizer, known_style(config.prompts or "chat"), None)
    tokenizer = _nllb_tokenizer(config, parts, out)
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    initialize_(model, config.seed)
    if config.warm_start and not (out / "checkpoint.pt").exists():
        folder = locate(config.warm_start)
        warm_start_(model, tokenizer, load_nllb(folder), NllbTokenizer.from_folder(folder))
    return Subject(model, tokenizer, "plain", None)


@torch.no_grad()
def initialize_llama_(model: Llama, seed: int) -> None:
    """Fill the parameters for training from scratch: matrices normal, as the config says; norms one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() == 2:
            parameter.normal_(0, model.config.initializer_range, generator=generator)
        else:
            parameter.fill_(1)


def _nllb_tokenizer(config: TrainingConfig, parts: Sequence[AnyPart], out: Path) -> NllbTokenizer:
    if not (out / "tokenizer" / "sentencepiece.bpe.model").exists():
        texts = tokenizer_text(config, parts)
        train_tokenizer(texts, out / "tokenizer", config.vocabulary, config.byte_fallback)
    return NllbTokenizer.from_folder(out / "tokenizer")


def _llama_tokenizer(config: TrainingConfig, parts: Sequence[AnyPart], out: Path) -> LlamaTokenizer:
    if not (out / "tokenizer" / "tokenizer.model").exists():
        train_llama_tokenizer(tokenizer_text(config, parts), out / "tokenizer", config.vocabulary)
    return LlamaTokenizer.from_folder(out / "tokenizer")


def tokenizer_text(config: TrainingConfig, parts: Sequence[AnyPart]) -> list[str]:
    """As many sentences of each language, and of English as of two of them; some of all in capitals."""
    rng = random.Random(config.seed)
    texts: list[str] = []
    codes = list(dict.fromkeys(part.code for part in parts))
    for code in codes:
        rows = [row for part in parts if part.code == code for row in rows_of(part)]
        sides = min(2, *(sides_of(part) for part in parts if part.code == code), 2)
        rng.shuffle(rows)
        texts += [row[0] for row in rows[:TOKENIZER_LINES]]
        if sides == 2:
            texts += [row[1] for row in rows[: 2 * TOKENIZER_LINES // len(codes)]]
    rng.shuffle(texts)
    return texts + [text.upper() for text in texts[:CAPITALS]]
