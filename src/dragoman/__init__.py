"""Self-hosted translation with NLLB-200, NLLB-MoE and X-ALMA.

>>> from dragoman import Translator
>>> Translator.load().translate("Good morning!", source="en", target="fr")
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dragoman.errors import (
    CheckpointError,
    ConfigError,
    DragomanError,
    InvalidDocument,
    InvalidOption,
    InvalidText,
    JobError,
    JobRunning,
    KeyMismatch,
    LanguageModuleError,
    NoNumbers,
    NotEnoughMemory,
    Overloaded,
    RankFailed,
    TrainingDiverged,
    TranslationFailed,
    TranslationTimeout,
    TranslationWarning,
    UnknownLanguage,
)

if TYPE_CHECKING:
    from dragoman.generation.options import GenerationOptions
    from dragoman.languages import Language, find
    from dragoman.text.glossary import Glossary
    from dragoman.text.tokenizers import NllbTokenizer
    from dragoman.translation.memory import TranslationMemory
    from dragoman.translation.results import Candidate, Sentence, Text, Translation
    from dragoman.translation.translator import Translator

__version__ = "0.1.0"
__all__ = [
    "Candidate",
    "CheckpointError",
    "ConfigError",
    "DragomanError",
    "GenerationOptions",
    "Glossary",
    "InvalidDocument",
    "InvalidOption",
    "InvalidText",
    "JobError",
    "JobRunning",
    "KeyMismatch",
    "Language",
    "LanguageModuleError",
    "NllbTokenizer",
    "NoNumbers",
    "NotEnoughMemory",
    "Overloaded",
    "RankFailed",
    "Sentence",
    "Text",
    "TrainingDiverged",
    "Translation",
    "TranslationFailed",
    "TranslationMemory",
    "TranslationTimeout",
    "TranslationWarning",
    "Translator",
    "UnknownLanguage",
    "find",
]

# Loaded when first asked for, so that `import dragoman` takes milliseconds and never loads torch.
_HOMES = {
    "Candidate": "dragoman.translation.results",
    "GenerationOptions": "dragoman.generation.options",
    "Glossary": "dragoman.text.glossary",
    "Language": "dragoman.languages",
    "NllbTokenizer": "dragoman.text.tokenizers",
    "Sentence": "dragoman.translation.results",
    "Text": "dragoman.translation.results",
    "Translation": "dragoman.translation.results",
    "TranslationMemory": "dragoman.translation.memory",
    "Translator": "dragoman.translation.translator",
    "find": "dragoman.languages",
}


if not TYPE_CHECKING:  # to type checkers such a function means that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            found = globals()[name] = getattr(import_module(_HOMES[name]), name)
            return found
        raise AttributeError(f"module 'dragoman' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])
