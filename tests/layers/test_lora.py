import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dragoman.layers import lora
from dragoman.layers.lora import AdaptedProjections, Routes

NAMES = ("q", "k")
SCALES = {1: 2.0, 2: 2.0, 5: 2.0}
BATCHES = [
    [1] * 7,
    [0] * 3 + [2] * 4,
    [2, 2, 2, 2, 0, 0, 0],
    [1, 1, 2, 2, 5, 5, 0],
    [0, 1, 1, 2, 2, 5, 5],
    [1, 1, 1, 1, 2, 5, 5],
    [1, 1, 5, 5, 0, 0, 0],
    [5, 0, 2, 1, 2, 1, 1],
    [2, 2, 5, 5, 1, 1, 0],
]


@pytest.fixture
def layer() -> AdaptedProjections:
    torch.manual_seed(0)
    return AdaptedProjections({"q": (16, 24), "k": (16, 12)}, SCALES, rank=4)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(7, 3, 16, generator=torch.Generator().manual_seed(1))


def by_definition(
    layer: AdaptedProjections, x: Tensor, groups: Sequence[int], scales: dict[int, float] = SCALES
) -> list[Tensor]:
    """Row by row with the dense sum W + scale * B A."""
    outputs = []
    for name in NAMES:
        rows = []
        for row, group in zip(x, groups, strict=True):
            weight = layer.get_submodule(f"{name}_proj").weight
            pair = layer.module_pair(name, group)
            if pair is not None:
                weight = weight + scales[group] * (pair[1].weight @ pair[0].weight)
            rows.append(row @ weight.t())
        outputs.append(torch.stack(rows))
    return outputs


def assert_right(layer: AdaptedProjections, x: Tensor, groups: Sequence[int], **changes: Any) -> None:
    scales = changes.get("scales", SCALES)
    expected = by_definition(copy.deepcopy(layer), x, groups, scales)
    routes = Routes.of(groups, scales)
    with torch.enable_grad():
        plain = layer.project(NAMES, x, routes)
    with torch.no_grad():
        fast = layer.project(NAMES, x, routes)
    with torch.inference_mode():
        fastest = layer.project(NAMES, x, routes)
    for found in (plain, fast, fastest):
        for mine, its in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, its, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("groups", BATCHES, ids=str)
def test_every_row_gets_its_own_module(layer: AdaptedProjections, x: Tensor, groups: list[int]) -> None:
    assert_right(layer, x, groups)


def test_rows_without_modules_take_no_route() -> None:
    assert Routes.of([0, 0, 0], SCALES) is None


def test_groups_may_differ_in_scale(layer: AdaptedProjections, x: Tensor) -> None:
    scales = {1: 2.0, 2: 0.5, 5: -1.0}
    for groups in BATCHES:
        assert_right(layer, x, groups, scales=scales)


@pytest.mark.parametrize("groups", BATCHES, ids=str)
def test_evened_groups_give_the_same(
    layer: AdaptedProjections, x: Tensor, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_evened(stack: Any, x: Tensor, outputs: list[Tensor], routes: Routes) -> None:
        add_fast(stack, x, outputs, routes.evened)

    add_fast = lora._add_fast
    monkeypatch.setattr(lora, "_add_fast", add_evened)
    assert_right(layer, x, groups)


def test_evening_stops_where_it_would_cost_more_than_it_saves() -> None:
    few = Routes.of([1] * 20 + [2, 5], SCALES)
    assert few is not None
    assert few.evened is few
    some = Routes.of([1, 1, 1, 2, 2, 5, 5], SCALES)
    assert some is not None
    assert some.evened.is_even
    assert some.evened.order.tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 6]


