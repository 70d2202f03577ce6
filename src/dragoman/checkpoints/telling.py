"""Dense NLLB-200, M2M-100 or SMaLL-100: models of one type, told apart by what lies beside their config.

NLLB's and M2M-100's tokenizers have different files. SMaLL-100 has M2M-100's files, yet its source begins
with the language of the target: taken for M2M-100 it would write in a wrong language. So all that there is
must agree on which of the two it is, or else the card has to say it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoints.cards import CARD
from dragoman.errors import ConfigError
from dragoman.files import read_json
from dragoman.models.config import NllbConfig
from dragoman.text.tokenizers.added import CONFIG_NAME
from dragoman.text.tokenizers.m2m100 import VOCABULARY_NAME

NLLB, M2M100, SMALL100 = "NLLB", "M2M-100", "SMaLL-100"
_CLASSES = {
    "NllbTokenizer": NLLB,
    "NllbTokenizerFast": NLLB,
    "SMALL100Tokenizer": SMALL100,
    "M2M100Tokenizer": M2M100,
}
_SMALL100_CODE = "tokenization_small100.py"


def tell_dense(folder: Path, config: Mapping[str, Any]) -> str:
    """The name of the family of a model of type `m2m_100`; ConfigError if it may be of two.

    1. The tokenizer's class in tokenizer_config.json tells NLLB; without one, that there is no vocab.json.
    2. SMaLL-100 is what has its tokenizer's class or code, or its name and, as it has, fewer layers in the
       decoder than in the encoder. What has only one of these two is undecided.
    """
    settings = _settings(folder)
    said = _CLASSES.get(str(settings.get("tokenizer_class")))
    if said == NLLB or (said is None and not (folder / VOCABULARY_NAME).is_file()):
        return NLLB
    if said == SMALL100 or (folder / _SMALL100_CODE).is_file():
        return SMALL100
    names = (name_of(folder), config.get("_name_or_path"), settings.get("name_or_path"))
    is_named = any("small100" in re.sub("[^a-z0-9]", "", str(name).lower()) for name in names)
    shape = NllbConfig.from_dict(config)
    is_shallow = shape.decoder_layers < shape.encoder_layers
    if is_named != is_shallow:
        raise ConfigError(
            f"{folder} may hold M2M-100 or SMaLL-100, which are told a sentence's languages differently: it "
            f"{'has' if is_named else 'lacks'} SMaLL-100's name, and its encoder has {shape.encoder_layers} "
            f"layers and its decoder {shape.decoder_layers} (SMaLL-100's: 12 and 3). Say which one it is in "
            f'{CARD} in this folder: {{"family": "{M2M100}"}} or {{"family": "{SMALL100}"}}'
        )
    return SMALL100 if is_named else M2M100


def name_of(folder: Path) -> str:
    """A folder's name, or the repository's where it is in the hub's cache."""
    folder = folder.absolute()
    # The cache keeps models--owner--name/snapshots/revision.
    return folder.parents[1].name if folder.parent.name == "snapshots" else folder.name


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_NAME
    return read_json(path, ConfigError) if path.is_file() else {}
