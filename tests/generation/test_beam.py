import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from dragoman.generation.beam import BeamSearch
from dragoman.generation.hypotheses import Array
from dragoman.generation.options import GenerationOptions
from dragoman.generation.scores import log_softmax
from dragoman.generation.search import Hypothesis, generate
from dragoman.models.nllb import Nllb
from dragoman.models.prompt import Prompt

Models = Callable[[str], Nllb]
Toys = Callable[..., Any]
Sources = tuple[Array, Array]

DROPLESS = pytest.mark.parametrize("name", ["nllb_dense", "nllb_moe_base"])
MOST = 14  # tokens generated in the golden cases


def prompts(count: int) -> Array:
    return np.array([[2, 12]] * count, np.int64).reshape(count, 2)


def run(model: Nllb, sources: Sources, **options: Any) -> list[list[Hypothesis]]:
    ids, keep = sources
    settings = GenerationOptions(**{"max_new_tokens": MOST} | options)
    return generate(model, ids, keep, prompts(len(ids)), settings)


def as_rows(results: list[list[Hypothesis]]) -> tuple[Array, Array]:
    """Ids as transformers gives them, padded with 1, [rows, 15]; scores [rows]."""
    flat = list(itertools.chain.from_iterable(results))
    ids = [[2, *h.tokens] + [1] * (MOST - len(h.tokens)) for h in flat]
    return np.array(ids), np.array([h.score for h in flat])


