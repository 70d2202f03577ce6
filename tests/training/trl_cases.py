"""A tiny Llama and some preferences, the same for TRL and for Dragoman. NumPy alone."""

from collections.abc import Mapping

import numpy as np

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
BETA, SIMPO_BETA, GAMMA = 0.1, 2.0, 1.0
PAIRS = [
    # prompt, chosen, rejected; 2 is the end
    ([1, 5, 6, 7, 8], [9, 10, 11, 2], [9, 12, 2]),
    ([1, 5, 30, 8], [31, 32, 33, 34, 35, 2], [31, 36, 37, 38, 2]),
    ([1, 20, 21, 22, 23, 24, 8], [3, 2], [4, 4, 4, 4, 4, 4, 4, 2]),
]


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Random numbers for parameters, the same wherever the names are."""
    found = {}
    for name in sorted(shapes):
        rng = np.random.default_rng([seed, *name.encode()])
        values = rng.standard_normal(shapes[name], np.float32)
        found[name] = 1 + 0.1 * values if len(shapes[name]) == 1 else 0.2 * values
    return found
