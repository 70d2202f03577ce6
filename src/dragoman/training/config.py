"""Settings of a training run, read from a TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.errors import InvalidOption
from dragoman.models.config import NllbConfig


@dataclass(frozen=True)
class TrainingConfig:
    """One run. Absent keys keep the defaults; unknown keys stop the run."""

    languages: dict[str, str] = field(default_factory=dict)
    """Corpus code -> NLLB code of every language but English, e.g. {"fr": "fra_Latn"}."""
    excluded_origins: tuple[str, ...] = ()
    """Pairs whose origin tag starts with one of these are left out."""
    vocabulary: int = 8000
    """SentencePiece pieces, without the language codes."""
    max_tokens: int = 48
    """Pairs with a longer side are left out."""
    balance: float = 1.0
    """Pairs drawn from a direction of n pairs are proportional to n**balance."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of NllbConfig; the vocabulary size follows from the tokenizer."""
    batch_tokens: int = 6000
    """Padded source and target tokens of one micro-batch."""
    accumulate: int = 1
    """Micro-batches in one update."""
    updates: int = 10000
    warmup: int = 300
    """Updates over which the rate rises from zero."""
    decay: float = 0.3
    """Share of the updates, at the end, over which the rate falls to zero."""
    rate: float = 2e-3
    """Peak learning rate."""
    matrix_rate: float | None = None
    """Peak rate of the matrices under muon, if not the same."""
    optimizer: str = "adamw"
    """adamw, or muon: orthogonalised momentum for the matrices, AdamW for all else."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest gradient norm."""
    label_smoothing: float = 0.1
    balance_loss: float = 0.01
    """Weight of the routers' balance loss, summed over layers."""
    z_loss: float = 0.0
    """Weight of the routers' z-loss, summed over layers."""
    precision: str = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the processor multiplies it natively."""
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
        known = {f.name for f in dataclasses.fields(cls)}
        for key in data:
            if key not in known:
                raise InvalidOption(
                    f"{path}: unknown setting {key!r}; the settings are {', '.join(sorted(known))}"
                )
        if "excluded_origins" in data:
            data["excluded_origins"] = tuple(data["excluded_origins"])
        config = cls(**data)
        if config.optimizer not in ("adamw", "muon"):
            raise InvalidOption(f"{path}: optimizer {config.optimizer!r} is neither 'adamw' nor 'muon'")
        if config.precision not in ("auto", "fp32", "bf16"):
            raise InvalidOption(f"{path}: precision {config.precision!r} is none of 'auto', 'fp32', 'bf16'")
        shape = {f.name for f in dataclasses.fields(NllbConfig)} - {"model_type", "vocab_size"}
        for key in config.model:
            if key not in shape:
                raise InvalidOption(
                    f"{path}: unknown setting model.{key}; it may have {', '.join(sorted(shape))}"
                )
        return config

    def model_config(self, vocab_size: int) -> NllbConfig:
        """The model's shape with `vocab_size` embedding rows."""
        return NllbConfig.from_dict({"model_type": "nllb-moe", "vocab_size": vocab_size, **self.model})
