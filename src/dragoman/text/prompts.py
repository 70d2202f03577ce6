"""The prompts of ALMA and X-ALMA, in which a source text can't be taken for the prompt's own words.

ALMA and ALMA-R read `plain` prompts: `Translate this from {A} to {B}:\\n{A}: {text}\\n{B}:`, after
`<s>`. X-ALMA reads the same as a turn of a Llama-2 chat: `<s>[INST] {plain prompt} [/INST]`. With
examples ("shots") each adds `\\n{A}: {text}\\n{B}: {translation}` before the text's own line. Names
are English.

To Llama-2 `[INST]` is text like any other, and so are the lines' labels `\\n{A}:` and `\\n{B}:`: a
text that holds them could end its slot and give orders of its own. So scaffolding and slots are
cut apart, and in a slot these fragments are cut into single characters, or into bytes where the
scaffold's are single characters themselves. The model reads the same text, and what decodes is the
same text, but the scaffold's ids occur nowhere in a slot: `parse` finds the text exactly, whatever
it is. A text without such fragments has the ids of the whole prompt cut at once: no piece of
Llama-2's reaches over the end of a line, or from a word over the space behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from re import escape, match, split

from dragoman.errors import InvalidOption, InvalidText
from dragoman.languages import Language, all_languages, find
from dragoman.text.prompt_style import Style, known_style
from dragoman.text.tokenizers.characters import valid_text
from dragoman.text.tokenizers.llama import LlamaTokenizer

_FRAMES: dict[Style, tuple[str, str]] = {"chat": ("[INST] ", " [/INST]"), "plain": ("", "")}
_TURNS: dict[Style, tuple[str, ...]] = {"chat": ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"), "plain": ()}


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    slot: bool = False
    """Whether it came from outside: a text to translate, an example, a question."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Scaffolding and slots in turn, beginning and ending with scaffolding."""

    parts: tuple[Part, ...]
    style: Style
    fragments: tuple[str, ...]
    """What a slot may not have in common with the scaffolding."""

    @property
    def text(self) -> str:
        """All of it, without the `<s>` in front."""
        return "".join(part.text for part in self.parts)


# ---- building ----


def translation_prompt(
    text: str,
    source: Language,
    target: Language,
    shots: Sequence[tuple[str, str]] = (),
    style: Style = "chat",
) -> Prompt:
    """Asks to translate `text`; `shots` are examples, each a text and its translation.

    UnknownLanguage if X-ALMA has no name for one of the languages, InvalidText if a text can't be encoded.
    """
    before, after = _FRAMES[known_style(style)]
    a, b = _name(source), _name(target)
    head = f"{before}Translate this from {a} to {b}:"
    parts = []
    for shot in shots:
        example, translation = shot
        parts += [Part(f"{head}\n{a}: "), _slot(example), Part(f"\n{b}: "), _slot(translation)]
        head = ""
    parts += [Part(f"{head}\n{a}: "), _slot(text), Part(f"\n{b}:{after}")]
    labels = tuple(dict.fromkeys((f"\n{a}:", f"\n{b}:")))
    return Prompt(tuple(parts), style, (*labels, *_TURNS[style]))


def xalma_prompt(
    text: str, source: Language, target: Language, shots: Sequence[tuple[str, str]] = ()
) -> Prompt:
    """X-ALMA's: a chat of one turn."""
    return translation_prompt(text, source, target, shots, "chat")


def alma_prompt(
    text: str, source: Language, target: Language, shots: Sequence[tuple[str, str]] = ()
) -> Prompt:
    """ALMA's and ALMA-R's: no chat."""
    return translation_prompt(text, source, target, shots, "plain")


def ask_prompt(question: str) -> Prompt:
    """An open question for X-ALMA in any of its languages; space around it goes, as in Llama-2's chats."""
    before, after = _FRAMES["chat"]
    return Prompt((Part(before), _slot(question.strip()), Part(after)), "chat", _TURNS["chat"])


def _slot(text: str) -> Part:
    return Part(valid_text(text), slot=True)


@cache
def xalma_languages() -> tuple[Language, ...]:
    """The 50 languages of X-ALMA."""
    return tuple(language for language in all_languages() if language.xalma)


@cache
def _name(language: Language) -> str:
    name = find(language.nllb, among=xalma_languages()).xalma_name
    assert name is not None
    return name


# ---- ids ----


def encode(prompt: Prompt, tokenizer: LlamaTokenizer) -> list[int]:
    """The ids of a prompt with exactly one `<s>`, in front.

    In a chat the first word has a space before it only by the tokenizer's `legacy` convention.
    """
    front = " " if prompt.style == "plain" or tokenizer.legacy else ""
    ids = [tokenizer.bos_id]
    for part in prompt.parts:
        # The space before a slot belongs to the slot's first word.
        if part.slot:
            ids += _encode_slot(front + part.text, prompt.fragments, tokenizer)
            front = ""
        else:
            body = part.text.removesuffix(" ")
            ids += tokenizer.encode_pieces([front + body], prefix=False)[0]
            front = part.text[len(body) :]
    return ids


def _encode_slot(text: str, fragments: tuple[str, ...], tokenizer: LlamaTokenizer) -> list[int]:
    if not any(fragment in text for fragment in fragments):
        return tokenizer.encode_pieces([text], prefix=False)[0]
    # With the group, every second piece is a fragment.
    pieces = split(f"({'|'.join(map(escape, fragments))})", text)
    rows = tokenizer.encode_pieces(pieces[::2], prefix=False)
    hidden = [*(_hide(fragment, tokenizer) for fragment in pieces[1::2]), []]
    return [*chain.from_iterable(chain(*pair) for pair in zip(rows, hidden, strict=True))]


