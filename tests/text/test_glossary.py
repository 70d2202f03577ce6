"""Glossaries: where terms are, whether translations have them, and the files they come in."""

import pytest

from dragoman.errors import InvalidOption
from dragoman.languages import find
from dragoman.text.glossary import Glossary, Term, missing

EN, DE, FR, ZH = map(find, ("en", "de", "fr", "zh"))


def sources(glossary, text, source=EN, target=DE):
    return [term.source for term in glossary.terms_in(text, source, target)]


def test_terms_are_whole_words_in_any_case_once_each():
    glossary = Glossary({"station": "Bahnhof", "art": "Kunst"})
    assert sources(glossary, "Stations. The STATION is a station, a start.") == ["station"]


def test_the_longest_term_is_taken_and_none_within_it():
    glossary = Glossary({"fire": "Feuer", "fire station": "Feuerwache", "station": "Bahnhof"})
    assert sources(glossary, "The fire  station near the station") == ["fire station", "station"]
    assert sources(glossary, "fire\nstation") == ["fire station"]


def test_abbreviations_are_found_as_they_are_written_only():
    assert sources(Glossary({"US": "USA"}), "Tell us of the US.") == ["US"]
    assert sources(Glossary({"US": "USA"}), "Tell us.") == []


def test_terms_with_signs_are_found():
    glossary = Glossary({"C++": "C++", ".NET": ".NET", "R&D": "FuE"})
    assert sources(glossary, "C++ and .NET for R&D") == ["C++", ".NET", "R&D"]


def test_a_language_without_spaces_has_terms_anywhere():
    glossary = Glossary({"车站": "station"})
    assert sources(glossary, "我在车站等你", ZH, EN) == ["车站"]
    assert not missing([Term("station", "车站")], "我在车站等你", ZH)


def test_a_term_may_have_an_ending_but_no_beginning():
    term = [Term("station", "Bahnhof")]
    for text in ("Der Bahnhof.", "am BAHNHOF", "des Bahnhofs", "in Bahnhöfen oder Bahnhofes"):
        assert not missing(term, text, DE), text
    for text in ("Der Hauptbahnhof", "Bahn hof", "Bahnhofsvorsteher", ""):
        assert missing(term, text, DE) == term, text
    assert missing([Term("train", "Bahn")], "Bahnste", DE)


def test_a_pair_of_languages_has_its_own_terms():
    glossary = Glossary({"chip": "Chip"}, (EN.nllb, DE.nllb)) | Glossary(
        {"chip": "frite"}, (EN.nllb, FR.nllb)
    )
    assert glossary.terms_in("a chip", EN, FR) == (Term("chip", "frite"),)
    assert glossary.terms_in("a chip", EN, DE) == (Term("chip", "Chip"),)
    assert glossary.terms_in("a chip", DE, EN) == ()
    merged = Glossary({"chip": "Chip", "x y": "z"}) | Glossary({"chip": "Span"})
    assert [term.target for term in merged.terms_in("chip, x y", EN, DE)] == ["Span", "z"]


def test_fingerprints_tell_contents_apart():
    one = Glossary({"a": "b", "c": "d"})
    assert one.fingerprint == Glossary({"c": "d", "a": "b"}).fingerprint
    others = [
        Glossary({"a": "b"}),
        Glossary({"a": "b", "c": "e"}),
        Glossary({"a": "b", "c": "d"}, ("x", None)),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_sentence_is_compared_with_terms_that_begin_alike_only():
    glossary = Glossary({f"term{n} number": f"Begriff {n}" for n in range(10_000)})
    assert sources(glossary, "This sentence has term77 number and nothing else.") == ["term77 number"]
    (table,) = glossary._tables.values()
    assert max(map(len, table._index(by_words=True).values())) == 1


OLD_TBX = """<martif><text><body><termEntry>
<langSet xml:lang="en-US"><tig><term>station</term></tig></langSet>
<langSet xml:lang="de"><ntig><termGrp><term>Bahnhof</term></termGrp></ntig>
<tig><term>Halt</term></tig></langSet>
</termEntry></body></text></martif>"""
NEW_TBX = """<tbx xmlns="urn:iso:std:iso:30042:ed-2"><text><body><conceptEntry>
<langSec xml:lang="en"><termSec><term>station</term></termSec></langSec>
<langSec xml:lang="de"><termSec><term>Bahnhof</term></termSec></langSec>
</conceptEntry></body></text></tbx>"""
COLUMNS = "en\tde\tfr\nstation\tBahnhof\tgare\nchip\t\tfrite\n"


@pytest.mark.parametrize(
    ("name", "content", "pair", "expected"),
    [
        ("a.tsv", "station\tBahnhof\n# note\n\nX\n", (EN, DE), {"station": "Bahnhof", "X": "X"}),
        ("a.tsv", 'say "hi"\tsag "hallo"\n', (EN, DE), {'say "hi"': 'sag "hallo"'}),
        ("a.tsv", COLUMNS, (EN, FR), {"station": "gare", "chip": "frite"}),
        ("a.tsv", COLUMNS, (FR, DE), {"gare": "Bahnhof"}),
        ("a.tsv", "# mine\n\n" + COLUMNS, (FR, DE), {"gare": "Bahnhof"}),
        ("a.csv", 's t,Bahnhof\n"fire, big",Brand\n', (EN, DE), {"s t": "Bahnhof", "fire, big": "Brand"}),
        ("a.csv", "station,Bahnhof,EN,DE\n", (EN, DE), {"station": "Bahnhof"}),
        ("a.csv", "station,Bahnhof,EN,DE\n", (EN, FR), {}),
        ("a.txt", "\ufeffX\r\nx y\r\n", (FR, DE), {"X": "X", "x y": "x y"}),
        ("a.tbx", OLD_TBX, (EN, DE), {"station": "Bahnhof"}),
        ("a.tbx", NEW_TBX, (DE, EN), {"Bahnhof": "station"}),
    ],
)
def test_files_of_glossaries(tmp_path, name, content, pair, expected):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    text = " ; ".join(["station", "s t", "gare", "Bahnhof", "chip", "fire, big", "X", "x y", 'say "hi"'])
    found = {term.source: term.target for term in Glossary.read(path).terms_in(text, *pair)}
    assert found == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"x", "no glossary by its name; it may be .tsv"),
        ("a.tsv", b"a\tb\tc\n", "line 1: 3 columns"),
        ("a.tsv", b"x\ty\na\t\n", "line 2: a term lacks a side: 'a'"),
        ("a.tsv", b"", "holds no term"),
        ("a.tsv", b"caf\xe9\tx\n", "byte 4 is no utf-8"),
        ("a.csv", b"a,b,xx,qq\n", "line 1: "),
        ("a.csv", b'a,"b\n', "line 1: "),
        ("a.tsv", b"en\tde\na\tb\tc\n", "line 2: 3 columns, but the first line names 2"),
        ("a.tsv", b"a" * 300 + b"\tb\n", "has over 200 characters"),
        ("a.tbx", b"<tbx>", "it is no XML"),
        ("a.tbx", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "declares entities"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidOption, match=message):
        Glossary.read(path)


def test_a_term_with_an_empty_side_is_refused():
    with pytest.raises(InvalidOption, match="lacks a side"):
        Glossary({"a": " "})
