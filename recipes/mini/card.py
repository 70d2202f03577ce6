"""Write the embedded model's card: `python recipes/mini/card.py MODEL --settings FILE --scores FILE ...`.

MODEL/README.md from what is on disk alone: the model's files, the settings and the log of its run,
counts.json (`run.py count`), scores.json (`evaluate.py`) and origins.toml. With --notice also the file that
names all origins, with --readme the part of the project's README that is about this model.
"""

import argparse
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from dragoman.checkpoints.cards import ModelCard, read_card
from dragoman.errors import InvalidOption
from dragoman.languages import of_code
from dragoman.models.config import NllbConfig
from dragoman.models.shapes import nllb_shapes
from dragoman.training.config import TrainingConfig

ORIGINS = Path(__file__).parent / "origins.toml"
SETS = {
    "tatoeba": "Tatoeba", "tatoeba far": "Tatoeba far", "ntrex": "NTREX", "flores": "FLORES-200 devtest",
    "held-out": "manuals",
}  # fmt: skip
FAULTS = {
    "repetition": "goes round in circles",
    "wrong_language": "wrong language",
    "lost_numbers": "numbers lost",
    "lost_names": "names lost",
}
LICENCES = {
    "CC-BY-SA-4.0": "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/)",
    "Apache-2.0": "[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0)",
}
SECTION = "## The embedded model, honestly\n"


