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
        ("update = 7", "update is an unknown setting; did you mean updates.*warmup"),
        ('[[parts]]\nname = "a"\nshares = 1', "parts.shares is an unknown setting; did you mean share"),
        ("[[parts]]\nshare = 1", "parts.name is missing"),
        ("[augmentation]\nnoises = 1", "augmentation.noises is an unknown setting; did you mean noise"),
        ('[[parts]]\nname = "a"\nother = "fr"', "parts.other is 'fr'; it must be one of 'en'"),
        ('languages = ["xx"]', "languages: 'xx' is no language I know"),
        (
            'train = "module"\ngroup = 6\nstart = "x"\nobjective = "sft"\nlanguages = ["de"]',
            "is of X-ALMA's group 1",
        ),
        ("[model]\nd_modle = 64", "model.d_modle is an unknown setting; did you mean d_model"),
        ("[model]\nvocab_size = 64", "model.vocab_size is an unknown setting"),
        ('[model]\nmodel_type = "llama"\nd_model = 64', "model.d_model is an unknown setting"),
        ('optimizer = "sgd"', "optimizer is 'sgd'; it must be one of 'adamw', 'muon'"),
        ('precision = "fp8"', "precision is 'fp8'; it must be one of"),
        ('objective = "ppo"', "objective is 'ppo'; it must be one of .*'simpo'"),
        ('updates = "many"', "updates is 'many'; it must be a whole number"),
        ("updates = true", "updates is True; it must be a whole number"),
        ("lora = 3", "lora is 3; it must be a table"),
        ("updates = ", "is no TOML file"),
        ('train = "lora"', "needs a model to start from"),
        ('train = "module"\nstart = "x"\nobjective = "sft"', "group goes with train"),
        ('[[parts]]\nname = "a"\nkind = "preferences"', "learns from parallel text"),
        ('[[parts]]\nname = "a"\n[[parts]]\nname = "a"', "two parts are called 'a'"),
        ('[[parts]]\nname = "a"\nfiles = "x.{lang}.tsv"', "parts.files is 'x.{lang}.tsv'; it may have"),
        ('dev = "x{.tsv"', "dev is 'x{.tsv'; it may have"),
        (
            'languages = ["de", "fr"]\n[[parts]]\nname = "a"\nfiles = "all.tsv"',
            "one file for de, fr, whose rows don't name",
        ),
        ("[languages]\nde = 5", "languages.de is 5; it must be text"),
        ('[[parts]]\nname = "a"\nwords = [3]', r"parts.words is \[3\]; it must have 2 items"),
        ('[[parts]]\nname = "a"\nwords = ["a", "b"]', r"parts.words\[0\] is 'a'; it must be a whole number"),
        ('[[parts]]\nname = "a"\nwords = [3, 1]', r"parts.words is \[3, 1\]; give the least"),
        ('[[parts]]\nname = "a"\norigins = [3]', r"parts.origins\[0\] is 3; it must be text"),
        ("parts = 5", "parts is 5; it must be a list of tables"),
        ("log_every = 0", "log_every is 0; it must be above 0"),
        ("accumulate = 0", "accumulate is 0; it must be above 0"),
        ("rate = -1", "rate is -1; it must be above 0"),
        ("decay = 1.5", "decay is 1.5; it must be from 0 to 1"),
        ("[[phases]]\nupdates = -3", "phases.updates is -3; it must be above 0"),
        ('[ratios]\nde = "x"', "ratios.de is 'x'; it must be a number"),
        ("[ratios]\nde = 0", "ratios.de is 0; it must be above 0"),
        ("[model]\nd_model = 15", "model: d_model is 15 in the model's config"),
        ('objective = "simpo"\n[preference]\nbeta = 0.0', "preference.beta is 0.0; it must be above 0"),
        ('objective = "sft"\nlabel_smoothing = 0.2', "label_smoothing says nothing to a run with objective"),
        ('objective = "sft"\n[augmentation]\nnoise = 0.2', "augmentation says nothing"),
        ("matrix_rate = 0.1", "matrix_rate says nothing"),
        ("[lora]\nrank = 4", "lora says nothing"),
        (
            'objective = "causal"\n[[parts]]\nname = "a"\nkind = "monolingual"\nlimit = 3',
            "parts.limit is for parallel text",
        ),
        ('[[parts]]\nname = "a"\n[[phases]]\nupdates = 3\nparts = ["b"]', "phases.parts is 'b'"),
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


def test_rate_falls_by_the_root_of_updates_or_along_a_cosine() -> None:
    root = Schedule(TrainingConfig(updates=400, warmup=100, decay=0.0, schedule="inverse_sqrt"))
    assert [root.factor(update) for update in (49, 99, 399)] == pytest.approx([0.5, 1.0, 0.5])
    cosine = Schedule(TrainingConfig(updates=110, warmup=10, decay=0.0, schedule="cosine"))
    assert [cosine.factor(update) for update in (4, 10, 60, 110)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_rate_without_warmup_and_decay_is_constant() -> None:
    schedule = Schedule(TrainingConfig(updates=10, warmup=0, decay=0.0))
    assert [schedule.factor(update) for update in range(10)] == [1.0] * 10


def test_schedule_that_is_told_to_finish_falls_from_there_and_is_told_once() -> None:
    schedule = Schedule(TrainingConfig(updates=1000, warmup=0, decay=0.0))
    schedule.finish(50, 10)
    assert [schedule.factor(update) for update in (49, 50, 55, 60)] == pytest.approx([1, 1, 0.5, 0])
    early = Schedule(TrainingConfig(updates=100, warmup=300, decay=0.3))
    assert [early.factor(update) for update in (69, 70, 85)] == pytest.approx([70 / 300, 71 / 300, 43 / 300])
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
