"""Self-hosted translation with NLLB-200 and NLLB-MoE.

>>> from dragoman import Translator
>>> Translator.load().translate("Good morning!", source="en", target="fr")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragoman.generation.options import GenerationOptions
    from dragoman.languages import Language, find
    from dragoman.text.tokenizers import NllbTokenizer
    from dragoman.translator import Translation, Translator

__version__ = "0.1.0"
__all__ = ["GenerationOptions", "Language", "NllbTokenizer", "Translation", "Translator", "find"]

_HOMES = {
    "GenerationOptions": "dragoman.generation.options",
    "Language": "dragoman.languages",
    "NllbTokenizer": "dragoman.text.tokenizers",
    "Translation": "dragoman.translator",
    "Translator": "dragoman.translator",
    "find": "dragoman.languages",
}


def __getattr__(name: str) -> object:
    # Late, so that `import dragoman` takes milliseconds and never loads torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dragoman' has no attribute {name!r}")
