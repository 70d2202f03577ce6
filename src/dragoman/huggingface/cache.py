"""transformers' caches, as the plain decoder asks for them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import Cache, EncoderDecoderCache
from transformers.utils import logging

from dragoman.layers.attention import Attention

logger = logging.get_logger(__name__)


def chosen_cache(
    given: Cache | None, wanted: bool | None, default: bool, recomputes: bool, make: Callable[[], Cache]
) -> Cache | None:
    """The cache of a pass: the given one, or a new one if `wanted` says so or, without it, `default`.

    There is none, with a warning, in a pass whose layers run again for their gradients
    (`recomputes`): they would enter their keys twice.
    """
    if recomputes:
        if given is not None or wanted:
            logger.warning_once("there is no cache while gradients are checkpointed; none is used")
        return None
    if given is not None:
        return given
    return make() if (default if wanted is None else wanted) else None


class CacheAdapter:
    """The plain `dragoman.layers.cache.Cache` on top of a transformers cache, which keeps the state.

    In an `EncoderDecoderCache` the keys and values of the source stay too; with any other cache
    they are projected anew at every call, from `encoded`.
    """

    def __init__(self, cache: Cache) -> None:
        self._both = cache if isinstance(cache, EncoderDecoderCache) else None
        self._own: Cache = cache if self._both is None else self._both.self_attention_cache

    @property
    def length(self) -> int:
        """Positions decoded so far, padding included."""
        return int(self._own.get_seq_length())

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add new positions [rows, heads, new, head_dim]; all of the layer's so far come back."""
        end = int(self._own.get_seq_length(layer)) + key.shape[2]
        key, value = self._own.update(key, value, layer)
        return key[:, :, :end], value[:, :, :end]  # a static cache gives its empty slots too

    def source(
        self, layer: int, attention: Attention, encoded: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the source [rows, heads, time, head_dim]; None if there is none."""
        if self._both is None:
            return None if encoded is None else attention.project(encoded)
        if self._both.is_updated.get(layer):
            crossed = self._both.cross_attention_cache
            stored: Any = crossed.layers[layer]
            end = int(crossed.get_seq_length(layer))
            return stored.keys[:, :, :end], stored.values[:, :, :end]
        if encoded is None:
            return None
        pair = attention.project(encoded)
        self._both.cross_attention_cache.update(*pair, layer)
        self._both.is_updated[layer] = True
        return pair
