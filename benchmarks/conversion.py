"""Converting a checkpoint that is larger than memory, and being killed: `python -m benchmarks.conversion`.

Writes nllb-moe-54b's shape cut to 4 + 4 layers as the hub has it (random weights in float16, `.bin` shards;
19 GB, in benchmarks/.cache or where BENCHMARK_CACHE says; once). Converts it to int4 in a process of its
own, whose peak is measured; then again, with `kill -9` at random moments until it gets through, and compares.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import torch

from benchmarks import report, rounded, table
from benchmarks.giant import CACHE, PUBLISHED
from dragoman.checkpoints.catalog import embedded_folder
from dragoman.models.config import NllbConfig
from dragoman.models.shapes import nllb_shapes

CUT = {"encoder_layers": 4, "decoder_layers": 4}
QUICK = {**CUT, "num_experts": 4, "vocab_size": 8206}
SHARD = 3 * 10**9
WORKER = """
import sys
from pathlib import Path
from benchmarks import peak_gigabytes
from dragoman.systems.converting import convert
convert(Path(sys.argv[1]), Path(sys.argv[2]), "int4")
print(peak_gigabytes())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a small model: does it work at all?")
    args = parser.parse_args()
    folder = CACHE / ("bin-quick" if args.quick else "bin")
    if not (folder / "config.json").exists():
        write(folder, PUBLISHED | (QUICK if args.quick else CUT))
    whole, broken = folder.with_name(f"{folder.name}-whole"), folder.with_name(f"{folder.name}-killed")
    for each in (whole, broken):
        shutil.rmtree(each, ignore_errors=True)
    began = time.perf_counter()
    peak = float(subprocess.run(command(folder, whole), check=True, capture_output=True, text=True).stdout)
    seconds = time.perf_counter() - began
    kills, draw = 0, random.Random(0)
    while True:
        process = subprocess.Popen(command(folder, broken), stdout=subprocess.DEVNULL)
        try:
            patience = draw.uniform(0.02, 0.25) * seconds if kills < args.kills else None
            if process.wait(patience) != 0:
                raise SystemExit("a conversion that was not killed failed")
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    same = digests(whole) == digests(broken)
    found = {
        "gigabytes": size(folder),
        "seconds": seconds,
        "peak_gigabytes": peak,
        "kills": kills,
        "same": same,
    }
    shutil.rmtree(whole)
    shutil.rmtree(broken)
    print(table(["what", ""], [[name, value] for name, value in found.items()]))
    report({"benchmark": "conversion", "row": rounded(found)})


def command(folder: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", WORKER, str(folder), str(output)]


def write(folder: Path, config: dict[str, object]) -> None:
    """The checkpoint under its published names, and a tokenizer so that it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(embedded_folder() / "sentencepiece.bpe.model", folder)
    weight_map, draw = {}, random.Random(0)
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(0)).half()
    for number, shard in enumerate(_shards(nllb_shapes(NllbConfig.from_dict(config)))):
        name = f"pytorch_model-{number:05}.bin"
        tensors = {}
        for key, shape in shard.items():
            # Random enough, and made as fast as it is written: the same numbers from another place on.
            many, first = torch.Size(shape).numel(), draw.randrange(len(noise))
            rows = noise.roll(first).repeat(many // len(noise) + 1)[:many]
            tensors[key] = (rows * shape[-1] ** -0.5).reshape(shape)
        torch.save(tensors, folder / name)
        weight_map |= dict.fromkeys(shard, name)
        print(f"wrote {folder / name}", flush=True)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config))


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        if size > SHARD:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += 2 * torch.Size(shape).numel()
    yield shard


def size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e9


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        digest = blake2b()
        with path.open("rb") as file:
            while block := file.read(2**24):
                digest.update(block)
        found[path.name] = digest.hexdigest()
    return found


if __name__ == "__main__":
    main()
