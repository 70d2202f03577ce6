"""py3langid's model, and how its labels relate to NLLB's codes."""

import zlib
from array import array
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from dragoman.files import replacing_file
from dragoman.folders import cache_folder
from dragoman.languages import find, look_up

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

NO_LANGUAGE = "zxx"
"""py3langid's label for codes, markup and the like."""

# Labels that stand for another code than `find` gives, or for the next best where that isn't spoken.
_LABEL_HOMES: dict[str, tuple[str, ...]] = {
    "ary": ("ary_Arab", "arb_Arab"), "arz": ("arz_Arab", "arb_Arab"), "fa": ("pes_Arab", "prs_Arab"),
    "nn": ("nno_Latn", "nob_Latn"), "no": ("nob_Latn", "nno_Latn"),
    "wuu": ("zho_Hans", "zho_Hant"), "yue": ("yue_Hant", "zho_Hant", "zho_Hans"),
    "zh": ("zho_Hans", "zho_Hant"),
    "grc": ("ell_Grek",), "hbo": ("heb_Hebr",), "sdh": ("ckb_Arab",),
    "dz": (),  # given to all Tibetan script, where Standard Tibetan is likelier
}  # fmt: skip

STANDARD = {"ary_Arab": "arb_Arab", "arz_Arab": "arb_Arab", "nno_Latn": "nob_Latn"}
"""The standard language of each dialect that py3langid tells apart."""

_MORE_SCRIPTS = {"gom": "Deva", "sr": "Latn", "uz": "Cyrl", "uzs": "Arab"}  # besides those of the homes

_loading = Lock()
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""What zipfile and NumPy make of a file that isn't what was kept; NotImplementedError is a RuntimeError."""
_PARTS = ("ptc", "pc", "classes", "nextmove", "row", "output")


def identifier() -> "LanguageIdentifier":
    """py3langid with all its languages, loaded once. It is shared: change nothing in it."""
    with _loading:
        return _load()


def prepare() -> None:
    """Load it in a thread, as unpacking takes a while in which others can work."""
    Thread(target=identifier, name="dragoman language identifier", daemon=True).start()


@cache
def _load() -> "LanguageIdentifier":
    import numpy as np
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    ptc, pc, classes, moves, row, output = unpacked(Path(MODEL_DIR, MODEL_FILE))
    return LanguageIdentifier(
        np.asarray(ptc), np.asarray(pc), classes, moves, output, norm_probs=True, tk_row=row
    )


def unpacked(model: Path) -> tuple[Any, ...]:
    """What py3langid reads from its model file.

    Unpacking it takes a second of a processor, five times as long as reading what comes out (70 MB). So that
    is kept in the user's cache, where there can be one; each release of the file has its own.
    """
    from py3langid.modelio import load_model

    at = cache_folder()
    if at is None:
        return load_model(model)
    stat = model.stat()
    kept = at / f"py3langid-{version('py3langid')}-{stat.st_size}.npz"
    try:
        return _kept(kept)
    except _DAMAGED:
        found = load_model(model)  # there is none yet, or it is damaged
    # Who can't write there does without.
    with suppress(OSError):
        _keep(kept, found)
        for old in kept.parent.glob("py3langid-*.npz"):
            if old != kept:
                old.unlink()  # of another release
    return found


def _kept(path: Path) -> tuple[Any, ...]:
    """Sums are checked as the parts are read."""
    import numpy as np

    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        ptc, pc, classes, moves, row, output = (data[name] for name in _PARTS)
    # The walk over a text's bytes is faster in these than in NumPy's arrays.
    return (
        ptc,
        pc,
        classes.tolist(),
        *(array(a.dtype.char, a.tobytes()) for a in (moves, row)),
        output.tolist(),
    )


def _keep(path: Path, found: tuple[Any, ...]) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: np.asarray(part) for name, part in zip(_PARTS, found, strict=True)}
    with replacing_file(path) as file:
        np.savez(file, **arrays)


@cache
def label_homes(label: str) -> tuple[str, ...]:
    """The NLLB codes that a label of py3langid may stand for, best first; none if NLLB doesn't speak it."""
    if label in _LABEL_HOMES:
        return _LABEL_HOMES[label]
    language = look_up(label)
    return () if language is None else (language.nllb,)


@cache
def label_scripts(label: str) -> frozenset[str]:
    """The scripts in which py3langid knows a language."""
    scripts = {find(code).script for code in label_homes(label)}
    if label in _MORE_SCRIPTS:
        scripts.add(_MORE_SCRIPTS[label])
    return frozenset(scripts or {"Latn"})


@lru_cache(maxsize=256)
def homes_among(candidates: frozenset[str]) -> dict[str, str]:
    """Which of the candidates each label of py3langid stands for; labels that stand for none are left out."""
    homes: dict[str, str] = {}
    if not candidates:
        return homes  # without loading py3langid
    for label in identifier().labels:
        spoken = [code for code in label_homes(label) if code in candidates]
        if spoken:
            homes[label] = spoken[0]
    return homes
