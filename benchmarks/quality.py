"""What each precision and a target-language vocabulary cost: `python -m benchmarks.quality`.

chrF++ of the embedded model on everyday sentences, into and out of English, beam 4, and how many
translations stay the same to the letter; and the error of logits on the small random checkpoints
that the tests use, whose layers multiply what trained ones dampen.
"""

import argparse
from pathlib import Path

import torch

from benchmarks import report, rounded, table
from dragoman import Translator
from dragoman.checkpoints.llama import load_xalma
from dragoman.checkpoints.nllb import load_nllb
from dragoman.evaluation.metrics import score
from dragoman.kernels.packing import PRECISIONS
from dragoman.languages import find
from dragoman.models.llama import Llama
from dragoman.models.nllb import Nllb
from dragoman.surgery.packing import pack_

DATA = Path(__file__).parents[1] / "tests" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=200, help="sentences of each direction (default: 200)")
    parser.add_argument(
        "--vocabulary", type=int, nargs="*", default=[5000, 3000, 2000], help="how many tokens stay"
    )
    args = parser.parse_args()
    pairs = {path.name[:2]: _pairs(path, args.lines) for path in sorted((DATA / "tatoeba").glob("*.tsv"))}
    kinds: list[tuple[str, int | None]] = [(precision, None) for precision in PRECISIONS]
    kinds += [("fp32", size) for size in args.vocabulary]
    rows, records, exact = [], [], {}
    for precision, size in kinds:
        translator = Translator.load(device="cpu", precision=precision, vocabulary=size)
        texts = _translate(translator, pairs)
        exact = exact or texts
        scores = [
            score(found, [pair[1 - side] for pair in pairs[code]], find("en" if side == 0 else code).nllb)[0]
            for (code, side), found in texts.items()
        ]
        mean = sum(figure.value for figure in scores) / len(scores)
        flat = [text for found in texts.values() for text in found]
        same = sum(a == b for a, b in zip(flat, [t for f in exact.values() for t in f], strict=True)) / len(
            flat
        )
        records.append(
            {"precision": precision, "vocabulary": size, "chrf": mean, "same": same, "lines": len(flat)}
        )
        rows.append(
            [precision, size or "all", f"{mean:.2f}", f"{mean - records[0]['chrf']:+.2f}", f"{same:.1%}"]
        )
    print(table(["precision", "vocabulary", "chrF++", "against fp32", "same text"], rows))
    errors = {
        name: {precision: _error(name, precision) for precision in PRECISIONS}
        for name in ("nllb_dense", "nllb_moe_base", "xalma")
    }
    cells = [[name, *(f"{error:.1e}" for error in found.values())] for name, found in errors.items()]
    print(table(["error of logits / their spread", *PRECISIONS], cells))
    report({"benchmark": "quality", "embedded": rounded(records), "logit_error": errors})


def _pairs(path: Path, lines: int) -> list[tuple[str, str]]:
    found = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:lines]]
    return [(row[0], row[1]) for row in found]


def _translate(
    translator: Translator, pairs: dict[str, list[tuple[str, str]]]
) -> dict[tuple[str, int], list[str]]:
    """By language and side of the source (0: the language, 1: English)."""
    found = {}
    for code, its in pairs.items():
        for side, (source, target) in enumerate(((code, "en"), ("en", code))):
            found[code, side] = translator.translate([pair[side] for pair in its], source, target)
    return found


@torch.inference_mode()
def _error(name: str, precision: str) -> float:
    """Root mean square over the logits' standard deviation."""
    folder = DATA / "golden" / name

    def logits(packed: bool) -> torch.Tensor:
        model: Nllb | Llama = load_xalma(folder) if name == "xalma" else load_nllb(folder)
        if packed:
            pack_(model, precision)
        ids = torch.arange(3, 43).view(4, 10)
        return model(ids, groups=[6, 1, 8, 2]) if isinstance(model, Llama) else model(ids, ids)

    exact = logits(False)
    return float((logits(True) - exact).square().mean().sqrt() / exact.std())


if __name__ == "__main__":
    main()
