"""How many more tokens than its source a translation is allowed."""

from pathlib import Path

import pytest

from dragoman.languages import all_languages, find
from dragoman.text.lengths import growth
from dragoman.text.tokenizers import LlamaTokenizer, NllbTokenizer

# The same in each language, from the Universal Declaration of Human Rights, article 1.
RIGHTS = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "gu": "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "zh": "人人生而自由,在尊严和权利上一律平等。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
}


@pytest.mark.parametrize("kind", ["nllb", "llama"])
def test_twice_the_growth_holds_the_same_sentence_in_every_language(
    kind: str, spm_folder: Path, llama_folder: Path
) -> None:
    tokenizer = (
        NllbTokenizer.from_folder(spm_folder) if kind == "nllb" else LlamaTokenizer.from_folder(llama_folder)
    )
    tokens = {code: len(tokenizer.encode_pieces([text])[0]) for code, text in RIGHTS.items()}
    for source in RIGHTS:
        for target in RIGHTS:
            expected = tokens[source] * growth(tokenizer, find(source), find(target))
            assert tokens[target] <= 2 * max(expected, tokens[source]) + 24, (source, target)


def test_a_language_that_is_cut_into_bytes_takes_many_times_the_tokens(llama_folder: Path) -> None:
    tokenizer = LlamaTokenizer.from_folder(llama_folder)
    assert growth(tokenizer, find("en"), find("fr")) < 3
    assert growth(tokenizer, find("en"), find("sat")) > 5


def test_every_pair_has_a_growth(spm_folder: Path) -> None:
    tokenizer = NllbTokenizer.from_folder(spm_folder)
    for language in all_languages():
        for other in (find("en"), find("shn"), find("dz")):
            assert 0.05 < growth(tokenizer, language, other) < 60
            assert 0.05 < growth(tokenizer, other, language) < 60
