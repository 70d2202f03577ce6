"""`dragoman ask`: questions to a model that chats."""

import sys
from typing import Annotated, Any

import typer

from dragoman import languages as table
from dragoman.cli.commands import complete_language, pick, takes
from dragoman.cli.inputs import read_all
from dragoman.cli.messages import put
from dragoman.cli.model import load, serve_rank
from dragoman.cli.records import as_json
from dragoman.generation.options import GenerationOptions
from dragoman.translation.options import LoadOptions, TextOptions

DEFAULTS = {"beams": 5, "max_new_tokens": 512}


@takes(
    LoadOptions,
    GenerationOptions,
    but=("model", "vocabulary", "vocabulary_text", "n_best", "early_stopping", "suppress"),
    instead=DEFAULTS,
)
def ask(
    chosen: dict[str, Any],
    lang: Annotated[
        str,
        typer.Option(
            "--lang",
            "-l",
            metavar="LANGUAGE",
            help="The language of question and answer.",
            autocompletion=complete_language,
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", envvar="DRAGOMAN_MODEL", help="An X-ALMA model.")],
    question: Annotated[
        str | None,
        typer.Argument(help="The question, in the language of --lang; without it, or for -, standard input."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that the answer may take.")] = None,
    json: Annotated[bool, typer.Option("--json", help="A JSON object with question and answer.")] = False,
) -> None:
    """Ask a chat-tuned model (X-ALMA) an open question."""
    serve_rank({"model": model, **pick(chosen, LoadOptions)})
    if not table.is_code(lang):  # a code may be of this model alone
        table.find(lang)
    generation = pick(chosen, GenerationOptions)
    defaults = DEFAULTS | ({"beams": 1} if generation.get("sample") else {})
    options: dict[str, Any] = defaults | generation
    GenerationOptions(**options)
    if timeout is not None:
        TextOptions(timeout=timeout)
        options["timeout"] = timeout
    text = read_all(question)
    translator = load({"model": model, **pick(chosen, LoadOptions)})
    if json:
        answer = translator.ask(text, lang, **options)
        put(
            as_json(
                {"question": text, "answer": answer, "language": table.find(lang, translator.languages).nllb}
            )
        )
    elif sys.stdout.isatty():
        for piece in translator.ask_live(text, lang, **options):
            print(piece, end="", flush=True)
        print()
    else:
        put(translator.ask(text, lang, **options))
