"""Target vocabularies: small, and yet nothing that a language needs is missing."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import InvalidOption, InvalidText
from dragoman.languages import find, nllb_codes
from dragoman.text.piece_languages import PieceLanguages
from dragoman.text.scripts import letter_script
from dragoman.text.tokenizers import LlamaTokenizer, NllbTokenizer
from dragoman.text.vocabulary import source_tokens, target_vocabulary, word_list

SENTENCES = {
    "eng_Latn": "The weather has been terrible all week.",
    "deu_Latn": "Das Wetter war die ganze Woche schrecklich.",
    "rus_Cyrl": "Погода всю неделю была ужасной.",
    "ell_Grek": "Ο καιρός ήταν φριχτός όλη την εβδομάδα.",
    "arb_Arab": "كان الطقسُ سيئًا طوال الأسبوع، أليس كذلك؟",
    "hin_Deva": "पूरे हफ़्ते मौसम बहुत ख़राब रहा है।",
    "tha_Thai": "อากาศแย่มากตลอดทั้งสัปดาห์",
    "jpn_Jpan": "この一週間、ひどい天気だった。コーヒーが飲みたい。",
    "kor_Hang": "이번 주 내내 날씨가 아주 나빴다.",
    "zho_Hans": "这一周天气都很糟糕。",
}


@pytest.fixture(scope="module")
def small(spm_folder: Path) -> NllbTokenizer:
    """1,500 pieces of about a hundred languages."""
    return NllbTokenizer.from_folder(spm_folder)


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> LlamaTokenizer:
    return LlamaTokenizer.from_folder(llama_folder)


@pytest.fixture(scope="module")
def mini() -> NllbTokenizer:
    """The embedded model's: some thousand pieces of a few languages."""
    return NllbTokenizer.from_folder(str(files("dragoman.data") / "mini"))


def single_letters(tokenizer: NllbTokenizer | LlamaTokenizer, script: str) -> set[int]:
    tokens = enumerate(tokenizer.tokens(range(len(tokenizer))))
    bare = {token: name.replace("▁", "") for token, name in tokens}
    return {token for token, name in bare.items() if len(name) == 1 and letter_script(name) == script}


# What is in it


def test_size_is_kept_and_ids_ascend(mini):
    for size in (2000, 3000, 5000):
        chosen = target_vocabulary(mini, find("de"), size)
        assert len(chosen) == size
        assert chosen == sorted(set(chosen))


def test_a_larger_vocabulary_has_all_of_a_smaller_one(mini):
    assert set(target_vocabulary(mini, find("de"), 2000)) < set(target_vocabulary(mini, find("de"), 3000))


def test_of_special_tokens_only_those_of_a_translation_are_in_it(mini):
    chosen = set(target_vocabulary(mini, find("de"), None))
    ids = set(range(mini.unk_id + 1)) | set(mini.lang_code_to_id.values()) | set(mini.never_generated)
    assert chosen & ids == {mini.eos_id, mini.unk_id, mini.language_id("deu_Latn")}


def test_what_has_no_letters_is_always_in_it(mini):
    chosen = set(target_vocabulary(mini, find("de"), 1))
    for text in ("0 1 2 3 4 5 6 7 8 9", '. , ! ? " ( ) : - % €'):
        assert {*mini.encode_pieces([text])[0]} <= chosen


@pytest.mark.parametrize("code", SENTENCES)
@pytest.mark.parametrize("kind", ["small", "llama"])
def test_every_single_letter_is_in_it_whatever_the_size(code, kind, request):
    tokenizer = request.getfixturevalue(kind)
    chosen = set(target_vocabulary(tokenizer, find(code), 1))
    scripts = {letter_script(character) for character in SENTENCES[code]} - {""}
    for script in scripts:
        letters = single_letters(tokenizer, script)
        assert letters
        assert letters <= chosen


@pytest.mark.parametrize("code", SENTENCES)
def test_with_all_tokens_of_its_scripts_a_language_needs_no_others(small, code):
    row = small.encode_pieces([SENTENCES[code]])[0]
    assert set(row) <= set(target_vocabulary(small, find(code), None))


