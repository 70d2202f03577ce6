import pytest
import torch
from torch import Tensor

from dragoman.layers.attention import Attention
from dragoman.layers.cache import DecoderCache, NoCache, Slots, causal_mask

HEADS, WIDTH, LAYERS = 2, 3, 2


def random(rows: int, time: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, HEADS, time, WIDTH, generator=generator)


def filled(rows: int, steps: int) -> tuple[DecoderCache, list[Tensor], list[Tensor]]:
    """A cache after `steps` steps, and all keys and values of each layer so far."""
    cache = DecoderCache(LAYERS)
    keys = [random(rows, steps, seed=layer) for layer in range(LAYERS)]
    values = [random(rows, steps, seed=10 + layer) for layer in range(LAYERS)]
    for step in range(steps):
        for layer in range(LAYERS):
            part = slice(step, step + 1)
            cache.extend(layer, keys[layer][:, :, part], values[layer][:, :, part])
    return cache, keys, values


@pytest.mark.parametrize("chunks", [[1] * 40, [5, 1, 1], [2, 31, 2, 64, 1], [100]], ids=str)
def test_extend_gives_all_positions_so_far(chunks: list[int]) -> None:
    cache = DecoderCache(LAYERS)
    key, value = random(3, sum(chunks), 1), random(3, sum(chunks), 2)
    start = 0
    for chunk in chunks:
        end = start + chunk
        for layer in range(LAYERS):
            sign = 1 - 2 * layer
            found = cache.extend(layer, sign * key[:, :, start:end], sign * value[:, :, start:end])
            assert torch.equal(found[0], sign * key[:, :, :end])
            assert torch.equal(found[1], sign * value[:, :, :end])
            assert cache.length == (end if layer == LAYERS - 1 else start)
        start = end


def test_slots_are_not_moved_at_every_step() -> None:
    cache = DecoderCache(1)
    views = [cache.extend(0, random(1, 1, 0), random(1, 1, 0))[0] for _ in range(3 * Slots.GROWTH)]
    assert len({view.data_ptr() for view in views}) <= 4


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 0, 0, 2], [1], [0, 0, 1, 1, 2, 2, 3, 3]], ids=str)
def test_select_keeps_rows_in_the_given_order_and_goes_on(rows: list[int]) -> None:
    cache, keys, values = filled(rows=4, steps=3)
    cache.select(torch.tensor(rows), None, 1)
    for layer in range(LAYERS):
        new = random(len(rows), 1, seed=20)
        key, value = cache.extend(layer, new, -new)
        assert torch.equal(key, torch.cat([keys[layer][rows], new], 2))
        assert torch.equal(value, torch.cat([values[layer][rows], -new], 2))


def test_select_leaves_the_old_views_alone() -> None:
    cache, _, _ = filled(rows=2, steps=2)
    old, _ = cache.extend(0, random(2, 1, 5), random(2, 1, 6))
    before = old.clone()
    cache.select(torch.tensor([1, 1]), None, 1)
    cache.extend(0, random(2, 1, 7), random(2, 1, 8))
    assert torch.equal(old, before)


def test_source_is_projected_once_and_selected_by_sentence() -> None:
    attention = Attention(HEADS * WIDTH, HEADS)
    calls: list[int] = []
    attention.k_proj.register_forward_hook(lambda *_: calls.append(1))
    encoded = torch.randn(3, 4, HEADS * WIDTH, generator=torch.Generator().manual_seed(0))
    cache = DecoderCache(LAYERS)
    first = cache.source(0, attention, encoded)
    assert cache.source(0, attention, None) is first
    assert len(calls) == 1
    cache.select(torch.tensor([0, 0, 1, 1, 2, 2]), None, 2)
    assert cache.source(0, attention, None) is first
    cache.select(torch.tensor([4, 5, 0, 0]), [2, 0], 2)
    key, value = cache.source(0, attention, None)
    assert torch.equal(key, first[0][[2, 0]])
    assert torch.equal(value, first[1][[2, 0]])
    assert cache.beams == 2


def test_no_cache_keeps_nothing() -> None:
    cache = NoCache()
    key, value = random(2, 3, 0), random(2, 3, 1)
    assert cache.extend(0, key, value) == (key, value)
    assert cache.length == 0
    attention = Attention(HEADS * WIDTH, HEADS)
    encoded = torch.randn(2, 4, HEADS * WIDTH)
    for found, expected in zip(cache.source(0, attention, encoded), attention.project(encoded), strict=True):
        assert torch.equal(found, expected)
    assert cache.source(0, attention, None) is None


@pytest.mark.parametrize(("queries", "past"), [(1, 0), (4, 0), (1, 5), (3, 2)])
def test_causal_mask_lets_a_query_see_itself_and_all_before(queries: int, past: int) -> None:
    mask = causal_mask(queries, past, torch.device("cpu"))
    assert mask.tolist() == [
        [key <= past + query for key in range(past + queries)] for query in range(queries)
    ]
