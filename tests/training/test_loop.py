import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dragoman.errors import TrainingDiverged
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import generate
from dragoman.models.nllb import Nllb, initialize_
from dragoman.training.config import TrainingConfig
from dragoman.training.data import PAD, Batches, assemble
from dragoman.training.loop import Phase, Trainer
from dragoman.training.objectives.translation import Translation
from dragoman.training.parts import ENGLISH, Part
from dragoman.training.precision import resolve_precision

FRENCH = "fra_Latn"
IDS = {ENGLISH: 14, FRENCH: 15}
VOCABULARY, FIRST_DIGIT = 16, 4
QUIET = {"dropout": 0.0, "attention_dropout": 0.0, "moe_token_dropout": 0.0}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def digits(count: int, longest: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [(FIRST_DIGIT + rng.integers(0, 10, rng.integers(1, longest + 1))).tolist() for _ in range(count)]


class DigitPieces:
    """A tokenizer of digits."""

    def encode_pieces(self, texts: list[str]) -> list[list[int]]:
        return [[FIRST_DIGIT + int(digit) for digit in text] for text in texts]


def copies(count: int, longest: int, seed: int = 0) -> Part:
    """Numbers whose translation is the same number."""
    texts = ["".join(str(i - FIRST_DIGIT) for i in row) for row in digits(count, longest, seed)]
    return Part(FRENCH, "numbers", 1.0, tuple((text, text) for text in texts))


def batches_of(part: Part, config: TrainingConfig) -> Batches:
    return Batches(
        [part], DigitPieces(), IDS, config.batch_tokens, 60, seed=config.seed, round_examples=2 * len(part)
    )


def config_of(model: dict[str, Any] | None = None, **settings: Any) -> TrainingConfig:
    shape = {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 2,
        "num_experts": 4,
        **QUIET,
    }
    defaults: dict[str, Any] = {"updates": 20, "warmup": 5, "rate": 3e-3, "batch_tokens": 300}
    return TrainingConfig(model=shape | (model or {}), **defaults | {"precision": "fp32"} | settings)


def trainer_in(
    folder: Path, config: TrainingConfig, evaluate: Any = lambda model: {}, longest: int = 6
) -> Trainer:
    model = Nllb(config.model_config(VOCABULARY))
    initialize_(model, config.seed)
    return Trainer(
        model, objective_of(config), batches_of(copies(300, longest), config), config, folder, evaluate
    )


def objective_of(config: TrainingConfig) -> Translation:
    return Translation(PAD, config.label_smoothing, config.balance_loss, config.z_loss)


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def parameters_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def accuracy(model: Nllb, longest: int, seed: int = 99) -> float:
    """Share of unseen numbers that are copied without a mistake."""
    rows = digits(40, longest, seed)
    ids = np.ones((len(rows), longest + 2), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row) + 2] = [IDS[FRENCH], *row, 2]
    prompt = np.array([[2, IDS[ENGLISH]]] * len(rows))
    options = GenerationOptions(beams=1, max_new_tokens=longest + 2)
    found = generate(model.eval(), ids, ids != 1, prompt, options)
    right = [list(h.tokens) == [IDS[ENGLISH], *row, 2] for row, (h,) in zip(rows, found, strict=True)]
    return sum(right) / len(right)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_loss_falls_when_copying_digits(optimizer: str, tmp_path: Path) -> None:
    config = config_of(updates=75, optimizer=optimizer, save_every=1000, evaluate_every=1000)
    trainer = trainer_in(tmp_path, config)
    trainer.run()
    losses = [row["loss"] for row in log_of(tmp_path) if "loss" in row]
    assert len(losses) == 3
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.75 * losses[0]
    assert losses[2] < math.log(10)  # better than any guess of digits


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_model_learns_to_copy_digits(optimizer: str, tmp_path: Path) -> None:
    config = config_of(
        {"d_model": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "moe_token_dropout": 0.1},
        updates=1200,
        optimizer=optimizer,
        batch_tokens=1500,
        save_every=1000,
        evaluate_every=2000,
    )
    trainer = trainer_in(tmp_path, config)
    trainer.phases = [Phase(batches_of(copies(20_000, 6), config))]
    trainer.run()
    assert accuracy(trainer.model, 6) >= 0.95


