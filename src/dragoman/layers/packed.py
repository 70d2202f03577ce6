"""Modules on packed weights: through the kernels on a CPU, else in PyTorch with the same answer.

Each gives its twin without PyTorch, in the same memory, as `kernel()`.
"""

import torch
from torch import Tensor, nn

from dragoman.errors import InvalidOption
from dragoman.kernels import head, packing
from dragoman.kernels.arrays import Array, Stored
from dragoman.kernels.fine import Fine
from dragoman.kernels.head import Embedding, Head
from dragoman.kernels.library import kernels
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import Packed, check_numbers
from dragoman.kernels.structs import KINDS
from dragoman.layers import packed_twin
from dragoman.layers.packed_twin import PackedTensor, multiply

STORED = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class PackedLinear(nn.Module):
    """y = x W^T + bias with W in fp32, fp16, int8 or int4; for inference only.

    In int8 and int4 each row of x is rounded to 8 bits with a scale of its own, and products are
    summed exactly, so that a row's result does not depend on the other rows.
    """

    data: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, packed: PackedTensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.kind, self.out_features, self.in_features = packed.kind, packed.outputs, packed.inputs
        self.register_buffer("data", packed.data, persistent=False)
        self.register_buffer("scale", packed.scale, persistent=False)
        self.register_buffer(
            "bias", None if bias is None else bias.detach().to(torch.float32, copy=True), persistent=False
        )

    @classmethod
    def of(cls, linear: nn.Linear, precision: str, name: str = "a layer") -> "PackedLinear":
        """The packed twin of `linear`, which errors call `name`; raises what `pack` does."""
        if linear.bias is not None:
            largest(linear.bias, f"{name}.bias")
        return cls(pack(linear.weight, precision, f"{name}.weight"), linear.bias)

    @property
    def packed(self) -> PackedTensor:
        return PackedTensor(self.kind, self.out_features, self.in_features, self.data, self.scale)

    @property
    def precision(self) -> str:
        return next(name for name, kind in KINDS.items() if kind == self.kind)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.precision}, bias={self.bias is not None}"

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs], in the dtype of `x`."""
        flat = x.reshape(-1, self.in_features).float()
        if kernels() is None or x.device.type != "cpu":
            out = multiply(flat, self.packed, self.bias)
        else:
            out = torch.from_numpy(self.kernel()(flat.detach().numpy()))
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def kernel(self) -> Linear:
        """For the kernels; ValueError if the tensors aren't in the CPU's memory."""
        data, scale, bias = (
            _array(f"a packed layer's {name}", tensor)
            for name, tensor in (("weights", self.data), ("scales", self.scale), ("bias", self.bias))
        )
        return Linear(Packed(self.kind, self.out_features, self.in_features, data, scale), bias)


class PackedTable(PackedLinear):
    """Rows of numbers in 12 bits, whose upper eight are a linear layer; `kernels.fine.Fine` says how."""

    rest: Tensor

    def __init__(self, packed: PackedTensor, rest: Tensor) -> None:
        super().__init__(packed)
        self.register_buffer("rest", rest, persistent=False)

    @classmethod
    def pack(cls, weight: Tensor, name: str = "a table") -> "PackedTable":
        """For a matrix [rows, columns], which errors call `name`; raises what `pack` does."""
        if _for_kernels(weight):
            found = Fine.of(stored(weight), name)
            return cls(PackedTensor.of(found.packed), torch.from_numpy(found.rest))
        largest(weight, name)
        return cls(*packed_twin.pack_fine(weight, name))

    def rows(self, tokens: Tensor) -> Tensor:
        """[...] -> [..., columns] in float32."""
        return packed_twin.fine_rows(self.packed, self.rest, tokens)

    def fine(self) -> Fine:
        """For the kernels; ValueError if the tensors aren't in the CPU's memory."""
        return Fine(self.kernel().packed, _array("a table's lower bits", self.rest))


class PackedHead(nn.Module):
    """Scores of next tokens, from hidden states; `kernels.head.Head` says how."""

    exact: Tensor | PackedTable | None

    def __init__(self, linear: PackedLinear, exact: Tensor | PackedTable | None) -> None:
        """exact: [vocabulary, hidden] in fp32, fp16, bf16 or 12 bits; InvalidOption if in another."""
        super().__init__()
        self.linear = linear
        if isinstance(exact, PackedTable):
            self.exact = exact
            return
        if exact is not None and exact.dtype not in STORED:
            possible = " or ".join(map(str, STORED))
            raise InvalidOption(f"exact scores from rows in {exact.dtype}; convert them to {possible}")
        self.register_buffer("exact", exact, persistent=False)

    @classmethod
    def screened(cls, weight: Tensor, precision: str = "int8") -> "PackedHead":
        """For a matrix [tokens, hidden], which itself serves for the exact scores.

        precision: of the rough pass.
        """
        return cls(PackedLinear(pack(weight, precision)), weight.detach())

    @classmethod
    def fine(cls, table: PackedTable) -> "PackedHead":
        """For a matrix [tokens, hidden] in 12 bits, whose upper ones serve for the rough pass."""
        return cls(table, table)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary]."""
        flat = x.reshape(-1, x.shape[-1])
        if kernels() is None or x.device.type != "cpu":
            scores = self._in_torch(flat)
        else:
            scores = torch.from_numpy(self.kernel()(flat.detach().float().numpy()))
        return scores.view(*x.shape[:-1], -1)

    def kernel(self) -> Head:
        """For the kernels; ValueError if the tensors aren't in the CPU's memory."""
        if isinstance(self.exact, PackedTable):
            table = self.exact.fine()
            return Head.fine(table) if self.linear is self.exact else Head(self.linear.kernel(), table)
        return Head(self.linear.kernel(), None if self.exact is None else stored(self.exact))

    def _in_torch(self, x: Tensor) -> Tensor:
        if self.exact is None:
            return self.linear(x)
        if (
            isinstance(self.exact, Tensor) and self.exact.dtype == torch.float32
        ):  # the model is exact, so all scores are
            # Parts, so that no copy of the whole in another precision is made.
            return torch.cat([x.float() @ part.float().t() for part in self.exact.split(16384)], -1)
        rough = self.linear(x)
        places = rough.topk(min(head.SCREEN, rough.shape[1]), -1).indices
        rows = _rows(self.exact, places)
        return rough.scatter(-1, places, (rows @ x.float()[..., None]).squeeze(-1))