class MatrixSizes(TorchFunctionMode):
    """Notes the sizes of all results."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and func not in (Tensor.t, Tensor.transpose, Tensor.detach):
            self.sizes.append(tuple(result.shape))
        return result


@pytest.mark.parametrize("grad", [True, False])
def test_the_dense_sum_is_never_formed(layer: AdaptedProjections, x: Tensor, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        layer.project(NAMES, x, Routes.of(BATCHES[7], SCALES))  # stacks are built once
        with MatrixSizes() as seen:
            layer.project(NAMES, x, Routes.of(BATCHES[7], SCALES))
    assert seen.sizes
    assert not any(size[-2:] in ((24, 16), (12, 16), (16, 24), (16, 12)) for size in seen.sizes)


def test_one_group_gathers_nothing(layer: AdaptedProjections, x: Tensor) -> None:
    routes = Routes.of([2] * 7, SCALES)
    with torch.inference_mode():
        layer.project(NAMES, x, routes)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            layer.project(NAMES, x, routes)
    names = {event.key for event in profile.key_averages()}
    assert "aten::addmm_" in names
    assert not names & {
        "aten::index_select",
        "aten::index",
        "aten::index_copy_",
        "aten::index_add_",
        "aten::cat",
    }


# Parameters: real, named, trainable, never stale


def test_stacking_changes_neither_state_dict_nor_names(
    layer: AdaptedProjections, x: Tensor, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    parameters = dict(layer.named_parameters())
    with torch.inference_mode():
        layer.project(NAMES, x, Routes.of(BATCHES[3], SCALES))
    after = layer.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameters[name] is parameter for name, parameter in layer.named_parameters())
    assert "q_lora_A.5.weight" in after
    save_file(after, tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(loaded[name], before[name]) for name in before)


def in_place(layer: AdaptedProjections) -> None:
    layer.get_submodule("q_lora_B.2").weight.add_(1.0)  # type: ignore[union-attr,operator]


def by_data(layer: AdaptedProjections) -> None:
    weight = layer.get_submodule("k_lora_A.1").weight
    weight.data = torch.ones_like(weight)  # type: ignore[arg-type]


def by_parameter(layer: AdaptedProjections) -> None:
    linear = layer.get_submodule("k_lora_B.5")
    linear.weight = nn.Parameter(torch.ones_like(linear.weight))  # type: ignore[arg-type]


def by_module(layer: AdaptedProjections) -> None:
    layer.q_lora_A["1"] = nn.Linear(16, 4, bias=False)  # type: ignore[operator]


def by_state_dict(layer: AdaptedProjections) -> None:
    layer.load_state_dict({name: tensor * 1.5 for name, tensor in layer.state_dict().items()})


def by_assigned_state_dict(layer: AdaptedProjections) -> None:
    layer.load_state_dict({name: tensor * 1.5 for name, tensor in layer.state_dict().items()}, assign=True)


def by_other_module(layer: AdaptedProjections) -> None:
    layer.detach(2)
    layer.attach("q", 2, torch.randn(4, 16), torch.randn(24, 4))
    layer.attach("k", 2, torch.randn(4, 16), torch.randn(12, 4))


@pytest.mark.parametrize(
    "change",
    [in_place, by_data, by_parameter, by_module, by_state_dict, by_assigned_state_dict, by_other_module],
)
def test_stacks_follow_the_parameters(layer: AdaptedProjections, x: Tensor, change: Any) -> None:
    groups = BATCHES[3]
    assert_right(layer, x, groups)
    before = by_definition(copy.deepcopy(layer), x, groups)
    with torch.no_grad():
        change(layer)
    assert not all(
        torch.allclose(a, b)
        for a, b in zip(before, by_definition(copy.deepcopy(layer), x, groups), strict=True)
    )
    assert_right(layer, x, groups)


def test_stacks_follow_an_optimizer_and_leave_gradients_alone(layer: AdaptedProjections, x: Tensor) -> None:
    groups, routes = BATCHES[7], Routes.of(BATCHES[7], SCALES)
    twin = copy.deepcopy(layer)
    for model, looks in ((layer, True), (twin, False)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            if looks:
                with torch.inference_mode():
                    model.project(NAMES, x, routes)
            sum(out.square().mean() for out in model.project(NAMES, x, routes)).backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, its in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, its)
    assert_right(layer, x, groups)


def test_moving_the_model_lets_the_old_memory_go(layer: AdaptedProjections, x: Tensor) -> None:
    assert_right(layer, x, BATCHES[3])
    layer.double()
    assert not layer._stacks
    assert_right(layer, x.double(), BATCHES[3])


def test_parameters_stay_trainable_after_stacking_while_generating(
    layer: AdaptedProjections, x: Tensor
) -> None:
    with torch.inference_mode():
        layer.project(NAMES, x, Routes.of(BATCHES[3], SCALES))
    assert not any(parameter.is_inference() for parameter in layer.parameters())
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in layer.parameters())


def test_gradients_are_those_of_the_definition(layer: AdaptedProjections, x: Tensor) -> None:
    twin = copy.deepcopy(layer)
    groups = BATCHES[7]
    for outputs in (layer.project(NAMES, x, Routes.of(groups, SCALES)), by_definition(twin, x, groups)):
        sum(out.pow(3).mean() for out in outputs).backward()
    for (name, mine), its in zip(layer.named_parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None, name
        torch.testing.assert_close(mine.grad, its.grad, atol=1e-6, rtol=1e-5)


# Modules that can't be stacked


def test_hooks_on_modules_are_called(layer: AdaptedProjections, x: Tensor) -> None:
    called = []
    layer.get_submodule("q_lora_A.1").register_forward_hook(lambda *_: called.append(1))
    assert_right(layer, x, BATCHES[3])
    assert len(called) == 3


def test_a_module_may_leave_projections_out(layer: AdaptedProjections, x: Tensor) -> None:
    layer.detach(5)
    layer.attach("k", 5, torch.randn(2, 16), torch.randn(12, 2))  # of another rank, too
    for groups in BATCHES:
        assert_right(layer, x, groups)


def test_a_base_that_is_no_plain_linear_layer_is_only_called(layer: AdaptedProjections, x: Tensor) -> None:
    class Closed(nn.Module):
        def __init__(self, linear: nn.Module) -> None:
            super().__init__()
            self.inner = [linear]

        def forward(self, x: Tensor) -> Tensor:
            return self.inner[0](x)

    expected = by_definition(copy.deepcopy(layer), x, BATCHES[7])
    layer.q_proj = Closed(layer.q_proj)  # type: ignore[arg-type]
    with torch.inference_mode():
        found = layer.project(NAMES, x, Routes.of(BATCHES[7], SCALES))
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, its, atol=2e-6, rtol=1e-5)


def test_autocast_and_other_dtypes_fall_back_to_the_modules(layer: AdaptedProjections, x: Tensor) -> None:
    expected = by_definition(copy.deepcopy(layer), x, BATCHES[7])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = layer.project(NAMES, x, Routes.of(BATCHES[7], SCALES))
    for mine, its in zip(found, expected, strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.float(), its, atol=0.1, rtol=0.05)


def test_detached_groups_leave_no_parameters(layer: AdaptedProjections) -> None:
    layer.detach(2)
    assert not [name for name, _ in layer.named_parameters() if ".2." in name]
    assert layer.module_pair("q", 2) is None
