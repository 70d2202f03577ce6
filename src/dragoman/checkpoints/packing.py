"""A checkpoint's weights for the kernels: packed tensor by tensor, straight from its files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.checkpoints.llama_files import LlamaFiles
from dragoman.checkpoints.module_folders import Module
from dragoman.checkpoints.module_layout import EMBEDDING, LoraName
from dragoman.checkpoints.nllb_files import OUTPUT, SHARED, NllbFiles
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.places import Change, Place, Reader
from dragoman.errors import Shape
from dragoman.kernels.arrays import Stored
from dragoman.kernels.fine import FINE_BYTES, FINE_FOR, Fine
from dragoman.kernels.head import Embedding, Head, Table
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


def pack_nllb(files: NllbFiles, precision: str) -> Parts:
    """NLLB's weights in "fp32", "fp16", "int8" or "int4".

    The embedding stays exact in fp32, is halved in fp16, and takes 12 bits a number in int8 and int4.
    InvalidOption for a matrix that doesn't fit the precision, CheckpointError for a weight that is NaN or
    infinite, or a file that can't be read.
    """
    source = _Source(files.places, files.changes)
    config, parts = files.config, _layers(source, precision, (SHARED, OUTPUT))
    table = source.nllb_table(SHARED, precision)
    exact = table if config.tie_word_embeddings else source.nllb_table(OUTPUT, precision)
    parts["shared"] = Embedding(table, config.d_model**0.5 if config.scale_embedding else 1.0)
    parts["lm_head"] = _head(exact, precision)
    return parts


def _head(table: Table, precision: str) -> Head:
    """The output layer is most of what a step reads: screened with fewer bits, scored with the table's own."""
    if isinstance(table, Fine):
        return Head.fine(table)
    # For exact scores the rest of the normaliser must be good, too: half precision.
    halves = precision == "fp32" and largest(table, OUTPUT) <= LARGEST["fp16"]
    return Head.screened(table, "fp16" if halves else "int8")


def pack_llama(files: LlamaFiles, precision: str) -> Parts:
    """A Llama's weights, and those of the modules that belong to it from the beginning; as `pack_nllb`."""
    source = _Source(files.places, files.changes)
    parts = _layers(source, precision, (EMBEDDING, OUTPUT))
    parts["model.embed_tokens"] = Embedding(source.table(EMBEDDING, precision))
    output = EMBEDDING if files.config.tie_word_embeddings else OUTPUT
    # A small part of a large decoder: 8 bits, as good as exact, where the rest has 4.
    low = "int8" if precision == "int4" else precision
    parts["lm_head"] = Head(Linear(pack(source.stored(output), low, output)), None)
    for group, module in files.modules.items():
        parts |= pack_module(module, group, precision)
    return parts


def pack_module(module: Module, group: int, precision: str) -> Parts:
    """A language module's thin matrices, under the names they have in a combined checkpoint."""
    source = _Source({name.combined(group): place for name, place in module.tensors.items()})
    return dict(_linears(source, list(source.places), precision))


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
        count = 1 if config.tie_word_embeddings else 2
        if precision in FINE_FOR:
            per_number = FINE_BYTES * count
        else:
            per_number = _table_bytes(precision) * count + BYTES["fp16" if precision == "fp32" else "int8"]
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

    def nllb_table(self, name: str, precision: str) -> Table:
        """An embedding that is the output layer, too."""
        if precision in FINE_FOR:
            return Fine.of(self.stored(name), name)
        return self.table(name, precision)

    def _numbers(self, name: str) -> Numbers:
        numbers = self.read(self.places[name])
        return self.changes[name].applied(numbers, self.read) if name in self.changes else numbers


def _layers(source: _Source, precision: str, tables: tuple[str, str]) -> Parts:
    """All but embedding and output layer."""
    names = [name for name in source.places if name not in tables]
    parts: Parts = dict(_linears(source, names, precision))
    for name in names:
        if len(source.places[name].shape) == 1 and name.rpartition(".")[0] not in parts:
            values = source.stored(name)
            largest(values, name)
            parts[name] = values.float32()
    return parts


def _linears(source: _Source, names: list[str], precision: str) -> Iterator[tuple[str, Linear]]:
    """Every matrix among these names, with its bias."""
    for name in names:
        if len(source.places[name].shape) == 2:
            module = name.removesuffix(".weight")
            bias = f"{module}.bias"
            yield (
                module,
                Linear.of(
                    source.stored(name),
                    source.stored(bias) if bias in source.places else None,
                    "fp32" if module.endswith(ROUTER) else precision,
                    module,
                ),
            )


def _stored(numbers: Numbers) -> Stored:
    if numbers.dtype == "F64":
        numbers = numbers.to("F32")
    return Stored(numbers.data, numbers.dtype)


def _table_bytes(precision: str) -> int:
    """Bytes of each number of an embedding."""
    return 4 if precision == "fp32" else 2
