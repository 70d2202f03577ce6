"""A model with another vocabulary keeps the layers, and its embeddings are made of the old ones."""

from pathlib import Path

import pytest
import torch

from dragoman.models.config import NllbConfig
from dragoman.models.nllb import Nllb, initialize_
from dragoman.text.tokenizers import NllbTokenizer
from dragoman.training.tokenizer import train_tokenizer
from dragoman.training.warm_start import warm_start_

SHAPE = {
    "model_type": "nllb-moe",
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 1,
    "num_experts": 2,
}


def model_for(tokenizer: NllbTokenizer, seed: int, **changes: int) -> Nllb:
    model = Nllb(NllbConfig.from_dict({**SHAPE, "vocab_size": tokenizer.vocabulary + 206, **changes}))
    initialize_(model, seed)
    return model


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory, sentences: list[str]) -> list[NllbTokenizer]:
    """The new one, and the old one."""
    found = []
    for size, fallback in ((1700, True), (1300, False)):
        folder: Path = tmp_path_factory.mktemp("tokenizer")
        train_tokenizer(sentences * 3, folder, size, fallback)
        found.append(NllbTokenizer.from_folder(folder))
    return found


def test_layers_stay_and_embeddings_are_those_or_means_of_the_old(tokenizers: list[NllbTokenizer]) -> None:
    new, old = tokenizers
    model, before = model_for(new, 1), model_for(old, 2)
    untouched = model.shared.weight.detach().clone()
    kept = warm_start_(model, new, before, old)
    for name, value in before.state_dict().items():
        if "shared" not in name and "embed_tokens" not in name and "lm_head" not in name:
            assert torch.equal(model.state_dict()[name], value), name
    rows, old_rows = model.shared.weight.detach(), before.shared.weight.detach()
    same = means = nothing = 0
    for row, name in enumerate(new.tokens(range(len(new)))):
        place = old.token_to_id(name)
        if place is not None:
            assert torch.equal(rows[row], old_rows[place]), name
            same += 1
        elif torch.equal(rows[row], untouched[row]):
            nothing += 1
        else:
            means += 1
    assert nothing == kept
    assert 256 <= kept < 400  # bytes, and characters that only the new one has
    assert same > 500
    assert means > 50
    language = new.language_id("fra_Latn")
    assert torch.equal(rows[language], old_rows[old.language_id("fra_Latn")])


def test_a_new_piece_is_the_mean_of_the_longest_old_ones(tokenizers: list[NllbTokenizer]) -> None:
    from dragoman.training.warm_start import _pieces

    ids = {"▁": 0, "▁a": 1, "b": 2, "bc": 3, "c": 4}
    assert _pieces("▁abcc", ids, 2) == [1, 3, 4]
    assert _pieces("▁abx", ids, 2) == []


def test_models_of_other_shapes_are_refused(tokenizers: list[NllbTokenizer]) -> None:
    new, old = tokenizers
    with pytest.raises(ValueError, match="differ in more than their embeddings"):
        warm_start_(model_for(new, 1), new, model_for(old, 1, encoder_layers=3), old)
    with pytest.raises(RuntimeError, match="size mismatch"):
        warm_start_(model_for(new, 1), new, model_for(old, 1, encoder_ffn_dim=20), old)
