"""Office documents after their translation, opened by LibreOffice: their pages, and what they say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dragoman import Translator, documents

OFFICE = shutil.which("soffice")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(OFFICE is None, reason="LibreOffice (soffice) is not installed"),
]

SENTENCES = (
    "The old harbour was quiet in the morning.",
    "A ship with <b>white sails</b> came from the north.",
    "The children stood on the wall and waved to the sailors.",
    "Nobody knew the name of the ship.",
    "In the evening the captain came to our house and asked for bread.",
)
PAGE = "".join(f"<p>{' '.join(SENTENCES[n % 5 :] + SENTENCES)}</p>" for n in range(60))
TABLE = "".join(f"{re.sub('<.*?>', '', sentence)},{number}\n" for number, sentence in enumerate(SENTENCES))
SLIDES = Path(__file__).parents[1] / "documents" / "samples" / "talk.pptx"


def converted(file: Path, kind: str, folder: Path) -> Path:
    """The same by LibreOffice as a file of another kind, in a folder."""
    profile = f"-env:UserInstallation=file://{folder.parent / 'profile'}"
    # What it thinks a web page is for has no paragraphs in pages.
    reading = ["--infilter=HTML (StarWriter)"] if file.suffix == ".html" else []
    command = [str(OFFICE), profile, "--headless", *reading, "--convert-to", kind, "--outdir", str(folder)]
    command.append(str(file))
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / f"{file.stem}.{kind}"


def pages(file: Path, folder: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", converted(file, "pdf", folder).read_bytes()))


def texts(file: Path) -> list[str]:
    """What a document says, without what a reader doesn't see."""
    return sorted(" ".join(segment.text.split()) for segment in documents.open(file).segments)


@pytest.fixture(scope="module")
def translator():
    with Translator.load() as found:
        yield found


@pytest.mark.parametrize(
    ("kind", "other"), [("docx", "odt"), ("odt", "docx"), ("pptx", "odp"), ("xlsx", "ods"), ("ods", "ods")]
)
def test_a_translated_document_opens_with_its_pages_and_says_what_was_translated(
    kind, other, translator, tmp_path
):
    made, opened = tmp_path / "made", tmp_path / "opened"
    source = tmp_path / ("letter.html" if kind in ("docx", "odt") else "letter.csv")
    source.write_text(f"<html><body>{PAGE}</body></html>" if source.suffix == ".html" else TABLE)
    file = SLIDES if kind == "pptx" else converted(source, kind, made)
    result = translator.translate_file(file, "en", "de", output=tmp_path / f"letter.de.{kind}")
    assert result.segments
    assert not any(segment.error for segment in result.segments)
    before, after = pages(file, opened), pages(tmp_path / f"letter.de.{kind}", opened)
    assert abs(after - before) <= 0.2 * before
    said = {" ".join(segment.text.split()) for segment in result.segments}
    assert said <= set(texts(converted(tmp_path / f"letter.de.{kind}", other, opened)))
