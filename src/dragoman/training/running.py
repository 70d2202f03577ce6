"""A recipe from settings to a model: `train` does it, `check` says whether it could be done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dragoman.errors import InvalidOption
from dragoman.files import lock
from dragoman.training.collecting import collect
from dragoman.training.config import TrainingConfig
from dragoman.training.loop import Trainer
from dragoman.training.making import dev_loss, objective_of, phases_of
from dragoman.training.processes import Processes
from dragoman.training.run_log import Observer
from dragoman.training.saving import save
from dragoman.training.spreading import put_together_
from dragoman.training.starting import begin, look, open_new_tokenizer, open_start_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Settings, and where their run reads and writes."""

    config: TrainingConfig
    name: str
    data: Path
    out: Path

    @classmethod
    def read(cls, path: Path, data: Path | None = None, out: Path | None = None) -> "Recipe":
        """From a TOML file. data and out: instead of what it says."""
        config = TrainingConfig.from_toml(path)
        folder = out or Path(config.out or f"runs/{path.stem}")
        return cls(config, path.stem, (data or Path(config.data)).expanduser(), folder.expanduser())


def train(
    recipe: Recipe,
    observer: Observer | None = None,
    finish: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train, from the last checkpoint if there is one, and write the model; its folder.

    finish: let the rate fall now, and end after so many updates; say: is told what was read.
    """
    processes = Processes.joined()
    with _held(recipe.out) if processes.is_first else nullcontext():
        return _train(recipe, processes, observer, finish, say)


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep others out of the folder of a run; InvalidOption if a run is under way in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("wb")
    except OSError as error:
        raise InvalidOption(f"{out} can't be the folder of a run: {error.strerror}") from None
    with file:
        if not lock(file):
            raise InvalidOption(f"another run is under way in {out}; wait for it, or give another folder")
        yield


def _train(
    recipe: Recipe,
    processes: Processes,
    observer: Observer | None,
    finish: int | None,
    say: Callable[[str], None],
) -> Path:
    config, out = recipe.config, recipe.out
    texts = collect(config, recipe.data, out / "rows" / str(processes.rank))
    with processes.first_alone():
        subject = begin(config, texts.parts, out)
    if processes.is_first:
        say(f"{texts}\n{subject.size}")
    phases = phases_of(config, texts.parts, subject.tokenizer, subject.style)
    objective = objective_of(config, subject.model)
    evaluate = dev_loss(config, texts, subject.tokenizer, subject.style)
    trainer = Trainer(subject.model, objective, phases, config, out, evaluate, observer, processes, say)
    if evaluate is not None:
        evaluate.trainer = trainer
    trainer.run(finish)
    folder = out / "model"
    if trainer.average is not None:
        trainer.average.keep()
    put_together_(subject.model, processes.is_first)
    if processes.is_first:
        save(subject, config, out, recipe.name)
    processes.close()
    return folder


def check(recipe: Recipe) -> Iterator[str]:
    """Read all texts, open or make the tokenizer, and the first round of each phase; what there is, in lines.

    No weight is read. Raises what `train` would, before it began.
    """
    config = recipe.config
    with TemporaryDirectory() as scratch:
        texts = collect(config, recipe.data, Path(scratch) / "rows")
        yield str(texts)
        yield f"{len(texts.dev)} languages with {sum(map(len, texts.dev)):,} development rows"
        look(config)
        if config.start:
            tokenizer, style = open_start_tokenizer(config, Path(scratch))
        else:
            tokenizer, style = open_new_tokenizer(config, texts.parts, Path(scratch))
            yield f"a tokenizer of {config.vocabulary:,} pieces can be made of the texts"
        for number, phase in enumerate(phases_of(config, texts.parts, tokenizer, style), 1):
            batches = phase.feed.round(0)
            yield (
                f"phase {number}, from update {phase.begins}: a round has {sum(map(len, batches)):,} of "
                f"{config.round_examples:,} examples in {len(batches):,} batches"
            )
        yield f"{config.updates:,} updates of {config.accumulate} batches of {config.batch_tokens:,} tokens"
