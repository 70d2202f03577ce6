"""Settings of a training run, read from a TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.models.config import NllbConfig
from dragoman.training.augmentation.examples import AugmentationOptions
from dragoman.training.parts import PartOptions


@dataclass(frozen=True)
class TrainingConfig:
    """One run. Absent keys keep the defaults; unknown keys stop the run."""

    languages: dict[str, str] = field(default_factory=dict)
    """Corpus code -> NLLB code of every language but English, e.g. {"fr": "fra_Latn"}."""
    parts: tuple[PartOptions, ...] = ()
    """The kinds of text of the mixture: a table [[parts]] each."""
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    """How examples are changed: the table [augmentation]."""
    vocabulary: int = 8000
    """SentencePiece pieces, without the language codes."""
    byte_fallback: bool = False
    """Characters without a piece become bytes, and digits stand alone."""
    max_tokens: int = 48
    """Examples with a longer side are left out."""
    balance: float = 1.0
    """Examples drawn from a language of n pairs are proportional to n**balance."""
    round_examples: int = 16384
    """How many examples are drawn and sorted by length together."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of NllbConfig; the vocabulary size follows from the tokenizer."""
    warm_start: str = ""
    """A model to take the layers from, as a name or folder; empty to begin with random numbers."""
    batch_tokens: int = 6000
    """Padded source and target tokens of one micro-batch."""
    accumulate: int = 1
    """Micro-batches in one update."""
    updates: int = 10000
    warmup: int = 300
    """Updates over which the rate rises from zero."""
    decay: float = 0.3
    """Share of the updates, at the end, over which the rate falls to zero; 0 to keep it until a run is told
    to finish."""
    rate: float = 2e-3
    """Peak learning rate."""
    matrix_rate: float | None = None
    """Peak rate of the matrices under muon, if not the same."""
    optimizer: str = "adamw"
    """adamw, or muon: orthogonalised momentum for the matrices, AdamW for all else."""
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
    """fp32, bf16 (autocast), or auto: bf16 where the processor multiplies it natively."""
    log_every: int = 25
    """Updates between lines of figures."""
    evaluate_every: int = 500
    """Updates between evaluations."""
    evaluate_pairs: int = 40
    """Development pairs translated per direction at an evaluation."""
    save_every: int = 250
    """Updates between checkpoints."""
    seed: int = 1

    @classmethod
    def from_toml(cls, path: str | Path) -> "TrainingConfig":
        """Read `path`; InvalidOption names a key that does not exist."""
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        _check_keys(path, "", data, {f.name for f in dataclasses.fields(cls)})
        data["parts"] = tuple(_table(path, "parts", PartOptions, part) for part in data.get("parts", ()))
        data["augmentation"] = _table(path, "augmentation", AugmentationOptions, data.get("augmentation", {}))
        config = cls(**data)
        if config.optimizer not in ("adamw", "muon"):
            raise InvalidOption(f"{path}: optimizer {config.optimizer!r} is neither 'adamw' nor 'muon'")
        if config.precision not in ("auto", "fp32", "bf16"):
            raise InvalidOption(f"{path}: precision {config.precision!r} is none of 'auto', 'fp32', 'bf16'")
        shape = {f.name for f in dataclasses.fields(NllbConfig)} - {"model_type", "vocab_size"}
        _check_keys(path, "model.", config.model, shape)
        return config

    def model_config(self, vocab_size: int) -> NllbConfig:
        """The model's shape with `vocab_size` embedding rows."""
        return NllbConfig.from_dict({"model_type": "nllb-moe", "vocab_size": vocab_size, **self.model})


def _table(path: str | Path, name: str, kind: type, found: dict[str, Any]) -> Any:
    """A table of a file as a dataclass whose fields are its keys; lists become tuples."""
    _check_keys(path, f"{name}.", found, {f.name for f in dataclasses.fields(kind)})
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})
    except TypeError as error:
        raise InvalidOption(f"{path}: {name} is not complete: {error}") from None


def _check_keys(path: str | Path, prefix: str, found: dict[str, Any], known: set[str]) -> None:
    for key in found:
        if key not in known:
            raise InvalidOption(
                f"{path}: unknown setting {prefix}{key}; it may have {', '.join(sorted(known))}"
            )
