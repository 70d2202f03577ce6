"""Blocks by actors on a Ray cluster; Ray is imported when it is needed.

What travels are descriptors of blocks and counts: texts go from the input to an actor and from there to
the output, never through Ray's object store or its logs.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import dragoman
from dragoman.bulk.order import Order
from dragoman.bulk.places import Folder
from dragoman.bulk.plan import Block, Plan
from dragoman.bulk.run import Run, runs_as
from dragoman.bulk.work import Counts, Worker, failures
from dragoman.cluster import AUTO, connected
from dragoman.errors import DragomanError, InvalidOption, JobError
from dragoman.limits import usable_threads

if TYPE_CHECKING:
    from dragoman.translation.translator import Translator

_TASKS = 10_000
"""Pieces of work that Ray is given at most; each is one block, or some where there are more."""
_DEATHS = 20
"""So many actors in a row may die while they load the model before the run is given up."""
_TRIES = 5
"""So often a block is tried again whose actor died of it, or beside it."""
_RESTARTS = 100
"""So often an actor is started again."""


@dataclass(frozen=True)
class Cluster:
    """Where actors run, and how many."""

    address: str = AUTO
    workers: int | None = None
    """None is as many as the cluster's processors allow."""
    threads: int = 1
    """Processors of each."""

    def __post_init__(self) -> None:
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise InvalidOption("--workers and --threads-per-worker must be at least 1")


def run_on_cluster(run: Run, cluster: Cluster) -> Iterator[Counts]:
    """Do what is missing; block by block, as they become done, what was counted.

    An actor whose node is lost is started on another, and its block is done again. Raises InvalidOption
    without Ray, and JobError if a block can't be done.
    """
    order = replace(run.order, loading={**run.order.loading, "threads": cluster.threads})
    processors = max(usable_threads(), (cluster.workers or 1) * cluster.threads)
    with connected(cluster.address, processors) as ray, _told(ray):
        needs = {"num_cpus": cluster.threads, "num_gpus": _gpus(order)}
        probe = ray.remote(**needs, max_retries=3)(_probe)
        run = run.agree(_found(ray.get(probe.remote(order, dragoman.__version__))))
        workers = cluster.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // cluster.threads)
        blocks = [asdict(block) for block in run.missing]
        given = _data(ray).from_items(blocks, override_num_blocks=min(len(blocks), _TASKS))
        with warnings.catch_warnings():  # until Ray 2.64 there is no other way to bound these
            warnings.simplefilter("ignore")
            results = given.map_batches(
                BlockActor,
                fn_constructor_args=(order, run.plan, run.runs_as),
                batch_size=1,
                compute=_pool(ray, min(workers, len(blocks))),
                ray_remote_args_fn=_bounds,
                **needs,
            )
        for row in results.iter_rows():
            if row["problem"]:
                raise JobError(f"a worker could not do {row['name']}: {row['problem']}")
            yield Counts(**{field.name: row[field.name] for field in fields(Counts)})


class BlockActor:
    """A loaded model that does blocks."""

    def __init__(self, order: Order, plan: Plan, expected: str) -> None:
        self._order, self._plan, self._folder = order, plan, Folder(order.output)
        self._problem: str | None = None
        # What an actor raises here Ray would take for its death, and start another.
        try:
            translator = _load(order)
            if runs_as(translator) != expected:
                raise InvalidOption(f"the model runs as {runs_as(translator)} here, elsewhere as {expected}")
            fallback = order.fallback and _load(order, order.fallback)
            self._worker = Worker(translator, order, plan, fallback or None)
        except (DragomanError, OSError) as error:
            self._problem = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Columns of blocks to columns of counts."""
        names = [field.name for field in fields(Block)]
        rows = zip(*(batch[name].tolist() for name in names), strict=True)
        done = [self._done(Block(*row)) for row in rows]
        keys = [field.name for field in fields(Counts)]
        found = {key: [astuple(counts)[place] for _, _, counts in done] for place, key in enumerate(keys)}
        return {"name": [name for name, _, _ in done], "problem": [said for _, said, _ in done], **found}

    def _done(self, block: Block) -> tuple[str, str, Counts]:
        """A block's name, why it couldn't be done, and what was counted."""
        if self._problem is not None:
            return block.name, self._problem, Counts()
        try:
            # Somebody had done it, and was lost before it could be told.
            if self._folder.has(block.name):
                failed = failures(self._folder, block, self._plan)
                return block.name, "", Counts(block.rows, failed=failed)
            return block.name, "", self._worker.run(block)
        except (DragomanError, OSError) as error:
            return block.name, str(error) or type(error).__name__, Counts()


def _probe(order: Order, version: str) -> tuple[str, str]:
    """How the model runs on a worker, or why it doesn't."""
    if dragoman.__version__ != version:
        return "", f"workers have Dragoman {dragoman.__version__}, and this is {version}"
    try:
        return runs_as(_load(order)), ""
    except (DragomanError, OSError) as error:
        return "", str(error)


def _found(probed: Sequence[str]) -> str:
    found, problem = probed
    if problem:
        raise JobError(f"the workers can't load the model: {problem}")
    return found


def _load(order: Order, model: str | None = None) -> "Translator":
    from dragoman.translation.translator import Translator

    return Translator.load(**{**order.loading, "model": model or order.model})


def _gpus(order: Order) -> int:
    """How many accelerators an actor takes."""
    return int(str(order.loading.get("device", "")).startswith("cuda"))


@contextlib.contextmanager
def _told(ray: Any) -> Iterator[None]:
    """Ray's errors become JobErrors."""
    try:
        yield
    except ray.exceptions.RayError as error:
        said = next(iter(str(error).splitlines()), "")
        raise JobError(
            f"the cluster could not do it: {type(error).__name__}: {said}\n"
            "Workers died, perhaps for want of memory. What is done stays: run again to go on."
        ) from None


def _data(ray: Any) -> Any:
    """Ray Data, silent and patient: a block may take an hour."""
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = _DEATHS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return data


def _bounds() -> dict[str, int]:
    """How often Ray begins again."""
    return {"max_task_retries": _TRIES, "max_restarts": _RESTARTS}


def _pool(ray: Any, size: int) -> Any:
    # One block waits at each actor, so that it need not wait for the next.
    return ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2)
