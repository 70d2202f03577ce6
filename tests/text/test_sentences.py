"""Splitting loses nothing, and cuts where a reader would."""

import re
import unicodedata

import pytest
import sentencex
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import InvalidOption, UnknownLanguage
from dragoman.text import sentences
from dragoman.text.sentences import BLANKS, SplitText, join, split, whole

LANGUAGES = ["eng_Latn", "zho_Hans", "jpn_Jpan", "tha_Thai", "mya_Mymr", "bod_Tibt", "arb_Arab", "slk_Latn"]
AWKWARD = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from(" \t\n\r\u3000\xa0\u200b.!?,;。！？、”“«»(「」MBAb1།་။៕"),
        st.sampled_from("\u0301\u200d\ufe0f\U0001f3fd\U0001f1e9\U0001f1ea\ud83d\ude00\x00\x1c\x85\u094d"),
    ),
    max_size=120,
)


def texts(parts: SplitText) -> list[str]:
    return [segment.text for segment in parts.segments]


def rebuilt(parts: SplitText) -> str:
    return "".join(segment.before + segment.text for segment in parts.segments) + parts.after


def letters_and_marks(text: str) -> int:
    """A measure that isn't the length: a letter counts 1, anything else 3."""
    return sum(1 if character.isalpha() else 3 for character in text)


@settings(max_examples=400, deadline=None)
@given(AWKWARD, st.sampled_from(LANGUAGES), st.one_of(st.none(), st.integers(1, 30)))
def test_nothing_is_lost_or_added(text: str, language: str, limit: int | None) -> None:
    parts = split(text, language, limit, letters_and_marks)
    assert rebuilt(parts) == text
    assert join(parts, texts(parts), language, language) == text


@settings(max_examples=200, deadline=None)
@given(AWKWARD, st.sampled_from(LANGUAGES), st.integers(1, 30))
def test_every_segment_keeps_the_limit_or_is_one_sign(text: str, language: str, limit: int) -> None:
    for piece in texts(split(text, language, limit, letters_and_marks)):
        inside = sentences._SIGN.fullmatch(piece) is not None
        assert letters_and_marks(piece) <= limit or (inside and len(piece) <= sentences.GRAPHEME)


@settings(max_examples=200, deadline=None)
@given(AWKWARD, st.sampled_from(LANGUAGES))
def test_white_space_stays_outside_the_sentences(text: str, language: str) -> None:
    parts = split(text, language)
    for piece in texts(parts):
        assert piece
        assert piece == piece.strip(sentences.BLANKS)
        assert not re.search(r"[\n\r\u2028]", piece)
    assert not "".join([segment.before for segment in parts.segments] + [parts.after]).strip(sentences.BLANKS)


def test_blanks_hold_all_white_space_of_python() -> None:
    assert {chr(code) for code in range(0x110000) if chr(code).isspace()} <= set(sentences.BLANKS)


@pytest.mark.parametrize("text", ["", " ", "\n\n", " \t\r\n\u3000\xa0", "\ufeff"])
def test_only_white_space_has_no_sentence(text: str) -> None:
    assert split(text, "eng_Latn") == SplitText((), text)


