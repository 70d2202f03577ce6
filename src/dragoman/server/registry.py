"""The models of a server: by name, and by the pair of languages that they are to translate."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragoman.errors import InvalidOption, UnknownLanguage
from dragoman.languages import Language, find, find_source, of_code
from dragoman.server.faults import Fault
from dragoman.text.detect import Detection, detect

if TYPE_CHECKING:
    from dragoman.server.models import Model

ANY = "*"
_LONGEST_PAIR, _MOST_HYPHENS = 80, 6
"""Of two languages in their longest spellings."""
_ADVICE = "List them with: dragoman languages"
"""What is for people at a terminal."""


@dataclass(frozen=True)
class Route:
    """Which model translates a pair of languages; None stands for any."""

    source: Language | None
    target: Language | None
    model: str


def read_routes(lines: Sequence[str], names: Sequence[str]) -> tuple[Route, ...]:
    """Routes as they are written, SOURCE-TARGET=NAME. Raises InvalidOption."""
    return tuple(_read_route(line, names) for line in lines)


def _read_route(line: str, names: Sequence[str]) -> Route:
    match = re.fullmatch(r"\s*(.+?)\s*=\s*(.+?)\s*", line)
    if match is None:
        raise InvalidOption(f"route {line!r} is not of the form SOURCE-TARGET=NAME")
    pair, name = match.groups()
    if name not in names:
        raise InvalidOption(f"route {line!r}: there is no model {name!r} here; there are {', '.join(names)}")
    parts = split_pair(pair)
    if parts is None:
        raise InvalidOption(f"route {line!r}: {pair!r} is no pair of languages, such as en-zh or *-zh")
    source, target = (None if part == ANY else find(part) for part in parts)
    return Route(source, target, name)


def split_pair(pair: str) -> tuple[str, str] | None:
    """Two languages with a hyphen between them, each in any spelling or *; None if they are none.

    zh-Hant-en may be cut in two ways, of which the one with two languages counts. Capitals behind small
    letters are a region: pt-BR is no way to Breton.
    """
    if len(pair) > _LONGEST_PAIR or pair.count("-") > _MOST_HYPHENS:
        return None
    cuts = [at for at, character in enumerate(pair) if character == "-"]
    for at in cuts:
        source, target = pair[:at], pair[at + 1 :]
        if not (target.isupper() and source.islower()) and all(
            part == ANY or _is_language(part) for part in (source, target)
        ):
            return source, target
    return None


def _is_language(spelling: str) -> bool:
    try:
        find(spelling)
    except UnknownLanguage:
        return False
    return True


class Registry:
    """The models of a server. The first is the one for requests that don't say which."""

    def __init__(self, translators: "Mapping[str, Model]", routes: Sequence[str] = ()) -> None:
        if not translators:
            raise InvalidOption("a server needs a model at least")
        self.translators = dict(translators)
        self.routes = read_routes(routes, list(translators))
        spoken: dict[str, Language] = {}
        for translator in translators.values():
            spoken |= {language.nllb: language for language in translator.languages}
        self.languages: tuple[Language, ...] = tuple(spoken.values())
        """Those that any model speaks."""

    @property
    def default(self) -> str:
        return next(iter(self.translators))

    def find(self, spelling: object, param: str = "target") -> Language:
        """A language that a request names. Raises a Fault."""
        if not isinstance(spelling, str):
            raise Fault(400, "unknown_language", f"{param} must be a string that names a language", param)
        try:
            return find(spelling, self.languages)
        except UnknownLanguage as error:
            said = str(error).replace(_ADVICE, "").strip()
            raise Fault(400, "unknown_language", said, param) from None

    def find_source(self, spelling: object, param: str = "source") -> Language | None:
        """As `find`; None for a language that is to be detected."""
        if spelling is None:
            return None
        if isinstance(spelling, str):
            try:
                return find_source(spelling, self.languages)
            except UnknownLanguage:
                pass
        return self.find(spelling, param)

    def named(self, name: str) -> "Model":
        """The model of this name. Raises a Fault."""
        if name not in self.translators:
            known = ", ".join(self.translators)
            raise Fault(
                404, "model_not_found", f"there is no model {name[:80]!r} here; there are {known}", "model"
            )
        return self.translators[name]

    def choose(self, name: str | None, source: Language | None, target: Language) -> str:
        """The name of the model that translates a pair: the one asked for, else what the routes say, else the
        first that speaks both. Raises a Fault if there is none.
        """
        if name is not None:
            self.named(name)
            candidates = [name]
        else:
            routed = (route.model for route in self.routes if _fits(route, source, target))
            candidates = [*routed, *self.translators]
        for candidate in candidates:
            spoken = self.translators[candidate].languages
            if target in spoken and (source is None or source in spoken):
                return candidate
        said = " to ".join(language.name for language in (source, target) if language)
        whose = "no model here" if name is None else name
        raise Fault(400, "unsupported_pair", f"{whose} translates {said}", "target")

    def detect(self, text: str) -> Detection | None:
        """The language of a text among those of all models."""
        return detect(text, frozenset(language.nllb for language in self.languages))

    def source_of(self, text: str, name: str | None) -> Language | None:
        """The language of a text where a route depends on it; None leaves it to the model."""
        if name is not None or len(self.translators) == 1:
            return None
        found = self.detect(text)
        return of_code(found.code) if found else None


def _fits(route: Route, source: Language | None, target: Language) -> bool:
    return route.target in (None, target) and (route.source is None or route.source == source)
