"""What a run begins with: a model that is there, perhaps with new languages, or a new one."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dragoman.checkpoints.catalog import base_of, locate
from dragoman.checkpoints.families import family_of, has_tokenizer, is_adapter
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.loading import skeleton
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.nllb_files import open_nllb
from dragoman.checkpoints.telling import NLLB
from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import read_json, write_json
from dragoman.languages import is_code
from dragoman.models.config import NllbConfig, read_config
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
from dragoman.training.trainable import add_lora_, check_targets, train_module_
from dragoman.training.warm_start import warm_start_

TOKENIZER_LINES = 60_000
"""Per language: enough for a vocabulary of thousands."""
MADE_OF = "made-of.json"
"""Beside a new tokenizer: which settings and texts it was made of."""
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
        _shape_of_nllb(config, start)
        model = load_nllb(start, dtype)
        if config.new_languages:
            _make_room_(model, tokenizer, config.new_languages)
        return Subject(model, tokenizer, style, base, start)
    model_ = load_xalma(start, _groups(config, start, base), dtype=dtype)
    return Subject(model_, tokenizer, style, base, start)


def look(config: TrainingConfig) -> None:
    """Raise what `begin` would of the models that a run begins with, whose weights are not read."""
    if config.warm_start:
        open_nllb(locate(config.warm_start))
    if not config.start:
        return
    start = locate(config.start)
    base = base_of(start) if is_adapter(start) else start
    model: nn.Module
    if _is_nllb(config, base):
        model = skeleton(partial(Nllb, _shape_of_nllb(config, start)))
    else:
        model = skeleton(partial(Llama, open_llama(start, _groups(config, start, base), None, None).config))
    if config.train == "lora":
        check_targets(model, config.lora)


def _shape_of_nllb(config: TrainingConfig, start: Path) -> NllbConfig:
    """The shape of the model in `start`; InvalidOption if a run with these settings can't train it."""
    shape = open_nllb(start).config
    config.check_layers(asdict(shape), f"{config.start}: ")
    return shape


def _groups(config: TrainingConfig, start: Path, base: Path) -> tuple[int, ...] | None:
    """Which modules are read: none or what there is, or the one that is trained on."""
    if start == base and read_config(base).get("model_type") == XALMA:
        if config.group:
            raise InvalidOption(
                f"{config.start} holds the base and all modules; take both apart first, and start from the "
                f"module: dragoman modules extract {config.start} --base -o BASE; then with "
                f"--group {config.group} --base-name BASE -o MODULE"
            )
        return ()
    if start == base:
        return None
    if not config.group:
        raise InvalidOption(
            f'{config.start} is a module or adapter; go on training it with train = "module" and its group, '
            "or merge it into its base first (dragoman modules merge)"
        )
    return (config.group,)


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
    tokenizer, style = open_new_tokenizer(config, parts, out)
    if isinstance(tokenizer, LlamaTokenizer):
        llama = Llama(config.llama_config(len(tokenizer)))
        initialize_llama_(llama, config.seed)
        return Subject(llama, tokenizer, style, None)
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    initialize_(model, config.seed)
    if config.warm_start and not (out / "checkpoint.pt").exists():
        folder = locate(config.warm_start)
        warm_start_(model, tokenizer, load_nllb(folder), NllbTokenizer.from_folder(folder))
    return Subject(model, tokenizer, style, None)


def open_new_tokenizer(
    config: TrainingConfig, parts: Sequence[AnyPart], out: Path
) -> tuple[NllbTokenizer | LlamaTokenizer, Style]:
    """That of a new model, made of the texts if there is none in `out` yet; and the style of prompts."""
    if config.is_llama:
        return _llama_tokenizer(config, parts, out), known_style(config.prompts or "chat")
    return _nllb_tokenizer(config, parts, out), "plain"


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
    folder = out / "tokenizer"
    if _is_wanted(config, parts, folder, "sentencepiece.bpe.model"):
        train_tokenizer(tokenizer_text(config, parts), folder, config.vocabulary, config.byte_fallback)
        write_json(folder / MADE_OF, _made_of(config, parts))
    return NllbTokenizer.from_folder(folder)


def _llama_tokenizer(config: TrainingConfig, parts: Sequence[AnyPart], out: Path) -> LlamaTokenizer:
    folder = out / "tokenizer"
    if _is_wanted(config, parts, folder, "tokenizer.model"):
        train_llama_tokenizer(tokenizer_text(config, parts), folder, config.vocabulary)
        write_json(folder / MADE_OF, _made_of(config, parts))
    return LlamaTokenizer.from_folder(folder)


def _made_of(config: TrainingConfig, parts: Sequence[AnyPart]) -> dict[str, Any]:
    texts = [[part.code, part.name, len(part)] for part in parts]
    return {"vocabulary": config.vocabulary, "byte_fallback": config.byte_fallback, "texts": texts}


def _is_wanted(config: TrainingConfig, parts: Sequence[AnyPart], folder: Path, file: str) -> bool:
    """Whether a tokenizer is to be made: there is none, or one of other texts that no model has learned yet.

    InvalidOption where a model has learned with a vocabulary of other settings.
    """
    if not (folder / file).exists():
        return True
    try:
        before = read_json(folder / MADE_OF, CheckpointError)
    except FileNotFoundError:
        return False
    now = _made_of(config, parts)
    if not (folder.parent / "checkpoint.pt").exists():
        return before != now
    for name in ("vocabulary", "byte_fallback"):
        if before.get(name) != now[name]:
            raise InvalidOption(
                f"{name} is {now[name]!r}, but the model in {folder.parent} learns with a tokenizer of "
                f"{before.get(name)!r}; take that back, or give another folder for the run"
            )
    return False


def tokenizer_text(config: TrainingConfig, parts: Sequence[AnyPart]) -> list[str]:
    """As many sentences of each language, and of English as of two of them; some of all in capitals."""
    rng = random.Random(config.seed)
    texts: list[str] = []
    codes = list(dict.fromkeys(part.code for part in parts))
    for code in codes:
        mine = [part for part in parts if part.code == code]
        count, english = sum(map(len, mine)), 2 * TOKENIZER_LINES // len(codes)
        # Only what is taken is read: the rows of a language may be more than memory holds.
        places = rng.sample(range(count), min(count, max(TOKENIZER_LINES, english)))
        rows = [_row(mine, place) for place in places]
        texts += [row[0] for row in rows[:TOKENIZER_LINES]]
        if all(sides_of(part) > 1 for part in mine):
            texts += [row[1] for row in rows[:english]]
    rng.shuffle(texts)
    return texts + [text.upper() for text in texts[:CAPITALS]]


def _row(parts: Sequence[AnyPart], place: int) -> Sequence[str]:
    """The row at a place in all rows of these parts."""
    for part in parts:
        if place < len(part):
            return rows_of(part)[place]
        place -= len(part)
    raise IndexError(place)
