"""Records what TRL computes on a batch, for `objectives/test_against_trl.py`.

In an environment of its own: `pip install trl torch`, then `python tests/training/record_trl.py`.
It writes `tests/data/trl.json`; model and batches are `trl_cases.py`'s.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

sys.path.insert(0, str(Path(__file__).parent))
from trl_cases import BETA, GAMMA, PAIRS, SHAPE, SIMPO_BETA, weights  # type: ignore[import-not-found]

OUT = Path(__file__).parents[1] / "data" / "trl.json"
PAD = 0


def main() -> None:
    quiet = {"output_dir": tempfile.mkdtemp(), "report_to": [], "use_cpu": True, "bf16": False, "fp16": False}
    found = {
        "versions": {
            "trl": trl.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "cpo": cpo(CPOConfig(beta=BETA, cpo_alpha=1.0, loss_type="sigmoid", **quiet)),
        "simpo": cpo(
            CPOConfig(beta=SIMPO_BETA, cpo_alpha=0.0, loss_type="simpo", simpo_gamma=GAMMA, **quiet)
        ),
        "dpo": dpo(DPOConfig(beta=BETA, **quiet)),
        "sft": sft(SFTConfig(**quiet)),
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(OUT.read_text())


def cpo(config: CPOConfig) -> dict[str, object]:
    model = model_of(0)
    trainer = CPOTrainer(
        model, config, train_dataset=dataset(), processing_class=tokenizer(), data_collator=lambda rows: rows
    )
    batch: dict[str, torch.Tensor] = {}
    for side in ("chosen", "rejected"):
        ids = [prompt + answer for prompt, answer in sides(side)]
        labels = [[-100] * len(prompt) + answer for prompt, answer in sides(side)]
        batch[f"{side}_input_ids"] = padded(ids, PAD)
        batch[f"{side}_labels"] = padded(labels, -100)
        batch[f"{side}_attention_mask"] = padded([[1] * len(row) for row in ids], 0)
    return measured(model, trainer.get_batch_loss_metrics(model, batch)[0])


def dpo(config: DPOConfig) -> dict[str, object]:
    model = model_of(0)
    trainer = DPOTrainer(model, model_of(1), config, train_dataset=dataset(), processing_class=tokenizer())
    rows = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in PAIRS]
    batch = DataCollatorForPreference(pad_token_id=PAD)(rows)
    return measured(trainer.model, trainer.compute_loss(trainer.model, batch))


def sft(config: SFTConfig) -> dict[str, object]:
    model = model_of(0)
    data = Dataset.from_list([{"prompt": "t3 t4", "completion": "t5"}])
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer())
    rows = [{"input_ids": p + a, "labels": [-100] * len(p) + a} for p, a in sides("chosen")]
    batch = DataCollatorForLanguageModeling(pad_token_id=PAD)(rows)
    return measured(trainer.model, trainer.compute_loss(trainer.model, batch))


def measured(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, object]:
    """The loss, and the norms of two gradients."""
    model.zero_grad()
    loss.backward()
    named = dict(model.named_parameters())
    norms = {
        name: float(named[name].grad.norm())
        for name in ("lm_head.weight", "model.layers.0.self_attn.q_proj.weight")
    }
    return {"loss": float(loss.detach()), "gradients": norms}


def model_of(seed: int) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, attn_implementation="eager"))
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    state = {name: torch.from_numpy(array) for name, array in weights(shapes, seed).items()}
    model.load_state_dict(state)
    return model.train()


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"t{i}": i for i in range(3, SHAPE["vocab_size"])}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, "<pad>")),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def dataset() -> Dataset:
    """The trainers want one; the batches that are measured are made here."""
    return Dataset.from_list([{"prompt": "t3 t4", "chosen": "t5", "rejected": "t6"}])


def sides(name: str) -> list[tuple[list[int], list[int]]]:
    return [(prompt, chosen if name == "chosen" else rejected) for prompt, chosen, rejected in PAIRS]


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    out = np.full((len(rows), max(map(len, rows))), value, np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


if __name__ == "__main__":
    main()
