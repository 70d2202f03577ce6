"""Settings of a training run, read from a TOML file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError, InvalidOption, UnknownLanguage
from dragoman.languages import find
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LLAMA, LlamaConfig
from dragoman.models.xalma import group_of
from dragoman.text.prompt_style import STYLES
from dragoman.training.augmentation.examples import AugmentationOptions
from dragoman.training.parts import KINDS, MONOLINGUAL, PARALLEL, PREFERENCES, PartOptions
from dragoman.training.ranges import check_pattern, check_ranges, is_for_all
from dragoman.training.settings import check_keys, one_of, read_toml, table, tables

TRANSLATION, CAUSAL, SFT = "translation", "causal", "sft"
PREFERENCE = ("cpo", "arpo", "arpo-repository", "dpo", "simpo")
OBJECTIVES = (TRANSLATION, CAUSAL, SFT, *PREFERENCE)
SCHEDULES = ("constant", "inverse_sqrt", "cosine")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TRAINED = ("all", "lora", "module")
ONLY_PAIRS = ("origins", "excluded", "words", "limit", "english")
"""Settings of parts that only those of pairs read."""
NAMING = ("json", "jsonl", "tmx", "parquet")
"""Files whose rows say which language a text is in."""


@dataclass(frozen=True)
class PreferenceOptions:
    """Constants of preference losses, for those that have them."""

    beta: float | None = None
    """How steep the loss is; 0.1, and 2 for SimPO."""
    eta: float = 1.5
    """ARPO: how fast a growing difference makes the rejected side count in full."""
    gamma: float = 1.0
    """SimPO: the margin that is aimed at, times beta."""
    nll: float | None = None
    """Weight of the chosen side's negative log-likelihood; 1 for CPO and ARPO, 0 for DPO and SimPO."""
    scorer: str = "kiwi_xcomet"
    """Of rows with scores, those by which the best and the worst translation are told."""


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank additions, for `train = "lora"` and "module"."""

    rank: int = 16
    scale: float = 2.0
    """What the products are multiplied by: PEFT's alpha / rank."""
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    """Projections that get one, such as "q_proj"; all linear layers if empty. A module has all."""


@dataclass(frozen=True)
class PhaseOptions:
    """A part of a curriculum: what is learned from when on."""

    updates: int
    """How long it lasts; the last phase goes on to the end."""
    languages: tuple[str, ...] = ()
    """Corpus codes of the languages that are learned; all if empty."""
    parts: tuple[str, ...] = ()
    """Names of the parts; all if empty."""
    max_tokens: int = 0
    """Examples with a longer side are left out; 0 for the run's own limit."""


