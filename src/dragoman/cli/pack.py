"""`dragoman pack`: a smaller model for some languages, and what that cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragoman.cli.expert_texts import TEXT, Text, observed, read_text
from dragoman.cli.messages import say
from dragoman.cli.tables import print_table
from dragoman.cli.writing import progress_bar
from dragoman.errors import InvalidOption
from dragoman.languages import find, of_code

if TYPE_CHECKING:
    from dragoman.checkpoints.cutting import Kept
    from dragoman.evaluation.costs import Cost
    from dragoman.evaluation.experts import ExpertStatistics
    from dragoman.models.config import NllbConfig
    from dragoman.text.tokenizers.cutting import CutTokenizer
    from dragoman.translation.translator import Translator


@dataclass(frozen=True)
class Direction:
    """Sentences to translate in order to see what a pack cost."""

    source: str
    target: str
    """NLLB codes."""
    texts: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class Before:
    """What the whole model does."""

    statistics: "ExpertStatistics | None"
    translations: list[list[str]]
    """Of each direction."""


def pack(
    model: Annotated[str, typer.Argument(help="A model's name, folder or hub owner/name.")],
    languages: Annotated[str, typer.Option(metavar="LANGUAGES", help="What the pack speaks: en,fr,de.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or int4.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    keep_experts: Annotated[
        float | None,
        typer.Option(help="The share of a mixture's experts that stays: 0.3.", show_default=False),
    ] = None,
    vocabulary: Annotated[
        str, typer.Option(metavar="N|all", help="How many tokens stay for each language (not X-ALMA).")
    ] = "32000",
    statistics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="From dragoman experts report; else what lies beside the model."),
    ] = None,
    text: Annotated[list[str] | None, TEXT] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE:LANGUAGE=FILE",
            help="Lines with translations behind a tab: score both directions before and after. Repeat.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What --text and --check run as the whole model, if not MODEL: MODEL converted.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another packed model.")] = False,
) -> None:
    """Make a smaller packed model for some languages.

    Of NLLB's kind the tokens stay that these languages need, and of a
    mixture of experts the most important ones for them; of X-ALMA the
    modules of their groups. What that costs is measured with --check,
    and stated in the model's card.
    """
    from dragoman.checkpoints.catalog import find_card, locate
    from dragoman.systems import converting
    from dragoman.systems.packs import LanguagePack, config_of, needed_vocabulary, pack_languages

    folder, out = locate(model), out.expanduser()
    card = find_card(folder)
    converting.check(folder, out, precision, force)
    codes = pack_languages(card, languages.split(","))
    config, size = config_of(folder), _size(vocabulary)
    known = _known(folder, config, keep_experts, statistics, text)
    directions = _directions(check or (), codes)
    texts, before = [read_text(item) for item in text or ()], Before(known, [])
    sparse = config is not None and config.is_sparse
    if (texts and sparse) or directions:
        before = _before(against or model, precision, texts if sparse else (), directions, known)
    if card.pivot is not None and card.pivot not in [find(name).nllb for name in languages.split(",")]:
        say(f"{of_code(card.pivot).name} stays too: the model translates by way of it")
    kept = _kept(config, before.statistics, codes, keep_experts)
    tokens = None
    if config is not None and size is not None:
        tokens = needed_vocabulary(folder, codes, size, _by_language(texts))
    if config is not None and kept is None and tokens is None:
        raise InvalidOption(
            f"{model} would stay as it is: it has no experts, and all of its tokens would be kept. Say a "
            "smaller --vocabulary, or pack all of it with dragoman convert"
        )
    with progress_bar() as report:
        pack = LanguagePack(codes, kept, tokens)
        converting.convert(folder, out, precision, model, force=force, progress=report, pack=pack)
    summary = _summary(kept, config) + _tokens_left(tokens)
    say(f"wrote {out}: {summary}{', '.join(of_code(code).name for code in codes)}")
    if directions:
        _state(out, _costs(out, directions, before.translations))


def _known(
    folder: Path,
    config: "NllbConfig | None",
    share: float | None,
    given: Path | None,
    text: Sequence[str] | None,
) -> "ExpertStatistics | None":
    """The statistics that there are already; None where they are to be collected, or there are no experts."""
    from dragoman.evaluation.expert_choice import check_share
    from dragoman.evaluation.experts import STATISTICS, ExpertStatistics

    if config is None:
        if share is not None or given is not None or text:
            raise InvalidOption(
                "--keep-experts, --statistics and --text are for a mixture of experts; of X-ALMA the modules "
                "of the languages' groups stay"
            )
        return None
    if not config.is_sparse:
        if share is not None or given is not None:
            raise InvalidOption(
                "--keep-experts and --statistics are for a mixture of experts, which this model isn't; of it "
                "the tokens of the languages stay (--vocabulary)"
            )
        return None
    if share is None:
        raise InvalidOption("say how many of the experts are to stay, such as --keep-experts 0.3")
    check_share(share)
    if given is not None and text:
        raise InvalidOption("give --statistics or --text, not both")
    if text:
        return None
    beside = folder / STATISTICS
    if given is None and not beside.is_file():
        raise InvalidOption(
            "which experts matter isn't known: give --text fr:en=FILE with texts of all the pack's "
            "languages, or --statistics FILE, which dragoman experts report makes"
        )
    return ExpertStatistics.read(beside if given is None else given.expanduser())


def _kept(
    config: "NllbConfig | None",
    statistics: "ExpertStatistics | None",
    codes: Sequence[str],
    share: float | None,
) -> "Kept | None":
    from dragoman.systems.packs import needed_experts

    if config is None or statistics is None or share is None:
        return None
    return needed_experts(config, statistics, codes, share)


def _directions(checks: Sequence[str], codes: Sequence[str]) -> list[Direction]:
    """What --check asks for, each file in both directions."""
    from dragoman.evaluation.metrics import need_sacrebleu

    if checks:
        need_sacrebleu()
    spoken, found = [of_code(code) for code in codes], []
    for item in checks:
        text = read_text(item, "--check")
        if text.source is None or text.target is None:
            raise InvalidOption(f"--check {item}: say which languages its columns are in: fr:en=FILE")
        source, target = (find(name, spoken).nllb for name in (text.source, text.target))
        texts, references = (tuple(column) for column in zip(*text.pairs(), strict=True))
        found.append(Direction(source, target, texts, references))
        found.append(Direction(target, source, references, texts))
    return found


def _before(
    model: str,
    precision: str,
    texts: Sequence[Text],
    directions: Sequence[Direction],
    known: "ExpertStatistics | None",
) -> Before:
    """What the whole model does: its statistics, unless they are known, and its translations."""
    from dragoman.checkpoints.catalog import locate
    from dragoman.checkpoints.packed_facts import is_packed
    from dragoman.translation.translator import Translator

    # A packed model has the precision that it was converted in.
    chosen = "auto" if is_packed(locate(model)) else precision
    with Translator.load(model, device="cpu", precision=chosen) as translator:
        statistics = observed(translator, texts, ()) if texts else known
        return Before(statistics, [_translated(translator, each) for each in directions])


def _translated(translator: "Translator", direction: Direction) -> list[str]:
    found = []
    for result in translator.stream(direction.texts, direction.source, direction.target):
        if result.error is not None:
            raise result.error
        found.append(result.text)
    return found


def _costs(out: Path, directions: Sequence[Direction], before: Sequence[list[str]]) -> "list[Cost]":
    from dragoman.evaluation.costs import Cost
    from dragoman.translation.translator import Translator

    with Translator.load(out) as translator:
        return [
            Cost.of(each.source, each.target, whole, _translated(translator, each), each.references)
            for each, whole in zip(directions, before, strict=True)
        ]


def _state(out: Path, costs: "Sequence[Cost]") -> None:
    """Put the costs into the pack's card, and show them."""
    from dragoman.checkpoints.cards import read_card, write_card

    card = read_card(out)
    assert card is not None
    write_card(out, replace(card, pack={**(card.pack or {}), "costs": [cost.to_dict() for cost in costs]}))
    rows = [
        (
            cost.source,
            cost.target,
            str(cost.sentences),
            *(f"{each.chrf:.1f}" for each in (cost.before, cost.after)),
            *(f"{each.length_ratio:.2f}" for each in (cost.before, cost.after)),
        )
        for cost in costs
    ]
    heads = ("from", "to", "sentences", "chrF++ before", "after", "length ratio before", "after")
    print_table(heads, rows)
    for cost in costs:
        for warning in cost.warnings():
            say(f"warning: {warning}. Keep more experts and tokens, or take the whole model")


def _by_language(texts: Sequence[Text]) -> dict[str, list[str]]:
    """The lines by NLLB code, where files were said to be in a language."""
    found: dict[str, list[str]] = {}
    for text in texts:
        if text.source is None:
            continue
        columns = [text.lines] if text.target is None else list(zip(*text.pairs(), strict=True))
        for name, lines in zip((text.source, text.target), columns, strict=False):
            found.setdefault(find(str(name)).nllb, []).extend(lines)
    return found


def _size(given: str) -> int | None:
    """Tokens for a language; None for all."""
    if given == "all":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InvalidOption(f"--vocabulary is {given!r}; say a number of tokens from 1, or all")
    return int(given)


def _tokens_left(tokens: "CutTokenizer | None") -> str:
    return "" if tokens is None else f"{len(tokens.ids.kept):,} of {len(tokens.ids.pieces):,} tokens; "


def _summary(kept: "Kept | None", config: "NllbConfig | None") -> str:
    if kept is None or config is None:
        return ""
    counts = {side: len(next(iter(layers.values()))) for side, layers in kept.items()}
    stated = (f"{count} of {config.experts(side)} in the {side}" for side, count in counts.items())
    return f"experts in a layer: {', '.join(stated)}; "
