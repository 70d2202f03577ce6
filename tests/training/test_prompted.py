"""What decoders learn from: which tokens, in which rows."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.languages import of_code
from dragoman.text.prompts import encode, translation_prompt
from dragoman.text.tokenizers.llama import LlamaTokenizer
from dragoman.training.objectives.causal import Rows
from dragoman.training.parts import ENGLISH, Part
from dragoman.training.prompted import BlockFeed, PreferenceFeed, PromptFeed, Reading
from dragoman.training.texts import PreferencePart, TextPart

GERMAN, DANISH = "deu_Latn", "dan_Latn"
PAIRS = (("Guten Tag!", "Good day!"), ("Wo ist er?", "Where is he?"), ("Ja.", "Yes."))


@pytest.fixture(scope="module")
def tokenizer(combined: Path) -> LlamaTokenizer:
    return LlamaTokenizer.from_folder(combined)


def reading(**settings: object) -> Reading:
    defaults = {"batch_tokens": 2000, "max_tokens": 200, "round_examples": 12, "style": "chat"}
    return Reading(**defaults | settings)  # type: ignore[arg-type]


def rows_of(batches: list[Rows]) -> list[tuple[list[int], list[bool]]]:
    """Tokens and what is learned of each row, without the padding."""
    found = []
    for batch in batches:
        for tokens, learned in zip(batch.tokens.tolist(), batch.learned.tolist(), strict=True):
            end = max(i for i, flag in enumerate(learned) if flag) + 1
            found.append((tokens[:end], learned[:end]))
    return found


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_translation_and_its_end_are_learned_and_nothing_of_the_prompt(
    style: str, tokenizer: LlamaTokenizer
) -> None:
    feed = PromptFeed([Part(GERMAN, "talk", 1, PAIRS)], tokenizer, reading(style=style, round_examples=60))
    seen = set()
    for tokens, learned in rows_of(feed.round(0)):
        start = learned.index(True)
        assert learned == [False] * start + [True] * (len(tokens) - start)
        answer = tokenizer.decode(tokens[start:]).strip()
        source, target = next((s, t) for pair in PAIRS for s, t in (pair, pair[::-1]) if t == answer)
        codes = (GERMAN, ENGLISH) if (source, target) in PAIRS else (ENGLISH, GERMAN)
        prompt = translation_prompt(source, *map(of_code, codes), style=style)  # type: ignore[arg-type]
        assert tokens[:start] == encode(prompt, tokenizer)
        assert tokens.count(tokenizer.eos_id) == 1
        assert tokens[-1] == tokenizer.eos_id
        # As one text: nothing is cut differently where the answer begins.
        whole = prompt.text + " " + target
        assert tokenizer.decode(tokens[:-1]).strip() == whole.strip()
        seen.add((source, target))
    assert len(seen) == 6


def test_blocks_hold_all_texts_one_after_the_other(tokenizer: LlamaTokenizer) -> None:
    texts = tuple((f"Text number {i} of them all",) for i in range(20))
    feed = BlockFeed(
        [TextPart(GERMAN, "web", 1, texts)], tokenizer, reading(max_tokens=24, round_examples=20)
    )
    batches = feed.round(0)
    rows = rows_of(batches)
    assert Counter(len(tokens) for tokens, _ in rows)[24] >= len(rows) - 1
    assert all(len(batch) <= 2000 // 24 for batch in batches)
    assert all(learned == [False] + [True] * (len(tokens) - 1) for tokens, learned in rows)
    # Each text once, between its marks; blocks come in any order, so marks are counted.
    ids = [i for tokens, _ in rows for i in tokens]
    expected = Counter(i for (text,) in texts for i in tokenizer.encode_pieces([text])[0])
    found = Counter(ids)
    assert found.pop(tokenizer.bos_id) == found.pop(tokenizer.eos_id) == 20
    assert found == expected


def test_blocks_are_of_one_language_each(tokenizer: LlamaTokenizer) -> None:
    parts = [TextPart(code, "web", 1, ((word * 30,),) * 5) for code, word in ((GERMAN, "a "), (DANISH, "e "))]
    for tokens, _ in rows_of(BlockFeed(parts, tokenizer, reading(max_tokens=16)).round(0)):
        assert len({"a", "e"} & set(tokenizer.decode(tokens))) == 1


def test_pairs_as_text_have_either_side_first_with_a_space_between(tokenizer: LlamaTokenizer) -> None:
    parts = [Part(GERMAN, "bitext", 1, PAIRS[:1])]
    feed = BlockFeed(parts, tokenizer, reading(round_examples=40))
    text = tokenizer.decode([i for tokens, _ in rows_of(feed.round(0)) for i in tokens])
    counts = text.count("Guten Tag! Good day!"), text.count("Good day! Guten Tag!")
    assert sum(counts) >= 36  # some are cut at the ends of blocks
    assert min(counts) >= 10


def test_both_translations_follow_the_same_prompt(tokenizer: LlamaTokenizer) -> None:
    rows = (("Good day!", "Guten Tag!", "Tag Gut!", ENGLISH, GERMAN), ("Ja.", "Yes.", "No.", GERMAN, ENGLISH))
    parts = [PreferencePart(GERMAN, "liked", 1, rows)]
    feed = PreferenceFeed(parts, tokenizer, reading(round_examples=6, group=1))
    seen = Counter()
    for batch in feed.round(0):
        assert len(batch.rows) == 2 * len(batch)
        assert batch.rows.groups == [1] * 2 * len(batch)
        sides = rows_of([batch.rows])
        for (chosen, learned), (rejected, other) in zip(
            sides[: len(batch)], sides[len(batch) :], strict=True
        ):
            start = learned.index(True)
            assert start == other.index(True)
            assert chosen[:start] == rejected[:start]
            seen[tokenizer.decode(chosen[start:]).strip(), tokenizer.decode(rejected[start:]).strip()] += 1
    assert seen == {("Guten Tag!", "Tag Gut!"): 3, ("Yes.", "No."): 3}


def test_languages_come_as_often_as_their_ratios_say(tokenizer: LlamaTokenizer) -> None:
    parts = [TextPart(code, "web", 1, tuple((f"{word} {i}",) for i in range(50))) for code, word in
             ((GERMAN, "a"), (DANISH, "e"))]  # fmt: skip
    ratios = {GERMAN: 3.0, DANISH: 1.0}
    feed = BlockFeed(parts, tokenizer, reading(round_examples=80, ratios=ratios))
    text = tokenizer.decode([i for tokens, _ in rows_of(feed.round(0)) for i in tokens])
    assert (text.count("a"), text.count("e")) == (60, 20)


def test_overlong_rows_are_left_out_and_rounds_differ(tokenizer: LlamaTokenizer) -> None:
    pairs = (*PAIRS, ("lang " * 200, "long " * 200))
    feed = PromptFeed([Part(GERMAN, "talk", 1, pairs)], tokenizer, reading(round_examples=8))
    first, again, second = (rows_of(feed.round(number)) for number in (0, 0, 1))
    assert len(first) == 6
    assert first == again != second
    other = PromptFeed(feed.parts, tokenizer, replace(feed.reading, seed=2))
    assert feed.fingerprint() != other.fingerprint()