class Interruption(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("model", [QUIET, {"dropout": 0.1, "moe_token_dropout": 0.3}], ids=["quiet", "noisy"])
def test_resumed_run_equals_an_uninterrupted_one(
    optimizer: str, model: dict[str, float], average: float, tmp_path: Path
) -> None:
    config = config_of(
        model,
        average=average,
        updates=12,
        optimizer=optimizer,
        save_every=4,
        evaluate_every=7,
        accumulate=2,
        batch_tokens=900,  # a few updates a round, so that the run is in the third one when it stops
    )
    whole = trainer_in(tmp_path / "whole", config)
    whole.run()

    def interrupt(_: Nllb) -> dict[str, float]:
        torch.rand(7)  # an evaluation may draw numbers too
        raise Interruption

    parts = tmp_path / "parts"
    first = trainer_in(parts, config, interrupt)
    with pytest.raises(Interruption):
        first.run()
    assert first.update == 7
    second = trainer_in(parts, config)
    second.run()
    assert (second.update, second.pairs) == (whole.update, whole.pairs)
    for (name, a), b in zip(parameters_of(whole).items(), parameters_of(second).values(), strict=True):
        assert torch.equal(a, b), name
    if average:
        assert whole.average is not None
        assert second.average is not None
        for (name, a), b in zip(whole.average.weights.items(), second.average.weights.values(), strict=True):
            assert torch.equal(a, b), name
    assert whole.position == second.position
    assert whole.position.round >= 2
    logs = [[{**row, "seconds": 0} for row in log_of(tmp_path / part)] for part in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_log_forgets_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    config = config_of(updates=30, save_every=20, evaluate_every=1000)
    trainer = trainer_in(tmp_path, config)
    trainer.save = lambda: None if trainer.update == 30 else Trainer.save(trainer)  # type: ignore[method-assign]
    trainer.run()
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"update": 30, "pai')  # a crash
    trainer_in(tmp_path, config).run()
    assert [row["update"] for row in log_of(tmp_path)] == [25, 30]


def test_finished_run_does_nothing_more(tmp_path: Path) -> None:
    config = config_of(updates=3)
    trainer_in(tmp_path, config).run()
    before = (tmp_path / "checkpoint.pt").read_bytes(), (tmp_path / "log.jsonl").read_text()
    again = trainer_in(tmp_path, config, evaluate=lambda model: pytest.fail("evaluated"))
    again.run()
    assert ((tmp_path / "checkpoint.pt").read_bytes(), (tmp_path / "log.jsonl").read_text()) == before


def test_evaluation_sees_the_model_at_rest_and_its_figures_are_logged(tmp_path: Path) -> None:
    training: list[bool] = []

    def evaluate(model: Nllb) -> dict[str, float]:
        training.append(model.training)
        return {"chrf": 12.5}

    trainer_in(tmp_path, config_of(updates=7, evaluate_every=3), evaluate).run()
    assert training == [False] * 3
    found = [(row["update"], row["chrf"]) for row in log_of(tmp_path) if "chrf" in row]
    assert found == [(3, 12.5), (6, 12.5), (7, 12.5)]


def test_accumulated_batches_count_by_their_tokens(tmp_path: Path) -> None:
    config = config_of(balance_loss=0.0, clip=1e9)
    trainer = trainer_in(tmp_path, config)
    trainer.optimizers.step = lambda: None  # type: ignore[method-assign]
    batches = trainer.feed.round(0)[:3]
    sizes = [int((batch.target[:, 1:] != 1).sum()) for batch in batches]
    figures = trainer._train(batches)
    together = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    nll = 0.0
    for batch in batches:
        losses = trainer.losses(batch)
        (losses.terms["tokens"] / sum(sizes)).backward()
        nll += losses.figures["loss"]
    assert figures["tokens"] == sum(sizes)
    assert figures["loss"] == pytest.approx(nll)
    for name, p in trainer.model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(together[name], p.grad)


def test_padding_has_no_part_in_the_loss(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, config_of(balance_loss=0.0))
    trainer.model.eval()
    examples = trainer.feed.examples(0)[:20]
    together = trainer.losses(assemble(examples))
    alone = [trainer.losses(assemble([example])) for example in examples]
    smoothed = [float(losses.terms["tokens"].detach()) for losses in (together, *alone)]
    assert smoothed[0] == pytest.approx(sum(smoothed[1:]), rel=1e-4)
    assert together.figures["loss"] == pytest.approx(sum(a.figures["loss"] for a in alone), rel=1e-4)


def test_loss_that_is_no_number_stops_the_run_before_anything_is_stored(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, config_of(save_every=1))
    with torch.no_grad():
        trainer.model.decoder.layer_norm.weight.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match=r"the loss is nan in update 1; lower `rate`.*checkpoint\.pt"):
        trainer.run()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_update_with_an_infinite_gradient_is_skipped_and_logged(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, config_of(updates=25))
    before = parameters_of(trainer)
    seen: list[int] = []

    def spoil(gradient: Tensor) -> Tensor:
        seen.append(trainer.update)
        if trainer.update == 0:
            return gradient * math.inf
        assert trainer.update > 1 or all(
            torch.equal(a, b) for a, b in zip(before.values(), now(), strict=True)
        )
        return gradient

    def now() -> list[Tensor]:
        return [p.detach() for p in trainer.model.parameters()]

    trainer.model.decoder.layer_norm.weight.register_hook(spoil)
    trainer.run()
    assert len(seen) == 25
    assert not torch.equal(before["shared.weight"], trainer.model.shared.weight)
    row = next(row for row in log_of(tmp_path) if "loss" in row)
    assert row["skipped"] == 1
    assert math.isfinite(row["norm"])


def test_crash_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_in(tmp_path, config_of(updates=2))
    trainer.run()
    stored = (tmp_path / "checkpoint.pt").read_bytes()
    whole = torch.save

    def crash(state: object, file: Any) -> None:
        whole({"half": torch.zeros(10)}, file)
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    trainer.update = 3
    with pytest.raises(OSError, match="disk full"):
        trainer.save()
    assert (tmp_path / "checkpoint.pt").read_bytes() == stored
    again = trainer_in(tmp_path, config_of(updates=2))
    again.resume()
    assert again.update == 2


def test_stored_checkpoint_loads_without_running_code(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, config_of(updates=2, optimizer="muon"))
    trainer.run()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["update"] == 2
    assert set(state["model"]) == set(trainer.model.state_dict())
    assert not list(tmp_path.glob("*.part"))


def test_run_told_to_finish_ends_there_though_it_is_interrupted(tmp_path: Path) -> None:
    config = config_of(updates=1000, decay=0.0, save_every=4)
    first = trainer_in(tmp_path, config)
    first.optimizers.schedule.ends = 8
    first.run()
    assert first.update == 8

    def interrupt(_: Nllb) -> dict[str, float]:
        raise Interruption

    second = trainer_in(
        tmp_path, config_of(updates=1000, decay=0.0, save_every=4, evaluate_every=13), interrupt
    )
    second.resume()
    second.optimizers.schedule.ends = 1000
    second.save()
    with pytest.raises(Interruption):
        second.run(finish=10)
    third = trainer_in(tmp_path, config)
    third.run()
    assert third.update == 18
    assert third.optimizers.rate == 0


def test_run_whose_texts_have_changed_goes_on_with_the_next_round(tmp_path: Path) -> None:
    trainer_in(tmp_path, config_of(updates=4)).run()
    again = trainer_in(tmp_path, config_of(updates=9))
    again.phases = [Phase(batches_of(copies(200, 6), again.config))]
    stopped = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["position"]
    again.resume()
    assert (again.position.round, again.position.batch) == (stopped["round"] + 1, 0)
    assert again.update == 4


def test_averaged_weights_are_evaluated_and_training_goes_on_with_its_own(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def evaluate(model: Nllb) -> dict[str, float]:
        seen.append(model.shared.weight.detach().clone())
        return {}

    trainer = trainer_in(tmp_path, config_of(updates=6, average=0.9, evaluate_every=100), evaluate)
    trainer.run()
    assert trainer.average is not None
    assert torch.equal(seen[0], trainer.average.weights["shared.weight"])
    assert not torch.equal(seen[0], trainer.model.shared.weight)


def test_precision_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, n=native: n)
        assert resolve_precision("auto", torch.device("cuda")) == dtype


def test_bfloat16_gradients_are_near_those_of_full_precision(tmp_path: Path) -> None:
    gradients = []
    for precision in ("fp32", "bf16"):
        trainer = trainer_in(tmp_path / precision, config_of(precision=precision))
        trainer.model.train()
        terms = trainer.losses(trainer.feed.round(0)[0]).terms
        (terms["tokens"] + terms["batches"]).backward()
        gradients.append(trainer.model.shared.weight.grad)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.1
    assert trainer.model.shared.weight.dtype == torch.float32
