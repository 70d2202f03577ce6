"""Weights in PyTorch's own files (`.bin`): pickles, of which nothing is ever run. Takes PyTorch to read."""

import pickle
import zipfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoints.numbers import FLOATS
from dragoman.checkpoints.torch_tensors import numbers_of
from dragoman.checkpoints.weight_files import Entry
from dragoman.errors import CheckpointError


def open_pickle(path: Path) -> dict[str, Entry]:
    """The tensors of a .bin file by name, mapped if it is a zip, which all but the oldest are.

    Raises CheckpointError for a pickle that wants to run code or holds more than tensors, and anything at all
    for one that is damaged: that is a random program for PyTorch's interpreter.
    """
    try:
        # Only torch's zip format can be mapped; files of the format before it are read whole.
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise
        raise CheckpointError(
            f"{path} asks to run code while it is read, which Dragoman never does; nothing was run. "
            "Get the model as safetensors, or from a source you trust."
        ) from error
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise CheckpointError(
            f"{path} is not a plain table of tensors; it may be a training state or a fairseq checkpoint. "
            "Convert it to the transformers format first."
        )
    return {str(key): _entry(tensor) for key, tensor in data.items()}


def _entry(tensor: Tensor) -> Entry:
    spelled = str(tensor.dtype)
    dtype = FLOATS.get(spelled.removeprefix("torch."), spelled)
    return Entry(tuple(tensor.shape), dtype, partial(numbers_of, tensor))
