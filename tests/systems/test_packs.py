"""A pack loads like any model, speaks its languages alone, and says what it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dragoman.checkpoints.catalog import embedded_folder, find_card
from dragoman.checkpoints.cutting import Kept
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.errors import ConfigError, InvalidOption, UnknownLanguage
from dragoman.evaluation.experts import STATISTICS, ExpertStatistics, Routing, Side
from dragoman.kernels.library import kernels
from dragoman.languages import find
from dragoman.models.config import NllbConfig
from dragoman.systems import placement
from dragoman.systems.converting import convert
from dragoman.systems.packs import LanguagePack, config_of, needed_experts, needed_vocabulary, pack_languages
from dragoman.systems.routing import Observer
from dragoman.translation.translator import Translator

pytestmark = [
    pytest.mark.skipif(kernels() is None, reason="there are no native kernels here"),
    pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning"),  # some models are random
]
CONFIG = NllbConfig.from_folder(embedded_folder())
LANGUAGES = ("eng_Latn", "fra_Latn")
SHORT = {"max_new_tokens": 10, "beams": 2}


@pytest.fixture(scope="module")
def statistics(translator: Translator, tatoeba: dict[str, list[tuple[str, str]]]) -> ExpertStatistics:
    observer = Observer(translator.system)
    pairs, french, english = tatoeba["fr"][:30], find("fr"), find("en")
    observer.read(french, english, pairs)
    observer.read(english, french, [(target, source) for source, target in pairs])
    return observer.statistics()


@pytest.fixture(scope="module")
def kept(statistics: ExpertStatistics) -> Kept:
    """The experts that half of the importance needs."""
    return needed_experts(CONFIG, statistics, LANGUAGES, 0.5)


@pytest.fixture(scope="module")
def counts(kept: Kept) -> dict[str, int]:
    """How many of them there are in each layer of a side."""
    return {side: len(next(iter(layers.values()))) for side, layers in kept.items()}


@pytest.fixture(scope="module")
def pack(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model for English and French, in int8."""
    output = tmp_path_factory.mktemp("packs") / "pack"
    convert(embedded_folder(), output, "int8", "mini", pack=LanguagePack(LANGUAGES, kept))
    return output


def test_a_pack_is_a_smaller_model_like_others(pack: Path, counts: dict[str, int]) -> None:
    packed = open_packed(pack)
    assert isinstance(packed.config, NllbConfig)
    assert (packed.config.encoder_experts, packed.config.decoder_experts) == (
        counts["encoder"],
        counts["decoder"],
    )
    assert sum(counts.values()) < 2 * CONFIG.num_experts
    for side in ("encoder", "decoder"):
        first, *others = CONFIG.sparse_layers(side)
        router = packed[f"{side}.layers.{first}.ffn.router.classifier"]
        assert router.packed.outputs == counts[side]
        assert len(packed.experts(side)) == counts[side] * (1 + len(others))
    with Translator.load(pack) as translator:
        assert translator.translate("Good night.", "en", "fr").strip()
        assert translator.translate(["Bonjour !", "Good morning!"], target="en")[1] == "Good morning!"


def test_experts_that_come_from_the_disk_give_the_same(pack: Path) -> None:
    text = "I would like a cup of coffee."
    with Translator.load(pack) as roomy:
        expected = roomy.translate(text, "en", "fr")
    packed = open_packed(pack)
    memory = packed.bytes() - packed.expert_bytes() // 2 + placement._least(packed.config)
    with Translator.load(pack, memory=memory) as tight:
        assert 0 < tight.system.runner.weights.room < packed.expert_bytes()
        assert tight.translate(text, "en", "fr") == expected


def test_other_languages_are_refused_with_those_there_are(pack: Path) -> None:
    with Translator.load(pack) as translator:
        assert [language.nllb for language in translator.languages] == list(LANGUAGES)
        with pytest.raises(
            UnknownLanguage, match=r"'de' is German, which this model doesn't speak. It speaks"
        ):
            translator.translate("Good night.", "en", "de")


def test_its_card_says_what_it_is(pack: Path, counts: dict[str, int]) -> None:
    card = find_card(pack)
    assert card.name == "mini (en, fr)"
    assert card.pivot == "eng_Latn"
    experts = {side: {"kept": count, "of": CONFIG.num_experts} for side, count in counts.items()}
    assert card.pack == {"of": "mini", "experts": experts}


def test_statistics_of_the_whole_model_do_not_go_along(
    pack: Path, statistics: ExpertStatistics, tmp_path: Path
) -> None:
    model = tmp_path / "mini"
    shutil.copytree(embedded_folder(), model)
    statistics.save(model / STATISTICS)
    kept = needed_experts(NllbConfig.from_folder(model), statistics, LANGUAGES, 0.3)
    convert(model, tmp_path / "pack", "int8", pack=LanguagePack(LANGUAGES, kept))
    assert not (tmp_path / "pack" / STATISTICS).exists()


def test_its_experts_can_be_watched_in_turn(pack: Path, counts: dict[str, int]) -> None:
    with Translator.load(pack) as translator:
        observer = Observer(translator.system)
        observer.translate(find("en"), [find("fr")], ["Good morning!"])
        sides = observer.statistics().sides
    assert {name: side.experts for name, side in sides.items()} == counts


