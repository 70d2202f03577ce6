"""Results are the same for any number of threads, which a fork, a signal and other callers don't disturb."""

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from dragoman.errors import InvalidOption
from dragoman.kernels import library
from dragoman.kernels import threads as module
from dragoman.kernels.arrays import Stored
from dragoman.kernels.head import Head
from dragoman.kernels.library import Kernels
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import PRECISIONS, pack
from dragoman.kernels.threads import MOST, set_threads, threads
from dragoman.native.scores import Choice, NativeScores

can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture(autouse=True)
def _as_before():
    yield
    set_threads(None)
    module._default.cache_clear()


@pytest.fixture
def work(native: Kernels):
    """Something that is worth sharing out: its results are bytes."""
    random = np.random.default_rng(0)
    x = random.standard_normal((150, 192), np.float32)
    weight = Stored.of(random.standard_normal((1000, 192), np.float32))
    table = Stored.of(random.standard_normal((9000, 192), np.float32).astype(np.float16))

    def results() -> list[bytes]:
        packed = [pack(weight, precision) for precision in PRECISIONS]
        head = Head.screened(table)
        scores = NativeScores(x, [Choice(head, None)])
        arrays = [each.data for each in packed] + [Linear(each)(x) for each in packed]
        return [np.asarray(array).tobytes() for array in (*arrays, *scores.top(9), head.in_full(x))]

    return results


def test_any_number_of_threads_gives_the_same_bits(work) -> None:
    set_threads(1)
    alone = work()
    for count in (2, 3, 5, 16):
        set_threads(count)
        for _ in range(3):
            assert work() == alone


def test_callers_at_once_do_not_disturb_each_other(work) -> None:
    set_threads(3)
    expected = work()
    found: list[list[bytes]] = []
    callers = [threading.Thread(target=lambda: found.extend(work() for _ in range(5))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 20
    assert all(each == expected for each in found)


@pytest.mark.parametrize("count", [0, -1, MOST + 1, True, 2.0, "2"])
def test_impossible_numbers_are_refused(count: object) -> None:
    with pytest.raises(InvalidOption, match=f"it must be a number from 1 to {MOST}"):
        set_threads(count)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ours", "usual", "expected"),
    [("3", "2", 3), ("", "2", 2), ("", "5,2", 5), ("", "", 7), ("", "many", 7), ("", "0", 7), (" 4 ", "", 4)],
)
def test_the_environment_decides_before_the_machine(
    monkeypatch: pytest.MonkeyPatch, ours: str, usual: str, expected: int
) -> None:
    monkeypatch.setenv(module.SWITCH, ours)
    monkeypatch.setenv("OMP_NUM_THREADS", usual)
    monkeypatch.setattr(module, "usable_threads", lambda: 7)
    module._default.cache_clear()
    assert threads() == expected
    set_threads(2)
    assert threads() == 2


@pytest.mark.parametrize("wanted", ["0", "two", "-1", "1.5", "99999"])
def test_an_impossible_number_in_the_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv(module.SWITCH, wanted)
    module._default.cache_clear()
    with pytest.raises(InvalidOption, match=f"DRAGOMAN_THREADS is '{wanted}'"):
        threads()


FORKS = """
import os, signal, torch
torch.set_num_threads(2)
from dragoman import Translator
from dragoman.kernels.library import set_threads
set_threads(2)
usual = Translator.load("mini", precision=PRECISION)
def say():
    return usual.translate(["Where is the station?", "I would like to buy a ticket."], "en", "fr")
def shared_by_pytorch():
    return float((torch.ones(600, 600) @ torch.ones(600, 600) + torch.ones(1 << 20).sum()).sum())
expected = say() if USED else None
numbers = shared_by_pytorch()
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        signal.alarm(200)
        found = say()
        again = say()
        assert shared_by_pytorch() == numbers
        os._exit(0 if found == again == (expected or found) and found[0].endswith("?") else 3)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
assert say() == (expected or say())
"""


@can_fork
@pytest.mark.parametrize("used", [True, False])
def test_forked_children_translate_all_at_once(used: bool) -> None:
    pytest.importorskip("torch")
    code = f"PRECISION, USED = 'int8', {used}\n{FORKS}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@can_fork
def test_the_plain_path_translates_in_forked_children() -> None:
    """PyTorch's threads are gone there, and it must not wait for them."""
    pytest.importorskip("torch")
    environment = {**os.environ, library.SWITCH: "torch"}
    code = f"PRECISION, USED = 'fp32', True\n{FORKS}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import os, signal, threading
import numpy as np
from dragoman.kernels.arrays import Stored
from dragoman.kernels.library import set_threads
from dragoman.kernels.linear import Linear
from dragoman.kernels.packing import pack
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is begun in the background ignores it
set_threads(3)
random = np.random.default_rng(0)
layer = Linear(pack(Stored.of(random.standard_normal((4096, 1024), np.float32)), "fp32"))
x = random.standard_normal((2000, 1024), np.float32)
expected = layer(x)
stopped = 0
for delay in (0.01, 0.05, 0.1):
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            layer(x)
    except KeyboardInterrupt:
        stopped += 1
    assert np.array_equal(layer(x), expected)
assert stopped == 3
"""


def test_an_interrupt_during_a_call_ends_in_an_exception_and_harms_nothing(native: Kernels) -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


C = """
#include <stdlib.h>
#include "threads.h"
static void count(void *work, int number, int thread) {
    (void)thread;
    __atomic_add_fetch((int *)work + number, 1, __ATOMIC_SEQ_CST);
}
static void mark(void *work, int number, int thread) {
    (void)number;
    ((int *)work)[thread]++;
}
int probe(int threads, int count_, int *work, int marks) {
    const int team = enter(threads);
    const int second = enter(threads);
    share(team, count_, marks ? mark : count, work);
    leave(second);
    leave(team);
    return team * 10000 + second;
}
"""


@pytest.fixture(scope="module", params=["with threads", "without"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The pool alone; with or without threads."""
    from dragoman.kernels import build

    cc = build.compiler()
    if cc is None:
        pytest.skip("there is no C compiler here")
    folder = tmp_path_factory.mktemp("pool")
    (folder / "probe.c").write_text(C)
    flags = build.THREADS if request.param == "with threads" else ()
    sources = [str(folder / "probe.c"), str(build.SOURCES / "threads.c")]
    made = str(folder / "probe.so")
    command = [*cc, "-shared", "-fPIC", "-O2", f"-I{build.SOURCES}", *flags, *sources, "-o", made]
    subprocess.run(command, check=True)
    return ctypes.CDLL(made)


def test_every_task_is_done_once(pool) -> None:
    for count in (0, 1, 2, 7, 1000, 65535, 65536, 140_001):
        for wanted in (1, 2, 4):
            done = np.zeros(count + 1, np.int32)
            pool.probe(wanted, count, done.ctypes.data_as(ctypes.c_void_p), 0)
            assert bool((done[:count] == 1).all())
            assert done[count] == 0


def test_a_thread_has_its_number_alone_and_below_the_teams(pool) -> None:
    for wanted in (4, 2, 3, 1, 4):
        done = np.zeros(8, np.int32)
        team, second = divmod(pool.probe(wanted, 20_000, done.ctypes.data_as(ctypes.c_void_p), 1), 10000)
        assert team == (wanted if pool.parallel() else 1)
        assert second == 1 or team == 1  # who comes while the workers are taken works alone
        assert done.sum() == 20_000
        assert not done[team:].any()
