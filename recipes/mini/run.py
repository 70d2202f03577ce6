"""Train the embedded model: `python recipes/mini/run.py STEP SETTINGS --data DIR --out DIR`.

Each step is resumable; `train` goes on from its last checkpoint. README.md beside this
file tells the whole story.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dragoman.checkpoints.nllb import save_nllb
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate
from dragoman.models.nllb import Nllb
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.training.collecting import collect
from dragoman.training.config import TrainingConfig
from dragoman.training.data import EOS, Example, assemble, cut
from dragoman.training.loop import Trainer
from dragoman.training.making import feed_of, objective_of
from dragoman.training.parts import ENGLISH, Part, PartOptions
from dragoman.training.reading import BadRows, read_rows
from dragoman.training.starting import begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("train", "export", "plot", "show", "count"))
    parser.add_argument("settings", type=Path, help="a TOML file, e.g. recipes/mini/cpu.toml")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train/, train2/, held-out/ and so on"
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder of the run")
    parser.add_argument(
        "--finish", type=int, metavar="UPDATES", help="let the rate fall now, and end after so many"
    )
    args = parser.parse_args()
    config = TrainingConfig.from_toml(args.settings)
    if args.step == "train":
        train(config, args.data, args.out, args.finish)
    elif args.step == "show":
        show(config, args.data, args.out)
    elif args.step == "export":
        export(config, args.out)
    elif args.step == "count":
        count(config, args.data, args.out)
    else:
        plot(args.out)


def train(config: TrainingConfig, data: Path, out: Path, finish: int | None) -> None:
    """Train tokenizer and model; `out` gets tokenizer/, log.jsonl and checkpoint.pt."""
    parts = read_parts(config, data)
    subject = begin(config, parts, out)
    model, tokenizer = subject.model, subject.tokenizer
    batches = feed_of(config, parts, tokenizer)
    evaluation = Evaluation(config, data, tokenizer, batches.language_ids)
    trainer = Trainer(model, objective_of(config, model), batches, config, out, evaluation)
    evaluation.trainer = trainer
    trainer.run(finish)


def read_parts(config: TrainingConfig, data: Path) -> list[Part]:
    """The parts of the mixture, without what models are tested on; says what was left out."""
    texts = collect(config, data, None)
    print(texts, flush=True)
    return texts.parts


def show(config: TrainingConfig, data: Path, out: Path) -> None:
    """Print examples of the first round as the model gets them."""
    parts = read_parts(config, data)
    tokenizer = begin(config, parts, out).tokenizer
    examples = feed_of(config, parts, tokenizer).examples(0)
    tokens = sum(len(example.source) + len(example.target) for example in examples)
    print(f"{len(examples):,} examples, {tokens / len(examples):.1f} tokens each")
    for example in random.Random(0).sample(examples, 60):
        print(tokenizer.decode(example.source, skip_special=False).replace("\n", "\\n"))
        print("    " + tokenizer.decode(example.target, skip_special=False).replace("\n", "\\n"))


def count(config: TrainingConfig, data: Path, out: Path) -> None:
    """Write `out`/counts.json: the pairs of each part, and the origins that they are taken from."""
    texts = collect(config, data, None)
    rows: dict[str, dict[str, int]] = {}
    for kept in texts.kept:
        rows.setdefault(kept.code, {})[kept.name] = kept.rows
    origins = {
        short: {
            part.name: origins_of(part, data / part.files.format(language=short, code=code), short)
            for part in config.parts
            if part.files and rows.get(code, {}).get(part.name)
        }
        for short, code in config.languages.items()
    }
    found = {"held_out": texts.held_out, "pairs": rows, "origins": origins}
    (out / "counts.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{sum(sum(each.values()) for each in rows.values()):,} pairs")


def origins_of(part: PartOptions, file: Path, short: str) -> list[str]:
    """The origin tags of the rows that a part is taken from."""
    tags = {origin for _, _, origin in read_rows(file, short, BadRows())}
    return sorted(
        tag for tag in tags if not tag.startswith(part.excluded) and tag.startswith(part.origins or "")
    )


class Evaluation:
    """Loss and greedy chrF++ on development lines (never the test lines)."""

    trainer: Trainer

    def __init__(
        self, config: TrainingConfig, data: Path, tokenizer: NllbTokenizer, ids: dict[str, int]
    ) -> None:
        self.tokenizer, self.ids = tokenizer, ids
        self.pairs: dict[str, list[tuple[str, str]]] = {}
        examples: list[Example] = []
        for short, code in config.languages.items():
            rows = itertools.islice(
                read_rows(data / "held-out" / f"{short}-en.tsv.gz", short, BadRows()), config.evaluate_pairs
            )
            self.pairs[code] = [(text, english) for text, english, _ in rows]
            examples += self.examples(code, self.pairs[code])
        self.batches = [
            assemble(part) for part in cut(examples, config.batch_tokens, np.random.default_rng(0))
        ]

    def examples(self, code: str, pairs: list[tuple[str, str]]) -> Iterator[Example]:
        """Both directions of every pair."""
        texts, english = (self.tokenizer.encode_pieces([pair[side] for pair in pairs]) for side in (0, 1))
        here, there = self.ids[code], self.ids[ENGLISH]
        for a, b in zip(texts, english, strict=True):
            yield Example([here, *a, EOS], [EOS, there, *b, EOS])
            yield Example([there, *b, EOS], [EOS, here, *a, EOS])

    @torch.inference_mode()
    def __call__(self, model: Nllb) -> dict[str, float]:
        import sacrebleu

        metric = sacrebleu.CHRF(word_order=2)
        nll = tokens = 0.0
        for batch in self.batches:
            nll += self.trainer.losses(batch).figures["loss"]
            tokens += int((batch.target[:, 1:] != self.tokenizer.pad_id).sum())
        figures = {"dev_loss": round(nll / tokens, 4)}
        for code, pairs in self.pairs.items():
            foreign, english = (list(side) for side in zip(*pairs, strict=True))
            for source, target, texts, references in (
                (ENGLISH, code, english, foreign),
                (code, ENGLISH, foreign, english),
            ):
                hypotheses = self.translate(model, texts, source, target)
                score = metric.corpus_score(hypotheses, [references]).score
                figures[f"chrf_{source[:3]}_{target[:3]}"] = round(score, 2)
        chrf = [value for name, value in figures.items() if name.startswith("chrf")]
        figures["chrf"] = round(sum(chrf) / len(chrf), 2)
        return figures

    def translate(self, model: Nllb, texts: list[str], source: str, target: str) -> list[str]:
        ids, keep = self.tokenizer.pad(self.tokenizer.encode_batch(texts, source))
        prompt = [[self.tokenizer.eos_id, self.ids[target]]] * len(texts)
        results = generate(
            model,
            np.array(ids),
            np.array(keep, bool),
            np.array(prompt),
            GenerationOptions(beams=1, max_new_tokens=80),
        )
        return [self.tokenizer.decode(list(ranked[0].tokens)) for ranked in results]


def export(config: TrainingConfig, out: Path) -> None:
    """Write `out`/model: the averaged weights in 8 bits, the tokenizer, and all the small files."""
    tokenizer = NllbTokenizer.from_folder(out / "tokenizer")
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    load_weights(model, out)
    save_nllb(model, out / "model", dtype=torch.int8)
    write_for_transformers(out / "model")
    tokenizer.save(out / "model")
    card = {
        "name": "mini",
        "languages": [ENGLISH, *config.languages.values()],
        "max_source_tokens": config.max_tokens,
        "pivot": ENGLISH,
        "licence": "CC-BY-SA-4.0",
    }
    (out / "model" / "dragoman.json").write_text(json.dumps(card, indent=2) + "\n")


def load_weights(model: Nllb, out: Path) -> None:
    """What a run left: weights.pt of an accelerator, or the averages in a checkpoint."""
    if (out / "weights.pt").is_file():
        model.load_state_dict(torch.load(out / "weights.pt", map_location="cpu", weights_only=True))
        return
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    if state["average"] is not None:
        model.load_state_dict(state["average"]["weights"], strict=False)


def write_for_transformers(folder: Path) -> None:
    """What only transformers reads: load as float32, which trains, and search as Dragoman does."""
    config = json.loads((folder / "config.json").read_text())
    search = {name: config[f"{name}_token_id"] for name in ("bos", "eos", "pad", "decoder_start")}
    options = {f"{name}_token_id": token for name, token in search.items()} | {
        "max_length": 200,
        "num_beams": 4,
    }
    for name, content in (("config", {**config, "dtype": "float32"}), ("generation_config", options)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def plot(out: Path) -> None:
    """Draw `out`/curve.png from the log: loss of both sets, and chrF++ where there is any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    chrf = [row for row in rows if "chrf" in row]
    figure, axes = pyplot.subplots(1, 2 if chrf else 1, figsize=(11 if chrf else 6, 4), layout="constrained")
    left = axes[0] if chrf else axes
    # Both kinds of runs: an accelerator's has no count of pairs, and says what is smoothed in the loss apart.
    axis, scale = ("pairs", 1e6) if "pairs" in rows[0] else ("update", 1e3)
    names = {"pairs": "pairs seen (millions)", "update": "updates (thousands)"}
    training = [(row[axis] / scale, row.get("nll", row["loss"])) for row in rows if "loss" in row]
    development = [
        (row[axis] / scale, row[name]) for row in rows for name in ("dev_loss", "dev_nll") if name in row
    ]
    left.plot(*zip(*training, strict=True), lw=0.8, label="training")
    left.plot(*zip(*development, strict=True), "o-", ms=3, label="development")
    left.set(xlabel=names[axis], ylabel="nats per token", title="Loss")
    left.set_ylim(top=float(np.quantile([loss for _, loss in training], 0.97)))
    left.legend()
    if chrf:
        _plot_chrf(axes[1], chrf, [row[axis] / scale for row in chrf], names[axis])
    figure.savefig(out / "curve.png", dpi=120)


def _plot_chrf(right: Any, rows: list[dict[str, float]], at: list[float], label: str) -> None:
    for name in [key for key in rows[0] if key.startswith("chrf_")]:
        direction = name.removeprefix("chrf_").replace("_", " → ")
        right.plot(at, [row[name] for row in rows], lw=0.8, alpha=0.7, label=direction)
    right.plot(at, [row["chrf"] for row in rows], "k-", lw=2, label="mean")
    right.set(xlabel=label, ylabel="chrF++", title="Greedy, development lines")
    right.legend(ncols=2, fontsize=8)


if __name__ == "__main__":
    main()
