"""Several models under one memory budget: which is there, which goes, and who waits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from dragoman.checkpoints.catalog import embedded_folder
from dragoman.errors import NotEnoughMemory
from dragoman.models.config import NllbConfig
from dragoman.server.faults import Fault
from dragoman.server.models import Known, NotAtOnce, Room, Visiting, load_all
from dragoman.systems.placement import place
from dragoman.translation.pipeline import Cancelled

OPTIONS = {"device": "cpu", "precision": "auto"}


def taken() -> int:
    """The least that the embedded model takes in fp32, a sentence included."""
    budget = place(NllbConfig.from_folder(embedded_folder()), precision="fp32").budget
    return budget.weights + budget.least


def visiting(room: Room, name: str, size: int, loads: list[str] | None = None) -> Visiting:
    """A model of so many bytes that notes when it is loaded."""

    def load() -> Any:
        if loads is not None:
            loads.append(name)
        return SimpleNamespace(close=lambda: None, system=None)

    about: Any = None
    known = Known((), about, {}, "fp32", None, name, size, lambda text: "", len)
    return Visiting(name, known, load, room)


def use(*models: Visiting) -> None:
    for model in models:
        with model.use():
            pass


def test_the_one_used_longest_ago_makes_room():
    room = Room(20, patience=0)
    a, b, c = (visiting(room, name, 10) for name in "abc")
    use(a, b, a, c)
    assert [model.is_loaded for model in (a, b, c)] == [True, False, True]


def test_what_fits_stays_and_is_loaded_once():
    loads: list[str] = []
    room = Room(30, patience=0)
    a, b = visiting(room, "a", 10, loads), visiting(room, "b", 20, loads)
    use(a, b, a, b)
    assert loads == ["a", "b"]


def test_many_who_need_a_model_first_have_it_loaded_once():
    loads: list[str] = []
    model = visiting(Room(10, patience=5), "a", 10, loads)
    with ThreadPoolExecutor(8) as pool:
        for made in [pool.submit(use, model) for _ in range(32)]:
            made.result()
    assert loads == ["a"]
    assert model.users == 0


def test_a_model_in_use_stays_and_who_needs_its_room_is_told_to_come_again():
    room = Room(10, patience=0)
    a, b = visiting(room, "a", 10), visiting(room, "b", 10)
    with a.use():
        with pytest.raises(Fault, match="waits for memory") as refused:
            use(b)
        assert a.is_loaded
    assert (refused.value.status, bool(refused.value.retry_after)) == (503, True)
    use(b)
    assert (a.is_loaded, b.is_loaded) == (False, True)


def test_a_model_that_is_never_idle_gives_way_in_the_end():
    room = Room(10, patience=30, stay=0)
    a, b = visiting(room, "a", 10), visiting(room, "b", 10)
    ended = threading.Event()

    def overlapping() -> None:
        while not ended.is_set():
            with a.use():
                ended.wait(0.002)

    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(overlapping) for _ in range(3)]
        try:
            use(b)
        finally:
            ended.set()
        for each in busy:
            each.result()


def test_a_caller_who_gives_up_waits_no_longer():
    room = Room(10, patience=30)
    a, b = visiting(room, "a", 10), visiting(room, "b", 10)

    def gone() -> None:
        raise Cancelled

    with a.use(), pytest.raises(Cancelled), b.use(gone):
        pass
    use(a)
    assert a.is_loaded


def test_who_can_t_wait_gets_only_a_model_that_is_there_and_stays():
    room = Room(10, patience=30, stay=0)
    a, b = visiting(room, "a", 10), visiting(room, "b", 10)
    with pytest.raises(NotAtOnce), a.use(at_once=True):
        pass
    assert (a.has_place, a.users) == (False, 0)
    waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool, a.use():
        with a.use(at_once=True):
            assert a.users == 2

        def gone() -> None:
            waiting.set()

        def use_b() -> None:
            with b.use(gone):
                pass

        other = pool.submit(use_b)
        assert waiting.wait(30)
        with pytest.raises(NotAtOnce), a.use(at_once=True):
            pass
        assert a.users == 1
    other.result()


def test_a_model_that_could_not_be_loaded_takes_no_room():
    room = Room(10, patience=0)
    a, b = visiting(room, "a", 10), visiting(room, "b", 10)

    def fail() -> Any:
        raise NotEnoughMemory("there is less than there was")

    a._load = fail
    with pytest.raises(NotEnoughMemory):
        use(a)
    use(b)
    assert (a.has_place, a.users, b.is_loaded) == (False, 0, True)


def test_a_model_that_never_fits_is_refused_at_the_start():
    exact = {**OPTIONS, "precision": "fp32"}
    with pytest.raises(NotEnoughMemory, match="memory allows for"):
        load_all({"small": "mini", "other": "mini"}, taken() * 4 // 5, 1.0, exact)
    with pytest.raises(NotEnoughMemory, match="the model large takes"):
        Room(20, patience=0).refuse("large", 30)


def test_a_server_answers_with_models_that_are_not_all_there_at_once(serve):
    models = load_all({"one": "mini", "two": "mini"}, taken() * 7 // 5, 30.0, OPTIONS)
    served = serve(models=models)

    def loaded() -> dict[str, bool]:
        return {each["id"]: each["loaded"] for each in served.get("/v1/models").json()["data"]}

    def translated(name: str) -> str:
        body = {"text": "Good morning!", "source": "en", "target": "fr", "model": name}
        return served.post("/v1/translate", body).json()["translations"][0]["text"]

    assert loaded() == {"one": True, "two": False}
    first = translated("one")
    assert translated("two") == first
    assert loaded() == {"one": False, "two": True}
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(translated, ["one", "two"] * 2)) == {first}
    assert served.get("/health/ready").status_code == 200
    chat = {"model": "one:en-fr", "messages": [{"role": "user", "content": "Good morning!"}]}
    assert served.post("/v1/chat/completions", chat).json()["usage"]["prompt_tokens"] > 0
