"""Memory and time to take one language module out of a combined X-ALMA checkpoint.

    python -m benchmarks.xalma_extract --gigabytes 12 --folder /some/disk

Makes a combined checkpoint of random bfloat16 numbers in shards, runs `extract` in a process
of its own, and deletes all files again. The peak is the process's, Python and torch included.
The files are dropped from the system's cache before, where the system allows it.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dragoman.checkpoints.module_layout import GROUPS, PARTS, base_shapes, lora_shapes, projection_sizes
from dragoman.checkpoints.numbers import Numbers
from dragoman.checkpoints.torch_tensors import numbers_of
from dragoman.checkpoints.weight_files import Pending, write_shards
from dragoman.models.llama_config import LlamaConfig

IMPORTS = "import sys; from dragoman.checkpoints.module_files import extract_module"
EXTRACT = f"{IMPORTS}; extract_module(sys.argv[1], 6, sys.argv[2])"


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=12.0, help="size of the combined checkpoint")
    parser.add_argument("--shard-gigabytes", type=float, default=1.0)
    parser.add_argument("--hidden", type=int, help="default: 1024 below 4 GB, else 4096")
    parser.add_argument("--ffn", type=int, help="default: 2.7 x hidden")
    parser.add_argument("--rank", type=int, help="default: hidden / 10, as published")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--folder", type=Path, default=None, help="where to put the files; default: /tmp")
    args = parser.parse_args()
    hidden = args.hidden or (1024 if args.gigabytes < 4 else 4096)
    ffn, rank = args.ffn or hidden * 27 // 10, args.rank or hidden // 10

    with tempfile.TemporaryDirectory(prefix="xalma-extract-", dir=args.folder) as scratch:
        source, output = Path(scratch) / "combined", Path(scratch) / "module"
        layers = make_checkpoint(source, args, hidden, ffn, rank)
        files = sorted(source.glob("*.safetensors"))
        size = sum(file.stat().st_size for file in files)
        idle = run(IMPORTS)
        for file in files:
            forget(file)
        peak, seconds = run(EXTRACT, str(source), str(output))
        written = (output / "adapter_model.safetensors").stat().st_size

    result = {
        "benchmark": "xalma_extract",
        "checkpoint_gb": round(size / 1e9, 3),
        "shards": len(files),
        "shape": {
            "hidden": hidden,
            "ffn": ffn,
            "layers": layers,
            "rank": rank,
            "vocabulary": args.vocabulary,
        },
        "module_gb": round(written / 1e9, 3),
        "seconds": round(seconds, 2),
        "seconds_imports_only": round(idle[1], 2),
        "peak_gb": round(peak / 1e9, 3),
        "peak_gb_imports_only": round(idle[0] / 1e9, 3),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python -m benchmarks.xalma_extract {' '.join(sys.argv[1:])}".strip(),
    }
    for name in ("checkpoint_gb", "shards", "module_gb", "seconds", "peak_gb", "peak_gb_imports_only"):
        print(f"{name:22} {result[name]:>10}")
    print(json.dumps(result))


def make_checkpoint(folder: Path, args: argparse.Namespace, hidden: int, ffn: int, rank: int) -> int:
    """Write a checkpoint of about the wanted size; returns its number of layers."""
    config = {"model_type": "xalma", "hidden_size": hidden, "intermediate_size": ffn}
    config |= {"num_attention_heads": hidden // 128, "vocab_size": args.vocabulary, "num_hidden_layers": 1}
    config |= {"lora_size": rank, "lora_alpha": 2, "torch_dtype": "bfloat16"}

    def shapes(layers: int) -> dict[str, tuple[int, ...]]:
        base = base_shapes(LlamaConfig.from_dict(config | {"num_hidden_layers": layers}))
        pairs = [(layer, projection) for layer in range(layers) for projection in PARTS]
        module = lora_shapes(pairs, projection_sizes(base), lambda _: rank)
        loras = {name.combined(group): shape for group in GROUPS for name, shape in module.items()}
        return base | loras

    one, two = (sum(2 * torch.Size(shape).numel() for shape in shapes(n).values()) for n in (1, 2))
    layers = max(1, round((args.gigabytes * 1e9 - one) / (two - one)) + 1)
    config["num_hidden_layers"] = layers
    # Each layer with all its modules, so that the wanted one is spread over all shards: the hardest
    # order, and the one in which transformers saves.
    order = sorted(shapes(layers).items(), key=lambda item: layer_of(item[0]))
    folder.mkdir()
    needed = sum(2 * torch.Size(shape).numel() for _, shape in order)
    if needed * 1.2 > shutil.disk_usage(folder).free:
        sys.exit(f"{folder} lacks room for {needed / 1e9:.1f} GB and a module; give another --folder")
    (folder / "config.json").write_text(json.dumps(config))
    noise = torch.randn(2**24).bfloat16()
    tensors = {name: Pending(shape, "BF16", partial(drawn, noise, shape)) for name, shape in order}
    write_shards(folder, tensors, None, int(args.shard_gigabytes * 1e9))
    return layers


def layer_of(name: str) -> int:
    """The layer that a tensor belongs to; -1 for those outside the layers."""
    match = re.search(r"\.layers\.([0-9]+)\.", name)
    return int(match[1]) if match else -1


def forget(file: Path) -> None:
    """Drop a file from the system's cache, so that it is read from the disk."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def drawn(noise: Tensor, shape: tuple[int, ...]) -> Numbers:
    """A random tensor; drawing 12 GB anew would take longer than what is measured."""
    count = torch.Size(shape).numel()
    start = int(torch.randint(2**20, ()))
    return numbers_of(noise.repeat(-(-(count + start) // len(noise)))[start : start + count].view(shape))


def run(code: str, *args: str) -> tuple[int, float]:
    """Run Python code in a process of its own: (peak bytes of memory, seconds)."""
    # The high-water mark of a child counts what its parent was when it was forked, so a small
    # process stands between this one and the measured one.
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, code, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return int(done.stdout), time.perf_counter() - start


MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


if __name__ == "__main__":
    main()