class PackedEmbedding(nn.Module):
    """Vectors of tokens from a table, in float32 and multiplied by `embed_scale`."""

    weight: Tensor | PackedTable

    def __init__(self, weight: Tensor | PackedTable, scale: float = 1.0) -> None:
        super().__init__()
        if isinstance(weight, PackedTable):
            self.weight = weight
        else:
            self.register_buffer("weight", weight.detach(), persistent=False)
        self.embed_scale = scale

    def forward(self, tokens: Tensor) -> Tensor:
        """[...] -> [..., hidden]."""
        return _rows(self.weight, tokens) * self.embed_scale

    def kernel(self) -> Embedding:
        """For the kernels; ValueError if the table isn't in the CPU's memory."""
        table = self.weight.fine() if isinstance(self.weight, PackedTable) else stored(self.weight)
        return Embedding(table, self.embed_scale)


def _rows(table: Tensor | PackedTable, tokens: Tensor) -> Tensor:
    """[...] -> [..., hidden] in float32."""
    if isinstance(table, PackedTable):
        return table.rows(tokens)
    return nn.functional.embedding(tokens, table).float()


def pack(weight: Tensor, precision: str, name: str = "a weight") -> PackedTensor:
    """Pack `weight` [outputs, inputs], by the kernels if they can; `kernels.packing.pack` says the rest."""
    if _for_kernels(weight):
        return PackedTensor.of(packing.pack(stored(weight), precision, name))
    if weight.dim() == 2 and weight.numel():
        largest(weight, name)
    return packed_twin.pack(weight, precision, name)


def largest(values: Tensor, name: str) -> float:
    """The largest magnitude among `values`; CheckpointError if one is NaN or infinite."""
    if not values.numel():
        return 0.0
    if _for_kernels(values):
        return packing.largest(stored(values), name)
    low, high = (float(end) for end in values.detach().aminmax())
    most = max(-low, high)
    check_numbers(most, name)
    return most


def stored(tensor: Tensor) -> Stored:
    """A tensor's numbers in the same memory; ValueError if it isn't in the CPU's, or of another type."""
    if tensor.dtype not in STORED:
        raise ValueError(f"numbers in {tensor.dtype} are none for the kernels; convert them to torch.float32")
    bits = tensor.detach().view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    return Stored(_array("numbers", bits), STORED[tensor.dtype])


def _for_kernels(tensor: Tensor) -> bool:
    on_cpu = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return on_cpu and tensor.dtype in STORED and kernels() is not None


def _array(name: str, tensor: Tensor | None) -> Array | None:
    if tensor is None:
        return None
    if tensor.device.type != "cpu":
        raise ValueError(f"the kernels were given {name} on {tensor.device}; move them to the CPU before")
    return tensor.detach().numpy()
