"""Settings, the schedule of the rate, and which parameter learns how."""

from pathlib import Path

import pytest

from dragoman.errors import InvalidOption
from dragoman.models.nllb import Nllb
from dragoman.training.config import TrainingConfig
from dragoman.training.optimizers import Optimizers, Schedule

FRENCH = "fra_Latn"


def test_settings_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'updates = 7\n[languages]\nfr = "fra_Latn"\n[model]\nd_model = 64\n[augmentation]\nnoise = 0.25\n'
        '[[parts]]\nname = "talk"\nshare = 3\nexcluded = ["x"]\nwords = [2, 9]\n'
    )
    config = TrainingConfig.from_toml(path)
    assert (config.updates, config.languages, config.augmentation.noise) == (7, {"fr": FRENCH}, 0.25)
    (part,) = config.parts
    assert (part.name, part.share, part.excluded, part.words) == ("talk", 3, ("x",), (2, 9))
    assert config.model_config(100).d_model == 64
    assert config.model_config(100).vocab_size == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("update = 7", "unknown setting update; it may have .*updates"),
        ('[[parts]]\nname = "a"\nshares = 1', "unknown setting parts.shares; it may have .*share"),
        ('[[parts]]\nname = "a"', "parts is not complete: .*share"),
        ("[augmentation]\nnoises = 1", "unknown setting augmentation.noises; it may have .*noise"),
        ("[model]\nd_modle = 64", "unknown setting model.d_modle; it may have .*d_model"),
        ("[model]\nvocab_size = 64", "unknown setting model.vocab_size"),
        ('optimizer = "sgd"', "optimizer 'sgd' is neither 'adamw' nor 'muon'"),
        ('precision = "fp8"', "precision 'fp8' is none of"),
    ],
)
def test_unknown_setting_is_an_error_that_names_the_known_ones(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InvalidOption, match=message):
        TrainingConfig.from_toml(path)


@pytest.mark.parametrize(
    ("update", "factor"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (70, 1.0), (85, 0.5), (99, 1 / 30), (100, 0)],
)
def test_rate_rises_stays_and_falls(update: int, factor: float) -> None:
    schedule = Schedule(TrainingConfig(updates=100, warmup=10, decay=0.3))
    assert schedule.factor(update) == pytest.approx(factor)


def test_rate_without_warmup_and_decay_is_constant() -> None:
    schedule = Schedule(TrainingConfig(updates=10, warmup=0, decay=0.0))
    assert [schedule.factor(update) for update in range(10)] == [1.0] * 10


def test_schedule_that_is_told_to_finish_falls_from_there_and_is_told_once() -> None:
    schedule = Schedule(TrainingConfig(updates=1000, warmup=0, decay=0.0))
    schedule.finish(50, 10)
    assert [schedule.factor(update) for update in (49, 50, 55, 60)] == pytest.approx([1, 1, 0.5, 0])
    schedule.finish(55, 100)
    assert (schedule.falls, schedule.ends) == (50, 60)
    with pytest.raises(InvalidOption, match="can't finish in 0 updates"):
        schedule.finish(55, 0)


@pytest.mark.parametrize("tied", [False, True])
def test_muon_gets_the_matrices_of_the_layers_alone(tied: bool) -> None:
    shape = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 2,
        "num_experts": 4,
        "tie_word_embeddings": tied,
    }
    config = TrainingConfig(model=shape, optimizer="muon")
    model = Nllb(config.model_config(16))
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, others = (
        {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in Optimizers(model, config).all
    )
    assert matrices | others == set(names.values())
    assert not matrices & others
    assert "encoder.layers.1.ffn.experts.expert_0.fc1.weight" in matrices
    assert "decoder.layers.0.cross_attention.q_proj.weight" in matrices
    special = {"shared.weight", "encoder.layers.1.ffn.router.classifier.weight"}
    assert special | (set() if tied else {"lm_head.weight"}) <= others
    assert all(name.endswith(".weight") and ".layers." in name for name in matrices)
