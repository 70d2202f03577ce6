"""llama.cpp as an engine, through the C interface: no Python between its steps but the choice.

It has no beam search of its own any more. Here one decodes all beams as sequences of one batch
and moves them by tagging cells of the cache (`llama_memory_seq_cp`), which copies nothing.
"""

import ctypes
from typing import Any

import llama_cpp as api
import numpy as np

from benchmarks.peers.protocol import serve, timed

EOS = 2
# Cells of the cache: sequences share them, so this bounds all rows together.
CONTEXT, SEQUENCES = 4096, 128


class LlamaCpp:
    """Weights as the file has them; `precision` must be what was converted to."""

    def load(
        self, folder: str, precision: str, threads: int, vocabulary: list[int] | None = None
    ) -> dict[str, Any]:
        """folder: the .gguf file."""
        if precision != "q4_0" or vocabulary is not None:
            raise ValueError("the file is in q4_0, with its whole vocabulary")
        api.llama_backend_init()
        settings = api.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(folder.encode(), settings)
        if not self.model:
            raise ValueError(f"llama.cpp can't read {folder}")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_seq_max = CONTEXT, 2048, SEQUENCES
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True  # or each sequence would get its own share of the cells
        self.context = api.llama_init_from_model(self.model, params)
        self.cells = api.llama_get_memory(self.context)
        self.width = api.llama_n_vocab(api.llama_model_get_vocab(self.model))
        self.batch = api.llama_batch_init(2048, 0, 1)
        return {"system": api.llama_print_system_info().decode()}

    def run(
        self,
        sources: list[list[int]],
        new_tokens: int,
        beams: int,
        prompt: list[int] | None = None,
        ids: bool = False,
    ) -> dict[str, Any]:
        if prompt is not None:
            raise ValueError("a decoder alone has no prompt beside its source")
        if 2 * beams * len(sources) > SEQUENCES:
            raise ValueError(f"at most {SEQUENCES // 2} beams in all")
        seconds, written = timed(lambda: self._generate(sources, new_tokens, beams))
        return {"seconds": seconds, "tokens": written.size} | ({"ids": written.tolist()} if ids else {})

    def _generate(self, sources: list[list[int]], new_tokens: int, beams: int) -> np.ndarray:
        """The best continuations [sentences, new_tokens]."""
        sentences, rows = len(sources), len(sources) * beams
        api.llama_memory_clear(self.cells, False)
        logits = self._prefill(sources, beams)
        positions = np.repeat([len(source) for source in sources], beams)
        scores = np.zeros((sentences, 1))
        history = np.zeros((sentences, 1, 0), dtype=np.int64)
        bank = 0
        for step in range(new_tokens):
            origin, tokens, scores = choose(logits, scores, beams)
            history = np.concatenate(
                [np.take_along_axis(history, origin[..., None], 1), tokens[..., None]], 2
            )
            if step == new_tokens - 1:
                break
            if step and (origin != np.arange(beams)).any():
                bank = self._reorder(origin, bank, rows)
            logits = self._decode(tokens.reshape(-1), positions + step, np.arange(rows) + bank * rows)
        return history[:, 0]

    def _prefill(self, sources: list[list[int]], beams: int) -> np.ndarray:
        """Read each source once, for all its beams; logits [sentences, vocabulary]."""
        firsts = [index * beams for index in range(len(sources))]
        tokens = [token for source in sources for token in source]
        positions = [place for source in sources for place in range(len(source))]
        owners = [first for first, source in zip(firsts, sources, strict=True) for _ in source]
        last = np.cumsum([len(source) for source in sources]) - 1
        logits = self._decode(tokens, positions, owners, last)
        for first in firsts:
            for beam in range(1, beams):
                api.llama_memory_seq_cp(self.cells, first, first + beam, -1, -1)
        return logits

    def _reorder(self, origin: np.ndarray, bank: int, rows: int) -> int:
        """Move beams [sentences, beams] into the other bank of sequences, and name it."""
        beams = origin.shape[1]
        for row, source in enumerate((origin + np.arange(len(origin))[:, None] * beams).reshape(-1)):
            old, new = bank * rows + int(source), (1 - bank) * rows + row
            api.llama_memory_seq_cp(self.cells, old, new, -1, -1)
        for row in range(rows):
            api.llama_memory_seq_rm(self.cells, bank * rows + row, -1, -1)
        return 1 - bank

    def _decode(self, tokens: Any, positions: Any, owners: Any, wanted: Any = None) -> np.ndarray:
        """Feed tokens of the sequences `owners`; logits [wanted, vocabulary], of all without `wanted`."""
        batch, count = self.batch, len(tokens)
        batch.n_tokens = count
        for index in range(count):
            batch.token[index], batch.pos[index] = int(tokens[index]), int(positions[index])
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, int(owners[index])
            batch.logits[index] = wanted is None or index in wanted
        if api.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        rows = range(count) if wanted is None else wanted
        size = self.width * ctypes.sizeof(ctypes.c_float)
        found = (api.llama_get_logits_ith(self.context, int(row)) for row in rows)
        return np.stack([np.frombuffer(ctypes.string_at(row, size), np.float32) for row in found])


def choose(logits: np.ndarray, scores: np.ndarray, beams: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best `beams` next tokens of each sentence: (origin, token, score), each [sentences, beams].

    logits: [sentences * width, vocabulary]; scores: [sentences, width]. None ends.
    """
    sentences, width = scores.shape
    logits[:, EOS] = -np.inf
    if beams == 1:
        return np.zeros((sentences, 1), int), logits.argmax(-1)[:, None], scores
    top = logits.max(-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    totals = (log_p.reshape(sentences, width, -1) + scores[..., None]).reshape(sentences, -1)
    picks = np.argpartition(totals, -beams, -1)[:, -beams:]
    values = np.take_along_axis(totals, picks, -1)
    order = values.argsort(-1)[:, ::-1]
    picks = np.take_along_axis(picks, order, -1)
    return picks // logits.shape[1], picks % logits.shape[1], np.take_along_axis(values, order, -1)


if __name__ == "__main__":
    serve(LlamaCpp())
