"""The plain Llama, with transformers' as the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dragoman.errors import ConfigError
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import complete
from dragoman.layers.cache import PromptCache
from dragoman.models.llama import Llama
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.prompt import Prompt
from dragoman.models.trace import Trace

SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"num_key_value_heads": 2},
    "one key head": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 24, "num_key_value_heads": 2},
    "gelu": {"hidden_act": "gelu"},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 8},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "yarn": {"rope_scaling": YARN},
    "transformers 5": {"rope_parameters": {"rope_theta": 300.0, **YARN}, "num_key_value_heads": 2},
}


def random_model(seed: int = 0, **changes: Any) -> Llama:
    torch.manual_seed(seed)
    model = Llama(LlamaConfig.from_dict(SHAPE | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1 if parameter.dim() == 1 else 0, 0.3 if parameter.dim() == 1 else 0.15)
    return model.eval()


def oracle(model: Llama, changes: dict[str, Any]) -> Any:
    transformers = pytest.importorskip("transformers")
    data = {name: value for name, value in (SHAPE | changes).items() if name != "model_type"}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**data)).eval()
    theirs.load_state_dict(model.state_dict())
    return theirs


def prompts(lengths: list[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random prompts padded on the left, and which tokens are real."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, -length:] = torch.randint(3, 96, (length,), generator=generator)
    return ids, ids != 0


# Against the oracle


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_names_are_those_of_transformers(variant: str) -> None:
    model = random_model(**VARIANTS[variant])
    theirs = oracle(model, VARIANTS[variant])
    assert set(model.state_dict()) == set(theirs.state_dict())
    ids, _ = prompts([14, 14])
    with torch.inference_mode():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["plain", "grouped", "yarn"])
def test_padded_rows_have_the_logits_of_transformers(variant: str) -> None:
    model = random_model(**VARIANTS[variant])
    ids, keep = prompts([9, 4, 12])
    with torch.inference_mode():
        expected = oracle(model, VARIANTS[variant])(ids, attention_mask=keep.long()).logits
        torch.testing.assert_close(model(ids, keep)[keep], expected[keep], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"beams": 1},
        {"beams": 4},
        {"beams": 3, "n_best": 3, "length_penalty": 0.5},
        {"beams": 4, "n_best": 2, "early_stopping": True},
        {"beams": 1, "repetition_penalty": 1.3},
        {"beams": 3, "repetition_penalty": 1.3, "no_repeat_ngram": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", ["plain", "grouped", "dynamic"])
def test_generation_is_that_of_transformers(variant: str, options: dict[str, Any]) -> None:
    model = random_model(**VARIANTS[variant])
    # Its dynamic positions follow the longest text so far, and penalties see padding: a new one for each.
    for length in (5, 11):
        theirs = oracle(model, VARIANTS[variant])
        ids, keep = prompts([length], seed=length)
        names = {
            "beams": "num_beams",
            "n_best": "num_return_sequences",
            "no_repeat_ngram": "no_repeat_ngram_size",
        }
        wanted = {names.get(name, name): value for name, value in options.items()}
        output = theirs.generate(
            ids,
            do_sample=False,
            max_new_tokens=12,
            return_dict_in_generate=True,
            output_scores=True,
            **wanted,
        )
        found = complete(model, ids.numpy(), keep.numpy(), GenerationOptions(max_new_tokens=12, **options))[0]
        for hypothesis, sequence in zip(found, output.sequences[:, length:].tolist(), strict=True):
            assert list(hypothesis.tokens) == sequence[: len(hypothesis.tokens)]
            assert not any(sequence[len(hypothesis.tokens) :])
        if options["beams"] > 1:
            scores = torch.tensor([hypothesis.score for hypothesis in found])
            torch.testing.assert_close(scores, output.sequences_scores, atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_attention_and_hidden_states_are_those_of_transformers() -> None:
    model = random_model(num_key_value_heads=2)
    theirs = oracle(model, {"num_key_value_heads": 2})
    theirs.set_attn_implementation("eager")
    ids, _ = prompts([7, 7])
    trace = Trace(frozenset({"hidden", "attention"}))
    with torch.inference_mode():
        model(ids, trace=trace)
        expected = theirs(ids, output_attentions=True, output_hidden_states=True)
    for mine, its in zip(trace.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-4)
    for mine, its in zip(trace.self_attention, expected.attentions, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)


# Invariants


@pytest.mark.parametrize("variant", ["plain", "grouped", "llama3"])
def test_stepwise_equals_at_once(variant: str) -> None:
    model = random_model(**VARIANTS[variant])
    ids, keep = prompts([6, 3, 10])
    more = torch.randint(3, 96, (3, 5), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        whole = model(torch.cat([ids, more], 1), torch.cat([keep, torch.ones(3, 5, dtype=torch.bool)], 1))
        for sizes in ([1] * 5, [2, 3], [5]):
            state = model.begin(Prompt(keep=keep.numpy()))
            parts = (ids, *more.split(sizes, 1))
            logits = [torch.from_numpy(model.step(part.numpy(), state).logits()) for part in parts]
            ends = torch.tensor([0, *sizes]).cumsum(0)
            expected = whole[:, 9 + ends]
            torch.testing.assert_close(torch.stack(logits, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("lengths", [[6, 3, 8], [5, 5, 5]], ids=["padded", "even"])
def test_beams_that_share_their_prompt_have_the_logits_of_rows_of_their_own(
    heads: int, lengths: list[int]
) -> None:
    model = random_model(num_key_value_heads=heads)
    ids, keep = prompts(lengths)
    generator = torch.Generator().manual_seed(2)
    state = model.begin(Prompt(keep=keep.numpy()))
    with torch.inference_mode():
        model.step(ids.numpy(), state)
        rows, tokens = torch.arange(3).repeat_interleave(2), torch.empty(6, 0, dtype=torch.long)
        beams_of = rows
        # Widen, reorder, drop the second sentence, reorder again.
        for chosen in (rows, [1, 0, 2, 2, 5, 4], [0, 1, 5, 4], [1, 1, 3, 2]):
            chosen = torch.as_tensor(chosen)
            state.select(chosen.numpy(), 2)
            if tokens.shape[1]:
                tokens, beams_of = tokens[chosen], beams_of[chosen]
            new = torch.randint(3, 96, (len(chosen), 1 + tokens.shape[1] % 2), generator=generator)
            tokens = torch.cat([tokens, new], 1)
            found = torch.from_numpy(model.step(new.numpy(), state).logits())
            assert state.cache.shared_length == ids.shape[1]
            full = torch.cat([ids[beams_of], tokens], 1)
            real = torch.cat([keep[beams_of], torch.ones_like(tokens, dtype=torch.bool)], 1)
            torch.testing.assert_close(found, model(full, real)[:, -1], atol=1e-4, rtol=1e-4)


def test_a_prompt_is_read_once_for_all_beams() -> None:
    model = random_model()
    ids, keep = prompts([6, 9])
    rows: list[tuple[int, ...]] = []
    model.model.layers[0].register_forward_hook(lambda module, args, output: rows.append(args[0].shape[:2]))
    complete(model, ids.numpy(), keep.numpy(), GenerationOptions(beams=4, max_new_tokens=3))
    assert rows == [(2, 9), (8, 1), (8, 1)]


def test_cache_keeps_a_shared_prompt_once_per_sentence() -> None:
    cache = PromptCache(1)
    cache.extend(0, torch.randn(2, 1, 5, 4), torch.randn(2, 1, 5, 4))
    cache.select(torch.tensor([0, 0, 0, 1, 1, 1]), None, 3)
    own, _ = cache.extend(0, torch.randn(6, 1, 1, 4), torch.randn(6, 1, 1, 4))
    assert cache.shared[0] is not None
    assert cache.shared[0][0].shape == (2, 1, 5, 4)
    assert own.shape == (6, 1, 1, 4)
    assert cache.length == 6


@pytest.mark.parametrize("beams", [1, 4])
def test_padding_and_batch_mates_change_nothing(beams: int) -> None:
    model = random_model(num_key_value_heads=2)
    ids, keep = (part.numpy() for part in prompts([6, 3, 10, 1]))
    options = GenerationOptions(
        beams=beams, max_new_tokens=12, repetition_penalty=1.2, no_repeat_ngram=3, n_best=beams
    )
    together = complete(model, ids, keep, options)
    for row, length in enumerate((6, 3, 10, 1)):
        alone = complete(model, ids[row : row + 1, -length:], keep[row : row + 1, -length:], options)[0]
        assert [h.tokens for h in alone] == [h.tokens for h in together[row]]
        assert [h.score for h in alone] == pytest.approx([h.score for h in together[row]], abs=1e-4)


def test_samples_repeat_whatever_the_padding() -> None:
    model = random_model()
    ids, keep = (part.numpy() for part in prompts([6, 3, 10]))
    options = GenerationOptions(beams=1, sample=True, n_best=3, max_new_tokens=8, seed=4)
    together = complete(model, ids, keep, options)
    alone = complete(model, ids[1:2, -3:], keep[1:2, -3:], options)
    assert [h.tokens for h in alone[0]] == [h.tokens for h in together[1]]
    assert len({h.tokens for h in together[0]}) > 1


def test_no_prompts_give_no_results() -> None:
    empty = np.zeros((0, 3), np.int64)
    assert complete(random_model(), empty, empty > 0, GenerationOptions()) == []


def test_prompts_padded_on_the_right_are_an_error() -> None:
    keep = np.array([[True, True], [True, False]])
    with pytest.raises(ValueError, match="on the left"):
        random_model().begin(Prompt(keep=keep))


def test_right_padding_is_fine_where_nothing_is_continued() -> None:
    model = random_model()
    ids, _ = prompts([6])
    padded = torch.nn.functional.pad(ids, (0, 4))
    with torch.inference_mode():
        torch.testing.assert_close(model(padded, padded != 0)[:, :6], model(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_logits_near_those_of_float32(dtype: torch.dtype) -> None:
    model = random_model()
    ids, keep = prompts([6, 3, 10])
    with torch.inference_mode():
        expected = model(ids, keep)[keep]
        found = model.to(dtype)(ids, keep)
    assert found.dtype == dtype
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[keep].float(), expected, atol=0.3, rtol=0.1)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = random_model().train()
    ids, keep = prompts([6, 3])
    gradients = []
    for turned_on in (False, True):
        model.zero_grad()
        model.model.gradient_checkpointing = turned_on
        model.model._gradient_checkpointing_func = lambda f, *args: checkpoint(f, *args, use_reentrant=False)
        model(ids, keep)[keep].pow(2).mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its)


def test_training_works_after_the_positions_were_first_used_while_generating() -> None:
    model = random_model()
    ids, keep = prompts([4])
    complete(model, ids.numpy(), keep.numpy(), GenerationOptions(beams=1, max_new_tokens=2))
    model(ids).sum().backward()
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None


# The config


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_comes_back_from_its_json(variant: str) -> None:
    config = LlamaConfig.from_dict(SHAPE | VARIANTS[variant])
    assert LlamaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_fills_in_what_older_files_leave_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(SHAPE | {"eos_token_id": [2, 7], "torch_dtype": "float16"})
    )
    config = LlamaConfig.from_folder(tmp_path)
    assert (config.num_key_value_heads, config.head_dim) == (4, 16)
    assert config.eos_token_id == (2, 7)
    assert config.rope.rope_theta == 10000.0
    assert config.to_dict()["eos_token_id"] == [2, 7]
    assert "lora_size" not in config.to_dict()


def test_published_xalma_config_may_lack_the_rank() -> None:
    config = LlamaConfig.from_dict(SHAPE | {"model_type": "xalma"})
    assert (config.lora_size, config.lora_alpha) == (512, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "'mistral'.*'llama' or 'xalma'"),
        ({"hidden_act": "tanh"}, "'tanh'.*'silu'"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5"),
        ({"num_attention_heads": 3}, "can't share evenly"),
        ({"num_key_value_heads": 3}, "doesn't divide"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
    ],
)
def test_impossible_configs_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LlamaConfig.from_dict(SHAPE | changes)


def test_config_without_a_type_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no model_type"):
        LlamaConfig.from_dict({"hidden_size": 64})
