"""The table of languages: its rows, codes, groups and scripts."""

import csv
import unicodedata
from importlib.resources import files

import pytest

from dragoman import languages
from dragoman.errors import UnknownLanguage
from dragoman.languages import (
    Language,
    all_languages,
    find,
    further_languages,
    is_code,
    known_languages,
    nllb_codes,
    of_code,
)

# The language tokens of NLLB-200 as published: the first has id 256001.
PUBLISHED = """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab
ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn
ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl
cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn
dzo_Tibt ell_Grek eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn
fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn
heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn
jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor knc_Arab knc_Latn
kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kon_Latn kor_Hang kmr_Latn
lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn lua_Latn lug_Latn
luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn mni_Beng
khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn
nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab
quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn
slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn
sun_Latn swe_Latn swh_Latn szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi
taq_Latn taq_Tfng tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab
ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn
yue_Hant zho_Hans zho_Hant zul_Latn
"""

# X-ALMA's code, the NLLB code it means, its group.
XALMA = """
en:eng_Latn:- da:dan_Latn:1 nl:nld_Latn:1 de:deu_Latn:1 is:isl_Latn:1 no:nob_Latn:1 sv:swe_Latn:1
af:afr_Latn:1 ca:cat_Latn:2 ro:ron_Latn:2 gl:glg_Latn:2 it:ita_Latn:2 pt:por_Latn:2 es:spa_Latn:2
bg:bul_Cyrl:3 mk:mkd_Cyrl:3 sr:srp_Cyrl:3 uk:ukr_Cyrl:3 ru:rus_Cyrl:3 id:ind_Latn:4 ms:zsm_Latn:4
th:tha_Thai:4 vi:vie_Latn:4 mg:plt_Latn:4 fr:fra_Latn:4 hu:hun_Latn:5 el:ell_Grek:5 cs:ces_Latn:5
pl:pol_Latn:5 lt:lit_Latn:5 lv:lvs_Latn:5 ka:kat_Geor:6 zh:zho_Hans:6 ja:jpn_Jpan:6 ko:kor_Hang:6
fi:fin_Latn:6 et:est_Latn:6 gu:guj_Gujr:7 hi:hin_Deva:7 mr:mar_Deva:7 ne:npi_Deva:7 ur:urd_Arab:7
az:azj_Latn:8 kk:kaz_Cyrl:8 ky:kir_Cyrl:8 tr:tur_Latn:8 uz:uzn_Latn:8 ar:arb_Arab:8 he:heb_Hebr:8
fa:pes_Arab:8
"""


def xalma_languages() -> list[Language]:
    return [language for language in all_languages() if language.xalma]


def test_order_and_ids_are_those_published():
    assert nllb_codes() == tuple(PUBLISHED.split())
    assert len(set(nllb_codes())) == 202
    ids = {code: 256001 + index for index, code in enumerate(nllb_codes())}
    assert (ids["ace_Arab"], ids["eng_Latn"], ids["fra_Latn"]) == (256001, 256047, 256057)
    assert (ids["ron_Latn"], ids["zul_Latn"]) == (256145, 256202)


def test_languages_is_the_table():
    assert languages.LANGUAGES is all_languages()
    assert all(isinstance(language, Language) for language in languages.LANGUAGES)
    with pytest.raises(AttributeError, match="LANGUAGE"):
        _ = languages.LANGUAGE


@pytest.mark.parametrize("name", ["languages.tsv", "further_languages.tsv"])
def test_table_file_has_one_tab_separated_row_per_language(name: str):
    text = files("dragoman.data").joinpath(name).read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {len(row) for row in rows} == {10}
    assert all(cell == cell.strip() for row in rows for cell in row)
    assert all(row[index] for row in rows for index in (0, 2, 3, 4, 5))


def test_fifty_languages_are_those_of_xalma():
    assert len(XALMA.split()) == 50
    for entry in XALMA.split():
        code, nllb, group = entry.split(":")
        language = find(code)
        assert (language.nllb, language.xalma) == (nllb, code)
        assert language.group == (None if group == "-" else int(group))
        assert language.xalma_name
        assert find(language.xalma_name) is language
    assert len(xalma_languages()) == 50


