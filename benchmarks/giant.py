"""NLLB-MoE's 54 billion parameters on one computer: `python -m benchmarks.giant`.

Writes a packed checkpoint of the published shape with random weights straight in int4 (31 GB, in
benchmarks/.cache or where BENCHMARK_CACHE says; once), and runs it with its experts on the disk under
`--memory`. A random router chooses evenly, and differently for every token: the worst case for a store,
which real languages are not.

Measured are a step of beam search for one sentence once the decoder's experts are there, the first token of a
sentence whose encoder experts are not, and a corpus. A share is the time that the bytes that have to be read
take at the bandwidth of what they are read from, by the time it took.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peak_gigabytes, report, rounded, table
from benchmarks.bandwidth import read_gigabytes
from dragoman.checkpoints.cards import ModelCard
from dragoman.checkpoints.packed_facts import FIELD
from dragoman.checkpoints.packed_folders import PackedModel, open_packed
from dragoman.checkpoints.packed_saving import Plan, check_output, save_packed
from dragoman.checkpoints.packed_shards import LAYOUT
from dragoman.checkpoints.packing import ROUTER, Recipe, packed_bytes
from dragoman.generation.engine import Engine, Job
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.arrays import Stored
from dragoman.kernels.fine import Fine
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import Packed
from dragoman.models.config import MOE, NllbConfig
from dragoman.models.shapes import nllb_shapes
from dragoman.native.nllb import NativeNllb
from dragoman.systems.placement import place_packed
from dragoman.systems.residence import SIDES, FolderWeights

CACHE = Path(os.environ.get("BENCHMARK_CACHE", Path(__file__).parent / ".cache"))
LOGITS = 2.5
PUBLISHED = {
    "model_type": MOE,
    "vocab_size": 256206,
    "d_model": 2048,
    "encoder_layers": 24,
    "decoder_layers": 24,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 8192,
    "decoder_ffn_dim": 8192,
    "encoder_sparse_step": 4,
    "decoder_sparse_step": 4,
    "num_experts": 128,
    "max_position_embeddings": 1024,
}
"""facebook/nllb-moe-54b's config.json, as far as it decides shapes."""
QUICK = {"encoder_layers": 4, "decoder_layers": 4, "num_experts": 8, "vocab_size": 8206}
EOS, ENGLISH, GERMAN = 2, 256047, 256042
PRECISION = "int4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--memory", default="18GiB", help="for weights and decoding (default: 18GiB)")
    parser.add_argument("--sentences", type=int, default=200, help="in the corpus (default: 200)")
    parser.add_argument("--tokens", type=int, default=24, help="of a sentence, on both sides (default: 24)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="a small model: does it work at all?")
    args = parser.parse_args()
    config = PUBLISHED | (QUICK if args.quick else {})
    folder = CACHE / ("giant-quick" if args.quick else "giant")
    if not (folder / "config.json").exists():
        write(folder, config)
    packed = open_packed(folder)
    counts = sum(len(packed.experts(side)) for side in SIDES)
    memory = "520MB" if args.quick else args.memory
    placed = place_packed(
        packed.config,
        PRECISION,
        packed.bytes(),
        "cpu",
        memory=memory,
        experts=(packed.expert_bytes(), counts),
    )
    began = time.perf_counter()
    weights = FolderWeights(packed, placed.experts)
    model = NativeNllb(packed.config, weights)
    opened = time.perf_counter() - began
    engine = Engine(model, memory=placed.budget.work)
    found = {"open_seconds": opened}
    for name, value in measure(engine, weights, args):
        print(f"{name}: {value:.3g}", flush=True)  # it takes minutes: what is known shouldn't be lost
        found[name] = value
    found["peak_gigabytes"] = peak_gigabytes()
    speed = read_gigabytes(args.threads)
    step_bytes = bytes_of_step(packed, 4)
    found["step_share"] = step_bytes / 1e9 / speed / found["step_seconds"]
    print(table(["what", ""], [[name, value] for name, value in found.items()]))
    print(f"memory is read at {speed:.1f} GB/s; a step of four rows reads {step_bytes / 1e9:.2f} GB")
    report({"benchmark": "giant", "memory": str(memory), "threads": args.threads, "row": rounded(found)})


def measure(engine: Engine, weights: FolderWeights, args: argparse.Namespace) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng(0)

    def job(new: int) -> Job:
        inner = rng.integers(4, 8000, args.tokens - 2).tolist()
        source = [ENGLISH % weights.packed.config.vocab_size, *inner, EOS]
        options = GenerationOptions(beams=4, suppress=(EOS,), max_new_tokens=new)
        return Job(source, options, (EOS, GERMAN % weights.packed.config.vocab_size), forced=1)

    def seconds(*jobs: Job) -> float:
        began = time.perf_counter()
        done = sum(1 for _ in engine.run(jobs))
        assert done == len(jobs)
        return time.perf_counter() - began

    store = weights.store
    yield "first_token_seconds_at_start", seconds(job(2))
    if store is not None:
        decoder = store.shelves[0]
        while len(decoder.where) < len(decoder.slots) or any(
            s.state.value == "loading" for s in decoder.slots
        ):
            time.sleep(0.1)
        yield "decoder_resident", len(decoder.slots) / len(decoder.pieces)
        yield "encoder_resident", len(store.shelves[1].slots) / len(store.shelves[1].pieces)
    seconds(job(8))
    yield "first_token_seconds", statistics.median(seconds(job(2)) for _ in range(3))
    steps = []
    for _ in range(3):
        one = job(34)
        short = Job(
            one.source, GenerationOptions(beams=4, suppress=(EOS,), max_new_tokens=2), one.prompt, forced=1
        )
        seconds(short)  # its experts are there now, as far as they fit
        steps.append((seconds(one) - seconds(short)) / 32)
    yield "step_seconds", statistics.median(steps)
    yield "sentences", args.sentences
    corpus = [job(args.tokens) for _ in range(args.sentences)]
    yield "sentences_a_second", args.sentences / seconds(*corpus)
    if store is not None:
        for side, shelf in zip(("decoder", "encoder"), store.shelves, strict=True):
            tally = shelf.tally
            yield f"{side}_hits", 1 - tally.misses / max(1, tally.uses)
            yield f"{side}_read_gigabytes", tally.bytes / 1e9
            yield f"{side}_waited_seconds", tally.waited


def bytes_of_step(packed: PackedModel, rows: int) -> float:
    """What a decoder step has to read: weights but for the source's keys, with two experts for each row."""
    config = packed.config
    assert isinstance(config, NllbConfig)
    total = 0.0
    for name, facts in packed.described.items():
        size = sum(
            np.prod(packed.tensors[tensor].shape) * (4 if packed.tensors[tensor].dtype == "F32" else 1)
            for tensor in facts["arrays"].values()
        )
        if name == "lm_head":
            total += config.vocab_size * config.d_model  # the upper eight bits of each number
        elif (
            name.startswith("decoder.")
            and ".cross_attention.k" not in name
            and ".cross_attention.v" not in name
        ):
            total += size * (min(1.0, 2 * rows / config.num_experts) if ".experts." in name else 1)
    return total


def write(folder: Path, config: dict[str, Any]) -> None:
    """A packed checkpoint with random weights."""
    parsed = NllbConfig.from_dict(config)
    facts = {"layout": LAYOUT, "precision": PRECISION, "style": None, "merged": None, "modules": {}}
    plan = Plan(
        tuple(_recipes(parsed)),
        packed_bytes(parsed, PRECISION),
        {**config, FIELD: facts},
        ModelCard(folder.name, ("eng_Latn", "deu_Latn"), 512),
        {},
        {"precision": PRECISION, "model_type": MOE},
        (),
    )
    folder.mkdir(parents=True, exist_ok=True)
    check_output(folder, CACHE, force=False)
    last = [0.0]

    def progress(done: int, total: int) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"writing {folder}: {done / 1e9:.1f} of {total / 1e9:.1f} GB", flush=True)

    save_packed(folder, plan, progress=progress)


