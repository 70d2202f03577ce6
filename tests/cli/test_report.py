"""What is said about single lines."""

from dragoman.cli.report import KINDS, RANGES, Report


def said(capsys, *told, unit="line"):
    report = Report(unit)
    for number, *message in told:
        report.tell(number, *message)
    report.close()
    return capsys.readouterr().err.splitlines()


def test_a_few_messages_of_a_kind_are_shown_and_the_rest_is_summed_up(capsys):
    told = [(n, f"not UTF-8 (byte 0x{n:02x} at column 4); convert it") for n in (1, 2, 5, 6, 7, 8, 12)]
    assert said(capsys, *told) == [
        "line 1: not UTF-8 (byte 0x01 at column 4); convert it",
        "line 2: not UTF-8 (byte 0x02 at column 4); convert it",
        "line 5: not UTF-8 (byte 0x05 at column 4); convert it",
        "4 more lines with: not UTF-8 (lines 6-8, 12)",
    ]


def test_equal_messages_are_shown_once(capsys):
    assert said(capsys, (1, "no module"), (2, "no module"), (3, "other"), unit="text") == [
        "text 1: no module",
        "text 3: other",
        "1 more text with: no module (text 2)",
    ]


def test_a_kind_may_be_given(capsys):
    assert (
        len(said(capsys, *((n, f"message {n} of its own {'abcdefgh'[n]}", "limit") for n in range(8)))) == 4
    )


def test_memory_is_bounded_whatever_comes(capsys):
    lines = said(capsys, *((2 * n, f"{'x' * (n % 997)} is wrong") for n in range(20_000)))
    assert len(lines) <= 2 * (KINDS + 1) * 3
    assert max(map(len, lines)) < 2_000
    assert any(line.count(",") == RANGES and line.endswith("…)") for line in lines)
