"""Llama and X-ALMA through the kernels give what the plain modules give."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dragoman.checkpoints.llama import load_xalma
from dragoman.errors import LanguageModuleError
from dragoman.generation.hypotheses import Array
from dragoman.generation.scores import log_softmax
from dragoman.kernels.arrays import empty
from dragoman.kernels.packing import PRECISIONS
from dragoman.layers.options import RotaryOptions
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.prompt import Prompt
from dragoman.native.kv_cache import Fixed
from dragoman.native.llama import NativeLlama
from dragoman.native.prefix_cache import LONGEST, MOST, PrefixCache, common_prefix
from dragoman.surgery.language_modules import attach_, detach_
from dragoman.surgery.packing import pack_

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "xalma"
GROUPS = ([6, 6, 6], [6, 1, 8], [0, 3, 3], [5, 0, 1], None)


def prompts(rows: int = 3, common: int = 0) -> tuple[Array, Array]:
    """Left-padded prompts, of which the first `common` tokens are the same."""
    random = np.random.default_rng(5)
    lengths = np.array([12, 15, 11])[:rows]
    keep = np.arange(15) >= 15 - lengths[:, None]
    ids = random.integers(3, 90, (rows, 15))
    start = random.integers(3, 90, common)
    for row, length in enumerate(lengths.tolist()):
        ids[row, 15 - length : 15 - length + common] = start
    return np.where(keep, ids, 0), keep


def decode(model: NativeLlama | Llama, groups: list[int] | None, common: int = 0) -> list[Array]:
    ids, keep = prompts(common=common)
    state = model.begin(Prompt(keep=keep, groups=groups))
    steps = [
        (ids, np.arange(3).repeat(2), 2),
        (np.arange(6)[:, None] + 20, np.array([1, 0, 2, 2, 5, 4]), 2),
        (np.arange(6)[:, None] + 30, np.array([4, 5, 1, 0]), 2),
        (np.arange(4)[:, None] + 40, np.arange(4), 2),
    ]
    found = []
    for tokens, rows, beams in steps:
        found.append(log_softmax(model.step(tokens, state).logits()))
        state.select(rows, beams)
    return found


@pytest.fixture(scope="module")
def plain() -> Llama:
    return load_xalma(GOLDEN)


@pytest.fixture(scope="module")
def fast() -> NativeLlama:
    model = load_xalma(GOLDEN)
    pack_(model, "fp32")
    return NativeLlama.of(model)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("common", [0, 9])
def test_fp32_equals_the_model_as_loaded(
    plain: Llama, fast: NativeLlama, groups: list[int] | None, common: int
) -> None:
    for ours, reference in zip(decode(fast, groups, common), decode(plain, groups, common), strict=True):
        assert np.allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_equals_the_same_weights_in_pytorch(precision: str) -> None:
    model = load_xalma(GOLDEN)
    pack_(model, precision)
    tolerance = 2e-4 if precision.startswith("fp") else 0.2
    for ours, reference in zip(
        decode(NativeLlama.of(model), [6, 1, 8]), decode(model, [6, 1, 8]), strict=True
    ):
        apart = np.abs(ours - reference)
        assert float(apart.max()) < tolerance
        assert float(apart.mean()) < tolerance / 10


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_and_pickles_give_the_same(
    fast: NativeLlama, twin: Callable[[NativeLlama], NativeLlama]
) -> None:
    for ours, theirs in zip(decode(fast, [6, 1, 8]), decode(twin(fast), [6, 1, 8]), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["default", "linear", "llama3", "yarn"])
def test_shared_key_heads_tied_weights_and_kinds_of_rotary_positions(kind: str) -> None:
    config = LlamaConfig(
        model_type="llama",
        vocab_size=99,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        rope=RotaryOptions(
            rope_type=kind, factor=1.0 if kind == "default" else 4.0, original_max_position_embeddings=8
        ),
    )
    torch.manual_seed(0)
    plain, packed = Llama(config).eval(), Llama(config).eval()
    packed.load_state_dict(plain.state_dict())
    pack_(packed, "fp32")
    assert NativeLlama.supports(packed)
    for ours, reference in zip(decode(NativeLlama.of(packed), None), decode(plain, None), strict=True):
        assert np.allclose(ours, reference, atol=1e-4)


def test_a_prompt_does_not_notice_its_neighbours(fast: NativeLlama) -> None:
    ids, keep = prompts()
    groups = [6, 1, 8]
    together = fast.step(ids, fast.begin(Prompt(keep=keep, groups=groups))).top(5)
    for row in range(3):
        mine = keep[row]
        alone = fast.step(
            ids[row : row + 1, mine],
            fast.begin(Prompt(keep=keep[row : row + 1, mine], groups=groups[row : row + 1])),
        ).top(5)
        assert np.array_equal(alone[0][0], together[0][row])


def test_prompts_with_and_without_a_common_prefix_join(fast: NativeLlama) -> None:
    def begun(common: int) -> object:
        ids, keep = prompts(common=common)
        state = fast.begin(Prompt(keep=keep, groups=[6, 6, 6]))
        fast.step(ids, state)
        state.select(np.arange(3).repeat(2), 2)
        return state

    tokens = np.arange(6)[:, None] + 20
    apart = [fast.step(tokens, begun(common)).top(3)[0] for common in (9, 0)]  # type: ignore[arg-type]
    first = begun(9)
    first.join(begun(0))  # type: ignore[attr-defined]
    joined = fast.step(np.tile(tokens, (2, 1)), first).top(3)[0]  # type: ignore[arg-type]
    assert np.allclose(joined, np.concatenate(apart), atol=1e-6)


def test_modules_may_come_and_go(plain: Llama) -> None:
    model = load_xalma(GOLDEN, groups=(6,))
    pack_(model, "fp32")
    fast = NativeLlama.of(model)
    _, keep = prompts()
    with pytest.raises(LanguageModuleError, match="group 1"):
        fast.begin(Prompt(keep=keep, groups=[6, 1, 6]))
    attach_(model, 1)
    for ours, reference in zip(decode(fast, [6, 1, 6]), decode(plain, [6, 1, 6]), strict=True):
        assert np.allclose(ours, reference, atol=1e-4)
    detach_(model, 6)
    with pytest.raises(LanguageModuleError, match="group 6"):
        fast.begin(Prompt(keep=keep, groups=[6, 1, 6]))


def test_angles_that_depend_on_the_longest_row_stay_with_pytorch() -> None:
    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    config = config.__class__(**{**config.__dict__, "rope": RotaryOptions(rope_type="dynamic", factor=2.0)})
    model = Llama(config)
    pack_(model, "fp32")
    assert not NativeLlama.supports(model)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_modules_of_different_ranks_share_a_batch(precision: str) -> None:
    """What an earlier call left in working memory must not get into the narrower module's rows."""
    model = load_xalma(GOLDEN, groups=(1,))
    tensors = {}
    generator = torch.Generator().manual_seed(0)
    for index in range(model.config.num_hidden_layers):
        layer = f"base_model.model.model.layers.{index}"
        sizes = {name: part.weight.shape for name, part in _projections(model, index).items()}
        for name, (outputs, inputs) in sizes.items():
            tensors[f"{layer}.{name}.lora_A.weight"] = torch.randn(4, inputs, generator=generator) * 0.1
            tensors[f"{layer}.{name}.lora_B.weight"] = torch.randn(outputs, 4, generator=generator) * 0.1
    attach_(model, 7, tensors)
    pack_(model, precision)
    fast = NativeLlama.of(model)
    ids, keep = prompts()
    first = fast.step(ids, fast.begin(Prompt(keep=keep, groups=[1, 7, 7]))).logits()
    fast.step(ids + 1, fast.begin(Prompt(keep=keep, groups=[1, 1, 1])))
    again = fast.step(ids, fast.begin(Prompt(keep=keep, groups=[1, 7, 7]))).logits()
    assert np.array_equal(first, again)
    alone = fast.step(ids[1:2, keep[1]], fast.begin(Prompt(keep=keep[1:2, keep[1]], groups=[7]))).logits()
    assert np.array_equal(alone[0], first[1])


