"""Run by the tests in a process of its own: what it imports once, processes made by forking have as well.

crew.py OUTPUT COMBINED COUNTS... makes a group of processes for each of COUNTS, which run models together;
every rank writes what it found to OUTPUT/COUNT-RANK.json. A group called "failing" has a rank that fails.
"""

import atexit
import contextlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from dragoman.checkpoints.llama_files import open_llama
from dragoman.checkpoints.nllb_files import open_nllb
from dragoman.checkpoints.packed_folders import open_packed
from dragoman.checkpoints.places import Place, Reader
from dragoman.cli import main
from dragoman.errors import DragomanError
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.search import complete, generate
from dragoman.models.xalma_rows import row_groups
from dragoman.parallel.leading import Leader, Rank, follow
from dragoman.parallel.loading import PartModules, load_llama_part, load_nllb_part
from dragoman.parallel.packed import load_packed_part
from dragoman.parallel.ranks import Ranks
from dragoman.parallel.spread import SpreadNllb
from dragoman.translation.translator import Translator

DATA = Path(__file__).parents[1] / "data"
GOLDEN = DATA / "golden"
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beams": 1},
    "beam4": {"beams": 4},
    "penalties": {"beams": 3, "repetition_penalty": 1.3, "no_repeat_ngram": 2},
}
LANGUAGES = ["ar", "zh", "de"]
"""Of the rows of a batch for X-ALMA."""
TEXTS = [
    f"{greeting} How are you? I have {number} books." for number, greeting in enumerate(["Hello!", ""] * 3)
]

read_bytes = 0


def counting(read: Callable[[Reader, Place], Any]) -> Callable[[Reader, Place], Any]:
    """A reader's call that keeps count of the bytes it takes from files."""

    def counted(self: Reader, place: Place) -> Any:
        global read_bytes
        read_bytes += place.nbytes
        return read(self, place)

    return counted


def tokens_of(ranked: list[list[Hypothesis]]) -> list[list[list[int]]]:
    return [[list(hypothesis.tokens) for hypothesis in row] for row in ranked]


def sources(name: str) -> tuple[Any, Any]:
    cases = load_file(GOLDEN / name / "cases.safetensors")
    return cases["input_ids"], cases["attention_mask"].astype(bool)


def translations(model: Any, name: str) -> dict[str, Any]:
    """By search, what an NLLB makes of the golden sources."""
    ids, keep = sources("nllb_moe_base" if name == "packed" else name)
    prompt = np.array([[2, 12]] * len(ids), np.int64)
    return {
        search: tokens_of(generate(model, ids, keep, prompt, GenerationOptions(max_new_tokens=14, **options)))
        for search, options in SEARCHES.items()
        if name == "nllb_moe_base" or search == "beam4"
        if search != "penalties" or os.environ.get("WORLD_SIZE") != "4"
    }


def answers(model: Any, languages: list[str], beams: int = 5) -> list[list[list[int]]]:
    """How a Llama goes on with the golden prompts; languages: of the rows."""
    ids, keep = sources("xalma")
    groups = row_groups(languages, len(ids)).tolist()
    options = GenerationOptions(beams=beams, max_new_tokens=14)
    return tokens_of(complete(model, ids, keep, options, groups))


@contextlib.contextmanager
def together(ranks: Ranks, rank: Rank) -> Iterator[Leader | None]:
    """On rank 0 what all ranks run; on others None, once they have done their work."""
    if not ranks.is_first:
        follow(ranks, rank)
        yield None
        return
    leader = Leader(ranks, rank)
    yield leader
    leader.close()


def nllb(name: str) -> dict[str, Any]:
    """A golden NLLB-MoE, by all ranks."""
    ranks, before = Ranks.joined("cpu"), read_bytes
    model = load_nllb_part(open_nllb(GOLDEN / name), ranks)
    found: dict[str, Any] = {"held": held(model), "read": read_bytes - before}
    with together(ranks, Rank(SpreadNllb(model, ranks))) as leader:
        if leader is not None:
            found["translations"] = translations(leader, name)
    return found


def packed(folder: Path) -> dict[str, Any]:
    """A packed NLLB-MoE, by all ranks."""
    ranks = Ranks.joined("cpu")
    model = load_packed_part(open_packed(folder), ranks)
    buffers = {each.data_ptr(): each.nbytes for each in (*model.buffers(), *model.parameters())}
    found: dict[str, Any] = {"held": sum(buffers.values())}
    with together(ranks, Rank(SpreadNllb(model, ranks))) as leader:
        if leader is not None:
            found["translations"] = translations(leader, "packed")
    return found


