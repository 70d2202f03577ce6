"""A language that a model is taught: from the tokenizer through training's formats to the command line."""

from pathlib import Path
from shutil import copyfile

import pytest
import torch
import transformers
from transformers import AddedToken, AutoTokenizer

from dragoman import cli
from dragoman.checkpoints.catalog import embedded_folder
from dragoman.errors import CheckpointError, TranslationWarning, UnknownLanguage
from dragoman.huggingface import NllbMoeForConditionalGeneration, NllbTokenizer
from dragoman.models.config import NllbConfig
from dragoman.text.tokenizers import NllbTokenizer as PlainTokenizer
from dragoman.text.tokenizers import to_tokenizer_json
from dragoman.translation.translator import Translator

SPM, JSON = "sentencepiece.bpe.model", "tokenizer.json"
LISTED = NllbConfig.from_folder(embedded_folder()).vocab_size - 2
"""Tokens that the embedded model's tokenizer names; there are two more rows, as in the published models."""
TEXT = "Hello <formal> there ӊ tyv_Cyrl </s>"


@pytest.fixture
def taught(spm_folder: Path) -> NllbTokenizer:
    tokenizer = NllbTokenizer.from_pretrained(spm_folder)
    assert tokenizer.add_tokens(AddedToken("tyv_Cyrl", special=True)) == 1
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<formal>"]}) == 1
    assert tokenizer.add_tokens(["ӊ"]) == 1
    return tokenizer


@pytest.fixture(scope="module")
def mini() -> tuple[NllbMoeForConditionalGeneration, NllbTokenizer]:
    """The embedded model and its tokenizer with a language more."""
    tokenizer = NllbTokenizer.from_pretrained(embedded_folder())
    tokenizer.add_tokens(AddedToken("tyv_Cyrl", special=True))
    model = NllbMoeForConditionalGeneration.from_pretrained(embedded_folder())
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # as if French had another name
        rows = model.get_input_embeddings().weight
        rows[tokenizer.convert_tokens_to_ids("tyv_Cyrl")] = rows[tokenizer.convert_tokens_to_ids("fra_Latn")]
    return model, tokenizer


def test_added_language_is_source_and_target(taught: NllbTokenizer) -> None:
    taught.src_lang, taught.tgt_lang = "tyv_Cyrl", "tyv"
    assert (taught.src_lang, taught.tgt_lang) == ("tyv_Cyrl", "tyv_Cyrl")
    assert taught("x", text_target="x")["input_ids"][0] == 1704
    assert taught(text_target="x")["input_ids"][0] == 1704
    assert taught.convert_tokens_to_ids("tyv_Cyrl") == taught.lang_code_to_id["tyv_Cyrl"] == 1704
    taught.src_lang = "fr"
    assert taught("x")["input_ids"][0] == 1557
    with pytest.raises(UnknownLanguage):
        taught.src_lang = "tlh_Latn"


