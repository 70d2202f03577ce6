import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dragoman.layers.moe import SparseMLP, Top2Router
from dragoman.layers.options import MoeOptions
from tests.layers.sparse import (
    EXPERTS,
    HIDDEN,
    OPTIONS,
    TOKENS,
    all_to_two,
    padding_mask,
    router_with,
    sparse_with,
    tokens,
)

# The reference, written anew from its steps: plain numbers, one token after the other.


def reference_route(
    logits: Tensor,
    keep: list[bool],
    options: MoeOptions,
    capacity: float,
    noise: Tensor | None = None,
    luck: Tensor | None = None,
) -> tuple[list[dict[int, float]], list[int]]:
    """({expert: weight} of each token after dropping, first choices).

    noise: [tokens, experts] for the policy "sampling"; luck: [tokens] for "random".
    """
    probabilities = logits.softmax(-1).tolist()
    rows = (logits if noise is None else logits + noise).tolist()
    epsilon = torch.finfo(logits.dtype).eps
    count = len(rows)
    first = [max(range(EXPERTS), key=lambda e: p[e]) for p in probabilities]
    second = [
        max((e for e in range(EXPERTS) if e != first[t]), key=lambda e: rows[t][e]) for t in range(count)
    ]
    gates = [[probabilities[t][first[t]], probabilities[t][second[t]]] for t in range(count)]
    wanted = [[keep[t], keep[t]] for t in range(count)]
    if luck is not None:
        for t in range(count):
            wanted[t][1] = wanted[t][1] and 2 * gates[t][1] > float(luck[t])
    if options.normalize_before_dropping:
        gates = [[g / max(sum(pair), epsilon) for g in pair] for pair in gates]
    order = list(range(count))
    if options.batch_prioritized:
        order.sort(key=lambda t: -max(probabilities[t]))
    queue = [0] * EXPERTS
    for slot, choices in enumerate((first, second)):
        for t in order:
            if wanted[t][slot]:
                # A queue is joined even where it is too long already.
                wanted[t][slot] = queue[choices[t]] < capacity
                queue[choices[t]] += 1
    gates = [[g * w for g, w in zip(*pair, strict=True)] for pair in zip(gates, wanted, strict=True)]
    if not options.normalize_before_dropping:
        gates = [[g / max(sum(pair), epsilon) for g in pair] for pair in gates]
    weights = [
        {e: g for e, g in zip((first[t], second[t]), gates[t], strict=True) if g > 0} for t in range(count)
    ]
    return weights, first


def spread(weights: list[dict[int, float]]) -> Tensor:
    return torch.tensor([[row.get(expert, 0.0) for expert in range(EXPERTS)] for row in weights])


def reference_mlp(mlp: SparseMLP, x: Tensor, weights: list[dict[int, float]], scale: float) -> Tensor:
    rows = []
    for token, shares in zip(x, weights, strict=True):
        out = torch.zeros_like(token)
        for expert, weight in shares.items():
            module = mlp.experts[f"expert_{expert}"]
            inner = (module.fc1.weight @ token + module.fc1.bias).clamp(min=0)
            out = out + weight * scale * (module.fc2.weight @ inner + module.fc2.bias)
        rows.append(out)
    return torch.stack(rows)


