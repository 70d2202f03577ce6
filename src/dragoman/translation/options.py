"""What a caller may ask for: of the model when it is loaded, and of each translation.

The dataclasses are the one description of the options: their fields, defaults and docstrings make the
command line. The TypedDicts beside them say the same to type checkers and editors.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dragoman.errors import ConfigError, InvalidOption
from dragoman.generation.options import GenerationOptions

if TYPE_CHECKING:
    from dragoman.checkpoints.catalog import ModelCard
    from dragoman.text.glossary import Glossary
    from dragoman.translation.memory import TranslationMemory
    from dragoman.translation.translator import Translator


@dataclass(frozen=True)
class LoadOptions:
    """Which model, and how it runs."""

    model: str | Path = "mini"
    """A name that `dragoman models` lists, a folder, or a repository of the hub as owner/name."""
    device: str = "auto"
    """A PyTorch device such as "cpu" or "cuda:1"; "auto" is the accelerator if there is one."""
    precision: str = "auto"
    """fp32 (exact), fp16, int8 or int4; "auto" is the most exact one that fits half of the computer's
    memory, and fp16 on an accelerator."""
    memory: str | int | None = None
    """What weights, language modules and translations under way may take together, such as "12GB"; by default
    two thirds of what there is, and more if the weights need it."""
    vocabulary: int | None = None
    """Choose from so many tokens of the target language and those of the source, instead of from all: much
    faster for NLLB."""
    vocabulary_text: Mapping[str, Sequence[str]] | None = None
    """Lines in a target language, by its name, like the translations to come: their tokens are in the
    vocabulary."""
    threads: int | None = None
    """Threads that models of this process work in, on a CPU; as many as there are processors if left out."""
    parallel: bool = False
    """Share the model between the processes that torchrun has started, each of which has a part of it."""

    def __post_init__(self) -> None:
        if self.vocabulary is None and self.vocabulary_text is not None:
            raise InvalidOption("vocabulary_text goes with a vocabulary; say how many tokens it may have")


class LoadKeywords(TypedDict, total=False):
    """The fields of `LoadOptions` behind the model."""

    device: str
    precision: str
    memory: str | int | None
    vocabulary: int | None
    vocabulary_text: Mapping[str, Sequence[str]] | None
    threads: int | None
    parallel: bool


@dataclass(frozen=True)
class TextOptions:
    """What becomes of texts, whatever model translates them."""

    source: str | None = None
    """The language of the texts, in any spelling; each text's is detected if it is left out or "auto"."""
    target: str | None = None
    """The language to translate to; English if left out."""
    direct: bool = False
    """Don't go by way of English between two other languages, even if the model learned no other way."""
    one_sentence: bool = False
    """Take each text as one sentence, whatever is in it, as long as the model can read it at once."""
    likely_source: str | None = None
    """The language of texts that don't show theirs; without it, that of most texts before them."""
    batch_size: int = 64
    """Most sentences that are translated side by side."""
    timeout: float | None = None
    """Seconds that the whole call may take; None is no limit."""
    retry: bool = False
    """Translate a sentence again, with other options, in which something is lost, said twice, left as it was
    or cut short, and take the best attempt."""
    glossary: "Glossary | None" = None
    """What terms of the texts are to be in the translations."""
    fallback: "Translator | None" = None
    """Another model for sentences in which something is still the matter."""

    translation_memory: "TranslationMemory | None" = None
    """What has been translated before; it is told of what the model says now."""

    def __post_init__(self) -> None:
        memory = self.translation_memory
        if memory is not None and not hasattr(memory, "recall"):
            raise InvalidOption(
                f"translation_memory is a {type(memory).__name__}; it must be a TranslationMemory"
            )
        if self.glossary is not None and not hasattr(self.glossary, "terms_in"):
            raise InvalidOption(
                f"glossary is a {type(self.glossary).__name__}; it must be a Glossary, such as "
                "Glossary.read('terms.tsv') or Glossary({'station': 'Bahnhof'})"
            )
        if not isinstance(self.retry, bool):
            raise InvalidOption(f"retry is {self.retry!r}; it must be True or False")
        size, timeout = self.batch_size, self.timeout
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096:
            raise InvalidOption(f"batch_size is {size!r}; it must be a whole number from 1 to 4096")
        for name in ("direct", "one_sentence"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidOption(f"{name} is {getattr(self, name)!r}; it must be True or False")
        number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        if timeout is not None and not (number and timeout > 0):
            raise InvalidOption(f"timeout is {timeout!r}; it must be seconds, above 0, or None")


class GenerationKeywords(TypedDict, total=False):
    """The fields of `GenerationOptions`."""

    beams: int
    max_new_tokens: int
    length_penalty: float
    early_stopping: bool | Literal["never"]
    n_best: int
    no_repeat_ngram: int
    repetition_penalty: float
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    suppress: tuple[int, ...]


class TranslateKeywords(GenerationKeywords, total=False):
    """All options of a translation but its languages."""

    direct: bool
    one_sentence: bool
    likely_source: str | None
    batch_size: int
    timeout: float | None
    retry: bool
    glossary: "Glossary | None"
    fallback: "Translator | None"
    translation_memory: "TranslationMemory | None"


class AnswerKeywords(GenerationKeywords, total=False):
    """All options of an answer."""

    timeout: float | None


def translation_options(
    source: str | None, target: str | None, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[TextOptions, GenerationOptions]:
    """The options that a caller has `given` by name, with a model's `defaults` for generation behind them.

    Raises InvalidOption, for a name that isn't one with the nearest that is.
    """
    generation, text = names(GenerationOptions), names(TextOptions)
    refuse_unknown(given, [*generation, *text])
    chosen = {name: given[name] for name in generation if name in given}
    return (
        TextOptions(source, target, **{name: given[name] for name in text if name in given}),
        GenerationOptions(**{**defaults, **chosen}),
    )


def card_defaults(card: "ModelCard") -> dict[str, Any]:
    """The options of generation that a model's card gives; ConfigError if they are none."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in card.generation.items()
    }
    try:
        refuse_unknown(given, names(GenerationOptions))
        GenerationOptions(**given)
    except InvalidOption as error:
        raise ConfigError(
            f"the card of {card.name} gives options of generation that can't be: {error}"
        ) from None
    return given


@cache
def names(options: type) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in fields(options))


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise InvalidOption for the first name that is not among those known."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"do you mean {near[0]!r}?" if near else f"the options are {', '.join(known)}"
            raise InvalidOption(f"{name!r} is no option here; {hint}")


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            text = (
                node.value.value
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                else ""
            )
            docs[before.target.id] = " ".join(str(text).split())
    return docs