@pytest.mark.parametrize(
    ("language", "marked"),
    [
        ("eng_Latn", "Dr. Smith paid $3.50.| Was it enough?| Yes!"),
        ("eng_Latn", "First line|\nsecond line.| Third"),
        ("eng_Latn", "Well ... I know!  ...| Go on."),
        ("deu_Latn", "Am 3. März kam er z.B. zu spät.| Na und?"),
        ("ell_Grek", "Τι είπες;| Τίποτα."),
        ("rus_Cyrl", "Он ушёл.| Куда?| Не знаю!"),
        ("zho_Hans", "你好。|我是汤姆！|真的吗？|是的"),
        ("jpn_Jpan", "「行く。」と彼は言った。|「そう？」"),
        ("hin_Deva", "यह घर है।| वह कौन है?| ठीक है।"),
        ("arb_Arab", "مرحبا.| كيف حالك؟| بخير!"),
        ("urd_Arab", "یہ گھر ہے۔| وہ کون ہے؟"),
        ("amh_Ethi", "ሰላም።| እንዴት ነህ?| ደህና።"),
        ("hye_Armn", "Բարև։| Ես այստեղ եմ։"),
        ("mya_Mymr", "သူသည်၊ ကျောင်းသားဖြစ်သည်။| ဟုတ်ကဲ့။"),
        ("khm_Khmr", "នេះជាផ្ទះ។| ខ្ញុំនៅទីនេះ។"),
        ("bod_Tibt", "བཀྲ་ཤིས། བདེ་ལེགས། །|ཁྱེད་རང་།"),
        ("tha_Thai", "สวัสดีครับ ผมชื่อทอม"),
    ],
)
def test_sentences_of_a_language(language: str, marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    assert texts(split(marked.replace("|", ""), language)) == expected


@pytest.mark.parametrize(
    ("language", "marked"),
    [
        ("nld_Latn", "Het is koud.| 't Is winter.| 's Avonds vriest het.| 'n Man kwam."),
        ("eng_Latn", "I left.| 'Cause it was late.| 'Twas good.| '96 was a great year."),
        ("eng_Latn", "The cat’s gone.| ’Twas fun.| Rock ’n’ roll."),
        ("afr_Latn", "Dit is koud.| 'n Man het gekom."),
        ("ita_Latn", "Arriva.| 'Sto treno è lento."),
        ("deu_Latn", "Dann ging er.| ‚Ja.‘| „Gut.“| Er kam."),
    ],
)
def test_an_opening_apostrophe_belongs_to_what_follows(language: str, marked: str) -> None:
    expected = [sentence.strip() for sentence in marked.split("|")]
    parts = split(marked.replace("|", ""), language)
    assert texts(parts) == expected
    assert join(parts, [f"({text})" for text in expected], language, "eng_Latn") == " ".join(
        f"({text})" for text in expected
    )


@pytest.mark.parametrize(
    ("language", "marked"),
    [
        ("fra_Latn", "J'ai vu M. Dupont et Mme. Durand.| Voir p. 5 et vol. 4.| Vers 5 h. il part."),
        ("nld_Latn", "Mevr. Jansen is er.| Dhr. de Vries ook.| Zie blz. 5.| Bijv. Jan."),
        ("deu_Latn", "Frau Prof. Dr. Müller wohnt in der Hauptstr. 5.| Das kostet ca. 5 Euro, vgl. Abb. 3."),
        ("eng_Latn", "It took approx. 5 hours.| See vol. 4 and para. 3.| Roe v. Wade was in 1973."),
        ("eng_Latn", "He came at 5 p.m. on Monday.| It is 5 p.m.| We go."),
        (
            "spa_Latn",
            "Son las 5 p. m. y llueve.| Llegó a las 5 a. m.| D. Juan y la Sra. López.| Véase pág. 5.",
        ),
        ("ita_Latn", "La dott.ssa Bianchi è qui.| Il sig. Rossi no?| Vedi pag. 5."),
        ("por_Latn", "O Sr. Silva chegou.| A Dra. Maria também.| Ver pág. 5."),
        ("pol_Latn", "Pan dr. Kowalski, ul. Długa 5.| Biuro ds. klęsk, np. powodzi."),
        ("ces_Latn", "Ing. Novák přišel.| Viz str. 5, např. zde."),
        ("rus_Cyrl", "См. рис. 5.| Это г. Москва, ул. Ленина.| И т. д. и т. п."),
        ("ell_Grek", "Ο κ. Παπαδόπουλος ήρθε.| Βλ. σελ. 5."),
        ("ron_Latn", "Dl. Popescu e aici.| Vezi pag. 5, str. Lungă."),
        ("tur_Latn", "Sn. Yılmaz geldi.| Bkz. s. 5."),
    ],
)
def test_an_abbreviation_before_a_name_or_number_ends_no_sentence(language: str, marked: str) -> None:
    assert texts(split(marked.replace("|", ""), language)) == [part.strip() for part in marked.split("|")]


@pytest.mark.parametrize(
    ("language", "marked"),
    [
        ("deu_Latn", "Das ist der 17. Versuch.| Er wohnt im 3. Stock.| Es waren 17.| Dann kam er."),
        ("deu_Latn", "Im II. Weltkrieg war das so.| Am 3. Mai.| Zum 5. Mal!"),
        ("dan_Latn", "Han kom den 3. maj.| Det var i 1990.| Så gik han."),
        ("nob_Latn", "Det er den 17. gangen.| Han kom i 1990.| Så gikk han."),
        ("fin_Latn", "Hän tuli 3. toukokuuta.| Se oli 2. kerta."),
        ("ces_Latn", "Je 5. října.| Ve 20. století.| Bylo jich 17.| Pak přišel."),
        ("pol_Latn", "To 5. piętro.| Było ich 17.| Potem przyszedł."),
        ("hun_Latn", "Az 5. fejezet.| 2020. május 3-án.| II. Lajos király."),
        ("tur_Latn", "O 3. katta.| II. Mehmet geldi."),
        ("srp_Cyrl", "То је 1990. године.| Добро."),
        ("lvs_Latn", "1990. gadā viņš nāca.| Labi."),
        ("isl_Latn", "Það er 17. júní.| Gott."),
        ("eng_Latn", "There were 17.| Then he came."),
    ],
)
def test_an_ordinal_number_ends_no_sentence(language: str, marked: str) -> None:
    assert texts(split(marked.replace("|", ""), language)) == [part.strip() for part in marked.split("|")]


def test_paragraphs_indentation_and_line_ends_are_kept() -> None:
    text = "\ufeff  One. Two!\r\n\r\n\t\u3000Three\u2028four \n"
    parts = split(text, "eng_Latn")
    assert [segment.before for segment in parts.segments] == ["\ufeff  ", " ", "\r\n\r\n\t\u3000", "\u2028"]
    assert parts.after == " \n"
    assert (
        join(parts, ["Un.", "Deux !", "Trois", "quatre"], "eng_Latn", "fra_Latn")
        == "\ufeff  Un. Deux !\r\n\r\n\t\u3000Trois\u2028quatre \n"
    )


def test_control_characters_are_ordinary() -> None:
    assert texts(split("a\x00b. C\x07d.", "eng_Latn")) == ["a\x00b.", "C\x07d."]


def test_wide_white_space_and_lone_surrogates_do_not_break_sentencex() -> None:
    text = "x\u3000A\u3000. B\xa0.\ud83d y. Z"
    assert rebuilt(split(text, "slk_Latn")) == text


@pytest.mark.parametrize("text", ["“" * 9000, "[(" * 9000, "word " * 4000, "No end. " * 3000, "a" * 9000])
def test_sentencex_gets_no_more_than_a_chunk(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def segment(language: str, chunk: str) -> list[str]:
        sizes.append(len(chunk))
        return original(language, chunk)

    original = sentencex.segment
    monkeypatch.setattr(sentencex, "segment", segment)
    parts = split(text, "eng_Latn", 200)
    assert rebuilt(parts) == text
    assert max(sizes) <= sentences.CHUNK
    assert sum(sizes) <= 2 * len(text)


def test_nothing_is_lost_if_sentencex_drops_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencex, "segment", lambda language, chunk: chunk.split())
    assert texts(split("One. Two.\nThree.", "eng_Latn")) == ["One. Two.", "Three."]


def test_chunks_do_not_change_the_sentences() -> None:
    sentence = "He went there, and nobody knew why he did."
    assert texts(split(" ".join([sentence] * 1000), "eng_Latn")) == [sentence] * 1000


def test_a_long_text_without_spaces_is_measured_about_twice() -> None:
    measured = 0

    def measure(piece: str) -> int:
        nonlocal measured
        measured += len(piece)
        return (len(piece) + 2) // 3

    text = "a" * 100_000
    parts = split(text, "eng_Latn", 128, measure)
    assert rebuilt(parts) == text
    assert len(parts.segments) < 1.5 * len(text) / (3 * 128)
    assert measured < 3 * len(text)


@pytest.mark.parametrize(
    ("language", "limit", "marked"),
    [
        ("eng_Latn", 26, "If it rains, we stay;| if it clears, we go"),
        ("eng_Latn", 20, "about 10,000 or| 12,000 people came"),
        ("zho_Hans", 12, "如果明天下雨，|我们就不去公园了"),
        ("arb_Arab", 25, "عندما وصلت إلى البيت،| كان الجميع نائمين"),
        ("tha_Thai", 14, "สวัสดีครับ| ผมชื่อทอม"),
        ("bod_Tibt", 10, "བཀྲ་ཤིས་|བདེ་ལེགས"),
        ("eng_Latn", 20, "“It is late.| We must go. Come”"),
        ("eng_Latn", 5, "abcde|fghij"),
    ],
)
def test_a_sentence_over_the_limit_is_cut_at_the_best_place(language: str, limit: int, marked: str) -> None:
    expected = [piece.strip() for piece in marked.split("|")]
    assert texts(split(marked.replace("|", ""), language, limit)) == expected


@pytest.mark.parametrize(
    "sign",
    [
        "e\u0301",
        "👩\u200d🔬",
        "❤\ufe0f",
        "👍\U0001f3fd",
        "🇩🇪",
        "क्षि",
        "\u1112\u1161\u11ab",
        "กำ",
        "เก",
        "\ud83d\ude00",
    ],
)
def test_a_sign_is_never_cut(sign: str) -> None:
    assert texts(split(sign * 5, "eng_Latn", 1)) == [sign] * 5


def test_a_flood_of_combining_marks_is_cut_at_last() -> None:
    pieces = texts(split("e" + "\u0301" * 1000, "eng_Latn", 10))
    assert max(map(len, pieces)) <= sentences.GRAPHEME
    assert all(unicodedata.combining(piece[-1]) for piece in pieces)


def test_a_limit_below_one_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="limit is 0"):
        split("Hello", "eng_Latn", 0)


