"""X-ALMA from text to text, with a toy checkpoint of the published layout."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman.checkpoints.loading import pending
from dragoman.checkpoints.module_files import extract_base, extract_module, merge
from dragoman.checkpoints.places import Reader
from dragoman.checkpoints.weight_files import write_shards
from dragoman.errors import InvalidOption, LanguageModuleError, UnknownLanguage
from dragoman.generation.options import GenerationOptions
from dragoman.languages import find
from dragoman.systems import Request, load_system
from dragoman.translation.translator import Translator

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def xalma(combined) -> Translator:
    return Translator.load(combined, device="cpu")


OPTIONS = {"max_new_tokens": 10, "beams": 2}


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
def test_speaks_fifty_languages_and_reads_modules_when_needed(xalma):
    assert len(xalma.languages) == 50
    assert xalma.system.modules.groups() == ()
    xalma.translate("Good night.", "en", "zh", **OPTIONS)
    assert xalma.system.modules.groups() == (6,)
    xalma.translate("Guten Tag.", "de", "en", **OPTIONS)
    assert xalma.system.modules.groups() == (1, 6)


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
def test_others_make_steps_while_a_module_is_read(xalma, monkeypatch):
    engine = xalma.system.engine
    reading, go_on = threading.Event(), threading.Event()

    class SlowReader(Reader):
        def __call__(self, place):
            reading.set()
            assert go_on.wait(60)
            return super().__call__(place)

    expected = xalma.translate("Guten Tag.", "de", "en", **OPTIONS)
    for place in ("checkpoints.packing", "surgery.module_reading"):
        monkeypatch.setattr(f"dragoman.{place}.Reader", SlowReader)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(xalma.translate("Good day.", "en", "ru", **OPTIONS)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert reading.wait(60)
    # All the while the other's module is being read:
    assert xalma.translate("Guten Tag.", "de", "en", **OPTIONS) == expected
    assert engine.between_steps(lambda: xalma.system.modules.groups()) == (1,)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert len(xalma.system.modules.groups()) == 2


def test_batch_mixes_groups_without_changing_results(xalma):
    texts = {"zh": "Good night.", "de": "I am tired.", "ar": "Where are you?", "ru": "Come in."}
    alone = {code: next(xalma.stream([text], "en", code, **OPTIONS)) for code, text in texts.items()}
    requests = [alone[code].sentences[0] for code in texts]
    batch = [Request(text, find("en"), find(code)) for code, text in texts.items()]
    found = dict(xalma.system.run(xalma.system.encode(batch), batch, GenerationOptions(**OPTIONS)))
    mixed = [xalma.system.tokens(found[index][0]) for index in range(len(batch))]
    assert mixed == [sentence.candidates[0].tokens for sentence in requests]


def test_adapter_with_its_base_and_merged_group_translate_alike(xalma, combined, tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "X-ALMA-13B-Group6"
    extract_base(combined, base)
    extract_module(combined, 6, adapter, str(base))
    merge(combined, merged, 6)
    for folder in (adapter, merged):
        shutil.copy(combined / "tokenizer.model", folder)
    expected = next(xalma.stream(["Good night."], "en", "zh", **OPTIONS))
    for folder in (adapter, merged):
        # Its name tells an X-ALMA from an ALMA; an adapter's here does not.
        system = load_system(folder, "cpu", "X-ALMA")
        found = next(Translator(system).stream(["Good night."], "en", "zh", **OPTIONS))
        assert found.sentences[0].candidates[0].tokens == expected.sentences[0].candidates[0].tokens
        assert {language.group for language in Translator(system).languages} == {None, 6}


def test_other_pairs_go_through_english_unless_direct(xalma):
    assert next(xalma.stream(["Guten Tag."], "de", "fr", **OPTIONS)).pivot == "eng_Latn"
    assert next(xalma.stream(["Guten Tag."], "de", "fr", direct=True, **OPTIONS)).pivot is None


def test_language_without_a_module_is_an_error(xalma):
    with pytest.raises(UnknownLanguage, match="Basque"):
        xalma.translate("Hello.", "en", "eu")


def test_long_text_is_split_and_no_prompt_loses_its_end(xalma):
    text = "I have a dog. " * 40
    result = next(xalma.stream([text], "en", "de", beams=1, max_new_tokens=4))
    assert len(result.sentences) == 40
    long = "one dog and " * 200
    result = next(xalma.stream([long], "en", "de", beams=1, max_new_tokens=4))
    assert len(result.sentences) > 1
    assert all(xalma.system.measure(s.source) <= 200 for s in result.sentences)


def test_questions_need_a_chat_model(xalma, translator):
    assert isinstance(xalma.ask("Wie geht es dir?", "de", **OPTIONS), str)
    with pytest.raises(UnknownLanguage):
        xalma.ask("How are you?", "en")
    with pytest.raises(InvalidOption, match="only translates"):
        translator.ask("Wie geht es dir?", "de")


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
@pytest.mark.parametrize("beams", [1, 3])
def test_pieces_of_a_live_translation_are_the_translation(xalma, beams, taken_at_once):
    options = {"max_new_tokens": 24, "beams": beams}
    for text, source, target in (
        ("Good night. I am tired.\n\nCome in!", "en", "de"),
        ("Guten Tag. Wo bist du?", "de", "zh"),
        ("Where are you?", "en", "ar"),
    ):
        pieces = list(xalma.live(text, source, target, **options))
        assert "".join(pieces) == xalma.translate(text, source, target, **options)
        assert len(pieces) > 3


@pytest.mark.parametrize("beams", [1, 3])
def test_pieces_of_a_live_answer_are_the_answer(xalma, beams, taken_at_once):
    pieces = list(xalma.ask_live("Wie geht es dir?", "de", beams=beams, max_new_tokens=30))
    options = GenerationOptions(beams=beams, max_new_tokens=30)
    assert "".join(pieces) == xalma.system.ask(["Wie geht es dir?"], "de", options)[0]
    assert len(pieces) > 3


def test_a_live_answer_tells_whether_the_model_ended_it(xalma, monkeypatch):
    def ends() -> bool:
        pieces = xalma.ask_live("Wie geht es dir?", "de", beams=1, max_new_tokens=3)
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                return end.value

    assert ends() is False  # a random model that is cut so soon
    monkeypatch.setattr(xalma.system, "is_complete", lambda hypothesis: True)
    assert ends() is True


def test_live_question_to_a_model_that_only_translates_is_an_error_at_once(xalma, translator):
    with pytest.raises(InvalidOption, match="only translates"):
        translator.ask_live("Wie geht es dir?", "de")
    with pytest.raises(UnknownLanguage):
        xalma.ask_live("How are you?", "en")


def test_a_module_that_is_missing_fails_its_own_texts(xalma, monkeypatch):
    attaching = xalma.system.modules._attaching
    read = attaching.read

    def refuse(group):
        if group == 6:
            raise LanguageModuleError("group 6 is not in the checkpoint")
        return read(group)

    monkeypatch.setattr(attaching, "read", refuse)
    batch = [Request("Good night.", find("en"), find(code)) for code in ("de", "zh", "ru")]
    found = dict(xalma.system.run(xalma.system.encode(batch), batch, GenerationOptions(**OPTIONS)))
    assert [isinstance(found[i], LanguageModuleError) for i in range(3)] == [False, True, False]
    result = next(xalma.stream(["Good night."], "en", "zh", **OPTIONS))
    assert isinstance(result.error, LanguageModuleError)


def test_rows_beyond_the_tokenizer_are_never_generated(combined, tmp_path):
    """As an embedding has that was filled up to a round number, even if one of them scores best."""
    for path in combined.iterdir():
        shutil.copy(path, tmp_path)
    config = json.loads((combined / "config.json").read_text()) | {"vocab_size": 960}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(combined / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        filling = 50 * tensors[name].mean(0, keepdim=True).repeat(60, 1)
        tensors[name] = torch.cat([tensors[name], filling])
    write_shards(tmp_path, {name: pending(tensor) for name, tensor in tensors.items()}, None, 10**9)
    translator = Translator.load(tmp_path, device="cpu")
    (result,) = translator.stream(["Hello."], "en", "de", beams=2, max_new_tokens=8)
    assert result.error is None
    assert result.sentences[0].candidates[0].tokens


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
def test_extracted_module_translates_from_its_folder(combined, tmp_path):
    """Its base is found beside it, and so is the tokenizer; its mark tells that it reads X-ALMA's prompts."""
    extract_base(combined, tmp_path / "base")
    extract_module(combined, 6, tmp_path / "zh", base_name="../base")
    translator = Translator.load(tmp_path / "zh", device="cpu")
    whole = Translator.load(combined, device="cpu")
    assert translator.system.style == "chat"
    assert {"zho_Hans", "jpn_Jpan", "eng_Latn"} <= set(translator.card.languages)
    assert len(translator.card.languages) == 7
    options = {"beams": 2, "max_new_tokens": 8}
    assert translator.translate("Hello.", "en", "zh", **options) == whole.translate(
        "Hello.", "en", "zh", **options
    )
    with pytest.raises(UnknownLanguage):
        translator.translate("Hello.", "en", "de")


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
def test_adapter_of_one_layer_runs_as_if_merged(combined, tmp_path):
    extract_base(combined, tmp_path / "base")
    extract_module(combined, 6, tmp_path / "Group6", base_name="../base")
    file = tmp_path / "Group6" / "adapter_model.safetensors"
    few = {name: tensor for name, tensor in load_file(file).items() if ".layers.1." in name}
    save_file(few, file, {"format": "pt", "xalma_group": "6"})
    config = json.loads((tmp_path / "Group6" / "adapter_config.json").read_text()) | {
        "layers_to_transform": [1]
    }
    (tmp_path / "Group6" / "adapter_config.json").write_text(json.dumps(config))
    merge(tmp_path / "base", tmp_path / "merged", adapter=tmp_path / "Group6")
    options = {"beams": 2, "max_new_tokens": 8}
    results = {
        Translator.load(tmp_path / name, device="cpu").translate("Hello.", "en", "zh", **options)
        for name in ("Group6", "merged")
    }
    assert len(results) == 1
