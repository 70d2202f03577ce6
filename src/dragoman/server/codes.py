"""Languages as each dialect spells them. What stands in no table here is spelled by its shortest code."""

from collections.abc import Mapping

from dragoman.languages import Language

LIBRETRANSLATE: Mapping[str, str] = {"zho_Hans": "zh-Hans", "zho_Hant": "zh-Hant"}
GOOGLE: Mapping[str, str] = {"zho_Hans": "zh-CN", "zho_Hant": "zh-TW", "nob_Latn": "no"}
DEEPL_SOURCES: Mapping[str, str] = {"zho_Hans": "ZH", "zho_Hant": "ZH", "kmr_Latn": "KMR"}
DEEPL_TARGETS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "eng_Latn": (("EN-GB", "English (British)"), ("EN-US", "English (American)")),
    "por_Latn": (("PT-PT", "Portuguese"), ("PT-BR", "Portuguese (Brazilian)")),
    "zho_Hans": (("ZH", "Chinese (simplified)"), ("ZH-HANS", "Chinese (simplified)")),
    "zho_Hant": (("ZH-HANT", "Chinese (traditional)"),),
    "kmr_Latn": (("KMR", "Kurdish (Kurmanji)"),),
}
"""Where DeepL has variants that our models don't tell apart, each of them is offered."""


def spelled(language: Language, table: Mapping[str, str]) -> str:
    """A language's code in a dialect."""
    return table.get(language.nllb, language.short_code)


def deepl_source(language: Language) -> str:
    """A source language as DeepL spells it."""
    return spelled(language, DEEPL_SOURCES).upper()


def deepl_targets(language: Language) -> tuple[tuple[str, str], ...]:
    """The codes and names that DeepL has for a target language."""
    return DEEPL_TARGETS.get(language.nllb, ((language.short_code.upper(), language.name),))
