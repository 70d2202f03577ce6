"""The embedded model for those who read floats alone: `floats(folder)`."""

import json
import shutil
from pathlib import Path

from benchmarks.shapes import CACHE


def floats(folder: Path) -> Path:
    """A folder with the same weights as floats, written once; the same one if it has floats already."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" not in config:
        return folder
    weights = (folder / "model.safetensors").stat()
    out = CACHE / f"{folder.name}-floats-{weights.st_size}-{weights.st_mtime_ns}"
    if not (out / "config.json").exists():
        import torch

        from dragoman.checkpoints.nllb import load_nllb, save_nllb

        save_nllb(load_nllb(folder), out, dtype=torch.float32)
        for name in ("sentencepiece.bpe.model", "generation_config.json", "dragoman.json"):
            if (folder / name).exists():
                shutil.copy(folder / name, out)
    return out