def assert_same(one: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    assert [[h.tokens for h in ranked] for ranked in one] == [[h.tokens for h in ranked] for ranked in other]
    scores = [[h.score for ranked in results for h in ranked] for results in (one, other)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3, nan_ok=False)


# Oracles.


@DROPLESS
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("greedy", {"beams": 1}),
        ("beam4", {"beams": 4}),
        ("beam4_lp06", {"beams": 4, "length_penalty": 0.6}),
        ("beam5_early", {"beams": 5, "early_stopping": True, "n_best": 3}),
    ],
)
def test_golden_cases(name: str, case: str, options: dict, golden: Models, golden_folder: Path) -> None:
    cases = load_file(golden_folder / name / "cases.safetensors")
    ids, scores = as_rows(
        run(golden(name), (cases["input_ids"], cases["attention_mask"].astype(bool)), **options)
    )
    assert np.array_equal(ids, cases[f"{case}_ids"])
    if case != "greedy":
        np.testing.assert_allclose(scores, cases[f"{case}_scores"], atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def theirs(golden_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.M2M100ForConditionalGeneration.from_pretrained(golden_folder / "nllb_dense").eval()


# Our names of options, and those of transformers.
NAMES = {
    "beams": "num_beams",
    "n_best": "num_return_sequences",
    "no_repeat_ngram": "no_repeat_ngram_size",
    "suppress": "suppress_tokens",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        *({"beams": 1, **more} for more in ({"no_repeat_ngram": 2}, {"repetition_penalty": 1.7})),
        {"beams": 1, "suppress": (2, 21, 48, 56, 64), "no_repeat_ngram": 3, "repetition_penalty": 0.8},
        {"beams": 1, "max_new_tokens": 5},
        {"beams": 4, "no_repeat_ngram": 1},
        {"beams": 4, "no_repeat_ngram": 3, "n_best": 4},
        {"beams": 4, "repetition_penalty": 1.3, "n_best": 2},
        {"beams": 3, "suppress": (2,), "n_best": 3},
        {"beams": 3, "suppress": (48, 21, 56, 64, 42), "no_repeat_ngram": 2, "repetition_penalty": 1.1},
        *({"beams": 4, "n_best": 4, "length_penalty": lp} for lp in (-3.0, -0.5, 0.0, 0.5, 2.0, 4.0)),
        *(
            {"beams": 3, "n_best": 2, "early_stopping": stop, "length_penalty": lp}
            for stop in (True, "never")
            for lp in (-1.0, 0.0, 1.0, 2.0)
        ),
        {"beams": 2},
        {"beams": 12, "n_best": 12, "early_stopping": True},
        {"beams": 4, "n_best": 2, "max_new_tokens": 2},
        {"beams": 4, "n_best": 2, "max_new_tokens": 3, "early_stopping": "never"},
    ],
    ids=str,
)
def test_options_do_what_they_do_in_transformers(
    options: dict, theirs: Any, golden: Models, sources: Sources
) -> None:
    wanted = {NAMES.get(name, name): value for name, value in ({"max_new_tokens": MOST} | options).items()}
    if "suppress" in options:
        wanted["suppress_tokens"] = list(options["suppress"])
    ids, keep = map(torch.from_numpy, sources)
    output = theirs.generate(
        ids,
        attention_mask=keep.long(),
        forced_bos_token_id=12,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **wanted,
    )
    found, scores = as_rows(run(golden("nllb_dense"), sources, **options))
    expected = torch.nn.functional.pad(output.sequences, (0, 1 + MOST - output.sequences.shape[1]), value=1)
    assert np.array_equal(found, expected)
    if options["beams"] > 1:
        np.testing.assert_allclose(scores, output.sequences_scores, atol=1e-3, rtol=1e-4)


def enumerated(toy: Any, kind: int, prompt: list[int], forced: int, most: int, penalty: float) -> list:
    """Every possible (tokens, score), best first. The end-of-sentence token is 0."""
    results: list[tuple[tuple[int, ...], float]] = []

    def extend(history: list[int], total: float) -> None:
        tokens = history[len(prompt) - forced :]
        if len(history) > len(prompt) and (history[-1] == 0 or len(tokens) == most):
            results.append((tuple(tokens), total / len(tokens) ** penalty))
            return
        log_p = log_softmax(toy.logits(np.array([kind]), np.array([history])))[0]
        for token, value in enumerate(log_p.tolist()):
            extend([*history, token], total + value)

    extend(prompt, 0.0)
    return sorted(results, key=lambda result: -result[1])


@pytest.mark.parametrize("penalty", [-10.0, -1.0, 0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize(("prompt", "forced", "most"), [([0, 1], 1, 5), ([1, 2], 0, 4), ([3, 3, 1], 2, 6)])
def test_search_with_beams_for_all_finds_the_best_of_all_sequences(
    penalty: float, early_stopping: Any, prompt: list[int], forced: int, most: int, toy: Toys
) -> None:
    model = toy(kinds=3)
    options = GenerationOptions(
        beams=64, n_best=20, max_new_tokens=most, length_penalty=penalty, early_stopping=early_stopping
    )
    ids = np.arange(3)[:, None]
    results = generate(model, ids, ids >= 0, np.array([prompt] * 3), options, forced, eos=0)
    for kind, ranked in enumerate(results):
        expected = enumerated(model, kind, prompt, forced, most, penalty)[:20]
        assert [h.score for h in ranked] == pytest.approx([score for _, score in expected], rel=1e-4)
        assert [h.tokens for h in ranked] == [tokens for tokens, _ in expected]


def test_there_are_no_more_hypotheses_than_sequences(toy: Toys) -> None:
    model = toy(kinds=1)
    options = GenerationOptions(beams=64, n_best=64, max_new_tokens=3)
    ids = np.zeros((1, 1), np.int64)
    (ranked,) = generate(model, ids, ids >= 0, np.array([[0, 1]]), options, eos=0)
    expected = enumerated(model, 0, [0, 1], 1, 3, 1.0)
    assert len(expected) == 13
    assert [h.tokens for h in ranked] == [tokens for tokens, _ in expected]


def test_sentence_with_nothing_left_to_say_ends(toy: Toys) -> None:
    # Only the end has a chance after token 1, and the beams are wider than what can be said.
    table = np.full((1, 4, 4, 4), -math.inf)
    table[..., 1, 0] = 0.0
    model = toy(table=table)
    ids = np.zeros((1, 1), np.int64)
    options = GenerationOptions(beams=4, n_best=4, max_new_tokens=50)
    (ranked,) = generate(model, ids, ids >= 0, np.array([[0, 1]]), options, eos=0)
    assert [(h.tokens, h.score) for h in ranked] == [((1, 0), 0.0)]
    assert model.rows == [1]


def test_astronomic_scores_are_scores_too(golden: Models, sources: Sources) -> None:
    results = run(golden("nllb_dense"), sources, beams=4, n_best=4, length_penalty=-10)
    for ranked in results:
        assert len(ranked) == 4
        assert all(h.tokens[0] == 12 and h.score < 0 for h in ranked)
    assert min(h.score for ranked in results for h in ranked) < -1e9


# Invariants.


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@DROPLESS
def test_beam_of_one_is_greedy(name: str, penalty: float, golden: Models, sources: Sources) -> None:
    model, (ids, keep) = golden(name), sources
    options = GenerationOptions(beams=1, max_new_tokens=MOST, length_penalty=penalty, early_stopping=True)
    state = model.begin(Prompt(ids, keep))
    search = BeamSearch(prompts(len(ids)).tolist(), options, forced=1, eos=2)
    chosen: Any = (None, prompts(len(ids)))
    while chosen is not None:
        rows, tokens = chosen
        if rows is not None:
            state.select(rows, search.width)
        chosen = search.advance(model.step(tokens, state))
    assert_same(
        [search.done[place] for place in range(len(ids))],
        run(model, sources, beams=1, length_penalty=penalty),
    )


@DROPLESS
@pytest.mark.parametrize(
    "options",
    [
        {"beams": 1},
        {"beams": 4},
        {"beams": 5, "n_best": 3, "early_stopping": True},
        {"beams": 3, "no_repeat_ngram": 2, "repetition_penalty": 1.2, "early_stopping": "never"},
    ],
    ids=str,
)
def test_result_is_independent_of_the_batch_and_its_order(
    name: str, options: dict, golden: Models, sources: Sources
) -> None:
    model, (ids, keep) = golden(name), sources
    together = run(model, sources, **options)
    assert len({len(ranked[0].tokens) for ranked in together}) > 2  # they leave at different times
    order = [4, 0, 6, 3, 1, 5, 2]
    shuffled = run(model, (ids[order], keep[order]), **options)
    assert_same(shuffled, [together[i] for i in order])
    for row in range(len(ids)):
        alone = run(model, (ids[row, keep[row]][None], keep[row, keep[row]][None]), **options)
        assert_same(alone, together[row : row + 1])


@DROPLESS
def test_searching_twice_gives_the_same(name: str, golden: Models, sources: Sources) -> None:
    assert run(golden(name), sources) == run(golden(name), sources)


def test_score_is_the_log_probability_that_the_model_gives(golden: Models, sources: Sources) -> None:
    model, (ids, keep) = golden("nllb_dense"), map(torch.from_numpy, sources)
    for options in ({"beams": 1}, {"beams": 4, "n_best": 4, "length_penalty": 0.7}):
        options["suppress"] = (1,)  # a whole target would take it for padding
        for row, ranked in enumerate(run(model, sources, **options)):
            for found in ranked:
                target = torch.tensor([[2, *found.tokens]])
                with torch.no_grad():
                    log_p = model(ids[row, keep[row]][None], target[:, :-1]).log_softmax(-1)
                steps = log_p.gather(2, target[:, 1:, None]).flatten()[1:]  # the language is given
                expected = float(steps.sum()) / len(found.tokens) ** options.get("length_penalty", 1.0)
                assert found.score == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_hypotheses_are_distinct_and_best_first_and_end_once(
    beams: int, golden: Models, sources: Sources
) -> None:
    for ranked in run(golden("nllb_dense"), sources, beams=beams, n_best=beams):
        assert len({h.tokens for h in ranked}) == len(ranked) == beams
        scores = [h.score for h in ranked]
        assert scores == sorted(scores, reverse=True)
        for h in ranked:
            assert 2 not in h.tokens[:-1]
            assert h.tokens[-1] == 2 or len(h.tokens) == MOST


def leaving_table(vocabulary: int = 8) -> Array:
    """Sentences of kind 0 end as soon as they may, those of kind 1 never do."""
    table = np.random.default_rng(0).standard_normal((2, *[vocabulary] * 3), np.float32)
    table[0, :, :, 0] = 20.0
    table[1, :, :, 0] = -200.0
    return table


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        # All four at the first step, then the two that go on.
        ({"beams": 1}, [4, 2, 2, 2, 2]),
        # Kind 0 finishes one hypothesis at once and its second one step later.
        ({"beams": 2, "early_stopping": True}, [4, 8, 4, 4, 4]),
        ({"beams": 2}, [4, 8, 4, 4, 4]),
    ],
    ids=str,
)
def test_finished_sentences_leave_the_batch(options: dict, rows: list[int], toy: Toys) -> None:
    model = toy(table=leaving_table())
    ids = np.array([[0], [1], [0], [1]])
    settings = GenerationOptions(max_new_tokens=6, **options)
    results = generate(model, ids, ids >= 0, np.array([[0, 1]] * 4), settings, eos=0)
    assert model.rows == rows
    assert [len(ranked[0].tokens) for ranked in results] == [2, 6, 2, 6]


def test_first_step_reads_one_row_per_sentence(toy: Toys) -> None:
    model = toy()
    ids = np.arange(4)[:, None]
    options = GenerationOptions(beams=3, max_new_tokens=4, suppress=(0,))
    generate(model, ids, ids >= 0, np.array([[0, 1]] * 4), options, eos=0)
    assert model.rows == [4, 12, 12]


@pytest.mark.parametrize("beams", [1, 3])
def test_nothing_to_translate_gives_nothing(beams: int, golden: Models, sources: Sources) -> None:
    ids, keep = sources
    assert run(golden("nllb_dense"), (ids[:0], keep[:0]), beams=beams) == []


@pytest.mark.parametrize("beams", [1, 3])
def test_given_tokens_count_as_generated(beams: int, golden: Models, sources: Sources) -> None:
    model = golden("nllb_dense")
    for most in (1, 2, 3):
        for ranked in run(model, sources, beams=beams, max_new_tokens=most):
            assert ranked[0].tokens[0] == 12
            assert len(ranked[0].tokens) <= most
    assert run(model, sources, beams=beams, max_new_tokens=1)[0] == [Hypothesis((12,), 0.0)]


def test_wider_beams_never_find_worse_on_the_toy(toy: Toys) -> None:
    # True where width is enough for all prefixes; a check that narrow widths are searched at all.
    model = toy(kinds=4, seed=5)
    ids = np.arange(4)[:, None]
    options = GenerationOptions(beams=1, max_new_tokens=5, length_penalty=0.0, early_stopping="never")
    prompt = np.array([[0, 1]] * 4)

    def best(beams: int) -> list[float]:
        found = generate(model, ids, ids >= 0, prompt, replace(options, beams=beams), eos=0)
        return [ranked[0].score for ranked in found]

    greedy, widest = best(1), best(64)
    assert all(g <= w + 1e-5 for g, w in zip(greedy, widest, strict=True))
    assert any(g < w - 1e-3 for g, w in zip(greedy, widest, strict=True))