@torch.no_grad()
@pytest.mark.parametrize("policy", ["all", "sampling", "random"])
@pytest.mark.parametrize("before", [False, True], ids=["normalise-after", "normalise-before"])
@pytest.mark.parametrize("prioritized", [False, True], ids=["in-order", "by-confidence"])
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.25, 0.0, "training"])
@pytest.mark.parametrize("route_padding", [False, True], ids=["padding-skipped", "padding-routed"])
def test_router_is_that_of_the_reference(
    policy: str, before: bool, prioritized: bool, fraction: float | str, route_padding: bool
) -> None:
    training = fraction == "training"
    for bias in (False, True):
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
            options = MoeOptions(
                EXPERTS,
                policy,  # type: ignore[arg-type]
                before,
                prioritized,
                1.0 if training else float(fraction),
                route_padding=route_padding,
                router_bias=bias,
                router_dtype=str(dtype).removeprefix("torch."),
            )
            router, x = router_with(options, training), tokens()
            torch.manual_seed(5)
            routing = router(x, padding_mask())

            linear = router.classifier
            logits = x.to(dtype) @ linear.weight.to(dtype).T + (linear.bias.to(dtype) if bias else 0)
            torch.testing.assert_close(routing.logits, logits, atol=tolerance * 10, rtol=tolerance)
            keep = [True] * TOKENS if route_padding else padding_mask().tolist()
            torch.manual_seed(5)
            noise = -(-torch.rand_like(logits).log()).log() if policy == "sampling" else None
            luck = torch.rand_like(logits[:, 0]) if policy == "random" else None
            limited = isinstance(fraction, float) and fraction > 0
            capacity = math.ceil(float(fraction) * TOKENS) if limited else 2 * math.ceil(TOKENS / EXPERTS)
            weights, first = reference_route(routing.logits, keep, options, capacity, noise, luck)
            assert routing.experts[:, 0].tolist() == first
            found = routing.combine_weights()
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, spread(weights), atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize("fraction", [1.0, 0.25, 0.1])
@pytest.mark.parametrize("route_padding", [False, True])
def test_sparse_block_is_that_of_the_reference(
    before: bool, prioritized: bool, fraction: float, route_padding: bool
) -> None:
    options = MoeOptions(
        EXPERTS, "all", before, prioritized, fraction, route_padding=route_padding, expert_output_masking=0.2
    )
    mlp, x, keep = sparse_with(options), tokens(), padding_mask()
    found, routing = mlp(x.view(2, -1, HIDDEN), keep.view(2, -1))
    routed = [True] * TOKENS if route_padding else keep.tolist()
    weights, _ = reference_route(routing.logits, routed, options, math.ceil(fraction * TOKENS))
    expected = reference_mlp(mlp, x, weights, scale=0.8)
    torch.testing.assert_close(found.view(TOKENS, HIDDEN), expected, atol=1e-5, rtol=1e-5)
    dropped = [token for token, shares in enumerate(weights) if routed[token] and len(shares) < 2]
    assert bool(dropped) == (fraction < 1)
    nowhere = [token for token, shares in enumerate(weights) if not shares]
    assert not found.view(TOKENS, HIDDEN)[nowhere].any()


@pytest.mark.parametrize(("prioritized", "survivors"), [(False, [0, 1]), (True, [3, 5])])
def test_full_expert_takes_the_first_or_the_most_confident(prioritized: bool, survivors: list[int]) -> None:
    options = replace(OPTIONS, batch_prioritized=prioritized, eval_capacity_fraction=0.25)
    routing = router_with(options).route(all_to_two([1.0, 2.0, 1.5, 5.0, 2.5, 4.0, 3.0, 3.5]), None)
    assert routing.weights[:, 0].nonzero().flatten().tolist() == survivors
    assert routing.weights[:, 1].nonzero().flatten().tolist() == survivors


def test_all_first_choices_queue_before_any_second_choice() -> None:
    logits = torch.full((4, EXPERTS), -8.0)
    logits[0, 0], logits[0, 1] = 2.0, 1.0  # wants expert 1 second, and comes first
    logits[1:, 1], logits[1:, 2] = 2.0, 1.0
    routing = router_with(replace(OPTIONS, eval_capacity_fraction=0.75)).route(logits, None)
    assert (routing.weights > 0).tolist() == [[True, False], [True, True], [True, True], [True, True]]


@pytest.mark.parametrize("before", [False, True])
def test_lone_survivor_weighs_one_only_if_normalised_after_dropping(before: bool) -> None:
    # Token 0 wants experts 0 and 1, but tokens 1 and 2 have taken both places of expert 1.
    options = replace(OPTIONS, normalize_before_dropping=before, eval_capacity_fraction=0.6)
    logits = torch.full((3, EXPERTS), -80.0)
    logits[0, 0], logits[0, 1] = 1.0, 0.5
    logits[1:, 1], logits[1:, 2] = 1.0, 0.5
    share = 1 / (1 + math.exp(-0.5))
    routing = router_with(options).route(logits, None)
    expected = torch.tensor([[share if before else 1.0, 0], [share, 1 - share], [share, 1 - share]])
    torch.testing.assert_close(routing.weights, expected)


