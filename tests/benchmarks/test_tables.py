"""Figures are printed in columns and reported in few digits."""

from benchmarks import rounded, table


def test_numbers_stand_right_and_words_left():
    text = table(["what", "s"], [["slow", 123.456], ["quick one", 0.012345], ["none", None]])
    assert text.splitlines() == [
        "what            s",
        "---------  ------",
        "slow          123",
        "quick one  0.0123",
        "none            -",
    ]


def test_an_empty_table_is_its_headers():
    assert table(["a", "bc"], []) == "a  bc\n-  --"


def test_only_fractions_are_rounded_at_any_depth():
    assert rounded({"a": [1.2345678, 1234567, None], "b": {"c": "1.2345678"}}) == {
        "a": [1.2346, 1234567, None],
        "b": {"c": "1.2345678"},
    }
