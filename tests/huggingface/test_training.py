"""Losses, gradients, checkpointing, PEFT and Trainer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from dragoman.checkpoints.nllb import load_nllb
from dragoman.huggingface import NllbMoeForConditionalGeneration, NllbTokenizer

Load = Callable[..., NllbMoeForConditionalGeneration]


@pytest.fixture(scope="module")
def cases(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "nllb_moe_base" / "cases.safetensors")


@pytest.fixture(scope="module")
def batch(cases: dict[str, Tensor]) -> dict[str, Tensor]:
    """The golden teacher-forced pass; the second target is shorter than the others."""
    labels = torch.cat([cases["decoder_input_ids"][:, 1:], torch.full((3, 1), 2)], 1)
    labels[1, 4:] = -100
    return {"input_ids": cases["input_ids"], "attention_mask": cases["attention_mask"], "labels": labels}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def step(
    model: NllbMoeForConditionalGeneration, batch: dict[str, Tensor], **options: bool
) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    model(**batch, **options).loss.backward()
    return gradients(model)


def test_loss_is_the_cross_entropy_of_all_labels_but_minus_100(
    load: Load, cases: dict[str, Tensor], batch: dict[str, Tensor]
) -> None:
    labels = batch["labels"]
    wanted = F.cross_entropy(cases["logits"][labels != -100], labels[labels != -100])
    model = load()
    torch.testing.assert_close(model(**batch).loss, wanted, atol=1e-4, rtol=0)
    padded = labels.masked_fill(labels == -100, 1)  # padding is a label like any other
    assert model(**{**batch, "labels": padded}).loss > wanted + 0.01


def test_decoder_input_is_the_labels_shifted(load: Load, batch: dict[str, Tensor]) -> None:
    shifted = load().prepare_decoder_input_ids_from_labels(batch["labels"])
    assert shifted[0].tolist() == [2, *batch["labels"][0, :-1].tolist()]
    assert shifted[1].tolist() == [2, *batch["labels"][1, :4].tolist(), 1]


def test_losses_of_accumulated_batches_add_up(load: Load, batch: dict[str, Tensor]) -> None:
    model = load()
    items = int((batch["labels"] != -100).sum())
    rows = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in range(3)]
    parts = sum(model(**row, num_items_in_batch=torch.tensor(items)).loss for row in rows)
    torch.testing.assert_close(parts, model(**batch).loss)


def test_batch_without_labels_to_learn_has_loss_zero(load: Load, batch: dict[str, Tensor]) -> None:
    assert load()(**{**batch, "labels": torch.full((3, 6), -100)}).loss == 0


def test_router_losses_are_added_when_router_logits_are_asked_for(
    load: Load, batch: dict[str, Tensor]
) -> None:
    model = load(router_aux_loss_coef=0.5, router_z_loss_coef=0.25)
    bare = model(**batch)
    assert bare.encoder_aux_loss is None
    found = model(**batch, output_router_logits=True)
    balance = found.encoder_aux_loss + found.decoder_aux_loss
    z = found.encoder_z_loss + found.decoder_z_loss
    torch.testing.assert_close(found.loss, bare.loss + 0.5 * balance + 0.25 * z)
    assert found.encoder_aux_loss >= 2 - 1e-4  # two sparse layers, 1 each if perfectly even
    torch.testing.assert_close(model(**batch, output_router_logits=True).loss, found.loss)


def test_balance_counts_real_tokens_alone(load: Load, batch: dict[str, Tensor]) -> None:
    model = load()

    def losses(width: int) -> tuple[Tensor, Tensor]:
        padded = {
            "input_ids": F.pad(batch["input_ids"], (0, width), value=1),
            "attention_mask": F.pad(batch["attention_mask"], (0, width)),
            "labels": F.pad(batch["labels"], (0, width), value=-100),
        }
        found = model(**padded, output_router_logits=True)
        return found.encoder_aux_loss, found.decoder_aux_loss

    torch.testing.assert_close(losses(5), losses(0))


def test_training_step_is_the_plain_model_s(load: Load, batch: dict[str, Tensor], golden: Path) -> None:
    """Dropout, masked experts and dropped tokens included: both draw the same random numbers."""
    face, plain = load().train(), load_nllb(golden / "nllb_moe_base").train()
    labels = batch["labels"]
    torch.manual_seed(0)
    loss = face(**batch).loss
    loss.backward()
    torch.manual_seed(0)
    shifted = face.prepare_decoder_input_ids_from_labels(labels)
    keep = batch["attention_mask"].bool()
    logits = plain(batch["input_ids"], shifted, keep, labels != -100)
    plain_loss = F.cross_entropy(logits[labels != -100], labels[labels != -100])
    plain_loss.backward()
    torch.testing.assert_close(loss, plain_loss)
    wanted = gradients(plain)
    found = {name.removeprefix("model."): gradient for name, gradient in gradients(face).items()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_checkpointed_gradients_are_the_same(load: Load, batch: dict[str, Tensor], reentrant: bool) -> None:
    model = load().train()
    wanted = step(model, batch, output_router_logits=not reentrant)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found = step(model, batch, output_router_logits=not reentrant)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)


def test_checkpointing_computes_layers_twice(load: Load, batch: dict[str, Tensor]) -> None:
    model = load().train()
    runs = []
    layer = model.model.encoder.layers[1]
    layer.self_attn.register_forward_hook(lambda *_: runs.append(1))
    model.activation_checkpointing_enable(every_n_layers=2)
    step(model, batch)
    assert len(runs) == 1  # every second layer, from the first on
    model.activation_checkpointing_enable()
    step(model, batch)
    assert len(runs) == 3


def test_training_makes_no_cache_unless_told(load: Load, batch: dict[str, Tensor]) -> None:
    model = load().train()
    assert model(**batch).past_key_values is None
    assert model(**batch, use_cache=True).past_key_values is not None
    model.activation_checkpointing_enable()
    assert model(**batch, use_cache=True).past_key_values is None
    assert model.eval()(**batch).past_key_values is not None


# PEFT asks transformers under a name that it is giving up.
peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def lora(model: NllbMoeForConditionalGeneration) -> PeftModel:
    targets = ["q_proj", "v_proj", "fc1"]
    settings = LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, target_modules=targets, lora_dropout=0.0)
    return get_peft_model(model, settings)


@peft
def test_adapters_train_save_and_load(load: Load, batch: dict[str, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = lora(load())
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in names)
    assert any("layers.1.ffn.experts.expert_7.fc1.lora_A" in name for name in names)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    used = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("experts" in name for name in used)

    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(load(), tmp_path)
    inputs = {**batch, "decoder_input_ids": torch.tensor([[2, 12]] * 3)}
    del inputs["labels"]
    wanted = model.eval()(**inputs).logits
    torch.testing.assert_close(again(**inputs).logits, wanted)
    assert (load()(**inputs).logits - wanted).abs().max() > 1e-2
    torch.testing.assert_close(model.merge_and_unload()(**inputs).logits, wanted, atol=1e-4, rtol=1e-4)


@peft
def test_adapters_learn_through_checkpointed_layers(load: Load, batch: dict[str, Tensor]) -> None:
    model = load()
    model.activation_checkpointing_enable()
    adapted = lora(model).train()
    adapted(**batch).loss.backward()
    found = gradients(adapted)
    assert found
    assert all("lora_" in name for name in found)
    assert any(bool(gradient.abs().sum() > 0) for gradient in found.values())


@peft
def test_adapted_model_generates(load: Load, batch: dict[str, Tensor]) -> None:
    options = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(lora(load()).generate(**inputs, **options), load().generate(**inputs, **options))


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_trainer_trains(load: Load, batch: dict[str, Tensor], tmp_path: Path, spm_folder: Path) -> None:
    lengths = batch["attention_mask"].sum(1).tolist()
    rows = [
        {"input_ids": source[:length].tolist(), "labels": target[target != -100].tolist()}
        for source, length, target in zip(batch["input_ids"], lengths, batch["labels"], strict=True)
    ]
    model = load()
    settings = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        num_train_epochs=4,
        learning_rate=5e-3,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    collator = DataCollatorForSeq2Seq(NllbTokenizer.from_pretrained(spm_folder), model=model)
    trainer = Seq2SeqTrainer(model, settings, data_collator=collator, train_dataset=rows * 4)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
def test_trainer_evaluates_and_predicts(
    load: Load, batch: dict[str, Tensor], tmp_path: Path, spm_folder: Path
) -> None:
    model = load()
    rows = [{name: tensor[row].tolist() for name, tensor in batch.items()} for row in range(3)]
    settings = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        per_device_eval_batch_size=3,
        predict_with_generate=True,
        generation_max_length=8,
        generation_num_beams=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    collator = DataCollatorForSeq2Seq(NllbTokenizer.from_pretrained(spm_folder), model=model)
    trainer = Seq2SeqTrainer(model, settings, data_collator=collator)
    found = trainer.predict(rows)
    assert found.metrics["test_loss"] == pytest.approx(model.eval()(**batch).loss.item(), abs=1e-4)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    wanted = model.generate(**inputs, max_length=8, num_beams=2)
    assert found.predictions[:, : wanted.shape[1]].tolist() == wanted.tolist()
