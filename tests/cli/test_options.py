"""What may be asked for on the command line, and what is said of mistakes."""

from dataclasses import dataclass

import pytest
import typer

from dragoman.cli.commands import field_docs, takes
from dragoman.cli.messages import worded
from dragoman.errors import DragomanError, InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import LoadOptions, TextOptions
from dragoman.translation.translator import Translator


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--to", "xx", "Hello."], "'xx' is no language I know"),
        (["--from", "nope", "Hello."], "'nope' is no language"),
        (["--to", "fr", "--beams", "0", "Hello."], "--beams is 0"),
        (["--to", "fr", "--batch-size", "0", "Hello."], "--batch-size is 0"),
        (["--to", "fr", "--timeout", "-1", "Hello."], "--timeout is -1"),
        (["--to", "fr", "--top-k", "5", "Hello."], "set --sample"),
        (["--to", "fr", "--seed", "5", "Hello."], "add --sample"),
        (["--to", "fr", "--sample", "--beams", "4", "Hello."], "set --beams 1 (it is 4)"),
        (["--to", "fr", "--n-best", "3", "Hello."], "add --json"),
        (["--to", "fr", "--n-best", "5", "--json", "Hello."], "--n-best is 5, but only 4"),
        (["--to", "fr", "--input", "no-such-file"], "no-such-file can't be read: No such file"),
        (["--to", "fr", "--format", "lines", "--input", "/"], "is a folder"),
        (["--to", "fr", "--input", "x", "Hello."], "not both"),
        (["--to", "fr", "-", "Hello."], "stands for standard input"),
        (["--to", "fr", "--output", "/no/such/folder/out.txt", "Hello."], "can't be written: No such file"),
        (["--to", "fr", "--output", "/", "Hello."], "it is a folder"),
        (["--to", "fr", "--vocabulary-text", "x", "Hello."], "goes with --vocabulary and --to"),
        (["--vocabulary", "9", "--vocabulary-text", "x", "Hello."], "goes with --vocabulary and --to"),
        (["--to", "fr", "--vocabulary", "9", "--vocabulary-text", "no-such", "Hello."], "can't be read"),
    ],
)
def test_mistakes_get_one_clear_line_before_a_model_is_loaded(dragoman, monkeypatch, args, message):
    monkeypatch.setattr(Translator, "load", None)
    result = dragoman("translate", *args)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_a_language_that_the_model_does_not_speak_is_one_clear_line(run):
    result = run("translate", "--to", "ja", "--from", "en", "Hello.")
    assert result.code == 2
    assert "Japanese" in result.err


@pytest.mark.parametrize(
    "args", [("-i", "a", "-i", "b"), ("--to", "fr", "-t", "de"), ("--beams", "2", "--beams=3")]
)
def test_an_option_given_twice_is_refused(dragoman, args):
    result = dragoman("translate", *args)
    assert result.code == 2
    assert "it was given 2 times" in result.err


@pytest.mark.parametrize(
    "command", [(), ("translate",), ("ask",), ("languages",), ("models",), ("modules", "merge")]
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(dragoman, command, flag):
    result = dragoman(*command, flag)
    assert result.code == 0
    assert "Usage" in result.out


def test_help_tells_of_environment_exit_status_and_all_systems(dragoman):
    out = dragoman("--help").out
    for word in (
        "X-ALMA",
        "DRAGOMAN_MODEL",
        "DRAGOMAN_PRECISION",
        "DRAGOMAN_KERNELS",
        "HF_HOME",
        "LANGUAGE",
        "141",
    ):
        assert word in out


def test_completion_can_be_had(dragoman, monkeypatch):
    assert "--show-completion" in dragoman("--help").out
    monkeypatch.setenv("_DRAGOMAN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "dragoman trans")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert dragoman().out.split() == ["translate"]
    monkeypatch.setenv("COMP_WORDS", "dragoman translate --to zh")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert "zho_Hant" in dragoman().out.split()


def test_every_option_is_explained():
    for options in (LoadOptions, TextOptions, GenerationOptions):
        docs = field_docs(options)
        assert list(docs) == list(options.__dataclass_fields__)
        assert all(docs.values()), options


def test_what_may_be_text_is_read_as_text():
    @dataclass(frozen=True)
    class LoadOptions:
        memory: int | str | None = None
        """How much."""
        threads: int | None = None
        """How many."""

    given = []
    app = typer.Typer()
    app.command()(takes(LoadOptions)(lambda chosen: given.append(chosen)))
    for args in (["--memory", "12GB"], ["--memory", "12", "--threads", "12"], []):
        app(args, standalone_mode=False)
    assert given == [{"memory": "12GB"}, {"memory": "12", "threads": 12}, {}]


def test_an_option_without_a_spelling_is_a_mistake_of_ours():
    with pytest.raises(TypeError, match="no option for early_stopping"):
        takes(GenerationOptions)(lambda chosen: None)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("beams is 0; it must be a number", "--beams is 0; it must be a number"),
        ("set sample=True (--sample)", "set --sample"),
        (
            "temperature, top_k and top_p are for sampling",
            "temperature, --top-k and --top-p are for sampling",
        ),
        ("set precision='int8'", "set --precision 'int8'"),
        ("give target='fr'", "give --to 'fr'"),
        ("the model's beams are its own", "the model's beams are its own"),
        ("say style='chat'", "say style='chat'"),
    ],
)
def test_advice_names_options_as_they_are_typed(message, said):
    assert worded(InvalidOption(message)) == said


def test_advice_that_only_python_can_follow_is_replaced(tmp_path):
    from dragoman.text.prompt_style import style_of

    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "<|im_start|>"}')
    with pytest.raises(DragomanError) as raised:
        style_of(tmp_path)
    assert "style=" in str(raised.value)
    assert "style=" not in worded(raised.value)
    assert "rename the folder" in worded(raised.value)


def test_version(dragoman):
    assert dragoman("--version").out.startswith("dragoman ")
