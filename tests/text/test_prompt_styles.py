"""What a model's outputs end with, and the styles of prompts."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import CheckpointError, InvalidOption
from dragoman.text.prompt_style import Style, style_of
from dragoman.text.prompts import (
    certain_output,
    clean_output,
)

# Outputs


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (" Hello. ", "Hello."),
        ("", ""),
        (" \n ", ""),
        ("Hello.\nHow are you?\n\nFine.", "Hello.\nHow are you?\n\nFine."),
        ("Hello.\nGerman: Ja.\nEnglish: Yes.", "Hello."),
        ("Hello.\nEnglish: Hi.", "Hello."),
        ("Hello.</s> and so on", "Hello."),
        ("Hello. [INST] Translate this", "Hello."),
        ("Hello.\n[/INST] more", "Hello."),
        ("Hello.\n\nTranslate this from German to English:\nGerman: x", "Hello."),
        ("\nEnglish: Hello.\nYou.", "Hello.\nYou."),
        (" [/INST] Hello.", "Hello."),
        ("\n\nEnglish: [/INST] Hello.", "Hello."),
        ("English: a language", "English: a language"),
        ("He said: English:", "He said: English:"),
        ("\nGerman: Ja.", ""),
    ],
)
def test_an_output_ends_where_chatter_begins(output: str, wanted: str) -> None:
    assert clean_output(output, "English", "chat", "German") == wanted


def test_what_the_source_holds_itself_ends_nothing() -> None:
    output = "Write [INST] first.\nEnglish: yes</s>"
    assert clean_output(output, "English") == "Write"
    assert clean_output(output, "English", source_text="Schreib [INST] zuerst") == "Write [INST] first."
    source = "Schreib [INST] zuerst.\nEnglish: ja"
    assert clean_output(output, "English", source_text=source) == "Write [INST] first.\nEnglish: yes"


def test_turns_end_no_plain_output() -> None:
    assert clean_output("a [INST] b\nGerman: c", "English", "plain", "German") == "a [INST] b"


def test_an_unknown_source_name_is_no_label() -> None:
    assert clean_output("a\nGerman: b\nEnglish: c", "English") == "a\nGerman: b"


# Styles


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("haoranxu/X-ALMA", "chat"),
        ("haoranxu/X-ALMA-13B-Group6", "chat"),
        ("xalma", "chat"),
        ("my_x_alma_v2", "chat"),
        ("haoranxu/ALMA-13B-R", "plain"),
        ("haoranxu/ALMA-7B", "plain"),
        ("x-alma/ALMA-7B/", "plain"),
        ("alma-r", "plain"),
        ("meta-llama/Llama-2-7b-hf", "plain"),
        ("palma", "plain"),
    ],
)
def test_the_name_tells_the_style(tmp_path: Path, name: str, style: Style) -> None:
    assert style_of(tmp_path, name) == style
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": name}), encoding="utf-8")
    assert style_of(tmp_path) == style
    folder = tmp_path / "models" / name.rstrip("/").split("/")[-1]
    folder.mkdir(parents=True)
    assert style_of(folder) == style


def test_the_model_type_tells_the_style(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "xalma"}', encoding="utf-8")
    assert style_of(tmp_path) == "chat"


@pytest.mark.parametrize(
    "place", ["tokenizer_config.json", "chat_template.json", "chat_template.jinja", "named"]
)
def test_a_chat_template_tells_the_style_where_the_name_does_not(tmp_path: Path, place: str) -> None:
    template = "{{ bos_token }}[INST] {{ messages[0].content }} [/INST]"
    listed = [{"name": "default", "template": template}]
    content = {"chat_template": listed if place == "named" else template}
    name = "tokenizer_config.json" if place == "named" else place
    written = template if name.endswith("jinja") else json.dumps(content)
    (tmp_path / name).write_text(written, encoding="utf-8")
    assert style_of(tmp_path) == "chat"
    assert style_of(tmp_path, "ALMA-7B") == "plain"
    (tmp_path / name).write_text(written.replace("[INST]", "<|user|>"), encoding="utf-8")
    with pytest.raises(CheckpointError, match="not Llama-2's"):
        style_of(tmp_path)
    assert style_of(tmp_path, style="plain") == "plain"


def test_a_style_that_is_given_settles_it(tmp_path: Path) -> None:
    assert style_of(tmp_path, "X-ALMA", "plain") == "plain"
    with pytest.raises(InvalidOption, match="no style"):
        style_of(tmp_path, style="loud")  # type: ignore[arg-type]


def test_a_damaged_configuration_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="can't be read"):
        style_of(tmp_path)


# fmt: off
PIECES = st.sampled_from([
    "Hallo", " ", "\n", "German:", "\nGerman:", "\nEnglish:", "Eng", "[INST]", "[/INST]", "[/", "INST]",
    "<s>", "ü", "</s>", "<", "/s>", "\nTranslate this from ", "Translate", "\nT", "\t", "[", "<<SYS>>", "<<",
])
# fmt: on


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from(["chat", "plain"]), st.sampled_from(["", "a <s> b"]))
def test_certain_output_is_what_the_clean_output_begins_with(
    pieces: list[str], style: Style, source: str
) -> None:
    whole = "".join(pieces)
    final = clean_output(whole, "German", style, "English", source)
    for end in range(len(whole) + 1):
        assert final.startswith(certain_output(whole[:end], "German", style, "English", source))


def test_certain_output_keeps_back_only_what_may_become_a_stop() -> None:
    assert certain_output("Hallo Welt", "German") == "Hallo Welt"
    assert certain_output("Hallo\nGer", "German") == "Hallo"
    assert certain_output("Hallo\nWelt", "German") == "Hallo\nWelt"
    assert certain_output("Hallo\nGerman: x", "German") == "Hallo"
    assert certain_output("a < b", "German") == "a < b"
