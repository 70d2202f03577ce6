"""A rank's part of a checkpoint: its experts, or its rows and columns of matrices; nothing else is read."""

from dataclasses import replace
from functools import partial

import torch

from dragoman.checkpoints.llama_files import LlamaFiles
from dragoman.checkpoints.loading import assign, fill, skeleton
from dragoman.checkpoints.module_finding import find_module
from dragoman.checkpoints.module_folders import Module
from dragoman.checkpoints.nllb_files import NllbFiles
from dragoman.checkpoints.places import Change, Place, Reader
from dragoman.checkpoints.torch_tensors import tensor_of
from dragoman.models.llama import Llama, RoutedModules
from dragoman.models.llama_config import LlamaConfig
from dragoman.models.nllb import Nllb
from dragoman.parallel.experts import share_experts_
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.shares import BY_INPUTS, cut, own_names, slimmer
from dragoman.parallel.tensors import share_layers_
from dragoman.surgery.language_modules import attach_, detach_
from dragoman.surgery.module_reading import ReadModule, pairs_for


def load_nllb_part(files: NllbFiles, ranks: Ranks, dtype: torch.dtype | None = torch.float32) -> Nllb:
    """The model of which this rank has all but the other ranks' experts, in eval mode, in `dtype` (None: as
    stored)."""
    model = skeleton(partial(Nllb, files.config))
    share_experts_(model, ranks)
    own = own_names(files.config, ranks.rank, ranks.count)
    places = {name: place for name, place in files.places.items() if name in own}
    changes = {name: change for name, change in files.changes.items() if name in own}
    fill(model, places, dtype, ranks.device, changes)
    return model.eval()


def load_llama_part(files: LlamaFiles, ranks: Ranks, dtype: torch.dtype | None = torch.float32) -> Llama:
    """The model of which this rank has some heads and a part of every MLP, as `load_nllb_part`."""
    model = skeleton(partial(Llama, slimmer(files.config, ranks.count)))
    share_layers_(model, files.config.vocab_size, ranks)
    places = {name: _own(name, place, ranks) for name, place in files.places.items()}
    changes = {
        name: _own_change(name, files.places[name].shape, change, ranks)
        for name, change in files.changes.items()
    }
    fill(model, places, dtype, ranks.device, changes)
    if not ranks.is_first:
        _leave_biases_to_the_first_(model)
    language = model.model.language
    language.merged, language.source = files.merged, files.source
    parts = PartModules(model, files.config, ranks)
    for group, module in files.modules.items():
        parts.attach(group, parts.cut(module))
    return model.eval()


class PartModules:
    """How a rank's part of a Llama takes its part of language modules."""

    def __init__(self, model: Llama, config: LlamaConfig, ranks: Ranks) -> None:
        """config: of the whole model."""
        self._model, self._config, self._ranks = model, config, ranks

    @property
    def language(self) -> RoutedModules:
        """The modules that are attached."""
        return self._model.model.language

    def read(self, group: int) -> ReadModule:
        """Read this rank's part of a group's module; nothing of the model changes."""
        return self.cut(find_module(self.language.source, group, self._config))

    def cut(self, module: Module) -> ReadModule:
        """This rank's part of a module in a file."""
        read = Reader()
        tensors = {
            name: partial(_read, read, _own(f"{name.projection}.{name.side}", place, self._ranks))
            for name, place in module.tensors.items()
        }
        return ReadModule(float(module.scale), pairs_for(self._model.model, tensors))

    def attach(self, group: int, module: ReadModule) -> None:
        """Give rows of the group what was read, between two steps."""
        attach_(self._model, group, module)

    def detach(self, group: int) -> None:
        """Let go of a module that was attached, between two steps."""
        detach_(self._model, group)


def _read(read: Reader, place: Place) -> torch.Tensor:
    return tensor_of(read(place))


def _own(name: str, place: Place, ranks: Ranks) -> Place:
    """A rank's part of a Llama's tensor."""
    rows, columns = cut(name, place.shape, ranks.rank, ranks.count)
    place = place if rows is None else place.cut(rows)
    return place if columns is None else place.cut_columns(columns)


def _own_change(name: str, shape: tuple[int, ...], change: Change, ranks: Ranks) -> Change:
    """A rank's part of what an adapter adds to a tensor of that shape."""
    rows, columns = cut(name, shape, ranks.rank, ranks.count)
    a = change.a if columns is None else change.a.cut_columns(columns)
    return replace(change, a=a, b=change.b if rows is None else change.b.cut(rows))


def _leave_biases_to_the_first_(model: Llama) -> None:
    """Where the ranks' results are added up, a bias is added by one of them."""
    for name, parameter in list(model.named_parameters()):
        *_, owner, leaf = name.split(".")
        if owner in BY_INPUTS and leaf == "bias":
            assign(model, name, torch.zeros_like(parameter))
