"""A checkpoint's weights for the kernels: packed tensor by tensor, straight from its files."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dragoman.checkpoints.llama_files import LlamaFiles
from dragoman.checkpoints.module_folders import Module
from dragoman.checkpoints.module_layout import EMBEDDING, LoraName
from dragoman.checkpoints.nllb_files import OUTPUT, SHARED, NllbFiles
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.places import Change, Place, Reader
from dragoman.errors import Shape
from dragoman.kernels.arrays import Stored
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import LARGEST, check_range, largest, pack
from dragoman.models.config import NllbConfig
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.shapes import llama_shapes, nllb_shapes

Parts = dict[str, Any]
"""Linear layers, output layer and embedding by the names of their modules, vectors by their own."""
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5625}
"""Of a packed weight, scales included but for those of whole rows."""
ROUTER = ".router.classifier"
"""What a router's name ends in. They stay exact: they decide, and are small."""


@dataclass(frozen=True)
class Recipe:
    """How to make some parts that belong together, one or two of a model's many."""

    name: str
    make: Callable[[], Parts]


def nllb_recipes(files: NllbFiles, precision: str) -> Iterator[Recipe]:
    """NLLB's parts, each read and packed only when it is made; always in the same order.

    The embedding stays exact in fp32 and is halved otherwise. Making raises InvalidOption for a matrix
    that doesn't fit the precision, CheckpointError for a weight that is NaN or infinite, or a file that
    can't be read.
    """
    source = _Source(files.places, files.changes)
    yield from _layers(source, precision, (SHARED, OUTPUT))
    yield Recipe("shared", partial(_nllb_tables, source, files.config, precision))


def llama_recipes(files: LlamaFiles, precision: str) -> Iterator[Recipe]:
    """A Llama's parts, then those of the modules that belong to it, group by group; as `nllb_recipes`."""
    source = _Source(files.places, files.changes)
    yield from _layers(source, precision, (EMBEDDING, OUTPUT))
    yield Recipe("model.embed_tokens", partial(_llama_embedding, source, precision))
    yield Recipe("lm_head", partial(_llama_head, source, files.config, precision))
    for group, module in files.modules.items():
        yield from _module_recipes(module, group, precision)


def pack_nllb(files: NllbFiles, precision: str) -> Parts:
    """NLLB's weights in "fp32", "fp16", "int8" or "int4". Raises what `nllb_recipes` says."""
    return _made(nllb_recipes(files, precision))


def pack_llama(files: LlamaFiles, precision: str) -> Parts:
    """A Llama's weights, and those of the modules that belong to it from the beginning; as `pack_nllb`."""
    return _made(llama_recipes(files, precision))


def pack_module(module: Module, group: int, precision: str) -> Parts:
    """A language module's thin matrices, under the names they have in a combined checkpoint."""
    return _made(_module_recipes(module, group, precision))


def module_bytes(shapes: Mapping[LoraName, Shape], precision: str) -> int:
    """The memory that a language module takes."""
    return int(sum(a * b for a, b in shapes.values()) * BYTES[precision])


def packed_bytes(config: NllbConfig | LlamaConfig, precision: str) -> int:
    """The memory that a model's weights take once they are packed, but for some small ones."""
    is_nllb = isinstance(config, NllbConfig)
    shapes = nllb_shapes(config) if is_nllb else llama_shapes(config)
    tables = (SHARED, OUTPUT) if is_nllb else (EMBEDDING, OUTPUT)
    total = sum(
        shape[0] * shape[1] * BYTES[precision]
        for name, shape in shapes.items()
        if len(shape) == 2 and name not in tables and not name.endswith(f"{ROUTER}.weight")
    )
    rows, width = shapes[tables[0]]
    if is_nllb:
        exact = _table_bytes(precision) * (1 if config.tie_word_embeddings else 2)
        per_number = exact + BYTES["fp16" if precision == "fp32" else "int8"]
    else:
        per_number = _table_bytes(precision) + BYTES["int8" if precision == "int4" else precision]
    return int(total + rows * width * per_number)