def test_unknown_language_is_an_error() -> None:
    with pytest.raises(UnknownLanguage):
        split("Hello", "Klingon")


@pytest.mark.parametrize(
    ("source", "text", "target", "expected"),
    [
        ("eng_Latn", "One. Two.\nThree.", "zho_Hans", "<0><1>\n<2>"),
        ("eng_Latn", "One.  Two.\tThree.", "jpn_Jpan", "<0><1>\t<2>"),
        ("zho_Hans", "一。二。\n三。", "eng_Latn", "<0> <1>\n<2>"),
        ("zho_Hans", "一。 二。", "jpn_Jpan", "<0> <1>"),
        ("zho_Hans", "一。二。", "zho_Hant", "<0><1>"),
        ("jpn_Jpan", "一。二。", "tha_Thai", "<0> <1>"),
        ("khm_Khmr", "កខ។ខក។", "fra_Latn", "<0> <1>"),
        ("eng_Latn", "One. Two.", "tha_Thai", "<0> <1>"),
        ("eng_Latn", "  One.\n", "zho_Hans", "  <0>\n"),
        ("zho_Hans", "一。", "eng_Latn", "<0>"),
    ],
)
def test_space_between_sentences_follows_the_target(
    source: str, text: str, target: str, expected: str
) -> None:
    parts = split(text, source)
    translations = [f"<{number}>" for number in range(len(parts.segments))]
    assert join(parts, translations, source, target) == expected


def test_join_wants_one_translation_for_each_segment() -> None:
    with pytest.raises(ValueError, match="1 translations came for 2 segments"):
        join(split("One. Two.", "eng_Latn"), ["Un."], "eng_Latn", "fra_Latn")


@pytest.mark.parametrize("text", ["", " \n", "One. Two.\nThree.", "  \u3000a b\u200b\n"])
def test_a_whole_text_is_one_sentence_and_nothing_is_lost(text: str) -> None:
    parts = whole(text)
    assert "".join(each.before + each.text for each in parts.segments) + parts.after == text
    assert [each.text for each in parts.segments] == [text.strip(BLANKS)] * bool(text.strip(BLANKS))
