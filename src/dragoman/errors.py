"""Every error Dragoman raises on purpose.

DragomanError
├── UnknownLanguage (also ValueError)     no such language, or the model doesn't speak it
├── InvalidText (also ValueError)         text that can't be encoded (lone surrogates, wrong type)
├── InvalidDocument (also ValueError)     a file that is broken, hostile or of an unknown format
├── InvalidOption (also ValueError)       an option out of range, or two that exclude each other
├── TranslationFailed                     the model or its code failed on a text
├── TranslationTimeout (also TimeoutError)  the caller's time is over
├── JobError                              the list of jobs can't be used, or a job was stopped
│   └── JobRunning                        another process does the same now
├── Overloaded                            more work at once than is taken on
├── NotEnoughMemory (also MemoryError)    a model or a language module that doesn't fit
├── RankFailed                            one of the processes that run a model together is gone
├── LanguageModuleError (also ValueError) a row needs a language module that isn't there, or none fits
├── ConfigError (also ValueError)         a config.json that describes no model we know
├── NoNumbers (also ArithmeticError)      the model computed NaN or infinite scores
└── CheckpointError (also ValueError)     a folder or file that holds no usable weights
    └── KeyMismatch                       missing, unexpected or mis-shaped tensors, all of them listed

TranslationWarning (a UserWarning)        a translation that the user should look at
"""

from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]


class DragomanError(Exception):
    """Base of all errors that Dragoman raises on purpose."""


class UnknownLanguage(DragomanError, ValueError):
    """No such language, or the model doesn't speak it."""


class InvalidText(DragomanError, ValueError):
    """Text that can't be encoded: not a string, or one with lone surrogates."""


class InvalidDocument(DragomanError, ValueError):
    """A file that can't be read as a document of its format, or that can't hold its translation."""


class InvalidOption(DragomanError, ValueError):
    """An option out of its range, or two options that exclude each other."""


class TranslationFailed(DragomanError):
    """The model, or the code that runs it, failed on a text; `__cause__` is what was raised there."""


class TranslationTimeout(DragomanError, TimeoutError):
    """The time that the caller gave was over before the translation was done."""


class JobError(DragomanError):
    """The list of jobs can't be read or written, there is no such job, or it was cancelled."""


class JobRunning(JobError):
    """Another process works on the same job now."""


class NotEnoughMemory(DragomanError, MemoryError):
    """A model or a language module doesn't fit into the memory that there is, or that was allowed for."""


class Overloaded(DragomanError):
    """More work is waiting than is taken on, and it didn't grow less in time."""


class RankFailed(DragomanError):
    """One of the processes that run a model together has failed or is gone, so that none can go on."""

    @classmethod
    def gone(cls, error: BaseException) -> "RankFailed":
        """What is said where `error` shows it."""
        reason = (str(error).strip().splitlines() or [""])[0]
        reason = reason.rpartition("] ")[2].partition(". ")[0]  # of a library's, not where in its source
        return cls(
            f"a rank has failed or is gone, so that none can go on ({type(error).__name__}: {reason:.200}). "
            "What it said itself tells more; start all ranks again"
        )


class LanguageModuleError(DragomanError, ValueError):
    """A row needs a language module that the model doesn't have, or a change of modules is impossible."""


class ConfigError(DragomanError, ValueError):
    """A config.json that describes no model we know."""


class CheckpointError(DragomanError, ValueError):
    """A folder or file that holds no usable weights."""


class TranslationWarning(UserWarning):
    """A translation that the user should look at; it is there all the same.

    kind: a short name of what is the matter: "language", "limit", "repetition", "markup", ...;
    sentence: which sentence of the text it is about, from 1 on; None if it is about all of it.
    """

    def __init__(self, message: str, kind: str, sentence: int | None = None) -> None:
        super().__init__(message, kind, sentence)
        self.kind, self.sentence = kind, sentence

    def __str__(self) -> str:
        return str(self.args[0])


class NoNumbers(DragomanError, ArithmeticError):
    """The model computed NaN or infinite scores, so that no token is the best."""

    def __init__(
        self,
        message: str = "the model computed scores that are no numbers (NaN or infinite): its weights are "
        "damaged, or too large for this precision; try fp32, or take another copy of the model",
    ) -> None:
        super().__init__(message)


class TrainingDiverged(DragomanError, FloatingPointError):
    """A loss is NaN or infinite; the message says how to go on."""


class KeyMismatch(CheckpointError):
    """Tensors that are missing, unexpected or of another shape than the config says.

    The message names the first of each kind, the attributes all of them: `missing` and
    `unexpected` are names, `misshapen` maps a name to its (stored, expected) shapes.
    """

    SHOWN = 20

    def __init__(
        self,
        message: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Mapping[str, tuple[Shape, Shape]] | None = None,
    ) -> None:
        super().__init__(message)
        self.missing = list(missing)
        self.unexpected = list(unexpected)
        self.misshapen = dict(misshapen or {})

    @classmethod
    def in_folder(
        cls,
        folder: object,
        missing: Sequence[str],
        unexpected: Sequence[str],
        misshapen: Mapping[str, tuple[Shape, Shape]],
        described_by: str = "its config.json",
    ) -> "KeyMismatch":
        """The error for a checkpoint folder: counts first, then names, then what to do."""
        shapes = [
            f"{name} is {_text(is_)}, expected {_text(want)}" for name, (is_, want) in misshapen.items()
        ]
        lines = [
            f"the weights in {folder} are not those of {described_by}: {len(missing)} missing, "
            f"{len(unexpected)} unexpected, {len(misshapen)} of another shape",
            *_excerpt("missing", missing, cls.SHOWN),
            *_excerpt("unexpected", unexpected, cls.SHOWN),
            *_excerpt("of another shape", shapes, cls.SHOWN),
            f"Check that {described_by.removeprefix('its ')} and the weights come from the same model, "
            "and download both again.",
        ]
        return cls("\n".join(lines), missing, unexpected, misshapen)


def _excerpt(title: str, names: Sequence[str], shown: int) -> list[str]:
    if not names:
        return []
    rest = len(names) - shown
    more = [f"  … and {rest} more"] if rest > 0 else []
    return [f"{title}:", *(f"  {name}" for name in names[:shown]), *more]


def _text(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