@dataclass(frozen=True)
class Facts:
    """All that a card is made of."""

    folder: Path
    card: ModelCard
    config: NllbConfig
    settings: TrainingConfig
    scores: Mapping[str, Any]
    counts: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    machine: str

    @property
    def others(self) -> list[str]:
        """The languages beside English, by NLLB code."""
        return [code for code in self.card.languages if code != self.card.pivot]

    @property
    def parameters(self) -> int:
        return sum(map(size, nllb_shapes(self.config).values()))

    @property
    def used(self) -> int:
        """Parameters that a token meets: of the experts of a layer two."""
        experts = [name for name in nllb_shapes(self.config) if ".experts." in name]
        idle = 0.0
        for name in experts:
            count = self.config.experts(name.partition(".")[0])
            idle += size(nllb_shapes(self.config)[name]) * (1 - 2 / count)
        return round(self.parameters - idle)

    @property
    def stored(self) -> int:
        """Bytes of the weights' files."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    @property
    def pairs(self) -> int:
        return sum(sum(parts.values()) for parts in self.counts["pairs"].values())


def size(shape: Iterable[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the folder, as run.py export writes it")
    for name in ("settings", "scores", "counts", "log"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--machine", required=True, help='what it was trained on, such as "one NVIDIA H100"')
    parser.add_argument("--notice", type=Path, help="NOTICE, to be written anew")
    parser.add_argument("--readme", type=Path, help="README.md, of which one section is written anew")
    args = parser.parse_args(arguments)
    facts = read(args)
    (args.model / "README.md").write_text(card_text(facts), encoding="utf-8")
    if args.notice is not None:
        args.notice.write_text(notice_text(facts), encoding="utf-8")
    if args.readme is not None:
        args.readme.write_text(in_readme(args.readme.read_text(encoding="utf-8"), facts), encoding="utf-8")


def read(args: argparse.Namespace) -> Facts:
    card = read_card(args.model)
    if card is None:
        raise InvalidOption(f"{args.model} has no dragoman.json; run.py export writes it")
    return Facts(
        args.model,
        card,
        NllbConfig.from_folder(args.model),
        TrainingConfig.from_toml(args.settings),
        json.loads(args.scores.read_text(encoding="utf-8")),
        json.loads(args.counts.read_text(encoding="utf-8")),
        [json.loads(line) for line in args.log.read_text(encoding="utf-8").splitlines()],
        args.machine,
    )


def card_text(facts: Facts) -> str:
    """The whole card."""
    names = listed([of_code(code).name for code in facts.others])
    sections = [
        f"# {facts.card.name}: the embedded model",
        f"A small NLLB-MoE translating between English and {names}; between two of the others it goes by way "
        "of English. It ships inside the package so that Dragoman works at once, and it is trained by "
        "[this repository's recipe](../../../../recipes/mini/README.md) from nothing but openly licensed "
        "text.",
        facts_table(facts),
        "## What it can do",
        abilities(facts),
        "![loss over training](curve.png)",
        "## Data and attribution",
        attribution(facts),
    ]
    return "\n\n".join(wrapped(section) for section in sections) + "\n"


def facts_table(facts: Facts) -> str:
    config, card = facts.config, facts.card
    sparse = listed([
        f"{side} layer{'s' * (len(layers) > 1)} {listed([str(layer + 1) for layer in layers])}"
        for side in ("encoder", "decoder")
        if (layers := config.sparse_layers(side))
    ])  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(facts.folder / "sentencepiece.bpe.model"))
    fallback = ", what has no piece as bytes" if pieces.is_byte(pieces.get_piece_size() - 1) or any(
        pieces.is_byte(i) for i in range(min(300, pieces.get_piece_size()))
    ) else ""  # fmt: skip
    widths = listed(
        list(dict.fromkeys(f"{width:,}" for width in (config.encoder_ffn_dim, config.decoder_ffn_dim)))
    )
    rows = {
        "architecture": f"NLLB-MoE: {config.encoder_layers} encoder and {config.decoder_layers} decoder "
        f"layers, width {config.d_model}, {config.encoder_attention_heads} heads, feed-forward {widths}; "
        f"{config.num_experts} experts in {sparse}, top-2 routing",
        "parameters": f"{facts.parameters / 1e6:.1f} M ({facts.used / 1e6:.1f} M used for a token), "
        f"{facts.stored / 1e6:.0f} MB in {stored_in(facts)}",
        "tokenizer": f"SentencePiece BPE, {pieces.get_piece_size():,} pieces{fallback}; NLLB's layout with "
        f"all 202 language codes ({len(card.languages)} of them trained)",
        "longest sentence": f"{card.max_source_tokens} tokens; longer ones are cut at clauses",
        "trained on": f"{facts.pairs:,} sentence pairs, both ways, and examples made up from them",
        "cost": cost(facts),
        "licence": f"{LICENCES.get(card.licence, card.licence)} for the weights; the code is Apache-2.0",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def stored_in(facts: Facts) -> str:
    config = json.loads((facts.folder / "config.json").read_text(encoding="utf-8"))
    return "8 bits with a scale a row" if config.get("quantization_config") else "half precision"


def cost(facts: Facts) -> str:
    last = {name: value for row in facts.log for name, value in row.items()}
    seen = f", {last['pairs']:,} pairs seen" if "pairs" in last else ""
    return f"{last['update']:,} updates in {last['seconds'] / 60:.0f} minutes on {facts.machine}{seen}"


def abilities(facts: Facts) -> str:
    run = facts.scores["run"]
    sets = [name for name in SETS if any(row["testset"] == name for row in facts.scores["results"])]
    signatures = dict.fromkeys(
        f"{name} `{signature}`"
        for row in facts.scores["results"]
        for name, signature in row["signatures"].items()
        if name in ("chrF++", "BLEU")
    )
    return "\n\n".join([
        f"chrF++ / BLEU, beam {run['beams']}, {run['precision']}. {lines(facts, sets)} Tatoeba: everyday "
        "sentences that are not in the training data; `far` leaves out those within one word of a training "
        "sentence. NTREX is news, FLORES-200 encyclopaedic; manuals and user interfaces were held out.",
        score_table(facts, sets),
        "What a score hides, means over directions: how long translations are for their references, and how "
        "many lines or words go wrong.",
        fault_table(facts, sets),
        kept(facts),
        "Signatures (sacrebleu): " + "; ".join(signatures) + ".",
        "It has no notion of context or of safety; do not use it where a wrong translation does harm.",
    ])  # fmt: skip


def lines(facts: Facts, sets: Sequence[str]) -> str:
    """How many there are of each set, in words."""
    found = []
    for name in sets:
        counts = sorted({row["sentences"] for row in facts.scores["results"] if row["testset"] == name})
        shown = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        found.append(f"{SETS[name]} {shown}")
    return f"Lines a direction: {', '.join(found)}."


def score_table(facts: Facts, sets: Sequence[str]) -> str:
    by = {(row["pair"], row["testset"]): row["scores"] for row in facts.scores["results"]}
    pairs = dict.fromkeys(row["pair"] for row in facts.scores["results"])
    rows = [
        (pair.replace("-", " → "), *(both(by.get((pair, name))) for name in sets))
        for pair in in_order(pairs, facts)
    ]
    return table(("direction", *(SETS[name] for name in sets)), [*rows, mean_row(facts, sets)])


def mean_row(facts: Facts, sets: Sequence[str]) -> tuple[str, ...]:
    return ("mean", *(f"**{chrf:.1f}** / {bleu:.1f}" for chrf, bleu in (means(facts, name) for name in sets)))


def means(facts: Facts, name: str) -> tuple[float, float]:
    """chrF++ and BLEU of a test set over all its directions."""
    scores = [row["scores"] for row in facts.scores["results"] if row["testset"] == name]
    chrf, bleu = (sum(each[metric] for each in scores) / len(scores) for metric in ("chrF++", "BLEU"))
    return chrf, bleu


def in_order(pairs: Iterable[str], facts: Facts) -> list[str]:
    shorts = [of_code(code).short_code for code in facts.others]
    return [pair for short in shorts for pair in (f"en-{short}", f"{short}-en") if pair in set(pairs)]


def both(scores: Mapping[str, float] | None) -> str:
    return "" if scores is None else f"{scores['chrF++']:.1f} / {scores['BLEU']:.1f}"


def fault_table(facts: Facts, sets: Sequence[str]) -> str:
    rows = []
    for name in sets:
        found = [row for row in facts.scores["results"] if row["testset"] == name]
        ratio = sum(row["length_ratio"] for row in found) / len(found)
        rates = (sum(row["faults"][fault] for row in found) / len(found) for fault in FAULTS)
        rows.append((SETS[name], f"{ratio:.2f}", *(f"{rate:.1%}" for rate in rates)))
    return table(("test set", "length", *FAULTS.values()), rows)


def kept(facts: Facts) -> str:
    found = facts.scores["survival"]
    if not found["languages"]:
        return ""
    rates = ", ".join(f"{kind} {share:.1%}" for kind, share in found["rates"].items())
    return (
        f"Of made-up interface strings, from English into {found['languages']} languages, the share of "
        f"things that come back as they have to (within tags words may be translated): {rates}."
    )


def attribution(facts: Facts) -> str:
    parts = list(dict.fromkeys(part for parts in facts.counts["pairs"].values() for part in parts))
    rows = []
    for code, found in facts.counts["pairs"].items():
        numbers = (f"{found.get(part, 0):,}" for part in parts)
        rows.append((of_code(code).name, *numbers, f"{sum(found.values()):,}"))
    made_up = [part.name for part in facts.settings.parts if not part.files]
    return "\n\n".join([
        "Texts with English on the other side, each under its own licence. The licence of the weights is a "
        "share-alike one, as that of several of the texts is.",
        table(
            ("source", "licence"),
            [(f"[{o['name']}]({o['url']}): {o['what']}", o["licence"]) for o in used(facts)],
        ),
        f"Pairs by language and part of the mixture; {listed(made_up)} are made up.",
        table(("language", *parts, "all"), rows),
    ])  # fmt: skip


def used(facts: Facts) -> list[dict[str, str]]:
    """The origins of all texts, each once; InvalidOption for one of which nothing is known."""
    known: dict[str, dict[str, str]] = tomllib.loads(ORIGINS.read_text(encoding="utf-8"))
    tags = {tag for parts in facts.counts["origins"].values() for found in parts.values() for tag in found}
    strange = sorted(tag for tag in tags if re.split(r"[:+]", tag)[0] not in known)
    if strange:
        raise InvalidOption(
            f"origins.toml says nothing of {', '.join(strange)}; add what they are and their licence"
        )
    names = {re.split(r"[:+]", tag)[0] for tag in tags}
    return [origin for name, origin in known.items() if name in names]


def notice_text(facts: Facts) -> str:
    """What has to be said of the weights' sources wherever the package goes."""
    sources = "\n".join(f"* {o['name']} ({o['licence']}), {o['url']}\n  {o['what']}" for o in used(facts))
    return (
        "Dragoman\n\nThe code is licensed under the Apache License, Version 2.0 (see LICENSE).\n\n"
        "The weights of the embedded model (src/dragoman/data/mini) are licensed under "
        f"{facts.card.licence},\nhttps://creativecommons.org/licenses/by-sa/4.0/.\n\n"
        f"They were trained on texts from the following sources, each under its own licence:\n\n{sources}\n"
    )


