"""The language table, and what people may call a language."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman import languages
from dragoman.errors import UnknownLanguage
from dragoman.languages import (
    Language,
    all_languages,
    find,
    find_source,
    suggest,
)

# What is meant, and how people write it. An indented line continues the one above.
SPELLINGS = """
fra_Latn: fra_Latn, FRA-latn, fra-LATN, FR, fra, fre, French, FRENCH, français, FRANCAIS, fr-CA,
    fr_FR.UTF-8, fr_BE.ISO-8859-15@euro, French (Canada), fr-XX
eng_Latn: en, en-US, EN-GB, en_XX, en-US-posix, en-GB-oxendict, en-u-ca-gregory, en-x-private, en-001,
    English (UK), en-Latn-GB, en-rGB, en-GB-oed, b+en+001
deu_Latn: ger, deu, de_DE.UTF-8, de-CH-1996, Deutsch, de-rAT, b+de+AT, de-formal, de@formal, de_DE@formal,
    de-DE-informal, de_DE@currency=EUR
nld_Latn: dut, Flemish, nl-BE
arb_Arab: ar, ara, arb, Arabic, العربية, ar_AR, ar-SA, ar-DZ, arb-EG
arz_Arab: ar-EG, ara-EG, ar-Arab-EG, ar_EG.UTF-8, ar-arz, ar-arz-Arab
ary_Arab: ar-MA, Darija
aeb_Arab: ar-TN
acm_Arab: ar-IQ
apc_Arab: ar-LB, ar-SY
ajp_Arab: ar-JO
pes_Arab: fa, fas, per, Farsi, Persian, pes-AF, فارسی, fa_IR
prs_Arab: fa-AF, fas-AF, Dari
nob_Latn: no, nor, nb, NB, nb-NO, no_NO.UTF-8, norwegian, norsk bokmal
nno_Latn: nn, nn-NO, Nynorsk
zho_Hans: zh, zho, chi, cmn, zh-cn, zh_CN.GB18030, zh-SG, zh-Hans, ZH-HANS, zh-Hans-TW, zh-Hans-HK,
    cmn_Hans, Chinese, chinese (simplified), Simplified Chinese, 中文, 中文(简体), zh-CHS, Mandarin,
    zho-Hans-CN, zh-rCN, b+zh+Hans, B+ZH+hans+CN
zho_Hant: zh-TW, zh_TW.Big5, zh-HK, zh-MO, zh-Hant, zh-Hant-TW, zh-Hant-HK, zh-Hant-CN, zt, zho-TW,
    chi-TW, cmn-TW, cmn_Hant, zh-cmn-Hant-TW, Traditional Chinese, Chinese (Traditional), zh-traditional,
    繁體中文, zh-rTW, zh-rHK, b+zh+Hant+TW
