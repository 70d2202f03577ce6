"""The output layer: rough in 8 bits, exact where it matters."""

import pytest
import torch

from dragoman.errors import InvalidOption, NoNumbers
from dragoman.kernels.head import PackedEmbedding, PackedHead
from dragoman.kernels.library import Kernels
from dragoman.kernels.linear import PackedLinear
from dragoman.kernels.packing import pack
from dragoman.native.scores import Choice, NativeScores

TOKENS, WIDTH = 5000, 96


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0)) * WIDTH**-0.5


@pytest.fixture
def hidden() -> torch.Tensor:
    return 3 * torch.randn(70, WIDTH, generator=torch.Generator().manual_seed(1))


def scores_of(
    head: PackedHead, hidden: torch.Tensor, extra: tuple[list[int], ...] | None = None
) -> NativeScores:
    return NativeScores(hidden, [Choice(head, None, extra)])


def exact(weight: torch.Tensor, hidden: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    best = (hidden @ weight.t()).log_softmax(-1).topk(count)
    return best.values, best.indices


def test_the_best_tokens_are_exact(native: Kernels, weight: torch.Tensor, hidden: torch.Tensor) -> None:
    scores, tokens = scores_of(PackedHead.screened(weight), hidden).top(8)
    wanted, which = exact(weight, hidden, 8)
    assert torch.equal(tokens, which)
    assert torch.allclose(scores, wanted, atol=5e-3)
    # What remains of the rough pass is in the normaliser, which is the same for all tokens of a row.
    assert torch.allclose(scores - scores[:, :1], wanted - wanted[:, :1], atol=1e-5)


def test_without_screen_everything_is_exact(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    head = PackedHead(PackedLinear(pack(weight, "fp32")), None)
    scores, tokens = scores_of(head, hidden).top(5)
    wanted, which = exact(weight, hidden, 5)
    assert torch.equal(tokens, which)
    assert torch.allclose(scores, wanted, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    head = PackedHead.screened(weight)
    together = scores_of(head, hidden).top(4)
    for row in (0, 3, 69):
        alone = scores_of(head, hidden[row : row + 1].clone()).top(4)
        assert torch.equal(alone[0][0], together[0][row])
        assert torch.equal(alone[1][0], together[1][row])


def test_banned_tokens_stay_out_but_count(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    head = PackedHead.screened(weight)
    free_scores, free = scores_of(head, hidden[:1].clone()).top(3)
    banned = tuple(free[0, :2].tolist())
    scores, tokens = scores_of(head, hidden[:1].clone()).top(1, banned)
    assert tokens[0, 0] == free[0, 2]
    assert abs(float(scores[0, 0] - free_scores[0, 2])) < 1e-2


def test_a_flat_row_is_scored_in_full(native: Kernels, hidden: torch.Tensor) -> None:
    """Were a thousand tokens all but equal, 64 candidates of a rough pass might miss the best."""
    generator = torch.Generator().manual_seed(6)
    near = 1e-4 * torch.randn(1000, WIDTH, generator=generator)
    weight = torch.randn(1, WIDTH, generator=generator) + near
    scores, tokens = scores_of(PackedHead.screened(weight), hidden).top(8)
    wanted, which = exact(weight, hidden, 8)
    assert torch.allclose(scores, wanted, atol=1e-4)
    # Some are so near that the order of a sum's terms decides.
    assert float((tokens == which).float().mean()) > 0.95


def test_more_tokens_than_there_are_are_not_returned(native: Kernels, hidden: torch.Tensor) -> None:
    weight = torch.randn(5, WIDTH)
    scores, tokens = scores_of(PackedHead.screened(weight), hidden).top(8)
    assert scores.shape == (70, 5)
    assert torch.equal(tokens.sort().values, torch.arange(5).expand(70, 5))


def test_a_cut_head_knows_its_tokens_only(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    kept = torch.arange(3, TOKENS, 7)
    whole = (PackedHead.screened(weight), PackedHead(PackedLinear(pack(weight, "fp16")), None))
    for head in (head.cut(kept) for head in whole):
        scores, tokens = scores_of(head, hidden).top(8)
        wanted, which = exact(weight[kept], hidden, 8)
        assert float((tokens == kept[which]).float().mean()) > 0.98
        assert torch.allclose(scores, wanted, atol=0.02)
        logits = head(hidden)
        assert logits.shape == (70, TOKENS)
        assert torch.equal(logits.isneginf().all(0).logical_not().nonzero().flatten(), kept)


def test_the_plain_pass_gives_the_same_best(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    head = PackedHead.screened(weight.half())
    scores, tokens = scores_of(head, hidden).top(8)
    best = head(hidden).log_softmax(-1).topk(8)
    assert torch.equal(best.indices, tokens)
    assert torch.allclose(best.values, scores, atol=1e-3)


def test_an_embedding_in_half_precision_gives_floats(weight: torch.Tensor) -> None:
    found = PackedEmbedding(weight.half(), 2.0)(torch.tensor([[1, 2]]))
    assert found.dtype == torch.float32
    assert torch.allclose(found[0], 2 * weight[1:3], atol=1e-3)


def test_rows_may_have_tokens_of_their_own(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    """A cut head and a row's extra tokens are as good as a head cut to both."""
    kept, more = torch.arange(0, TOKENS, 9), [1, 2, 4, 3001]
    hidden = hidden[:2].clone()
    extra = ([], more)
    cut = scores_of(PackedHead.screened(weight).cut(kept), hidden, extra)
    both = scores_of(PackedHead.screened(weight).cut(torch.tensor(sorted([*kept.tolist(), *more]))), hidden)
    count = 200
    for row, source in ((1, both), (0, scores_of(PackedHead.screened(weight).cut(kept), hidden))):
        scores, tokens = cut.top(count)
        wanted, which = source.top(count)
        assert torch.equal(tokens[row], which[row])
        assert torch.allclose(scores[row], wanted[row], atol=5e-3)
    assert set(cut.logits()[1].isfinite().nonzero().flatten().tolist()) == {*kept.tolist(), *more}


def test_rows_of_several_languages_choose_apart(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor
) -> None:
    whole = PackedHead.screened(weight)
    first, second = whole.cut(torch.arange(0, 900)), whole.cut(torch.arange(900, 2000))
    odd = torch.arange(70) % 2 == 1
    rows = [part.nonzero().flatten() for part in (~odd, odd)]
    mixed = NativeScores(hidden, [Choice(first, rows[0]), Choice(second, rows[1])])
    scores, tokens = mixed.top(3)
    for head, its in ((first, rows[0]), (second, rows[1])):
        alone = scores_of(head, hidden[its]).top(3)
        assert torch.equal(alone[0], scores[its])
        assert torch.equal(alone[1], tokens[its])
    assert torch.equal(mixed.logits().argmax(-1), tokens[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scores_in_full_do_not_depend_on_other_rows(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor, dtype: torch.dtype
) -> None:
    head = PackedHead.screened(weight.to(dtype))
    for whole in (head.in_full(hidden), head(hidden)):
        assert whole.shape == (70, TOKENS)
    assert torch.equal(head.in_full(hidden)[3], head.in_full(hidden[3:4])[0])
    assert torch.equal(head(hidden)[3], head(hidden[3:4])[0])
    assert torch.allclose(head.in_full(hidden), hidden @ weight.to(dtype).float().t(), atol=1e-4)


def test_many_wanted_tokens_are_not_scored_in_full(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = PackedHead.screened(weight)
    monkeypatch.setattr(PackedHead, "in_full", lambda self, x: pytest.fail("scored in full"))
    scores, tokens = scores_of(head, hidden).top(128)
    wanted, which = exact(weight, hidden, 128)
    assert float((tokens == which).float().mean()) > 0.999
    assert torch.allclose(scores, wanted, atol=5e-3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3e38])
@pytest.mark.parametrize("kind", ["int8", "fp16", "no screen"])
def test_a_row_without_numbers_is_an_error_and_not_a_choice(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor, kind: str, bad: float
) -> None:
    head = PackedHead.screened(weight, "int8" if kind == "no screen" else kind)
    if kind == "no screen":
        head = PackedHead(head.linear, None)
    hidden[5] = torch.where(torch.arange(WIDTH) % 2 == 0, bad, -bad)
    for ask in (lambda scores: scores.top(4), lambda scores: scores.logits()):
        with pytest.raises(NoNumbers, match="no numbers"):
            ask(scores_of(head, hidden))
    assert bool(scores_of(head, hidden[:5].clone()).top(4)[0].isfinite().all())


def test_banned_tokens_beyond_the_vocabulary_are_ignored(native: Kernels, hidden: torch.Tensor) -> None:
    flat = torch.randn(1, WIDTH).repeat(1000, 1) + 1e-4 * torch.randn(1000, WIDTH)
    scores, _ = scores_of(PackedHead.screened(flat), hidden).top(8, (3, 10**6))
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_no_error_of_the_rough_pass_exceeds_its_bound(
    native: Kernels, weight: torch.Tensor, hidden: torch.Tensor, precision: str
) -> None:
    hidden[10:20, 3] *= 100  # what is left of the other numbers in 8 bits is little
    hidden[20:30] *= 1e-4
    hidden[30:40] *= 20
    hidden[40] = weight[7]
    weight[50:60] *= 30
    for head in (PackedHead.screened(weight, precision), PackedHead.screened(weight.half(), precision)):
        spread = hidden.new_empty(70, 2)
        found = (hidden.new_empty(70, 4), hidden.new_empty(70, 4, dtype=torch.int32), spread)
        native.top(head.struct(), hidden, 64, None, None, found)
        error = (head.linear(hidden) - head.in_full(hidden)).abs().amax(1)
        assert bool((error <= spread[:, 1]).all())
        assert bool((spread[:, 1] <= 0.1 * hidden.norm(dim=1) * weight.norm(dim=1).max()).all())


def test_a_token_that_the_rough_pass_does_not_see_is_found(native: Kernels) -> None:
    """One number is so large that the rest of the row is nothing in 8 bits; the best candidate looks sure."""
    weight = torch.zeros(5000, WIDTH)
    weight[5, 1], weight[4000, 2] = 1.0, 1.0
    hidden = torch.zeros(1, WIDTH)
    hidden[0, 0], hidden[0, 1], hidden[0, 2] = 1000.0, 1.0, 2.0
    assert scores_of(PackedHead.screened(weight), hidden).top(1)[1].tolist() == [[4000]]


def test_what_exact_scores_are_taken_from_must_be_a_kind_the_kernels_know(weight: torch.Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        with pytest.raises(InvalidOption, match=f"{dtype}; convert them to torch.float32 or torch.float16"):
            PackedHead.screened(weight.to(dtype))
