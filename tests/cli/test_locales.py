"""The language that the environment asks for."""

import pytest

from dragoman.cli.locales import preferred_language

SPOKEN = ("eng_Latn", "deu_Latn", "spa_Latn", "fra_Latn")


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({}, "eng_Latn"),
        ({"LANG": "de_DE.UTF-8"}, "deu_Latn"),
        ({"LC_MESSAGES": "es_ES.UTF-8", "LANG": "de_DE.UTF-8"}, "spa_Latn"),
        ({"LC_ALL": "fr_FR", "LC_MESSAGES": "es_ES", "LANG": "de_DE"}, "fra_Latn"),
        ({"LC_ALL": "", "LANG": "de_DE"}, "deu_Latn"),
        ({"LANGUAGE": "ja:es:fr", "LANG": "de_DE"}, "spa_Latn"),
        ({"LANGUAGE": "ja", "LANG": "de_DE"}, "deu_Latn"),
        ({"LANGUAGE": "es", "LANG": "C.UTF-8"}, "eng_Latn"),
        ({"LANGUAGE": "es"}, "eng_Latn"),
        ({"LC_ALL": "POSIX", "LANG": "de_DE"}, "eng_Latn"),
        ({"LANG": "nonsense"}, "eng_Latn"),
    ],
)
def test_variables_count_in_the_order_of_other_programs(environment, code):
    assert preferred_language(SPOKEN, environment) == code