yue_Hant: yue, yue-HK, zh-yue, zh-yue-HK, zh-yue-Hant-HK, Cantonese, 粵語, 粤语
jpn_Jpan: ja, jpn, ja_JP.eucJP, 日本語, ja-Jpan
kor_Hang: ko-Kore-KR, ko-Hang, 한국어, korean
por_Latn: pt-BR, pt-rBR, pt-PT, PT-PT, pb, português, portugues, Brazilian Portuguese
spa_Latn: es-419, b+es+419, ES-419, Español, Castilian
cat_Latn: ca-valencia, ca_ES@valencia
srp_Cyrl: sr, sr-Cyrl, b+sr+Cyrl, b+sr+Cyrl+RS, sr@cyrillic, sr-Cyrl-RS, sr_RS@cyrillic, srpski
hrv_Latn: scr
bel_Cyrl: be-tarask
mkd_Cyrl: mk, mac
lvs_Latn: lv, lav, Latvian
est_Latn: et, est, ekk
swh_Latn: sw, swa
zsm_Latn: ms, msa, may, Malay
plt_Latn: mg, mlg, Malagasy
npi_Deva: ne, Nepali
als_Latn: sq, alb, Albanian
khk_Cyrl: mn, mn-Cyrl, Mongolian
ory_Orya: or, Oriya
pbt_Arab: ps, Pashto
ydd_Hebr: yi, ji, Yiddish
gaz_Latn: om, orm
ayr_Latn: ay, Aymara
quy_Latn: qu, Quechua
fuv_Latn: ff
grn_Latn: gn, gug_Latn
azj_Latn: az, aze, az-Latn, Azerbaijani, azerbaycan dili
azb_Arab: az-Arab, az-IR
uzn_Latn: uz, uz-Latn-UZ, o'zbekcha, o‘zbekcha
kmr_Latn: ku, kur, ku-Latn, ku-Latn-IQ
ckb_Arab: ku-Arab, kur-Arab, ku-IQ, ckb, Sorani
tgl_Latn: tl, fil, fil-PH, Filipino, Tagalog
heb_Hebr: iw, he
ind_Latn: in
jav_Latn: jw
ron_Latn: mo, ro-MD
nso_Latn: ns, Sepedi
pan_Guru: Punjabi
mya_Mymr: Burmese, my_MM.UTF-8
hat_Latn: Haitian
nya_Latn: Chichewa
gla_Latn: Scots Gaelic
acq_Arab: Ta'izzi-Adeni Arabic
bod_Tibt: tib
ces_Latn: cze
cym_Latn: wel
mri_Latn: maori
sat_Beng: sat, sat_Olck, sat_Beng, sat-Beng-IN, Santali
kas_Arab: ks, kas, ks-Arab, Kashmiri
kas_Deva: ks-Deva, ks_IN@devanagari, kas-Deva-IN
ace_Latn: ace
ace_Arab: ace-Arab
bjn_Latn: bjn
bjn_Arab: bjn-Arab
knc_Latn: kr
knc_Arab: kr-Arab
taq_Latn: taq
taq_Tfng: taq-Tfng
mni_Beng: mni
tzm_Tfng: zgh_Tfng
"""


def spelling_pairs() -> list[tuple[str, str]]:
    lines = SPELLINGS.strip().replace("\n    ", " ").splitlines()
    rows = [line.split(": ", 1) for line in lines]
    return [(spelling, code) for code, spellings in rows for spelling in spellings.split(", ")]


def xalma_languages() -> list[Language]:
    return [language for language in all_languages() if language.xalma]


def refusal(spelling: object, among: object = None) -> str:
    with pytest.raises(UnknownLanguage) as caught:
        find(spelling, among)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(("spelling", "code"), spelling_pairs())
def test_spelling_means_language(spelling: str, code: str):
    assert find(spelling).nllb == code


def test_every_row_answers_to_its_own_spellings():
    columns = ("iso1", "iso3", "own_name")
    shared = {
        (column, value)
        for column in columns
        for value in [getattr(language, column) for language in all_languages()]
        if sum(getattr(language, column) == value for language in all_languages()) > 1
    }
    for language in all_languages():
        own = {language.nllb, language.name, language.short_code, *language.aliases}
        own |= {getattr(language, name) for name in columns if (name, getattr(language, name)) not in shared}
        for spelling in own - {None}:
            for written in (
                spelling,
                spelling.upper(),
                f"{' ' * 200}{spelling} ",
                spelling.replace("-", "_"),
            ):
                assert find(written) is language, written


def test_a_spelling_fits_two_rows_only_where_an_alias_decides():
    rows: dict[str, set[str]] = {}
    decided: dict[str, set[str]] = {}
    for language in all_languages():
        said = (
            language.iso1,
            language.iso3,
            language.name,
            language.own_name,
            language.xalma,
            language.xalma_name,
        )
        for spelling in (language.nllb, *said, *language.aliases):
            if spelling:
                rows.setdefault(languages._fold(spelling), set()).add(language.nllb)
        for alias in language.aliases:
            decided.setdefault(languages._fold(alias), set()).add(language.nllb)
    assert {key for key, codes in decided.items() if len(codes) > 1} == set()
    ambiguous = {key: find(key).nllb for key, codes in rows.items() if len(codes) > 1}
    assert ambiguous == {
        "ace": "ace_Latn", "bjn": "bjn_Latn", "kas": "kas_Arab", "knc": "knc_Latn", "kr": "knc_Latn",
        "ks": "kas_Arab", "taq": "taq_Latn", "zh": "zho_Hans", "zho": "zho_Hans",
    }  # fmt: skip
    assert all({code} == decided[key] for key, code in ambiguous.items())


def test_short_code_is_the_shortest_that_is_not_shared():
    codes = [find(code).short_code for code in ("fra_Latn", "ceb_Latn", "zho_Hans", "zho_Hant", "kas_Deva")]
    assert codes == ["fr", "ceb", "zh", "zho_Hant", "kas_Deva"]


@pytest.mark.parametrize(
    ("spelling", "known", "asked", "instead"),
    [
        ("sr-Latn", "Cyrillic", "Latin", "'sr' (Serbian)"),
        ("sr_RS@latin", "Cyrillic", "Latin", "'sr' (Serbian)"),
        ("sr-Latn-RS", "Cyrillic", "Latin", "'sr' (Serbian)"),
        ("arb_Latn", "Arabic", "Latin", "'ar' (Modern Standard Arabic)"),
        ("min_Arab", "Latin", "Arabic", "'min' (Minangkabau (Latin script))"),
        ("uz-Cyrl", "Latin", "Cyrillic", "'uz' (Northern Uzbek)"),
        ("mni-Mtei", "Bengali", "Mtei", "'mni' (Meitei (Bengali script))"),
        ("pa-Arab-PK", "Gurmukhi", "Arabic", "'pa' (Eastern Panjabi)"),
        ("sat-Latn", "Ol Chiki", "Latin", "'sat' (Santali)"),
        ("zh-Latn", "Simplified Chinese and Traditional Chinese", "Latin", "'zho_Hant'"),
    ],
)
def test_a_script_the_table_lacks_is_an_error(spelling: str, known: str, asked: str, instead: str):
    message = refusal(spelling)
    assert f"in {known} script, not in {asked}. Did you mean" in message
    assert instead in message


OTHERS = "zh-min-nan zh-nan zh-xiang zh-hakka ar-fra fr-simplified en-de-fr sh la C POSIX zz fr_Latn_ xx-Latn"
NONSENSE = [
    "français!français",
    "1",
    "256057",
    "fr.utf8.utf8",
    "\x00fr\x00en",
    "\ud83d fr x",
    "x" * 10_000,
    "fr" * 60,
    f"fr{' ' * 200}x",
]


@pytest.mark.parametrize("spelling", [*OTHERS.split(), *NONSENSE])
def test_other_languages_are_not_taken_for_known_ones(spelling: str):
    message = refusal(spelling)
    assert " is no language I know." in message
    assert message.endswith(" List them with: dragoman languages")


@pytest.mark.parametrize("spelling", [None, 5, b"fr", ["fr"], 1.5, object])
def test_a_language_that_is_no_text_is_an_error(spelling: object):
    message = refusal(spelling)
    assert message.startswith("A language is a text such as 'fr', 'fra_Latn' or 'French'; got ")
    assert len(message) < 120
    assert suggest(spelling) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("spelling", ["", "  ", "--", "\n", "?"])
def test_an_empty_language_is_an_error(spelling: str):
    assert refusal(spelling) == f"{spelling!r} names no language. Give one such as 'fr' or 'French'"
    assert suggest(spelling) == []


def test_message_names_up_to_three_near_languages():
    message = refusal("zz")
    assert message.startswith("'zz' is no language I know. Did you mean 'zh' (Chinese (Simplified)) or ")
    assert "'zu' (Zulu)" in message
    assert message.endswith("? List them with: dragoman languages")
    assert message.count(" or ") == 2


def test_message_without_near_languages_asks_nothing():
    assert refusal("qqqqqq") == "'qqqqqq' is no language I know. List them with: dragoman languages"


def test_message_quotes_long_spellings_in_part():
    assert len(refusal("x" * 100_000)) < 150


MISTAKES = """
Frnech fra_Latn, Portugese por_Latn, Germn deu_Latn, ukranian ukr_Cyrl, Vietnameze vie_Latn, 日本 jpn_Jpan,
jp jpn_Jpan, cz ces_Latn, ua ukr_Cyrl, gr ell_Grek, dk dan_Latn, fra_Lat fra_Latn, zh-nan zho_Hans,
Haitian Creol hat_Latn, Kurdish (Northern) kmr_Latn
"""


@pytest.mark.parametrize(("spelling", "code"), [pair.strip().rsplit(" ", 1) for pair in MISTAKES.split(",")])
def test_suggestions_begin_with_what_was_meant(spelling: str, code: str):
    assert suggest(spelling)[0].nllb == code


def test_suggestions_keep_to_count_and_among():
    assert len(suggest("zz", count=5)) == 5
    assert suggest("zz", count=0) == []
    spoken = [find("it"), find("zu")]
    assert suggest("zz", among=spoken) == [find("zu")]
    assert suggest("zz", among=[]) == []


def test_among_admits_what_it_holds():
    assert find("no", among=xalma_languages()).nllb == "nob_Latn"
    assert find("fr", among={find("fra_Latn")}) is find("fr")


def test_few_languages_are_all_listed():
    assert refusal("Zulu", [find("en"), find("zh-Hant")]) == (
        "'Zulu' is Zulu, which this model doesn't speak. It speaks 'en' (English), "
        "'zho_Hant' (Chinese (Traditional)). List them with: dragoman languages"
    )
    assert "It speaks no language at all." in refusal("fr", [])


@pytest.mark.parametrize(
    ("spelling", "near"),
    [("zh-TW", "'zh'"), ("ar-EG", "'ar'"), ("nn", "'nb'"), ("prs", "'fa'"), ("azb", "'az'")],
)
def test_of_many_languages_the_nearest_are_listed(spelling: str, near: str):
    message = refusal(spelling, xalma_languages())
    assert "which this model doesn't speak. Nearest to it: " + near in message


def test_many_languages_with_none_near_are_counted():
    assert "It speaks 50 others." in refusal("wol", xalma_languages())


def test_unknown_among_suggests_only_from_among():
    assert "'zh' (Chinese (Simplified))" in refusal("zz", xalma_languages())
    assert "Zulu" not in refusal("zz", xalma_languages())
    assert "Did you mean" not in refusal("sr-Latn", [find("en")])


def test_serbian_in_latin_script_is_refused_with_the_nearest_that_are_written_so():
    for spelling in ("sr@latin", "sr-Latn", "b+sr+Latn"):
        assert "'sr' (Serbian) or 'bs' (Bosnian) or 'hr' (Croatian)?" in refusal(spelling)
    assert "Did you mean 'bs' (Bosnian)?" in refusal("sr@latin", [find("en"), find("bs")])


def test_auto_is_an_open_source_and_no_language():
    assert find_source("auto") is find_source(" AUTO ") is find_source(None) is None
    assert find_source("fr") == find("fr")
    assert "detect it" in refusal("auto")
    with pytest.raises(UnknownLanguage):
        find_source("")
    with pytest.raises(UnknownLanguage, match="doesn't speak"):
        find_source("fr", [find("en")])


def test_a_language_is_frozen_and_hashable():
    with pytest.raises(AttributeError):
        find("fr").name = "Gaulish"  # type: ignore[misc]
    assert len(set(all_languages())) == 202


def test_import_is_light():
    code = "import sys, dragoman.languages as l; assert l.all_languages.cache_info().currsize == 0; "
    code += "print(*sorted({'torch', 'difflib', 'importlib.resources'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


any_text = st.text(max_size=40) | st.from_regex(r"[a-zA-Z]{2,3}([-_][a-zA-Z0-9]{1,8}){0,3}", fullmatch=True)


@settings(max_examples=50, deadline=None, database=None)
@given(any_text)
def test_any_text_is_found_or_unknown(text: str):
    try:
        language = find(text)
    except UnknownLanguage as error:
        message = str(error)
        assert "dragoman languages" in message or "names no language" in message
    else:
        assert language in all_languages()
        assert find(text.upper()) is find(text.lower())