def test_fraction_of_one_never_drops() -> None:
    routing = router_with(OPTIONS).route(all_to_two([1.0] * 50), None)
    assert bool((routing.weights > 0).all())
    assert router_with(OPTIONS).capacity(50) is None


@pytest.mark.parametrize("count", [1, 4, 5, 6, 23])
def test_training_capacity_is_twice_the_even_share_whatever_came_before(count: int) -> None:
    router = router_with(replace(OPTIONS, eval_capacity_fraction=0.1), training=True)
    logits = all_to_two([1.0] * count)
    even = 2 * math.ceil(count / EXPERTS)
    for _ in range(2):
        routing = router.train().route(logits, None)
        assert int((routing.weights[:, 0] > 0).sum()) == min(count, even)
        routing = router.eval().route(logits, None)
        assert int((routing.weights[:, 0] > 0).sum()) == math.ceil(0.1 * count)


@pytest.mark.parametrize("fraction", [0.0, -1.0])
def test_fraction_of_zero_or_less_means_the_capacity_of_training(fraction: float) -> None:
    router = router_with(replace(OPTIONS, eval_capacity_fraction=fraction))
    assert router.capacity(23) == router.train().capacity(23) == 10


def test_sampled_second_expert_follows_the_softmax_of_the_rest() -> None:
    router = router_with(replace(OPTIONS, second_expert_policy="sampling"))
    logits = torch.tensor([2.5, 1.0, 0.0, 0.5, -1.0]).expand(20_000, -1)
    torch.manual_seed(0)
    routing = router.route(logits, None)
    assert set(routing.experts[:, 0].tolist()) == {0}
    found = torch.bincount(routing.experts[:, 1], minlength=EXPERTS) / len(logits)
    rest = logits[0].clone()
    rest[0] = -math.inf
    torch.testing.assert_close(found, rest.softmax(-1), atol=0.015, rtol=0)
    assert torch.equal(routing.logits, logits)  # the noise is not in what the losses see


def test_random_policy_keeps_the_second_expert_with_twice_its_probability() -> None:
    router = router_with(replace(OPTIONS, second_expert_policy="random"))
    logits = torch.tensor([[3.0, 1.5, 0, 0, 0], [2.0, 2.0, -5, -5, -5]]).repeat(10_000, 1)
    torch.manual_seed(0)
    routing = router.route(logits, None)
    kept = (routing.weights[:, 1] > 0).view(-1, 2).float().mean(0)
    second = logits[:2].softmax(-1)[:, 1]
    torch.testing.assert_close(kept, (2 * second).clamp(max=1), atol=0.015, rtol=0)
    alone = routing.weights[:, 1] == 0
    assert bool((routing.weights[alone, 0] == 1).all())


def test_router_multiplies_in_its_own_precision_under_autocast() -> None:
    router, x = router_with(OPTIONS), tokens()
    exact = router(x).logits
    with torch.autocast("cpu", torch.bfloat16):
        routing = router(x)
    assert routing.logits.dtype == torch.float32
    assert torch.equal(routing.logits, exact)
    assert router(x.bfloat16()).weights.dtype == torch.bfloat16


# Efficiency: what is not needed is not computed.


@torch.no_grad()
@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_expert_runs_once_on_its_own_tokens_and_never_without(fraction: float) -> None:
    mlp = sparse_with(replace(OPTIONS, eval_capacity_fraction=fraction))
    rows: dict[str, list[int]] = {name: [] for name in mlp.experts}
    for name, expert in mlp.experts.items():
        expert.register_forward_hook(lambda _, args, __, name=name: rows[name].append(len(args[0])))
    x = tokens(3, seed=4)[None]
    _, routing = mlp(x, torch.tensor([[True, True, False]]))
    used = routing.combine_weights().count_nonzero(0).tolist()
    assert 0 in used
    assert [rows[f"expert_{e}"] for e in range(EXPERTS)] == [[n] if n else [] for n in used]
    assert sum(used) <= 4