@pytest.mark.parametrize(("code", "other"), [("rus_Cyrl", "kor_Hang"), ("jpn_Jpan", "tha_Thai")])
def test_letters_of_other_scripts_are_not_in_it(small, code, other):
    chosen = set(target_vocabulary(small, find(code), None))
    script = letter_script(SENTENCES[other][0])
    assert not single_letters(small, script) & chosen


def test_ascii_letters_are_in_that_of_any_script(mini):
    ascii_letters = {mini.token_to_id(letter) for letter in "abcXYZ"}
    assert ascii_letters <= set(target_vocabulary(mini, find("ja"), 1))


def test_llama_keeps_its_bytes(llama):
    assert set(range(3, 259)) <= set(target_vocabulary(llama, find("de"), 1))
    assert {llama.eos_id, llama.unk_id} <= set(target_vocabulary(llama, find("de"), 1))


def test_both_libraries_give_the_same(small, json_folder):
    other = NllbTokenizer.from_folder(json_folder)
    assert target_vocabulary(small, find("de"), 800) == target_vocabulary(other, find("de"), 800)


# What it is good for


def shares(tokenizer: NllbTokenizer, chosen: list[int], pairs: list[tuple[str, str]]) -> tuple[float, float]:
    """The share of tokens inside: alone, and with those of the sources."""
    known = set(chosen)
    alone, helped, total = 0, 0, 0
    for reference, source in pairs:
        copied = set(source_tokens(tokenizer, tokenizer.encode(source, "eng_Latn")))
        row = tokenizer.encode_pieces([reference])[0]
        alone += sum(token in known for token in row)
        helped += sum(token in known or token in copied for token in row)
        total += len(row)
    return alone / total, helped / total


@pytest.mark.parametrize("code", ["de", "fr", "nl", "es"])
def test_three_eighths_of_the_pieces_hold_nearly_all_of_a_language(mini, tatoeba, code):
    size = mini.vocabulary * 3 // 8
    alone, helped = shares(mini, target_vocabulary(mini, find(code), size), tatoeba[code])
    assert alone > 0.975
    assert helped >= max(alone, 0.98)


def test_letters_alone_tell_a_language(mini, tatoeba, monkeypatch):
    monkeypatch.setattr("dragoman.text.vocabulary.word_list", lambda code: [])
    size = mini.vocabulary * 3 // 8
    german = target_vocabulary(mini, find("de"), size)
    dutch = target_vocabulary(mini, find("nl"), size)
    own, other = shares(mini, german, tatoeba["de"]), shares(mini, dutch, tatoeba["de"])
    assert own[0] > 0.93
    assert other[0] < own[0] - 0.05


def test_text_of_the_caller_comes_first(mini):
    lines = ["Der Durchlauferhitzer benötigt einen Frequenzumrichter."] * 3
    row = set(mini.encode_pieces(lines)[0])
    without = set(target_vocabulary(mini, find("de"), 2000))
    assert not row <= without
    assert row <= set(target_vocabulary(mini, find("de"), 2000, iter(lines)))


def test_a_language_of_which_nothing_is_known_is_not_cut(mini):
    sicilian = find("scn_Latn")
    assert target_vocabulary(mini, sicilian, 2000) == target_vocabulary(mini, sicilian, None)
    told = target_vocabulary(mini, sicilian, 2000, ["Lu tempu è malu."])
    assert len(told) == 2000


def test_simplified_chinese_takes_its_own_characters_first(tmp_path, train_sentencepiece):
    lines = ["汉语 漢語 语言 語言 " * 3, "汉语语言 漢語語言"] * 20
    train_sentencepiece(
        tmp_path / "sentencepiece.bpe.model",
        vocab_size=20,
        sentence_iterator=iter(lines),
        character_coverage=1.0,
    )
    tokenizer = NllbTokenizer.from_folder(tmp_path)
    pieces = {name: token for token, name in enumerate(tokenizer.tokens(range(tokenizer.vocabulary + 1)))}
    own = {token for name, token in pieces.items() if set(name) & set("汉语")}
    foreign = {
        token for name, token in pieces.items() if set(name) & set("漢語") and len(name.strip("▁")) > 1
    }
    assert foreign
    least = len(target_vocabulary(tokenizer, find("zho_Hans"), 1))
    multiple = {token for token in own if len(tokenizer.id_to_token(token).strip("▁")) > 1}
    chosen = set(target_vocabulary(tokenizer, find("zho_Hans"), least + len(multiple)))
    assert own <= chosen
    assert not foreign & chosen