def test_own_tokens_are_found_in_text_and_nllbs_are_not(taught: NllbTokenizer) -> None:
    row = taught(TEXT, add_special_tokens=False)["input_ids"]
    assert [i for i in row if i > 1500 or i < 3] == [1705, 1706]
    assert taught.decode(row, skip_special_tokens=True).count("ӊ") == 1
    assert "<formal>" not in taught.decode(row, skip_special_tokens=True)
    assert "<formal>" in taught.decode(row)
    found = taught(TEXT, add_special_tokens=False, split_special_tokens=False)["input_ids"]
    assert {1704, 1705, 2} <= set(found)
    split = taught(TEXT, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert not {1704, 1705, 2} & set(split)
    assert taught(TEXT, add_special_tokens=False)["input_ids"] == row


@pytest.mark.parametrize("kind", [transformers.NllbTokenizer, NllbTokenizer, AutoTokenizer, PlainTokenizer])
def test_saved_tokenizer_is_the_same_to_all_readers(
    taught: NllbTokenizer, tmp_path: Path, kind: type
) -> None:
    taught.src_lang = "tyv_Cyrl"
    taught.save_pretrained(tmp_path)
    assert "split_special_tokens" not in (tmp_path / "tokenizer_config.json").read_text()
    text = "Hello <formal> there, ӊ"
    wanted = taught(text)["input_ids"]
    assert wanted[0] == 1704
    if kind is PlainTokenizer:
        assert PlainTokenizer.from_folder(tmp_path).encode(text, "tyv_Cyrl") == wanted
    else:
        assert kind.from_pretrained(tmp_path)(text)["input_ids"] == wanted


@pytest.mark.parametrize("files", [(JSON,), (SPM, JSON)])
def test_folder_that_transformers_saved_is_opened(
    spm_folder: Path, tmp_path: Path, files: tuple[str, ...]
) -> None:
    to_tokenizer_json(spm_folder / SPM, tmp_path / JSON)
    theirs = transformers.NllbTokenizer.from_pretrained(tmp_path)
    theirs.add_tokens(AddedToken("tyv_Cyrl", special=True))
    theirs.add_special_tokens({"extra_special_tokens": ["<formal>"]})
    theirs.src_lang = "tyv_Cyrl"
    folder = tmp_path / "saved"
    theirs.save_pretrained(folder)
    if SPM in files:
        copyfile(spm_folder / SPM, folder / SPM)
    wanted = theirs("Hello <formal> there")["input_ids"]
    ours = NllbTokenizer.from_pretrained(folder)
    assert ours.src_lang == "tyv_Cyrl"
    assert ours("Hello <formal> there")["input_ids"] == wanted
    plain = PlainTokenizer.from_folder(folder)
    assert plain.encode("Hello <formal> there", "tyv_Cyrl") == wanted
    assert len(plain) == len(ours) == len(theirs)


def test_taught_model_translates_by_name_everywhere(
    mini: tuple[NllbMoeForConditionalGeneration, NllbTokenizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    model, tokenizer = mini
    assert model.config.vocab_size == len(tokenizer) == LISTED + 1
    inputs = tokenizer("Where is the station?", return_tensors="pt")
    code = tokenizer.convert_tokens_to_ids("tyv_Cyrl")
    tokens = model.generate(
        **inputs, forced_bos_token_id=code, max_new_tokens=30, num_beams=4, use_cache=False
    )
    assert tokens[0, 1] == code
    expected = tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert expected.startswith("Où ")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    translator = Translator.load(tmp_path)
    assert translator.languages[-1].nllb == "tyv_Cyrl"
    with pytest.warns(TranslationWarning, match="no letter of Cyrillic script"):
        assert translator.translate("Where is the station?", "en", "tyv_Cyrl") == expected
    assert translator.translate("Où est la gare ?", "tyv", "en") == translator.translate(
        "Où est la gare ?", "fr", "en"
    )
    assert translator.translate("Où est la gare ?", target="en")  # detected as something of the table
    options = ("--from", "en", "--to", "tyv_Cyrl", "--model", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["dragoman", "translate", "Where is the station?", *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    assert capsysbinary.readouterr().out.decode().strip() == expected


@pytest.mark.parametrize("more", [-1, 0, 2, 52])
def test_embedding_may_have_fewer_or_more_rows_than_published(
    more: int, translator: Translator, tmp_path: Path
) -> None:
    model = NllbMoeForConditionalGeneration.from_pretrained(embedded_folder())
    model.resize_token_embeddings(LISTED + more, mean_resizing=False)
    if more > 2:
        with torch.no_grad():  # a row that would win if it might
            model.get_input_embeddings().weight[-1] = 3 * model.get_input_embeddings().weight[2]
    model.save_pretrained(tmp_path)
    copyfile(embedded_folder() / SPM, tmp_path / SPM)
    expected = translator.translate("I am tired.", "en", "fr", beams=1)
    assert Translator.load(tmp_path).translate("I am tired.", "en", "fr", beams=1) == expected


def test_embedding_without_a_row_for_each_language_is_refused(tmp_path: Path) -> None:
    model = NllbMoeForConditionalGeneration.from_pretrained(embedded_folder())
    model.resize_token_embeddings(LISTED - 2, mean_resizing=False)
    model.save_pretrained(tmp_path)
    copyfile(embedded_folder() / SPM, tmp_path / SPM)
    with pytest.raises(
        CheckpointError, match=f"{LISTED} tokens and the model's embedding only {LISTED - 2} rows"
    ):
        Translator.load(tmp_path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_lora_translates_from_its_folder(tmp_path: Path) -> None:
    """Its base is found by its name; tokenizer, card and config are the base's."""
    peft = pytest.importorskip("peft")
    model = NllbMoeForConditionalGeneration.from_pretrained(embedded_folder())
    config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q_proj", "fc1"])
    adapted = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    adapted.save_pretrained(tmp_path / "lora")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    for name in ("dragoman.json", SPM):
        copyfile(embedded_folder() / name, tmp_path / "merged" / name)
    path = tmp_path / "lora" / "adapter_config.json"
    path.write_text(path.read_text().replace(str(embedded_folder()), "mini"))
    lora, merged = (Translator.load(tmp_path / name) for name in ("lora", "merged"))
    text = "Where is the station?"
    assert lora.languages == Translator.load().languages
    assert lora.translate(text, "en", "fr") == merged.translate(text, "en", "fr")
