"""M2M-100 and SMaLL-100 against transformers' classes on the same files, plain and native."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dragoman.checkpoints.loading import pending
from dragoman.checkpoints.nllb import load_nllb
from dragoman.checkpoints.weight_files import write_shards
from dragoman.errors import InvalidOption
from dragoman.generation.options import GenerationOptions
from dragoman.kernels.library import kernels
from dragoman.languages import of_code
from dragoman.native.nllb import NativeNllb
from dragoman.systems import Request, load_system
from dragoman.systems.m2m100 import M2m100System, Small100System
from dragoman.text.tokenizers.m2m100 import M2M100_LANGUAGES

PAIRS = [("en", "fr"), ("fr", "br"), ("de", "fy"), ("zh", "no"), ("ns", "ff"), ("ru", "en")]
LONGEST = 16


@pytest.fixture(params=["plain", "native"])
def load(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    """Loads a system that runs plainly or natively."""

    def load(folder: Path) -> Any:
        system: Any = load_system(folder, "cpu", precision="fp32")
        if request.param == "plain":
            return type(system)(load_nllb(folder), system.tokenizer, system.card)
        if not isinstance(system.runner, NativeNllb):
            pytest.skip("exact models don't run natively here")
        return system

    return load


def open_theirs(folder: Path) -> tuple[Any, Any]:
    """transformers' model and tokenizer of a folder."""
    transformers = pytest.importorskip("transformers")
    model = transformers.M2M100ForConditionalGeneration.from_pretrained(str(folder)).eval()
    return model, transformers.M2M100Tokenizer.from_pretrained(str(folder))


def requests_of(sentences: list[str]) -> list[Request]:
    def language(code: str) -> Any:
        return of_code(M2M100_LANGUAGES[code])

    texts = [text for text in sentences if "<" not in text][20:28]
    return [
        Request(text, language(PAIRS[i % 6][0]), language(PAIRS[i % 6][1])) for i, text in enumerate(texts)
    ]


def our_translations(system: Any, requests: list[Request], beams: int) -> list[list[int]]:
    options = GenerationOptions(beams=beams, max_new_tokens=LONGEST, no_repeat_ngram=1)
    found = dict(system.run(system.encode(requests), requests, options))
    return [list(found[place][0].tokens) for place in range(len(requests))]


def their_translations(model: Any, rows: list[list[int]], forced: list[int | None], beams: int) -> Any:
    found = []
    banned = list(range(model.config.vocab_size - 8, model.config.vocab_size))
    for row, first in zip(rows, forced, strict=True):
        made = model.generate(
            torch.tensor([row]),
            forced_bos_token_id=first,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=LONGEST,
            no_repeat_ngram_size=1,
            suppress_tokens=banned,
        )
        found.append(made[0, 1:].tolist())
    return found


def test_logits_are_transformers(m2m100: Path, sentences: list[str]) -> None:
    theirs, tokenizer = open_theirs(m2m100)
    ours = load_nllb(m2m100)
    tokenizer.src_lang = "en"
    batch = tokenizer(sentences[:5], return_tensors="pt", padding=True)
    target = torch.tensor([[2, tokenizer.get_lang_id("fr"), 9, 300, 42]] * 5)
    with torch.no_grad():
        wanted = theirs(**batch, decoder_input_ids=target).logits
        given = ours(batch.input_ids, target, batch.attention_mask.bool())
    assert (given - wanted).abs().max() < 1e-4
    assert wanted.std() > 0.5


@pytest.mark.parametrize("beams", [1, 4])
def test_m2m100_translates_as_transformers_does(
    m2m100: Path, load: Callable[[Path], Any], beams: int, sentences: list[str]
) -> None:
    model, tokenizer = open_theirs(m2m100)
    system = load(m2m100)
    assert type(system) is M2m100System
    requests = requests_of(sentences)
    rows = []
    for place, request in enumerate(requests):
        tokenizer.src_lang = PAIRS[place % 6][0]
        rows.append(tokenizer(request.text).input_ids)
    forced = [tokenizer.get_lang_id(PAIRS[place % 6][1]) for place in range(len(requests))]
    assert system.encode(requests) == rows
    ours = our_translations(system, requests, beams)
    assert ours == their_translations(model, rows, forced, beams)
    assert [row[0] for row in ours] == forced
    assert len({tuple(row[1:]) for row in ours}) > 4