def _hide(fragment: str, tokenizer: LlamaTokenizer) -> list[int]:
    """Ids of a fragment that are not those it has in the scaffolding."""
    space, *usual = tokenizer.encode_pieces([" ", fragment, " " + fragment], prefix=False)
    apart = [*chain.from_iterable(tokenizer.encode_pieces(list(fragment), prefix=False))]
    # Characters are common in training texts, bytes of characters that have a piece are not.
    is_hidden = not any(_find([*space, *apart], row) >= 0 for row in usual)
    return apart if is_hidden else tokenizer.encode_bytes(fragment)


def parse(
    prompt: str | Sequence[int],
    source: Language,
    target: Language,
    style: Style = "chat",
    tokenizer: LlamaTokenizer | None = None,
) -> str:
    """The text that is to be translated, exactly, from a prompt's ids (then give the tokenizer) or its text.

    Of a prompt with shots this works for the ids alone: only they tell a label from a text that
    spells one. InvalidText if it is no prompt for these languages.
    """
    empty = translation_prompt("", source, target, style=style)
    problem = InvalidText(
        f"this is no {style} prompt from {_name(source)} to {_name(target)}; were the languages swapped?"
    )
    if isinstance(prompt, str):
        start, end = empty.parts[0].text, empty.parts[-1].text
        if len(prompt) < len(start + end) or not (prompt.startswith(start) and prompt.endswith(end)):
            raise problem
        return prompt[len(start) : len(prompt) - len(end)]
    if tokenizer is None:
        raise InvalidOption("ids can be parsed only with the tokenizer that made them; pass it")
    ids, label = list(prompt), f"\n{_name(source)}:"
    rows = [label, empty.parts[-1].text]
    label_ids, tail = tokenizer.encode_pieces(rows, prefix=False)
    head = encode(empty, tokenizer)[: -len(tail) - 1]  # without the space of the empty slot
    head = head[: len(head) - len(label_ids)]
    body = ids[len(head) : len(ids) - len(tail)]
    at = len(body) - _find(body[::-1], label_ids[::-1])
    if ids[: len(head)] != head or ids[len(ids) - len(tail) :] != tail or at > len(body):
        raise problem
    return tokenizer.decode(body[at:])


def _find(row: Sequence[int], part: Sequence[int]) -> int:
    """Where `part` begins in `row`; -1 if it is nowhere."""
    places = range(len(row) - len(part) + 1)
    return next((i for i in places if row[i : i + len(part)] == part), -1)


def room(
    source: Language,
    target: Language,
    tokenizer: LlamaTokenizer,
    context: int,
    max_new_tokens: int,
    style: Style = "chat",
    shots: Sequence[tuple[str, str]] = (),
) -> int:
    """How many ids of `tokenizer.encode_pieces` the text may have for prompt and output to fit in `context`.

    Nothing of a prompt is ever cut off; texts that are longer must be split. The scaffold's
    fragments in a text take more ids, so `fits` has the last word. InvalidOption if there is no room.
    """
    empty = encode(translation_prompt("", source, target, shots, style), tokenizer)
    scaffold = len(empty) - 1  # the space in front counts as the text's
    left = context - max_new_tokens - scaffold
    if left < 1:
        raise InvalidOption(
            f"a context of {context} ids leaves no room for a text: the prompt takes {scaffold}, "
            f"and max_new_tokens {max_new_tokens}; lower that, or give fewer shots"
        )
    return left


def fits(ids: Sequence[int], context: int, max_new_tokens: int) -> bool:
    """Whether a prompt and what may be generated after it fit in the model's context."""
    return len(ids) + max_new_tokens <= context


# ---- outputs ----


def clean_output(
    text: str, target_name: str, style: Style = "chat", source_name: str | None = None, source_text: str = ""
) -> str:
    """The translation in what a model wrote after a prompt, without what it went on to write.

    A model that misses its end plays on: the next example, the next turn, the prompt again. So the
    text ends before a line `{source_name}:` or `{target_name}:`, a line `Translate this from `, a
    mark of a chat's turn, or `<s>` or `</s>` in letters. A label that comes before any text is
    skipped. What `source_text` holds itself belongs to the translation and ends nothing.

    The reference keeps the first line that isn't blank, and so loses the rest of a translation of
    several lines; here all its lines stay.
    """
    stops = _stops(target_name, style, source_name, source_text)
    leading = [stop for stop in (f"\n{target_name}:", "[/INST]") if stop in stops]
    while leading and (found := match(rf"\s*({'|'.join(map(escape, leading))})", text)):
        text = text[found.end() :]
    return text[: min((text.find(stop) for stop in stops if stop in text), default=None)].strip()


def certain_output(
    text: str, target_name: str, style: Style = "chat", source_name: str | None = None, source_text: str = ""
) -> str:
    """The beginning of `clean_output` that is certain, whatever comes behind `text`."""
    # What may be the beginning of a stop is not certain.
    for stop in _stops(target_name, style, source_name, source_text):
        text = text[: len(text) - _overlap(text, stop)]
    return clean_output(text, target_name, style, source_name, source_text)


def _stops(target_name: str, style: Style, source_name: str | None, source_text: str) -> list[str]:
    """What a translation of `source_text` ends before."""
    names = filter(None, (target_name, source_name))
    lines = [*(f"\n{name}:" for name in names), "\nTranslate this from "]
    stops = [*lines, "<s>", "</s>", *_TURNS[known_style(style)]]
    return [stop for stop in stops if stop not in source_text]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