def _projections(model: Llama, index: int) -> dict[str, torch.nn.Linear]:
    layer = model.model.layers[index]
    own = {f"self_attn.{name}_proj": getattr(layer.self_attn, f"{name}_proj") for name in "qkvo"}
    return own | {f"mlp.{name}_proj": getattr(layer.mlp, f"{name}_proj") for name in ("gate", "up", "down")}


@pytest.mark.parametrize("others", [(), (6,)])
def test_a_module_that_goes_while_it_is_needed_is_an_error(others: tuple[int, ...]) -> None:
    model = load_xalma(GOLDEN, groups=(1, *others))
    pack_(model, "fp32")
    fast = NativeLlama.of(model)
    ids, keep = prompts()
    state = fast.begin(Prompt(keep=keep, groups=[1, 1, 1]))
    fast.step(ids, state)
    detach_(model, 1)
    with pytest.raises(LanguageModuleError, match="group 1"):
        fast.step(np.array([[5]] * 3), state)


def test_long_prompts_are_read_in_pieces(
    plain: Llama, fast: NativeLlama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.native.llama.TOKENS", 5)
    for groups in ([6, 1, 8], None):
        for ours, reference in zip(decode(fast, groups, 9), decode(plain, groups, 9), strict=True):
            assert np.allclose(ours, reference, atol=1e-4)


def test_a_known_prefix_is_not_computed_again(plain: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_xalma(GOLDEN)
    pack_(model, "fp32")
    fast = NativeLlama.of(model)
    ids, keep = prompts(common=9)
    fast.step(ids, fast.begin(Prompt(keep=keep, groups=[6, 6, 6])))
    read: list[int] = []
    forward = NativeLlama._forward
    monkeypatch.setattr(
        NativeLlama,
        "_forward",
        lambda self, tokens, *rest: read.append(len(tokens)) or forward(self, tokens, *rest),
    )
    # One of the group that knows it, one of another group, one that begins otherwise.
    other, _ = prompts()
    mixed = np.stack([ids[0], ids[1], other[2]])
    scores = fast.step(mixed, fast.begin(Prompt(keep=keep, groups=[6, 1, 6]))).logits()
    expected = plain.step(mixed, plain.begin(Prompt(keep=keep, groups=[6, 1, 6]))).logits()
    assert np.allclose(scores, expected, atol=1e-4)
    assert read == [int(keep.sum())]
    read.clear()
    again = fast.step(ids[:1], fast.begin(Prompt(keep=keep[:1], groups=[6]))).logits()
    assert read == [int(keep[0].sum()) - 9]
    expected = plain.step(ids[:1], plain.begin(Prompt(keep=keep[:1], groups=[6]))).logits()
    assert np.allclose(again, expected, atol=1e-4)


def test_prefixes_are_forgotten_when_the_weights_change() -> None:
    model = load_xalma(GOLDEN)
    pack_(model, "fp32")
    fast = NativeLlama.of(model)
    ids, keep = prompts(common=9)
    before = fast.step(ids, fast.begin(Prompt(keep=keep, groups=[6, 6, 6]))).logits()
    detach_(model, 6)
    attach_(model, 6, scale=0.5)
    after = fast.step(ids, fast.begin(Prompt(keep=keep, groups=[6, 6, 6]))).logits()
    assert not np.allclose(before, after)
    fresh = NativeLlama.of(model)
    assert np.array_equal(after, fresh.step(ids, fresh.begin(Prompt(keep=keep, groups=[6, 6, 6]))).logits())


def test_few_prefixes_are_kept_and_none_is_long() -> None:
    known = PrefixCache()
    part = Fixed(empty(1, 2, 1, 4), 1)
    for start in range(MOST + 2):
        known.keep(6, [start, 5], part)
    assert known.find(6, [[0, 5, 1]]) is None
    assert known.find(6, [[MOST, 5, 1]]) is part
    assert known.find(5, [[MOST, 5, 1]]) is None
    assert known.find(6, [[MOST, 5]]) is None  # a prompt's last token has to be read
    assert common_prefix([[1] * 500, [1] * 400]) == LONGEST
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == 2
    assert common_prefix([[1, 2, 3], [4]]) == 0
