"""What each rank has of a model, known from its config alone."""

from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import pytest

from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.places import Change, Reader
from dragoman.errors import InvalidOption
from dragoman.models.config import DENSE, MOE, NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import llama_shapes, nllb_shapes
from dragoman.parallel.shares import as_large, check_shares, cut, own_names, own_part
from dragoman.translation.translator import Translator

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
LARGE = NllbConfig(
    model_type=MOE,
    vocab_size=256206,
    d_model=2048,
    encoder_layers=24,
    decoder_layers=24,
    encoder_ffn_dim=8192,
    decoder_ffn_dim=8192,
    encoder_sparse_step=4,
    decoder_sparse_step=4,
    num_experts=128,
)
LLAMA = LlamaConfig(
    num_attention_heads=8, num_key_value_heads=4, hidden_size=64, intermediate_size=96, vocab_size=50
)


def size(names: set[str]) -> int:
    return sum(prod(nllb_shapes(LARGE)[name]) for name in names)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_of_the_large_model_each_rank_has_its_share_of_the_experts_and_the_rest(count: int) -> None:
    whole = set(nllb_shapes(LARGE))
    experts = {name for name in whole if ".experts." in name}
    owned = [own_names(LARGE, rank, count) for rank in range(count)]
    assert set().union(*owned) == whole
    assert len(list(chain(*(own & experts for own in owned)))) == len(experts), "no expert is there twice"
    for own in owned:
        assert size(own) == size(experts) // count + size(whole - experts)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_parts_of_matrices_make_the_whole_when_put_together(count: int) -> None:
    for name, shape in llama_shapes(LLAMA).items():
        seen = np.zeros(shape, int)
        for rank in range(count):
            wanted = cut(name, shape, rank, count)
            seen[
                tuple(
                    slice(None) if part is None else slice(part.start, part.stop)
                    for part in wanted[: seen.ndim]
                )
            ] += 1
        assert set(np.unique(seen)) == {count if seen.ndim == 1 else 1}, name


def test_what_can_not_be_shared_evenly_has_one_more_on_the_first_ranks() -> None:
    assert [len(own_part(50, rank, 4)) for rank in range(4)] == [13, 13, 12, 12]
    assert list(chain(*(own_part(50, rank, 4) for rank in range(4)))) == list(range(50))


def test_a_config_as_large_as_a_part_is() -> None:
    assert as_large(LARGE, 4).experts("encoder") == 32  # type: ignore[union-attr]
    slim = as_large(LLAMA, 4)
    parts = sum(
        prod(
            len(part) if part is not None else side
            for side, part in zip(shape, cut(name, shape, 0, 4), strict=False)
        )
        for name, shape in llama_shapes(LLAMA).items()
    )
    assert sum(map(prod, llama_shapes(slim).values())) == parts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "count", "said"),
    [
        (LARGE, 3, "128 encoder experts; start 2, 4, 8, 16, 32, 64 of them"),
        (LLAMA, 8, "4 key heads; start 2, 4 of them"),
        (NllbConfig(model_type=DENSE), 2, "neither"),
    ],
)
def test_what_ranks_can_not_share_is_refused_with_what_they_could(
    config: NllbConfig | LlamaConfig, count: int, said: str
) -> None:
    with pytest.raises(InvalidOption, match=said):
        check_shares(config, count)


def test_rows_and_columns_are_read_alone() -> None:
    places = open_llama(GOLDEN / "xalma", []).places
    place = places["model.layers.0.mlp.down_proj.weight"]
    whole = Reader()(place).data
    assert np.array_equal(Reader()(place.cut(range(3, 9))).data, whole[3:9])
    assert np.array_equal(Reader()(place.cut(range(3, 9)).cut_columns(range(5, 16))).data, whole[3:9, 5:16])
    assert np.array_equal(Reader()(place.cut(range(3, 9)).cut((1, 0))).data, whole[[4, 3]])
    assert place.cut(range(3, 9)).cut_columns(range(5, 16)).nbytes == 4 * 6 * 11


def test_a_change_can_be_cut_with_what_it_changes() -> None:
    places = open_llama(GOLDEN / "xalma", [1])
    module, weight = places.modules[1].changes, "model.layers.1.mlp.up_proj.weight"
    change, place = module[weight], places.places[weight]
    whole = change.applied(Reader()(place), Reader()).data
    rows, columns = range(4, 10), range(7, 20)
    part = Change(change.a.cut_columns(columns), change.b.cut(rows), change.scale)
    found = part.applied(Reader()(place.cut(rows).cut_columns(columns)), Reader()).data
    assert np.allclose(found, whole[4:10, 7:20], atol=1e-6)


def test_without_torchrun_there_is_nobody_to_share_with(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InvalidOption, match="torchrun --nproc-per-node"):
        Translator.load(parallel=True)