# Mistakes


@pytest.mark.parametrize("size", [0, -5, 2.5, True, "24000"])
def test_a_size_that_is_none_is_an_error(mini, size):
    with pytest.raises(InvalidOption, match="whole number from 1"):
        target_vocabulary(mini, find("de"), size)


def test_text_has_to_come_in_lines(mini):
    with pytest.raises(InvalidText, match="splitlines"):
        target_vocabulary(mini, find("de"), 2000, "one line")
    with pytest.raises(InvalidText, match="int"):
        target_vocabulary(mini, find("de"), 2000, [7])  # type: ignore[list-item]


# Source tokens


@pytest.mark.parametrize("kind", ["mini", "llama"])
def test_a_source_gives_its_tokens_with_other_case_and_spacing(kind, request):
    tokenizer = request.getfixturevalue(kind)
    pieces = tokenizer.encode_pieces(["She met Tom (and Mary) at NASA."])[0]
    found = source_tokens(tokenizer, pieces)
    assert found == sorted(set(found))
    assert set(pieces) <= set(found)
    for variant in ("she met tom mary", "MET TOM MARY", "Met Tom Nasa"):
        assert set(tokenizer.encode_pieces([variant])[0]) <= set(found), variant


def test_a_source_gives_its_words_without_the_space_in_front(mini):
    names = mini.tokens(range(mini.vocabulary))
    words = [name[1:] for name in names if name[0] == "▁" and name[1:].isalpha() and len(name) > 4]
    bare = next(word for word in words if word in names)
    found = mini.tokens(source_tokens(mini, mini.encode_pieces([f"Where is {bare}?"])[0]))
    assert {f"▁{bare}", bare} <= set(found)


def test_special_tokens_of_a_source_are_not_copied(mini):
    ids = mini.encode("Tom", "eng_Latn")
    assert {mini.eos_id, mini.language_id("eng_Latn")} < set(ids)
    assert all(mini.layout.is_piece(token) for token in source_tokens(mini, ids))


def test_a_source_without_text_gives_nothing(mini):
    assert source_tokens(mini, []) == source_tokens(mini, [mini.eos_id]) == []


# Data


def test_word_lists_are_those_of_languages_and_small():
    paths = [path for path in (files("dragoman.data") / "words").iterdir() if path.name.endswith(".gz")]
    codes = {path.name.removesuffix(".txt.gz") for path in paths}
    assert len(codes) == 34
    assert codes <= set(nllb_codes())
    assert sum(len(path.read_bytes()) for path in paths) < 2_000_000
    for code in codes:
        words = word_list(code)
        assert len(words) == len(set(words)) > 1000
        assert all(word and " " not in word for word in words)


def test_common_words_come_first():
    assert {"der", "und", "ist"} <= set(word_list("deu_Latn")[:64])
    assert word_list("scn_Latn") == []


def test_letters_tell_the_likelier_language():
    pieces = ["▁straße", "▁geschwindigkeit", "▁aujourd", "▁qu"]
    languages = PieceLanguages(pieces, "Latn")
    german, french = languages.surprise("deu_Latn"), languages.surprise("fra_Latn")
    assert german is not None
    assert french is not None
    assert np.array_equal(german < french, [True, True, False, False])
    assert (german >= 0).all()
    assert languages.surprise("scn_Latn") is None


def test_importing_it_loads_nothing_heavy():
    heavy = "{'torch', 'numpy', 'py3langid', 'sentencepiece', 'tokenizers'}"
    code = f"import sys, dragoman.text.vocabulary; print(*sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