@pytest.mark.parametrize("beams", [1, 4])
def test_small100_translates_by_its_published_rule(
    small100: Path, load: Callable[[Path], Any], beams: int, sentences: list[str]
) -> None:
    """`[target] X </s>` is the source, and nothing is forced on the decoder."""
    model, tokenizer = open_theirs(small100)
    system = load(small100)
    assert type(system) is Small100System
    requests = requests_of(sentences)
    rows = []
    for place, request in enumerate(requests):
        tokenizer.src_lang = PAIRS[place % 6][1]
        rows.append(tokenizer(request.text).input_ids)
    assert system.encode(requests) == rows
    ours = our_translations(system, requests, beams)
    assert ours == their_translations(model, rows, [None] * len(rows), beams)
    assert len(set(map(tuple, ours))) > 4


def test_small100_does_not_look_at_the_source_language(small100: Path) -> None:
    system = load_system(small100, "cpu")
    german, french, breton = (of_code(code) for code in ("deu_Latn", "fra_Latn", "bre_Latn"))
    one, other, third = (Request("Bonjour", *pair) for pair in (
        (german, breton), (french, breton), (french, german),
    ))  # fmt: skip
    assert system.encode([one]) == system.encode([other]) != system.encode([third])


def test_half_precision_weights_under_safetensors_load_too(m2m100: Path, tmp_path: Path) -> None:
    for name in ("config.json", "sentencepiece.bpe.model", "vocab.json"):
        shutil.copy(m2m100 / name, tmp_path)
    stored = torch.load(m2m100 / "pytorch_model.bin", weights_only=True)
    one_copy = {name: tensor for name, tensor in stored.items() if name != "lm_head.weight"}
    write_shards(tmp_path, {name: pending(t, torch.float16) for name, t in one_copy.items()}, None, 10**9)
    model, halved = load_nllb(m2m100), load_nllb(tmp_path)
    assert torch.equal(halved.shared.weight, model.shared.weight.half().float())
    assert type(load_system(tmp_path, "cpu")) is M2m100System


def test_lora_of_m2m100_is_run_as_m2m100(m2m100: Path, tmp_path: Path) -> None:
    settings = {"peft_type": "LORA", "task_type": "SEQ_2_SEQ_LM", "r": 2, "lora_alpha": 4}
    settings |= {"target_modules": ["q_proj"], "base_model_name_or_path": str(m2m100)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.encoder.layers.0.self_attn.q_proj.lora_{}.weight"
    products = {name.format("A"): torch.ones(2, 32), name.format("B"): torch.ones(32, 2)}
    save_file(products, tmp_path / "adapter_model.safetensors")
    system = load_system(tmp_path, "cpu")
    assert type(system) is M2m100System
    assert len(system.card.languages) == 100


def test_target_vocabulary_is_chosen_for_m2m100_and_refused_for_small100(
    m2m100: Path, small100: Path, sentences: list[str]
) -> None:
    if kernels() is None:
        pytest.skip("no kernels here")
    system = load_system(m2m100, "cpu", precision="int8")
    system.restrict(600, {"br": ["Demat d'an holl"]})
    target = of_code("bre_Latn")
    requests = [Request(text, of_code("eng_Latn"), target) for text in sentences[:6]]
    rows = system.encode(requests)
    heads = system.runner.heads  # type: ignore[attr-defined]
    kept = set(heads.vocabulary.tokens(system.tokenizer.language_id("br")))
    assert set(system.tokenizer.encode_pieces(["Demat d'an holl"])[0]) <= kept
    assert len(kept) < len(system.tokenizer)
    for place, tokens in enumerate(our_translations(system, requests, 2)):
        assert set(tokens) <= kept | set(rows[place])
    with pytest.raises(InvalidOption, match="SMaLL-100 has no target-language vocabulary"):
        load_system(small100, "cpu").restrict(600, None)
