"""Which of two ways of prompting a model of the ALMA family was trained for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.files import read_json

Style = Literal["chat", "plain"]
"""`chat` is X-ALMA's, a turn of a Llama-2 chat; `plain` is ALMA's and ALMA-R's."""
STYLES: tuple[Style, ...] = get_args(Style)
TURN = "[INST]"


def known_style(style: str | None) -> Style:
    """`style`; InvalidOption if there is no such one."""
    if style not in STYLES:
        raise InvalidOption(f"{style!r} is no style of prompts; there are {' and '.join(map(repr, STYLES))}")
    return style


def style_of(folder: str | Path, name: str | None = None, style: Style | None = None) -> Style:
    """The style of the model in `folder`, which is known as `name` (such as haoranxu/X-ALMA).

    `style` settles it. Else the name does, the folder's own or the one in config.json: X-ALMA
    chats, ALMA and ALMA-R don't, and no more do the base models they were trained from. Any
    other model chats if its chat template is Llama-2's, and doesn't if it has none;
    CheckpointError if it has one of another kind.
    """
    if style is not None:
        return known_style(style)
    folder = Path(folder)
    config = _read(folder / "config.json")
    for candidate in (name, config.get("model_type"), config.get("_name_or_path"), folder.resolve().name):
        last = str(candidate or "").rstrip("/").split("/")[-1].lower()
        if re.search(r"(?<![a-z])x[-_]?alma(?![a-z])", last):
            return "chat"
        if re.search(r"(?<![a-z])alma(?![a-z])", last):
            return "plain"
    templates = list(_templates(folder))
    if any(TURN in template for template in templates):
        return "chat"
    if not templates:
        return "plain"
    raise CheckpointError(
        f"{folder} has a chat template, but not Llama-2's with its {TURN}; "
        "if the model reads ALMA's prompts all the same, say style='chat' or style='plain'"
    )


def _templates(folder: Path) -> Iterator[str]:
    """Every chat template in a folder, in whichever of the places where they may be."""
    for name in ("tokenizer_config.json", "chat_template.json"):
        found = _read(folder / name).get("chat_template")
        if isinstance(found, str):
            yield found
        elif isinstance(found, list):
            yield from (str(entry.get("template")) for entry in found if isinstance(entry, dict))
    if (path := folder / "chat_template.jinja").is_file():
        yield path.read_text(encoding="utf-8", errors="replace")


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, CheckpointError) if path.is_file() else {}
