"""What the embedded model's card says that it can do is what it does."""

import gzip
import json
from pathlib import Path

import pytest

from dragoman import Translator
from dragoman.evaluation.metrics import score

RECIPE = Path(__file__).parents[2] / "recipes" / "mini"


@pytest.mark.slow
def test_a_direction_of_the_card_comes_out_again() -> None:
    scores = json.loads((RECIPE / "scores.json").read_text(encoding="utf-8"))
    (row,) = (row for row in scores["results"] if (row["testset"], row["pair"]) == ("held-out", "en-de"))
    with gzip.open(RECIPE / "held-out" / "de-en.tsv.gz", "rt", encoding="utf-8") as file:
        pairs = [line.split("\t")[:2] for line in file][: row["sentences"]]
    run = scores["run"]
    with Translator.load("mini", precision=run["precision"], device="cpu") as translator:
        translations = translator.translate([english for _, english in pairs], "en", "de", beams=run["beams"])
    found, _ = score([str(text) for text in translations], [text for text, _ in pairs], "deu_Latn")
    assert found.value == pytest.approx(row["scores"]["chrF++"], abs=0.1)