def in_readme(text: str, facts: Facts) -> str:
    """The project's README with the section about this model written anew."""
    start = text.index(SECTION) + len(SECTION)
    end = text.index("\n## ", start)
    sets = [name for name in SETS if any(row["testset"] == name for row in facts.scores["results"])]
    directions = len({row["pair"] for row in facts.scores["results"]})
    rows = []
    for name in sets:
        chrf, bleu = means(facts, name)
        rows.append((SETS[name], f"{chrf:.1f} / {bleu:.1f}"))
    names = listed([of_code(code).name for code in facts.others])
    run = facts.scores["run"]
    body = [
        f"chrF++ / BLEU, beam {run['beams']}, {run['precision']}, over all {directions} directions between "
        f"English and {names}:",
        table(("test set", "mean chrF++ / BLEU"), rows),
        f"Training took {cost(facts)}; figures for each direction, what goes wrong, data and attribution are "
        "in the [model card](src/dragoman/data/mini/README.md). For serious work take one of the published "
        "models.",
    ]
    return text[:start] + "\n" + "\n\n".join(map(wrapped, body)) + "\n" + text[end:]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    marks = "|".join("---" for _ in heads)
    return "\n".join([f"| {' | '.join(heads)} |", f"|{marks}|", *(f"| {' | '.join(row)} |" for row in rows)])


def listed(names: Sequence[str]) -> str:
    """As people list things."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def wrapped(text: str, width: int = 118) -> str:
    """Paragraphs in lines; tables, headings and pictures as they are."""
    done = [
        each if each.startswith(("|", "#", "!")) else textwrap.fill(
            each, width, break_long_words=False, break_on_hyphens=False
        )
        for each in text.split("\n\n")
        if each
    ]  # fmt: skip
    return "\n\n".join(done)


if __name__ == "__main__":
    main()
