"""Train the embedded model: `python recipes/mini/run.py {train,export,plot} SETTINGS --data DIR --out DIR`.

Each step is resumable; `train` goes on from its last checkpoint. README.md beside this
file tells the whole story.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dragoman.checkpoints.nllb import save_nllb
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate
from dragoman.models.nllb import Nllb, initialize_
from dragoman.text.tokenizers.nllb import NllbTokenizer
from dragoman.training.config import TrainingConfig
from dragoman.training.data import ENGLISH, Batches, Corpus, encode_corpus, read_pairs
from dragoman.training.loop import Trainer
from dragoman.training.tokenizer import train_tokenizer

TOKENIZER_LINES = 60_000  # per language: enough for a vocabulary of thousands
NO_REPEAT_NGRAM = 4  # so small a model goes round in circles on what it hasn't learned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("train", "export", "plot"))
    parser.add_argument("settings", type=Path, help="a TOML file, e.g. recipes/mini/cpu.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and held-out/")
    parser.add_argument("--out", type=Path, required=True, help="working folder of the run")
    args = parser.parse_args()
    config = TrainingConfig.from_toml(args.settings)
    if args.step == "train":
        train(config, args.data, args.out)
    elif args.step == "export":
        export(config, args.out)
    else:
        plot(args.out)


def train(config: TrainingConfig, data: Path, out: Path) -> None:
    """Train tokenizer and model; `out` gets tokenizer/, log.jsonl and checkpoint.pt."""
    if not (out / "tokenizer" / "sentencepiece.bpe.model").exists():
        train_tokenizer(tokenizer_text(config, data), out / "tokenizer", config.vocabulary)
    tokenizer = NllbTokenizer.from_folder(out / "tokenizer")
    corpora = [
        encode_corpus(code, training_pairs(config, data, short), tokenizer, config.max_tokens)
        for short, code in config.languages.items()
    ]
    for corpus in corpora:
        print(f"{corpus.code}: {len(corpus):,} pairs", flush=True)
    ids = {code: tokenizer.language_id(code) for code in (ENGLISH, *config.languages.values())}
    batches = Batches(corpora, ids, config.batch_tokens, config.balance, config.seed)
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    initialize_(model, config.seed)
    evaluation = Evaluation(config, data, tokenizer, ids)
    trainer = Trainer(model, batches, config, out, evaluation)
    evaluation.trainer = trainer
    trainer.run()


def training_pairs(config: TrainingConfig, data: Path, short: str) -> Iterator[tuple[str, str]]:
    """Openly licensed pairs of one language."""
    return read_pairs(data / "train" / f"{short}-en.tsv.gz", config.excluded_origins)


def tokenizer_text(config: TrainingConfig, data: Path) -> list[str]:
    """As many sentences of each language, and of English as of two of them."""
    texts: list[str] = []
    for short in config.languages:
        pairs = list(itertools.islice(training_pairs(config, data, short), TOKENIZER_LINES))
        texts += [text for text, _ in pairs]
        texts += [english for _, english in pairs[: 2 * TOKENIZER_LINES // len(config.languages)]]
    random.Random(config.seed).shuffle(texts)
    return texts


class Evaluation:
    """Loss and greedy chrF++ on the development lines (never the test lines)."""

    trainer: Trainer

    def __init__(
        self, config: TrainingConfig, data: Path, tokenizer: NllbTokenizer, ids: dict[str, int]
    ) -> None:
        self.tokenizer, self.ids = tokenizer, ids
        self.pairs: dict[str, list[tuple[str, str]]] = {}
        for short, code in config.languages.items():
            lines = list(read_pairs(data / "held-out" / f"{short}-en.tsv.gz"))[: config.evaluate_pairs]
            self.pairs[code] = lines
        corpora: list[Corpus] = [
            encode_corpus(code, iter(pairs), tokenizer, config.max_tokens)
            for code, pairs in self.pairs.items()
        ]
        batches = Batches(corpora, ids, config.batch_tokens, 1.0, 0)
        self.batches = [batches.assemble(rows) for rows in batches.epoch(0)]

    @torch.inference_mode()
    def __call__(self, model: Nllb) -> dict[str, float]:
        import sacrebleu

        metric = sacrebleu.CHRF(word_order=2)
        nll = tokens = 0.0
        for batch in self.batches:
            nll += self.trainer.losses(batch, 0.0)[1]
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
    """Write `out`/model: the weights in half precision, tokenizer, dragoman.json, and transformers' files."""
    tokenizer = NllbTokenizer.from_folder(out / "tokenizer")
    model = Nllb(config.model_config(tokenizer.vocabulary + 206))
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    save_nllb(model, out / "model", dtype=torch.float16)
    write_for_transformers(out / "model")
    tokenizer.save(out / "model")
    card = {
        "name": "mini",
        "languages": [ENGLISH, *config.languages.values()],
        "max_source_tokens": config.max_tokens,
        "pivot": ENGLISH,
        "licence": "trained on CC-BY-2.0-FR, CC0 and CDLA-Sharing-1.0 data",
        "generation": {"no_repeat_ngram": NO_REPEAT_NGRAM},
    }
    (out / "model" / "dragoman.json").write_text(json.dumps(card, indent=2) + "\n")


def write_for_transformers(folder: Path) -> None:
    """What only transformers reads: load as float32, which trains, and search as Dragoman does."""
    config = json.loads((folder / "config.json").read_text())
    search = {name: config[f"{name}_token_id"] for name in ("bos", "eos", "pad", "decoder_start")}
    options = {f"{name}_token_id": token for name, token in search.items()} | {
        "max_length": 200,
        "num_beams": 4,
        "no_repeat_ngram_size": NO_REPEAT_NGRAM,
    }
    for name, content in (("config", {**config, "dtype": "float32"}), ("generation_config", options)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def plot(out: Path) -> None:
    """Draw `out`/curve.png from the log: loss of both sets and chrF++ over training pairs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    training = [row for row in rows if "loss" in row]
    evaluations = [row for row in rows if "dev_loss" in row]
    millions = [row["pairs"] / 1e6 for row in evaluations]
    left.plot([r["pairs"] / 1e6 for r in training], [r["loss"] for r in training], lw=0.8, label="training")
    left.plot(millions, [r["dev_loss"] for r in evaluations], "o-", ms=3, label="development")
    left.set(xlabel="pairs seen (millions)", ylabel="nats per token", title="Loss")
    left.set_ylim(top=float(np.quantile([r["loss"] for r in training], 0.97)))
    left.legend()
    for name in [key for key in evaluations[0] if key.startswith("chrf_")]:
        label = name.removeprefix("chrf_").replace("_", " → ")
        right.plot(millions, [r[name] for r in evaluations], lw=0.8, alpha=0.7, label=label)
    right.plot(millions, [r["chrf"] for r in evaluations], "k-", lw=2, label="mean")
    right.set(xlabel="pairs seen (millions)", ylabel="chrF++", title="Greedy, development lines")
    right.legend(ncols=2, fontsize=8)
    figure.savefig(out / "curve.png", dpi=120)


if __name__ == "__main__":
    main()
