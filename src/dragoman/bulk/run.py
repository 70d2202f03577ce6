"""A run over all blocks: begun, taken up again, or found to be done."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dragoman.bulk.order import Order, differences
from dragoman.bulk.places import Folder, InputFile
from dragoman.bulk.plan import Block, Plan, formats_of, make_plan, new_columns
from dragoman.bulk.rows import as_json
from dragoman.bulk.work import Counts, Worker
from dragoman.errors import InvalidOption

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

MANIFEST = "manifest.json"
_BLOCKS = re.compile(r"\d{5,}-\d{6,}\.(parquet|jsonl|csv|tsv|txt)(\.errors\.jsonl)?")
"""What the names of outputs look like."""


@dataclass(frozen=True)
class Run:
    """What is in the folder, and what is still to be done."""

    order: Order
    folder: Folder
    identity: dict[str, Any]
    plan: Plan
    blocks: int
    """How many there are in all."""
    missing: tuple[Block, ...]
    """Those that have no file yet."""
    runs_as: str | None = None
    """In which precision and by which code the model ran before; None if it has not."""

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier process has done a part of it."""
        return len(self.missing) < self.blocks

    def agree(self, runs_as: str) -> "Run":
        """Note how the model runs. InvalidOption if it ran otherwise before."""
        if self.runs_as not in (None, runs_as):
            raise InvalidOption(
                _refusal(self.folder.url, [f"the model ran as {self.runs_as}, now as {runs_as}"])
                + " Or ask for the same --precision and --device"
            )
        noted = replace(self, runs_as=runs_as)
        if self.runs_as is None:
            noted.write()
        return noted

    def write(self) -> None:
        """Write the manifest."""
        told = {"identity": self.identity, "runs_as": self.runs_as, "plan": self.plan.to_dict()}
        self.folder.write(MANIFEST, as_json(told) + b"\n")


def open_run(order: Order, inputs: Sequence[InputFile], folder: Folder, force: bool = False) -> Run:
    """Take up the run that the folder holds, or begin one, for which all inputs are read once.

    force: begin, whatever is there. Raises InvalidOption if the folder holds the run of something else.
    """
    formats_of(inputs, order.input_format, order.format)
    identity = json.loads(as_json(order.identity(inputs)))
    names = folder.names()
    known = None if force else _read(folder)
    if known is None:
        old = [name for name in names if _BLOCKS.fullmatch(name)]
        if old and not force:
            raise InvalidOption(
                f"{folder.url} has files such as {min(old)} and no {MANIFEST} that says what they are; give "
                "another folder, or start over with --force, which removes them"
            )
        # The manifest first: without it nobody takes for a part of the new what is left of the old.
        folder.remove([MANIFEST, *old])
        new = new_columns([target.short_code for target in order.targets])
        plan = make_plan(inputs, order.block, order.columns, new, order.input_format, order.format)
        blocks = tuple(plan.blocks())
        run = Run(order, folder, identity, plan, len(blocks), blocks)
        run.write()
        return run
    changed = list(differences(known["identity"], identity))
    if changed:
        raise InvalidOption(_refusal(folder.url, changed))
    plan = Plan.from_dict(known["plan"])
    blocks = tuple(plan.blocks())
    missing = tuple(block for block in blocks if block.name not in names)
    return Run(order, folder, identity, plan, len(blocks), missing, known["runs_as"])


def runs_as(translator: "Translator") -> str:
    """In which precision and by which code a model runs: what decides results besides its files."""
    return f"{translator.system.precision} {translator.system.path}"


def run_here(
    run: Run,
    translator: "Translator",
    fallback: "Translator | None" = None,
    progress: Callable[[Block, int, int], None] | None = None,
) -> Iterator[tuple[Block, Counts]]:
    """Do what is missing in this process, block after block.

    progress: told (block, its sentences done, those known so far). Raises InvalidOption if the model ran
    otherwise before.
    """
    run = run.agree(runs_as(translator))
    worker = Worker(translator, run.order, run.plan, fallback)
    try:
        for block in run.missing:
            tell = (lambda done, known, at=block: progress(at, done, known)) if progress else None
            yield block, worker.run(block, tell)
    finally:
        worker.close()


def _read(folder: Folder) -> dict[str, Any] | None:
    data = folder.read(MANIFEST)
    if data is None:
        return None
    try:
        known = json.loads(data)
        Plan.from_dict(known["plan"])
        return {name: known[name] for name in ("identity", "runs_as", "plan")}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidOption(
            f"{folder.url}/{MANIFEST} can't be read; give another folder, or start over with --force"
        ) from None


def _refusal(url: str, changed: Sequence[str]) -> str:
    shown = "".join(f"\n  {line}" for line in changed[:20])
    more = f"\n  and {len(changed) - 20} more" if len(changed) > 20 else ""
    return (
        f"{url} holds the run of something else:{shown}{more}\n"
        "Give another folder, or start over with --force, which removes what is done."
    )