def test_only_english_has_an_xalma_name_without_a_group():
    assert [language.nllb for language in xalma_languages() if language.group is None] == ["eng_Latn"]
    assert {language.group for language in xalma_languages() if language.group} == set(range(1, 9))
    assert all(language.group is None for language in all_languages() if not language.xalma)


def test_codes_and_scripts_are_well_formed():
    for language in all_languages():
        prefix, script = language.nllb.split("_")
        assert language.iso3 == prefix
        # NLLB's token for Santali names the wrong script.
        assert language.script == ("Olck" if language.nllb == "sat_Beng" else script)
        assert language.script_name
        assert language.iso1 is None or (len(language.iso1) == 2 and language.iso1.islower())


def test_own_names_are_written_in_the_script_of_the_row():
    first_words = {
        "Arab": "ARABIC",
        "Hans": "CJK",
        "Hant": "CJK",
        "Jpan": "CJK",
        "Olck": "OL",
        "Orya": "ORIYA",
    }
    for language in all_languages():
        word = first_words.get(language.script, language.script_name.upper())
        letters = [char for char in language.own_name if char.isalpha() and char != "ʻ"]
        assert letters
        assert {unicodedata.name(char).split()[0] for char in letters} == {word}, language
        assert unicodedata.is_normalized("NFC", language.own_name)


def test_scripts_without_spaces_are_known():
    without = {language.iso3 for language in all_languages() if not language.writes_spaces}
    assert without == {"bod", "dzo", "jpn", "khm", "lao", "mya", "shn", "tha", "yue", "zho"}


def test_right_to_left_is_arabic_and_hebrew_script():
    assert find("ar").right_to_left
    assert find("yi").right_to_left
    assert not find("kas_Deva").right_to_left
    assert not find("taq_Tfng").right_to_left


def test_language_beyond_the_table_is_found_by_its_code_among_those_of_a_model() -> None:
    tuvan = of_code("tyv_Cyrl")
    assert (tuvan.nllb, tuvan.name, tuvan.script, tuvan.group) == ("tyv_Cyrl", "tyv_Cyrl", "Cyrl", None)
    assert (tuvan.short_code, tuvan.script_name, tuvan.writes_spaces) == ("tyv_Cyrl", "Cyrillic", True)
    spoken = (find("ru"), tuvan)
    assert find("tyv_Cyrl", spoken) == find("TYV-cyrl", spoken) == find("tyv", spoken) == tuvan
    assert find("ru", spoken).nllb == "rus_Cyrl"
    for spelling in ("tyv_Cyrl", "tyv"):
        with pytest.raises(UnknownLanguage):
            find(spelling)
        with pytest.raises(UnknownLanguage):
            find(spelling, (find("ru"),))


def test_code_of_the_table_is_its_row_and_other_words_are_no_code() -> None:
    assert of_code("fra_Latn") is find("fra_Latn")
    assert of_code("sat_Olck") is find("sat_Beng")
    assert is_code("tyv_Cyrl")
    for spelling in ("tyv", "tyv_cyrl", "Tyvan", "xtyv_Cyrl", "tyv_Cyrl2"):
        assert not is_code(spelling)
    with pytest.raises(UnknownLanguage):
        of_code("Klingon")


def test_language_that_nllb_lacks_is_found_among_a_models_own_only():
    breton, frisian = further_languages()
    for spelling in ("br", "bre", "bre_Latn", "Breton", "brezhoneg", "BR_FR"):
        assert find(spelling, [breton, frisian]) is breton is of_code(spelling)
        with pytest.raises(UnknownLanguage):
            find(spelling)
    assert find("fy", known_languages()) is frisian
    assert (breton.short_code, frisian.short_code) == ("br", "fy")
    with pytest.raises(UnknownLanguage, match="'fy' is Western Frisian, which this model doesn't speak"):
        find("fy", all_languages())


def test_further_languages_share_no_spelling_with_the_table():
    for row in further_languages():
        assert row not in all_languages()
        for spelling in (row.nllb, row.iso1, row.iso3, row.name, row.own_name, *row.aliases):
            with pytest.raises(UnknownLanguage):
                find(spelling)
