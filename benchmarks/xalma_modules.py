"""What language modules cost: `python -m benchmarks.xalma_modules`.

(a) One batch of 64 rows that speaks all eight groups, against one of a single group: decoded
    tokens per second, and whether the mixed batch says what eight separate ones say.
(b) A decode step, against the way of the authors' code, which forms W + B A * scale for every
    projection in every call.

The model is random: hidden 1024, 12 layers, 16 heads, ffn 2816, rank 128, vocabulary 32000.
"""

import argparse
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import interleaved, report
from dragoman.kernels.packing import PRECISIONS
from dragoman.layers.lora import AdaptedProjections, Routes
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.prompt import Prompt
from dragoman.native.llama import NativeLlama
from dragoman.surgery.packing import pack_

CONFIG = LlamaConfig(
    model_type="xalma",
    vocab_size=32000,
    hidden_size=1024,
    intermediate_size=2816,
    num_hidden_layers=12,
    num_attention_heads=16,
    lora_size=128,
    rms_norm_eps=1e-5,
    pad_token_id=0,
)
GROUPS = tuple(range(1, 9))
Model = Llama | NativeLlama


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="a multiple of eight (default: 64)")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt (default: 64)")
    parser.add_argument("--steps", type=int, default=16, help="decode steps of a run (default: 16)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind (default: 5)")
    parser.add_argument(
        "--precision", default="fp32", choices=(*PRECISIONS, "torch"), help="torch: no kernels"
    )
    args = parser.parse_args()
    reference = random_model()
    model = packed(reference, args.precision)
    prompts = np.random.default_rng(0).integers(3, 32000, (args.rows, args.prompt))

    mixed = [GROUPS[row % 8] for row in range(args.rows)]
    alike = same_ids(model, prompts, mixed, args.steps)
    rates = throughput(model, prompts, {"eight groups": mixed, "one group": [1] * args.rows}, args)
    ratio = rates["eight groups"] / rates["one group"]
    print(f"(a) decoding {args.rows} rows, {args.steps} steps after {args.prompt} tokens, {args.precision}")
    for name, rate in rates.items():
        print(f"    {name:<14} {rate:9.1f} tokens/s")
    print(f"    ratio          {ratio:9.3f}   (ids equal to eight separate batches: {alike})")

    seconds = against_reference(model, reference, prompts[:1], args)
    times = seconds["dense"] / seconds["thin"]
    print("(b) one decode step of one row")
    print(f"    thin products  {seconds['thin'] * 1e3:9.1f} ms")
    print(f"    dense W + B A  {seconds['dense'] * 1e3:9.1f} ms")
    print(f"    times faster   {times:9.1f}")
    report(
        {
            "benchmark": "xalma_modules",
            "rows": args.rows,
            "prompt": args.prompt,
            "steps": args.steps,
            "repeats": args.repeats,
            "precision": args.precision,
            "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
            "eight_to_one": round(ratio, 4),
            "ids_equal": alike,
            "step_ms": {name: round(value * 1e3, 2) for name, value in seconds.items()},
            "times_faster_than_dense": round(times, 2),
        }
    )


def random_model() -> Llama:
    """A model whose weights keep activations of unit size, so that its choices are clear ones."""
    torch.manual_seed(0)
    model = Llama(CONFIG, GROUPS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                spread = 1.0 if "embed" in name else parameter.shape[1] ** -0.5
                parameter.normal_(0, 0.5 * spread if "lora" in name else spread)
    return model.eval()


def packed(model: Llama, precision: str) -> Model:
    """The model in another precision, run by the kernels; itself for "torch"."""
    if precision == "torch":
        return model
    copied = copy.deepcopy(model)
    pack_(copied, precision)
    return NativeLlama.of(copied)


def start(model: Model, prompts: np.ndarray, groups: Sequence[int]) -> tuple[Any, np.ndarray]:
    """The state after the prompts, and the first tokens [rows, 1]."""
    state = model.begin(Prompt(keep=prompts >= 0, groups=groups))
    _, first = model.step(prompts, state).top(1)
    state.select(np.arange(len(prompts)), 1)
    return state, first


def decode(model: Model, state: Any, tokens: np.ndarray, steps: int) -> np.ndarray:
    """Greedy continuation [rows, steps]."""
    found = []
    for _ in range(steps):
        _, tokens = model.step(tokens, state).top(1)
        found.append(tokens)
    return np.concatenate(found, 1)


def same_ids(model: Model, prompts: np.ndarray, groups: list[int], steps: int) -> bool:
    """Whether a mixed batch and one batch for each group decode the same."""
    together = decode(model, *start(model, prompts, groups), steps)
    for group in GROUPS:
        rows = [row for row, its in enumerate(groups) if its == group]
        alone = decode(model, *start(model, prompts[rows], [group] * len(rows)), steps)
        if not np.array_equal(together[rows], alone):
            return False
    return True


def throughput(
    model: Model, prompts: np.ndarray, batches: dict[str, list[int]], args: argparse.Namespace
) -> dict[str, float]:
    """Tokens per second of decoding, prompts not counted."""
    started = {name: start(model, prompts, groups) for name, groups in batches.items()}
    # All runs go on decoding, in step with each other, so that they see equally long pasts.
    runs = {
        name: (lambda state=state, first=first: decode(model, state, first, args.steps))
        for name, (state, first) in started.items()
    }
    seconds = interleaved(runs, args.repeats)
    return {name: len(prompts) * args.steps / value for name, value in seconds.items()}


def against_reference(
    model: Model, reference: Llama, prompt: np.ndarray, args: argparse.Namespace
) -> dict[str, float]:
    """Seconds of one decode step, by thin products and by dense sums."""
    state, first = start(model, prompt, [1])
    dense_state, _ = start(reference, prompt, [1])

    def thin() -> None:
        for _ in range(args.steps):
            model.step(first, state).top(1)

    def dense() -> None:
        plain = AdaptedProjections.project
        AdaptedProjections.project = project_densely  # type: ignore[method-assign]
        try:
            reference.step(first, dense_state).top(1)
        finally:
            AdaptedProjections.project = plain  # type: ignore[method-assign]

    seconds = interleaved({"thin": thin, "dense": dense}, args.repeats)
    return {"thin": seconds["thin"] / args.steps, "dense": seconds["dense"]}


def project_densely(
    self: AdaptedProjections, names: tuple[str, ...], x: Tensor, routes: Routes | None
) -> list[Tensor]:
    """The authors' way: `F.linear(x, W + torch.matmul(B, A) * scale)`."""
    assert routes is not None
    group = routes.spans[0].group
    outputs = []
    for name in names:
        pair = self.module_pair(name, group)
        assert pair is not None
        weight = getattr(self, f"{name}_proj").weight
        dense = weight + torch.matmul(pair[1].weight, pair[0].weight) * routes.scales[group]  # type: ignore[arg-type]
        outputs.append(F.linear(x, dense))
    return outputs


if __name__ == "__main__":
    main()
