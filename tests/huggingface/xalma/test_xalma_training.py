"""Losses, gradients, checkpointing, PEFT and Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

from dragoman.checkpoints.llama import load_xalma
from dragoman.huggingface import (
    XALMAForCausalLM,
    XALMAForQuestionAnswering,
    XALMAForSequenceClassification,
    XALMAForTokenClassification,
)

COMBINED = Path(__file__).parents[2] / "data" / "golden" / "xalma"
# PEFT asks transformers under a name that it is giving up.
peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def load(kind: type = XALMAForCausalLM, **options: object) -> Any:
    return kind.from_pretrained(COMBINED, **options)


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    """Three rows of two groups, padded on the left."""
    cases = load_file(COMBINED / "cases.safetensors")
    ids, mask = cases["input_ids"], cases["attention_mask"]
    labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "lang": ["zh", "de", "ja"]}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def step(model: torch.nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    model.zero_grad()
    model(**batch).loss.backward()
    return gradients(model)


def test_gradients_are_the_plain_model_s_and_reach_the_modules_in_use(batch: dict[str, Any]) -> None:
    face, plain = load().train(), load_xalma(COMBINED).train()
    found = step(face, batch)
    keep = batch["attention_mask"].bool()
    logits = plain(batch["input_ids"], keep, [6, 1, 6])[:, :-1]
    labels = batch["labels"][:, 1:]
    F.cross_entropy(logits[labels != -100], labels[labels != -100]).backward()
    wanted = gradients(plain)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
    groups = {name.split(".")[-2] for name, gradient in found.items() if "_lora_" in name}
    assert groups == {"1", "6"}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_checkpointed_gradients_are_the_same(batch: dict[str, Any], reentrant: bool) -> None:
    model = load().train()
    wanted = step(model, batch)
    runs = []
    model.model.layers[1].self_attn.register_forward_hook(lambda *_: runs.append(1))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found = step(model, batch)
    assert len(runs) == 2
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        # Reentrant, the first run has no gradients and takes the fused way through the modules.
        torch.testing.assert_close(found[name], gradient, atol=1e-4 if reentrant else 1e-6, rtol=1e-4)


def test_training_makes_no_cache_unless_told(batch: dict[str, Any]) -> None:
    model = load().train()
    assert model(**batch).past_key_values is None
    assert model(**batch, use_cache=True).past_key_values is not None
    model.activation_checkpointing_enable()
    assert model(**batch, use_cache=True).past_key_values is None
    assert model.eval()(**batch).past_key_values is not None


def test_loss_is_divided_by_the_items_of_all_accumulated_batches(batch: dict[str, Any]) -> None:
    model = load()
    count = int((batch["labels"][:, 1:] != -100).sum())
    wanted = model(**batch).loss
    torch.testing.assert_close(model(**batch, num_items_in_batch=2 * count).loss, wanted / 2)


def test_losses_of_the_heads_are_cross_entropies(batch: dict[str, Any]) -> None:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "lang")}
    labels = torch.tensor([2, 0, 1])
    sequence = load(XALMAForSequenceClassification, num_labels=3).eval()(**inputs, labels=labels)
    torch.testing.assert_close(sequence.loss, F.cross_entropy(sequence.logits, labels))
    numbers = load(XALMAForSequenceClassification, num_labels=1).eval()
    found = numbers(**inputs, labels=torch.tensor([0.5, 1.0, 2.0]))
    torch.testing.assert_close(found.loss, F.mse_loss(found.logits[:, 0], torch.tensor([0.5, 1.0, 2.0])))
    tags = (batch["input_ids"] % 3).masked_fill(batch["attention_mask"] == 0, -100)
    token = load(XALMAForTokenClassification, num_labels=3).eval()(**inputs, labels=tags)
    torch.testing.assert_close(token.loss, F.cross_entropy(token.logits.flatten(0, 1), tags.flatten()))
    start, end = torch.tensor([5, 6, 7]), torch.tensor([8, 9, 99])
    answer = load(XALMAForQuestionAnswering)(**inputs, start_positions=start, end_positions=end)
    wanted = F.cross_entropy(answer.start_logits, start) + F.cross_entropy(answer.end_logits[:2], end[:2])
    torch.testing.assert_close(answer.loss, wanted / 2)


def lora(model: XALMAForCausalLM) -> PeftModel:
    targets = ["q_proj", "v_proj", "down_proj"]
    return get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, lora_dropout=0.0)
    )


@peft
def test_adapters_train_save_and_load(batch: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lora(load())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 3 * 3 * 2
    assert all("_proj.lora_" in name for name in trained)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert set(gradients(model)) == set(trained)

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(load(), tmp_path).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "lang")}
    wanted = model.eval()(**inputs).logits
    torch.testing.assert_close(again(**inputs).logits, wanted)
    assert (load()(**inputs).logits - wanted).abs().max() > 1e-2
    options = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False}
    ids = model.generate(**inputs, **options)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(merged.generate(**inputs, **options), ids)


@peft
def test_adapters_learn_through_checkpointed_layers(batch: dict[str, Any]) -> None:
    model = load()
    model.activation_checkpointing_enable()
    found = step(lora(model).train(), batch)
    assert all("_proj.lora_" in name for name in found)
    assert any(bool(gradient.abs().sum() > 0) for gradient in found.values())


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_trainer_trains_one_module(batch: dict[str, Any], tmp_path: Path) -> None:
    """The base frozen, languages of group 6; the other groups stay what they were."""
    model = load()
    before = {name: p.clone() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("_lora_" in name and ".6." in name)
    langs = ["zh", "ja", "fi"]
    tensors = ("input_ids", "attention_mask", "labels")
    rows = [{"lang": lang, **{name: batch[name][row] for name in tensors}} for row, lang in enumerate(langs)]

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        stacked = {name: torch.stack([row[name] for row in rows]) for name in tensors}
        return {**stacked, "lang": [row["lang"] for row in rows]}

    settings = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=3,
        num_train_epochs=8,
        learning_rate=5e-3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(model, settings, data_collator=collate, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.3
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("_lora_" in name and ".6." in name), name
