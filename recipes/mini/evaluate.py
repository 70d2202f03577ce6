"""Score a model as its card states it: `python recipes/mini/evaluate.py MODEL --data DIR --out DIR`.

The test sets of `dragoman evaluate` with the manuals and user interfaces held out beside this file, then
how much of 300 made-up interface strings survives that has to stay as it is. Further options (--limit,
--beams) are those of `dragoman evaluate`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from survival import rates, strings

from dragoman import Translator

SETS = ("tatoeba", "ntrex", "flores", str(Path(__file__).parent / "held-out"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where figures, page and translations go")
    args, more = parser.parse_known_args()
    command = [sys.executable, "-m", "dragoman", "evaluate", args.model]
    command += [f"--testset={name}" for name in SETS]
    subprocess.run([*command, f"--data={args.data}", f"--out={args.out}", *more], check=True)
    kept = survival(args.model)
    (args.out / "survival.json").write_text(json.dumps(kept, indent=1) + "\n")
    print("\n".join(f"{kind}\t{share:.1%}" for kind, share in kept.items()))


def survival(model: str) -> dict[str, float]:
    """The share of each kind of thing that comes back, over all languages, from English."""
    translator = Translator.load(model)
    made = strings()
    found = []
    for language in translator.languages:
        if language.nllb != "eng_Latn":
            texts = translator.translate([text for text, _ in made], "en", language.nllb)
            found += [(things, text) for (_, things), text in zip(made, texts, strict=True)]
    return rates(found)


if __name__ == "__main__":
    main()