def _recipes(config: NllbConfig) -> Iterator[Recipe]:
    shapes = nllb_shapes(config)
    matrices = {name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) == 2}
    for number, (name, shape) in enumerate(shapes.items()):
        module = name.removesuffix(".weight")
        if module in ("shared", "lm_head"):
            continue
        if len(shape) == 2:
            yield Recipe(module, partial(_linear, module, shape, f"{module}.bias" in shapes, number))
        elif name.rpartition(".")[0] not in matrices:
            fill = 1.0 if name.endswith("weight") else 0.0
            yield Recipe(name, partial(_vector, name, shape, fill))
    yield Recipe("shared", partial(_tables, config))


def _linear(name: str, shape: tuple[int, int], has_bias: bool, number: int) -> dict[str, Any]:
    precision = "fp32" if name.endswith(ROUTER) else PRECISION
    packed = _random(shape, precision)
    # Another matrix for the price of a copy: the same panels in another order.
    data = np.roll(packed.data, number, 0)
    bias = np.zeros(shape[0], np.float32) if has_bias else None
    if precision == "fp32":
        weight = np.random.default_rng(number).standard_normal(shape, np.float32) / shape[1] ** 0.5
        return {name: Linear.of(Stored(weight, "F32"), None, "fp32", name)}
    return {name: Linear(Packed(packed.kind, packed.outputs, packed.inputs, data, packed.scale), bias)}


@cache
def _random(shape: tuple[int, int], precision: str) -> Packed:
    weight = np.random.default_rng(0).standard_normal(shape, np.float32) / shape[1] ** 0.5
    return Linear.of(Stored(weight, "F32"), None, precision).packed


def _vector(name: str, shape: tuple[int], fill: float) -> dict[str, Any]:
    return {name: np.full(shape, fill, np.float32)}


def _tables(config: NllbConfig) -> dict[str, Any]:
    width = config.d_model
    weight = np.random.default_rng(1).standard_normal((config.vocab_size, width), np.float32)
    weight *= LOGITS / width**0.5
    table_ = Fine.of(Stored(weight, "F32"), "shared")
    return {"shared": Embedding(table_, width**0.5), "lm_head": Head.fine(table_)}


if __name__ == "__main__":
    main()