@torch.no_grad()
def test_padding_alone_runs_no_expert() -> None:
    mlp = sparse_with(OPTIONS)
    for expert in mlp.experts.values():
        expert.register_forward_hook(lambda *_: pytest.fail("an expert ran"))
    out, _ = mlp(tokens()[None], torch.zeros(1, TOKENS, dtype=torch.bool))
    assert not out.any()


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize("training", [False, True])
def test_no_tensor_grows_with_experts_times_tokens_times_hidden(training: bool) -> None:
    count, hidden, inner, experts = 64, 24, 48, 16
    options = MoeOptions(experts, expert_output_masking=0.2, final_output_masking=0.1)
    mlp = SparseMLP(hidden, inner, options).train(training)
    x = torch.randn(1, count, hidden)
    with Largest() as largest:
        out, routing = mlp(x)
        (out.sum() + routing.balance_loss()).backward()
    assert count * hidden <= largest.numel <= 2 * count * inner < experts * count * hidden


# Expert and final output masking.


def both_parts(mlp: SparseMLP, x: Tensor) -> tuple[Tensor, Tensor]:
    """What each of its two experts gives to a token, unscaled, [tokens, hidden] each."""
    _, routing = mlp(x[None])
    parts = []
    for slot in (0, 1):
        rows = [
            mlp.experts[f"expert_{int(e[slot])}"](token) * w[slot]
            for token, e, w in zip(x, routing.experts, routing.weights, strict=True)
        ]
        parts.append(torch.stack(rows))
    return parts[0], parts[1]


@pytest.fixture
def even_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.rand gives 0/n, 1/n, ... (n-1)/n, so exactly the share p of its values is below p."""

    def rand(*shape: int, **_: object) -> Tensor:
        count = math.prod(shape)
        shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        return (shuffled / count).view(shape)

    monkeypatch.setattr(torch, "rand", rand)


@pytest.fixture
def room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dropped in training either."""
    monkeypatch.setattr(Top2Router, "capacity", lambda self, tokens: None)


@torch.no_grad()
@pytest.mark.usefixtures("even_luck", "room_for_all")
def test_expert_masking_zeroes_its_share_of_whole_rows_without_rescaling() -> None:
    options = replace(OPTIONS, expert_output_masking=0.2)
    mlp, x = sparse_with(options), tokens(50)
    one, two = both_parts(mlp, x)
    out = mlp.train()(x[None])[0][0]
    possible = torch.stack([0 * one, one, two, one + two])  # [outcome, tokens, hidden]
    distance = (possible - out).abs().amax(-1)
    assert float(distance.amin(0).max()) < 1e-5
    rows_kept = torch.tensor([0, 1, 1, 2])[distance.argmin(0)].sum()
    assert int(rows_kept) == 80  # of 100 rows
    assert len(set(distance.argmin(0).tolist())) >= 3


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_expert_masking_scales_at_inference(dtype: torch.dtype) -> None:
    x = tokens()[None].to(dtype)
    with_masking = sparse_with(replace(OPTIONS, expert_output_masking=0.2), dtype=dtype)
    without = sparse_with(OPTIONS, dtype=dtype)
    tolerance = {} if dtype == torch.float32 else {"atol": 0.01, "rtol": 0.01}
    torch.testing.assert_close(with_masking(x)[0], without(x)[0] * 0.8, **tolerance)


@torch.no_grad()
@pytest.mark.usefixtures("even_luck", "room_for_all")
def test_final_masking_zeroes_whole_tokens_in_training_and_scales_at_inference() -> None:
    options = replace(OPTIONS, final_output_masking=0.3)
    mlp, x = sparse_with(options), tokens(50)
    plain = sum(both_parts(mlp, x))
    torch.testing.assert_close(mlp(x[None])[0][0], plain * 0.7)
    out = mlp.train()(x[None])[0][0]
    zero = (out == 0).all(-1)
    assert int(zero.sum()) == 15
    torch.testing.assert_close(out[~zero], plain[~zero])


@torch.no_grad()
@pytest.mark.usefixtures("room_for_all")
def test_without_masking_training_and_inference_agree() -> None:
    mlp, x = sparse_with(OPTIONS), tokens()[None]
    torch.testing.assert_close(mlp(x)[0], mlp.train()(x)[0])