def llama(languages: list[str], folder: Path, **how: Any) -> dict[str, Any]:
    """A golden X-ALMA, by all ranks."""
    ranks, before = Ranks.joined("cpu"), read_bytes
    files = open_llama(folder, **how)
    model = load_llama_part(files, ranks)
    found: dict[str, Any] = {"held": held(model), "read": read_bytes - before}
    with together(ranks, Rank(model, PartModules(model, files.config, ranks))) as leader:
        if leader is not None:
            beams = (1, 5) if folder.name == "xalma" and ranks.count == 2 else (5,)
            found["answers"] = {each: answers(leader, languages, each) for each in beams}
    return found


def held(model: torch.nn.Module) -> int:
    """Bytes of the parameters."""
    return sum(parameter.nbytes for parameter in model.parameters())


def texts(model: str) -> list[str]:
    """Texts through the whole pipeline, with sentences that come and go; nothing on other ranks than 0."""
    with contextlib.suppress(SystemExit), Translator.load(model, device="cpu", parallel=True) as translator:
        assert translator.system.path == "cpu", "PyTorch runs it"
        found = translator.stream(TEXTS, "en", "de", max_new_tokens=12, batch_size=4)
        return [each.text for each in found]
    return []


def command(output: Path, rank: int) -> int:
    """The command line, whose output goes to files; its exit status."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / f"{name}-{rank}.txt", os.O_CREAT | os.O_WRONLY), number)
    sys.argv = [
        "dragoman",
        "translate",
        "--parallel",
        "--device",
        "cpu",
        "--from",
        "en",
        "--to",
        "fr",
        *TEXTS[:2],
    ]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def failing() -> dict[str, Any]:
    """What is raised on each rank once one of them has run out of memory."""
    whole, left = SpreadNllb.step, 3

    def step(self: SpreadNllb, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and self.ranks.rank == 1:
            raise MemoryError("no room for rank 1")
        return whole(self, *arguments)

    SpreadNllb.step = step  # type: ignore[method-assign]
    try:
        translator = Translator.load(device="cpu", parallel=True)
        error = next(translator.stream(["How are you?"], "en", "fr")).error
        again = next(translator.stream(["Good morning!"], "en", "fr")).error
        return {"errors": [f"{type(each).__name__}: {each}" for each in (error, again)]}
    except DragomanError as error:
        return {"errors": [f"{type(error).__name__}: {error}"]}


def work(name: str, output: Path, combined: str) -> dict[str, Any]:
    if name == "failing":
        return failing()
    found: dict[str, Any] = {
        "nllb_moe_base": nllb("nllb_moe_base"),
        "xalma": llama(LANGUAGES, GOLDEN / "xalma"),
    }
    if name == "2":
        found |= {f"nllb_moe_{kind}": nllb(f"nllb_moe_{kind}") for kind in ("capacity", "drop")}
        folder = GOLDEN / "xalma_group6"
        found["adapter"] = llama(["zh"] * 3, folder / "base", adapter=folder / "adapter", groups=[6])
        found["merged"] = llama(["zh"] * 3, folder / "merged", merged_group=6)
        if (output / "packed").is_dir():  # which takes the kernels
            found["packed"] = packed(output / "packed")
        found["mini"], found["combined"] = texts("mini"), texts(combined)
        found["status"] = command(output, int(os.environ["RANK"]))
    return found


def rank_of(name: str, rank: int, count: int, port: int, output: Path, combined: str) -> int:
    """A process's life; its exit status."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        found = work(name, output, combined)
        (output / f"{name}-{rank}.json").write_text(json.dumps(found))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(name: str, output: Path, combined: str) -> None:
    """A group of processes, from beginning to end."""
    count = 2 if name == "failing" else int(name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            status = rank_of(name, rank, count, port, output, combined)
            atexit._run_exitfuncs()
            os._exit(status)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), f"{name}: {statuses}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    Reader.__call__ = counting(Reader.__call__)  # type: ignore[method-assign]
    for group in sys.argv[3:]:
        start(group, Path(sys.argv[1]), sys.argv[2])
