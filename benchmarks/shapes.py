"""Checkpoints of published shapes with random weights: `python -m benchmarks.shapes [NAME ...]`.

Each is a folder as the hub has it (config.json, model.safetensors) in benchmarks/.cache, or where
BENCHMARK_CACHE says, and the same for every run. Weights are spread so that activations keep
about unit size, attention has preferences and logits a deviation of 2.5: were they all alike,
no search would have anything to do.
"""

import argparse
import json
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import ROOT
from benchmarks.peers.client import PeerError, interpreter
from dragoman.checkpoints.nllb_files import published_name
from dragoman.checkpoints.numbers import dtype_name
from dragoman.checkpoints.torch_tensors import numbers_of
from dragoman.checkpoints.weight_files import Pending, replacing, write_shards
from dragoman.layers.creation import unfilled
from dragoman.models.config import NllbConfig
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.nllb import Nllb

CACHE = Path(os.environ.get("BENCHMARK_CACHE", ROOT / "benchmarks" / ".cache"))
LOGITS = 2.5
SHARP = 2.0
"""What queries, keys and the last matrix of each block are spread by, in units of 1/sqrt(inputs)."""
RECIPE = 1
"""Raised with every change of weights, so that older folders are made anew."""


@dataclass(frozen=True)
class Shape:
    """A model to be made: its config, and the dtype of its weights on disk."""

    name: str
    config: NllbConfig | LlamaConfig
    dtype: torch.dtype = torch.float32

    @property
    def is_llama(self) -> bool:
        return isinstance(self.config, LlamaConfig)

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    def skeleton(self) -> nn.Module:
        """The module without memory for its weights."""
        with unfilled():
            return Llama(self.config) if isinstance(self.config, LlamaConfig) else Nllb(self.config)

    def parameters(self) -> int:
        return sum(p.numel() for p in self.skeleton().parameters())

    def step_parameters(self, rows: int) -> float:
        """About how many weights a decode step of so many rows has to read; routing taken as even."""
        config = self.config
        if isinstance(config, LlamaConfig):
            return self.parameters() - config.vocab_size * config.hidden_size
        experts = 0.0
        if config.decoder_sparse_step:
            hit = config.num_experts * (1 - (1 - 2 / config.num_experts) ** rows)
            experts = hit / config.num_experts
        total = 0.0
        for name, parameter in self.skeleton().named_parameters():
            # Keys and values of the source are computed once.
            if name.startswith("encoder.") or "cross_attention.k_" in name or "cross_attention.v_" in name:
                continue
            total += parameter.numel() * (experts if ".experts." in name else 1)
        return total

    def build(self) -> Path:
        """The folder of the checkpoint, made if it isn't there."""
        stamp = {"recipe": RECIPE, "dtype": str(self.dtype), "config": self.config.to_dict()}
        text = json.dumps(stamp, sort_keys=True, default=list) + "\n"
        made = self.folder / "random.json"
        if made.exists() and made.read_text(encoding="utf-8") == text:
            return self.folder
        config = self.config.to_dict() | {"torch_dtype": str(self.dtype).removeprefix("torch.")}
        config |= {"is_encoder_decoder": not self.is_llama}
        with replacing(self.folder) as scratch:
            (scratch / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            write_shards(scratch, dict(self._weights()), None, max_shard_bytes=2**62)
            (scratch / "random.json").write_text(text, encoding="utf-8")
        return self.folder

    def _weights(self) -> Iterator[tuple[str, Pending]]:
        """Each tensor under its published name, drawn only when it is written."""
        for name, parameter in self.skeleton().named_parameters():
            shape = tuple(parameter.shape)
            if isinstance(self.config, LlamaConfig):
                key, fill = name, partial(llama_weight, name, shape, self.config)
            else:
                key, fill = published_name(name, self.config), partial(nllb_weight, name, shape, self.config)
            yield key, Pending(shape, dtype_name(self.dtype), lambda fill=fill: numbers_of(fill()))


def nllb_weight(name: str, shape: tuple[int, ...], config: NllbConfig) -> Tensor:
    """The tensor with this in-memory name."""
    draw = _draw(name, shape)
    if name == "shared.weight":
        weight = draw(LOGITS * config.d_model**-0.5)
        weight[config.pad_token_id] = 0
        return weight
    if name == "decoder.layer_norm.weight":
        # The output layer is the embedding again, and what was just written is still in the stream:
        # random signs keep it from being the answer to every question.
        return draw(1.0).sign()
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    if len(shape) == 1:
        return draw(0.1)
    sharp = ("q_proj", "k_proj", "out_proj", "fc2", "classifier")
    return draw((SHARP if name.split(".")[-2] in sharp else 1.0) * shape[1] ** -0.5)


def llama_weight(name: str, shape: tuple[int, ...], config: LlamaConfig) -> Tensor:
    """The tensor with this published name."""
    draw = _draw(name, shape)
    if len(shape) == 1:
        return torch.ones(shape)
    if name == "model.embed_tokens.weight":
        return draw(1.0)
    if name == "lm_head.weight":
        return draw(LOGITS * config.hidden_size**-0.5)
    sharp = ("q_proj", "k_proj", "o_proj", "down_proj")
    return draw((SHARP if name.split(".")[-2] in sharp else 1.0) * shape[1] ** -0.5)


def _draw(name: str, shape: tuple[int, ...]) -> Callable[[float], Tensor]:
    """Normal numbers of a given deviation, the same for the same name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return lambda deviation: torch.empty(shape).normal_(0, deviation, generator=generator)


NLLB: dict[str, Any] = {
    "vocab_size": 256206,
    "d_model": 1024,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
}
SHAPES = {
    shape.name: shape
    for shape in (
        # facebook/nllb-200-distilled-600M
        Shape("nllb-600m", NllbConfig(model_type="m2m_100", **NLLB)),
        # As facebook/nllb-moe-54b routes, with a quarter of its experts, half of its width and depth.
        Shape("nllb-moe-32", NllbConfig(model_type="nllb-moe", num_experts=32, **NLLB)),
        # Llama-2-13B, eight layers of forty.
        Shape(
            "llama-13b-8",
            LlamaConfig(
                hidden_size=5120,
                intermediate_size=13824,
                num_hidden_layers=8,
                num_attention_heads=40,
                max_position_embeddings=4096,
                rms_norm_eps=1e-5,
            ),
            torch.float16,
        ),
    )
}


def folder_for(shape: Shape, peer: str, precision: str) -> Path:
    """What an engine loads for a shape, made or converted if it isn't there."""
    source = shape.build()
    if peer == "ctranslate2":
        kind = {"fp32": "float32", "int8": "int8"}[precision]
        out = CACHE / f"{shape.name}-ctranslate2-{kind}"
        _convert(peer, source, out, out / "model.bin", kind)
        return out
    if peer == "llama_cpp":
        out = CACHE / f"{shape.name}-{precision}.gguf"
        _convert(peer, source, out, out)
        return out
    return source


def _convert(peer: str, source: Path, out: Path, made: Path, *arguments: str) -> None:
    """Run a peer's converter unless `made` is there and younger than its source."""
    if made.exists() and made.stat().st_mtime >= (source / "random.json").stat().st_mtime:
        return
    module = f"benchmarks.peers.convert_{peer}"
    command = [str(interpreter(peer)), "-m", module, str(source.resolve()), str(out.resolve()), *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        made.unlink(missing_ok=True)
        raise PeerError(f"{peer} can't convert {source}: {result.stderr.strip()[-400:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SHAPES), help=f"of {', '.join(SHAPES)}")
    for name in parser.parse_args().names:
        shape = SHAPES[name]
        print(f"{name}: {shape.parameters() / 1e6:.0f} M weights in {shape.build()}")


if __name__ == "__main__":
    main()