@dataclass(frozen=True)
class _Source:
    """Reads a checkpoint's tensors, changed by an adapter if there is one."""

    places: Mapping[str, Place]
    changes: Mapping[str, Change] = field(default_factory=dict)
    read: Reader = field(default_factory=lambda: Reader())

    def stored(self, name: str) -> Stored:
        return _stored(self._numbers(name))

    def table(self, name: str, precision: str) -> Stored:
        """An embedding, in memory of its own: a part of a file would keep all of it mapped."""
        found = self.stored(name)
        wanted = "fp32" if precision == "fp32" else "fp16"
        check_range(largest(found, name), wanted, name)
        numbers = Numbers(found.data, found.dtype).to("F32" if wanted == "fp32" else "F16")
        return Stored(numbers.data.copy() if numbers.data is found.data else numbers.data, numbers.dtype)

    def _numbers(self, name: str) -> Numbers:
        numbers = self.read(self.places[name])
        return self.changes[name].applied(numbers, self.read) if name in self.changes else numbers


def _made(recipes: Iterator[Recipe]) -> Parts:
    parts: Parts = {}
    for recipe in recipes:
        parts |= recipe.make()
    return parts


def _nllb_tables(source: _Source, config: NllbConfig, precision: str) -> Parts:
    table = source.table(SHARED, precision)
    exact = table if config.tie_word_embeddings else source.table(OUTPUT, precision)
    # The output layer is most of what a step reads: screened with fewer bits, scored with the table's own
    # rows. For exact scores the rest of the normaliser must be good, too: half precision.
    halves = precision == "fp32" and largest(exact, OUTPUT) <= LARGEST["fp16"]
    return {
        "shared": Embedding(table, config.d_model**0.5 if config.scale_embedding else 1.0),
        "lm_head": Head.screened(exact, "fp16" if halves else "int8"),
    }


def _llama_embedding(source: _Source, precision: str) -> Parts:
    return {"model.embed_tokens": Embedding(source.table(EMBEDDING, precision))}


def _llama_head(source: _Source, config: LlamaConfig, precision: str) -> Parts:
    output = EMBEDDING if config.tie_word_embeddings else OUTPUT
    # A small part of a large decoder: 8 bits, as good as exact, where the rest has 4.
    low = "int8" if precision == "int4" else precision
    return {"lm_head": Head(Linear(pack(source.stored(output), low, output)), None)}


def _module_recipes(module: Module, group: int, precision: str) -> Iterator[Recipe]:
    source = _Source({name.combined(group): place for name, place in module.tensors.items()})
    return _layers(source, precision, ())


def _layers(source: _Source, precision: str, tables: tuple[str, ...]) -> Iterator[Recipe]:
    """All but embedding and output layer: every matrix with its bias, every vector that is none."""
    places = {name: place for name, place in source.places.items() if name not in tables}
    matrices = {name.removesuffix(".weight") for name, place in places.items() if len(place.shape) == 2}
    for name, place in places.items():
        if len(place.shape) == 2:
            yield Recipe(name.removesuffix(".weight"), partial(_linear, source, name, precision))
        elif len(place.shape) == 1 and name.rpartition(".")[0] not in matrices:
            yield Recipe(name, partial(_vector, source, name))


def _linear(source: _Source, name: str, precision: str) -> Parts:
    module = name.removesuffix(".weight")
    bias = f"{module}.bias"
    found = source.stored(bias) if bias in source.places else None
    precision = "fp32" if module.endswith(ROUTER) else precision
    return {module: Linear.of(source.stored(name), found, precision, module)}


def _vector(source: _Source, name: str) -> Parts:
    values = source.stored(name)
    largest(values, name)
    return {name: values.float32()}


def _stored(numbers: Numbers) -> Stored:
    if numbers.dtype == "F64":
        numbers = numbers.to("F32")
    return Stored(numbers.data, numbers.dtype)


def _table_bytes(precision: str) -> int:
    """Bytes of each number of an embedding."""
    return 4 if precision == "fp32" else 2