def test_a_pack_of_other_experts_is_not_what_was_begun(pack: Path, tmp_path: Path) -> None:
    """Both have as many experts under the same names: what continues a conversion must know them apart."""
    output = tmp_path / "out"
    kept = {side: dict.fromkeys(CONFIG.sparse_layers(side), (0, 1)) for side in ("encoder", "decoder")}
    expert = f"decoder.layers.{CONFIG.sparse_layers('decoder')[0]}.ffn.experts.expert_1.fc1"
    convert(embedded_folder(), output, "int8", pack=LanguagePack(LANGUAGES, kept))
    first = open_packed(output)[expert].packed.data.copy()
    kept["decoder"] = dict.fromkeys(CONFIG.sparse_layers("decoder"), (0, 7))
    with pytest.raises(InvalidOption, match="holds a packed model already"):
        convert(embedded_folder(), output, "int8", pack=LanguagePack(LANGUAGES, kept))
    convert(embedded_folder(), output, "int8", force=True, pack=LanguagePack(LANGUAGES, kept))
    second = open_packed(output)[expert].packed.data
    assert not np.array_equal(first, second)


def test_only_the_modules_of_the_languages_groups_stay(combined: Path, tmp_path: Path) -> None:
    codes = pack_languages(find_card(combined), ["zh", "de"])
    assert codes == ("zho_Hans", "deu_Latn", "eng_Latn")  # both go by way of English
    assert config_of(combined) is None
    convert(combined, tmp_path / "pack", "int8", "X-ALMA", pack=LanguagePack(codes))
    convert(combined, tmp_path / "whole", "int8", "X-ALMA")
    assert sorted(open_packed(tmp_path / "pack").scales) == [1, 6]
    assert find_card(tmp_path / "pack").pack == {"of": "X-ALMA", "groups": [1, 6]}
    with Translator.load(tmp_path / "pack") as pack, Translator.load(tmp_path / "whole") as whole:
        for target in ("zh", "de"):
            expected = whole.translate("Good night.", "en", target, **SHORT)
            assert pack.translate("Good night.", "en", target, **SHORT) == expected
        with pytest.raises(UnknownLanguage, match="which this model doesn't speak"):
            pack.translate("Good night.", "en", "ja", **SHORT)


def test_languages_that_were_taught_are_no_way_around_the_card(pack: Path, tmp_path: Path) -> None:
    shutil.copytree(pack, model := tmp_path / "pack")
    rows = open_packed(pack).config.vocab_size
    added = {"added_tokens_decoder": {str(rows + 1): {"content": "bre_Latn", "special": True}}}
    (model / "tokenizer_config.json").write_text(json.dumps(added))
    assert find_card(model).languages == LANGUAGES
    card = json.loads((model / "dragoman.json").read_text())
    (model / "dragoman.json").write_text(json.dumps({**card, "pack": None}))
    assert find_card(model).languages == (*LANGUAGES, "bre_Latn")


def test_tokens_of_other_languages_are_left_out(
    tatoeba: dict[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    """What the two languages write is scored as before, but for those that are no longer scored beside it."""
    folder = embedded_folder()
    tokens = needed_vocabulary(folder, LANGUAGES, CONFIG.vocab_size * 11 // 20)
    assert tokens is not None
    assert needed_vocabulary(folder, LANGUAGES, 100_000, {"fra_Latn": ["Bonjour."]}) is None
    convert(folder, tmp_path / "pack", "fp32", "mini", pack=LanguagePack(LANGUAGES, vocabulary=tokens))
    card = find_card(tmp_path / "pack")
    assert card.pack is not None
    assert card.pack["vocabulary"] == {"kept": len(tokens.ids.kept), "of": len(tokens.ids.pieces)}
    texts = [english for _, english in tatoeba["fr"][:40]]
    with Translator.load("mini", precision="fp32") as whole, Translator.load(tmp_path / "pack") as pack:
        assert pack.system.config.vocab_size == len(tokens.ids.rows(whole.system.config.vocab_size))
        expected = whole.translate(texts, "en", "fr")
        found = pack.translate(texts, "en", "fr")
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 36


def test_what_makes_no_pack_is_refused(statistics: ExpertStatistics) -> None:
    card = find_card("mini")
    with pytest.raises(InvalidOption, match="a pack for English alone has nothing to translate"):
        pack_languages(card, ["en"])
    with pytest.raises(UnknownLanguage, match="doesn't speak"):
        pack_languages(card, ["en", "zh"])
    with pytest.raises(InvalidOption, match="say nothing of deu_Latn"):
        needed_experts(CONFIG, statistics, [*LANGUAGES, "deu_Latn"], 0.5)
    routing = Routing(1, *(np.full((1, 4), 0.25) for _ in range(3)))
    other = ExpertStatistics("other", {"encoder": Side((7,), 4, {"eng_Latn": routing})})
    with pytest.raises(ConfigError, match="are about another model: 4 in the encoder's layers"):
        needed_experts(CONFIG, other, LANGUAGES, 0.5)