@dataclass(frozen=True)
class TrainingConfig:
    """One run. Absent keys keep the defaults; unknown keys stop the run."""

    objective: str = TRANSLATION
    """translation (NLLB); causal, sft, cpo, arpo, arpo-repository, dpo or simpo (Llama and X-ALMA)."""
    start: str = ""
    """The model to go on from, as a name or folder: weights and tokenizer. Empty: a new one, of [model]."""
    train: str = "all"
    """all weights; lora: a LoRA beside frozen ones; module: X-ALMA's language module of `group` alone."""
    group: int = 0
    """X-ALMA's language group, 1 to 8, whose module is trained."""
    prompts: str = ""
    """chat (X-ALMA) or plain (ALMA); empty for what the model's name or its files say."""
    data: str = "."
    """The folder below which files are named."""
    out: str = ""
    """The folder of the run; empty for runs/ and the recipe's name."""
    languages: dict[str, str] = field(default_factory=dict)
    """Corpus code -> NLLB code of every language but English, e.g. {"fr": "fra_Latn"}; in a file also a list
    of corpus codes, where each says which language it is."""
    new_languages: dict[str, str] = field(default_factory=dict)
    """Codes to teach NLLB beside its own -> a language whose embedding each begins with."""
    held_out: tuple[str, ...] = ()
    """Files of sentences that models are tested on, with {language} and {code}: what shares one is out.
    Beginning with ./ they are beside the settings, else below `data`."""
    dev: str = ""
    """A file of pairs, with {language}, whose loss is computed at evaluations; never learned from."""
    parts: tuple[PartOptions, ...] = ()
    """The kinds of text of the mixture: a table [[parts]] each."""
    phases: tuple[PhaseOptions, ...] = ()
    """A curriculum: a table [[phases]] each, one after the other."""
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    """How examples are changed: the table [augmentation]."""
    preference: PreferenceOptions = field(default_factory=PreferenceOptions)
    """Constants of preference losses: the table [preference]."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """The table [lora]."""
    vocabulary: int = 8000
    """SentencePiece pieces, without the language codes."""
    byte_fallback: bool = False
    """Characters without a piece become bytes, and digits stand alone."""
    max_tokens: int = 48
    """Examples with a longer side are left out; of causal text, how long its blocks are."""
    balance: float = 1.0
    """Examples drawn from a language of n pairs are proportional to n**balance."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Corpus code -> how often a language is drawn, relative to the others, instead of by `balance`."""
    round_examples: int = 16384
    """How many examples are drawn and sorted by length together."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of NllbConfig, or with model_type = "llama" of LlamaConfig; the vocabulary size follows from the
    tokenizer."""
    warm_start: str = ""
    """A model to take the layers from, as a name or folder; empty to begin with random numbers."""
    batch_tokens: int = 6000
    """Padded source and target tokens of one micro-batch."""
    accumulate: int = 1
    """Micro-batches in one update, of each process."""
    updates: int = 10000
    warmup: int = 300
    """Updates over which the rate rises from zero."""
    schedule: str = "constant"
    """What the rate does afterwards: constant, inverse_sqrt or cosine (to zero at the last update)."""
    decay: float = 0.3
    """Share of the updates, at the end, over which the rate falls to zero; 0 to keep it until a run is told
    to finish."""
    rate: float = 2e-3
    """Peak learning rate."""
    matrix_rate: float | None = None
    """Peak rate of the matrices under muon, if not the same."""
    optimizer: str = "adamw"
    """adamw, or muon: orthogonalised momentum for the matrices, AdamW for all else."""
    beta2: float = 0.98
    """AdamW's memory of squared gradients."""
    epsilon: float = 1e-8
    """AdamW's least root of a squared gradient."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest gradient norm."""
    average: float = 0.0
    """Weights are averaged over updates, the last one with 1 - average; the averages are evaluated and
    exported. 0 for none."""
    label_smoothing: float = 0.1
    balance_loss: float = 0.01
    """Weight of the routers' balance loss, summed over layers."""
    z_loss: float = 0.0
    """Weight of the routers' z-loss, summed over layers."""
    precision: str = "auto"
    """fp32, bf16 or fp16 (autocast), or auto: bf16 where the processor multiplies it natively."""
    spread: bool = False
    """Of several processes each keeps its part of the layers' weights, gradients and optimizer state.
    Unless precision is fp32 this goes with `checkpointing`."""
    checkpointing: bool = False
    """Layers forget activations and compute them again for gradients: less memory, a third more time."""
    log_every: int = 25
    """Updates between lines of figures."""
    evaluate_every: int = 500
    """Updates between evaluations."""
    evaluate_pairs: int = 40
    """Development pairs per language at an evaluation."""
    save_every: int = 250
    """Updates between checkpoints."""
    seed: int = 1

    @classmethod
    def from_toml(cls, path: str | Path) -> "TrainingConfig":
        """Read `path`; InvalidOption names a key that does not exist, or a value that can't be."""
        data = read_toml(path)
        where = f"{path}: "
        check_keys(where, data, {f.name for f in dataclasses.fields(cls)})
        data["languages"] = _languages(where, data.get("languages", {}))
        if isinstance(data.get("held_out"), list):
            data["held_out"] = [_beside(path, name) for name in data["held_out"]]
        for name, kind in (("parts", PartOptions), ("phases", PhaseOptions)):
            data[name] = tables(f"{where}{name}.", kind, data.pop(name, []))
        kinds: dict[str, type] = {
            "augmentation": AugmentationOptions,
            "preference": PreferenceOptions,
            "lora": LoraOptions,
        }
        made: dict[str, Any] = {
            name: table(f"{where}{name}.", kind, data.pop(name, {})) for name, kind in kinds.items()
        }
        config = dataclasses.replace(table(where, cls, data, but=kinds), **made)
        config.check(where)
        return config

    def check(self, where: str = "") -> None:
        """InvalidOption for settings that don't go together. where: what stands before their names."""
        one_of(f"{where}objective", self.objective, OBJECTIVES)
        one_of(f"{where}optimizer", self.optimizer, ("adamw", "muon"))
        one_of(f"{where}precision", self.precision, PRECISIONS)
        one_of(f"{where}schedule", self.schedule, SCHEDULES)
        one_of(f"{where}train", self.train, TRAINED)
        if self.prompts:
            one_of(f"{where}prompts", self.prompts, STYLES)
        shape: set[str] = {f.name for f in dataclasses.fields(LlamaConfig if self.is_llama else NllbConfig)}
        type_too = set() if self.is_llama else {"model_type"}
        check_keys(f"{where}model.", self.model, shape - {"vocab_size"} - type_too)
        self._check_numbers(where)
        self._check_what_is_trained(where)
        self._check_what_is_read(where)
        self._check_spread(where)
        self._check_parts(where)
        self._check_files(where)

    def _check_numbers(self, where: str) -> None:
        check_ranges(where, self)
        for name in ("augmentation", "preference", "lora"):
            check_ranges(f"{where}{name}.", getattr(self, name))
        for phase in self.phases:
            check_ranges(f"{where}phases.", phase, may_be_zero={"max_tokens"})
        for part in self.parts:
            check_ranges(f"{where}parts.", part)
            if not 0 <= part.words[0] <= part.words[1]:
                raise InvalidOption(f"{where}parts.words is {list(part.words)}; give the least and the most")
        for code, ratio in self.ratios.items():
            if not 0 < ratio < float("inf"):
                raise InvalidOption(f"{where}ratios.{code} is {ratio!r}; it must be above 0")
        if self.start:
            return
        try:
            _ = self.llama_config(self.vocabulary) if self.is_llama else self.model_config(self.vocabulary)
        except ConfigError as error:
            raise InvalidOption(f"{where}model: {error}") from None

    def _check_what_is_read(self, where: str) -> None:
        """InvalidOption for settings that this run has no use for, and that say something."""
        usual = TrainingConfig()
        unused = {
            "augmentation": self.objective != TRANSLATION,
            "lora": self.train == "all",
            "preference": self.objective not in PREFERENCE,
            "matrix_rate": self.optimizer != "muon",
            "vocabulary": bool(self.start),
            "byte_fallback": bool(self.start) or self.is_llama,
        }
        if self.is_llama:
            unused |= {
                name: bool(getattr(self, name)) for name in ("label_smoothing", "balance_loss", "z_loss")
            }
        for name, is_unused in unused.items():
            if is_unused and getattr(self, name) != getattr(usual, name):
                raise InvalidOption(
                    f"{where}{name} says nothing to a run with objective {self.objective!r}, "
                    f"train {self.train!r}, optimizer {self.optimizer!r}"
                    f"{' and start' * bool(self.start)}; leave it out"
                )
        if self.train == "module" and self.lora.targets:
            raise InvalidOption(f"{where}lora.targets: a module has all projections; leave it out")

    def _check_spread(self, where: str) -> None:
        if not self.spread:
            return
        if self.train != "all" or self.optimizer == "muon":
            raise InvalidOption(
                f'{where}spread is for runs with train = "all" and optimizer = "adamw"; leave it out, and '
                "every process has all weights"
            )
        if self.precision != "fp32" and not self.checkpointing:
            raise InvalidOption(
                f'{where}spread with precision "{self.precision}" needs checkpointing = true: else each '
                "process keeps all layers in half precision until gradients are taken; set that, or "
                'precision = "fp32"'
            )
        self.check_layers(self.model, f"{where}model.")

    def check_layers(self, model: Mapping[str, Any], where: str) -> None:
        """InvalidOption if weights are spread of a model, new or to start from, that skips layers by chance.

        A layer's weights are put together by all processes, so none can skip it alone. model: the fields of
        its config; where: what stands before their names.
        """
        for name in ("encoder_layerdrop", "decoder_layerdrop"):
            if self.spread and model.get(name):
                raise InvalidOption(
                    f"{where}{name} is {model[name]}: each process would skip other layers, which spread "
                    "does not allow; set it to 0, or leave spread out"
                )

    def _check_files(self, where: str) -> None:
        for pattern in self.held_out:
            check_pattern(f"{where}held_out", pattern)
        check_pattern(f"{where}dev", self.dev)
        several = len(self.languages) > 1
        if self.dev and several and is_for_all(self.dev) and not _names_languages(self.dev):
            raise InvalidOption(f"{where}dev is one file for all languages, whose rows don't name theirs")
        for part in self.parts:
            check_pattern(f"{where}parts.files", part.files)
            check_pattern(f"{where}parts.english", part.english)
            rows_do = _names_languages(part.files) and part.kind != MONOLINGUAL and not part.english
            readers = [code for code in self.languages if code != part.other or part.kind == MONOLINGUAL]
            if part.files and len(readers) > 1 and is_for_all(part.files) and not rows_do:
                raise InvalidOption(
                    f"{where}the part {part.name!r} has one file for {', '.join(readers)}, whose rows don't "
                    "name their language; put {language} into files, or give a run of one language"
                )

    def _check_what_is_trained(self, where: str) -> None:
        if self.group and self.prompts == "plain":
            raise InvalidOption(f"{where}prompts can't be plain: X-ALMA's modules read chat prompts")
        if self.train != "all" and not self.start:
            raise InvalidOption(
                f'{where}train is "{self.train}", which needs a model to start from; set start'
            )
        if (self.train == "module") != bool(self.group):
            raise InvalidOption(f'{where}group goes with train = "module", and that with a group from 1 to 8')
        for code in self.languages.values() if self.group else ():
            if group_of(code) != self.group:
                raise InvalidOption(
                    f"{where}{code} is of X-ALMA's group {group_of(code)}, not {self.group}; a module is "
                    "trained with the languages of its group"
                )
        if self.group and self.objective == TRANSLATION:
            raise InvalidOption(f'{where}objective "translation" is NLLB\'s, which has no language modules')
        if self.start and self.model:
            raise InvalidOption(f"{where}start brings a model of its own; leave [model] out")
        if self.warm_start and (self.start or self.is_llama):
            raise InvalidOption(f"{where}warm_start is for a new NLLB with another vocabulary; leave it out")
        if self.new_languages and not (self.start and self.objective == TRANSLATION and self.train == "all"):
            raise InvalidOption(
                f"{where}new_languages are for an NLLB to start from, all of whose weights learn"
            )
        if not self.start and self.objective == TRANSLATION and self.is_llama:
            raise InvalidOption(f'{where}objective "translation" needs an NLLB; a Llama learns by "sft"')

    def _check_parts(self, where: str) -> None:
        wanted = {
            TRANSLATION: ("parallel",),
            SFT: ("parallel",),
            CAUSAL: ("monolingual", "parallel"),
        }.get(self.objective, (PREFERENCES,))
        usual = PartOptions("")
        for part in self.parts:
            one_of(f"{where}parts.kind", part.kind, KINDS)
            one_of(f"{where}parts.other", part.other, ("en", *self.languages))
            if part.kind not in wanted:
                raise InvalidOption(
                    f"{where}the part {part.name!r} is of the kind {part.kind!r}; objective "
                    f"{self.objective!r} learns from {' and '.join(wanted)} text"
                )
            unused = [
                n for n in ONLY_PAIRS if part.kind != PARALLEL and getattr(part, n) != getattr(usual, n)
            ]
            if unused:
                raise InvalidOption(
                    f"{where}parts.{unused[0]} is for parallel text; the part {part.name!r} is {part.kind}"
                )
        names = {part.name for part in self.parts}
        if len(names) < len(self.parts):
            every = [part.name for part in self.parts]
            twice = next(name for name in every if every.count(name) > 1)
            raise InvalidOption(f"{where}two parts are called {twice!r}; give each a name of its own")
        for phase in self.phases:
            for name in phase.parts:
                one_of(f"{where}phases.parts", name, names)
            for code in phase.languages:
                one_of(f"{where}phases.languages", code, self.languages)
        for code in self.ratios:
            one_of(f"{where}ratios", code, (*self.languages, "en"))

    @property
    def is_llama(self) -> bool:
        """Whether a new model would be a Llama."""
        return self.model.get("model_type") == LLAMA or self.objective != TRANSLATION

    def model_config(self, vocab_size: int) -> NllbConfig:
        """A new NLLB's shape with `vocab_size` embedding rows."""
        return NllbConfig.from_dict({"model_type": "nllb-moe", "vocab_size": vocab_size, **self.model})

    def llama_config(self, vocab_size: int) -> LlamaConfig:
        """A new Llama's shape with `vocab_size` embedding rows."""
        return LlamaConfig.from_dict({"model_type": LLAMA, **self.model, "vocab_size": vocab_size})


def _names_languages(pattern: str) -> bool:
    return pattern.removesuffix(".gz").rpartition(".")[2].lower() in NAMING


def _languages(where: str, found: object) -> dict[str, str]:
    """Corpus code -> NLLB code, also from a list of codes; InvalidOption for a language that isn't one."""
    if isinstance(found, dict):
        return found
    if not isinstance(found, list):
        raise InvalidOption(f"{where}languages is {found!r}; it must be a table or a list of codes")
    try:
        return {code: find(code).nllb for code in found}
    except UnknownLanguage as error:
        raise InvalidOption(f"{where}languages: {error}") from None


def _beside(path: str | Path, name: object) -> object:
    """A file's name, in full if it is given relative to the settings."""
    is_beside = isinstance(name, str) and name.startswith("./")
    return str(Path(path).absolute().parent / str(name)) if is_beside else name
