"""A server whose models are elsewhere answers as one that has them; the replica is in this process here."""

import asyncio
import contextlib
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import DragomanError, LanguageModuleError, Overloaded
from dragoman.generation.engine import Job, OnTokens
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.generation.remote import RemoteEngine
from dragoman.server.faults import Fault
from dragoman.server.heartbeat import Stalls
from dragoman.server.models import Away, NotAtOnce, Room, as_model
from dragoman.server.replica import OtherModels, Replica, identities, part_id
from dragoman.translation.translator import Translator
from tests.server.test_models import visiting
from tests.server.waiting import SECONDS, wait_until

SENTENCES = ("Where is the station?", "Ich habe heute keine Zeit.", "The dog sleeps under the table.")


class Beside:
    """A crew that sends jobs to a replica without a cluster between them."""

    def __init__(self, replica: Replica, precision: str) -> None:
        self._replica, self._model = replica, ("m", "this", precision)
        self.parts: list[str] = []

    async def generate(self, job: Job, tell: OnTokens | None) -> list[Hypothesis]:
        self.parts.append(await self._replica.load(part_id(self._model[0], job.group)))
        if tell is None:
            return self.known(await self._replica.generate(self._model, job))
        certain: list[int] = []
        async for tokens, outcome in self._replica.listen(self._model, job):
            if outcome is not None:
                return self.known(outcome)
            certain += tokens
            tell(certain)
        raise AssertionError

    def known(self, outcome: list[Hypothesis] | DragomanError) -> list[Hypothesis]:
        if isinstance(outcome, DragomanError):
            raise outcome
        return outcome


def away(model: str | Path, translator: Translator, loop: asyncio.AbstractEventLoop) -> tuple[Away, Beside]:
    """A translator's model as one that is elsewhere."""
    crew = Beside(Replica({"m": as_model(translator)}, {"m": "this"}, 300, 1), translator.system.precision)
    return Away.open(str(model), translator.system.precision, None, RemoteEngine(crew, loop), True), crew


def test_texts_markup_streams_and_files_are_as_from_a_server_with_the_model(serve, server, translator, loop):
    model, _ = away("mini", translator, loop)
    other = serve(models={"mini": model})
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/translate", {"text": SENTENCES, "target": ["fr", "de"], "n_best": 2}),
        ("/v1/translate", {"text": "<p>Where is the <b>station</b>?</p>", "format": "html", "target": "es"}),
        ("/v1/translate", {"text": " ".join(SENTENCES), "target": "fr", "source": "en", "stream": True}),
        ("/v1/translate", {"text": "Good evening.", "target": "de", "glossary": {"evening": "Nacht"}}),
        ("/translate", {"q": list(SENTENCES), "source": "auto", "target": "nl"}),
        ("/v1/translate", {"text": "Good evening.", "target": "Klingon"}),
    ]
    for path, body in asked:
        ours, theirs = server.post(path, body), other.post(path, body)
        assert ours.status_code == theirs.status_code
        assert whole(ours.text) == whole(theirs.text), body
    form = {"source": "en", "target": "fr"}
    found = []
    for each in (server, other):
        made = each.post("/translate_file", data=form, files={"file": ("a.txt", "\n".join(SENTENCES))})
        path = made.json()["translatedFileUrl"].removeprefix(each.url)
        found.append(each.get(path).content)
    assert found[0] == found[1]
    assert other.idle()


def whole(text: str) -> str:
    """An answer; of a stream all pieces together, as they are cut where something was certain just then."""
    pieces = [json.loads(line[6:])["text"] for line in text.splitlines() if line.startswith('data: {"index"')]
    return "".join(pieces) if pieces else text


@pytest.mark.filterwarnings("ignore::dragoman.errors.TranslationWarning")  # the model is random
def test_of_a_combined_checkpoint_only_the_replica_reads_modules(combined, loop):
    options = {"max_new_tokens": 10, "beams": 2}
    with Translator.load(combined, device="cpu") as there, Translator.load(combined, device="cpu") as alone:
        model, crew = away(combined, there, loop)
        with model.use() as here:
            for text, source, target in (("Good night.", "en", "zh"), ("Guten Tag.", "de", "en")):
                expected = alone.translate(text, source, target, **options)
                assert here.translate(text, source, target, **options) == expected
            assert crew.parts == ["m#6", "m#1"]
            assert there.system.modules.groups() == (1, 6)
            question = alone.ask("What is a dragoman?", "de", **options)
            assert here.ask("What is a dragoman?", "de", **options) == question


def test_what_a_model_says_against_a_job_is_the_job_s_error(translator, loop, monkeypatch):
    def none(job: Job) -> Job:
        raise LanguageModuleError("there is no such module")

    model, _ = away("mini", translator, loop)
    monkeypatch.setattr(translator.system, "lend", none)
    with model.use() as here, pytest.raises(LanguageModuleError, match="no such module"):
        here.translate("Good morning!", "en", "fr")


def test_a_sentence_that_nobody_waits_for_leaves_the_replica(translator, loop):
    model, _ = away("mini", translator, loop)
    with model.use() as here:
        run = here.run("en", "de", batch_size=64)
        found = run.translations([f"I would like to buy {number} tickets." for number in range(64)])
        threading.Timer(0.1, run.stop).start()
        with contextlib.suppress(Exception):
            list(found)
    wait_until(lambda: not translator.system.engine.busy)


def test_a_replica_whose_memory_others_use_is_busy_and_not_broken():
    class Full:
        precision = "fp32"
        is_loaded = False
        loaded = None

        @contextlib.contextmanager
        def use(self, check: Any = None, at_once: bool = False) -> Iterator[Any]:
            if at_once:
                raise NotAtOnce
            raise Fault(503, "overloaded", "m waits for memory")
            yield

    async def ask() -> object:
        return await Replica({"m": Full()}, {"m": "this"}, 300, 1).generate(
            ("m", "this", "fp32"), Job((1, 2), GenerationOptions())
        )

    assert isinstance(asyncio.run(ask()), Overloaded)


def test_jobs_that_wait_for_a_model_leave_the_event_loop_to_those_they_wait_for():
    async def ask() -> list[object]:
        room = Room(10, patience=SECONDS, stay=0)
        a, b = (visiting(room, name, 10) for name in "ab")
        replica = Replica({"a": a, "b": b}, {"a": "this", "b": "this"}, 300, 1)
        async with replica._using("a"):
            tasks = []
            # b waits for a's memory, then more of a for b, and then one of b that nobody wants any more.
            for name, model, count in (("b", b, 1), ("a", a, 1), ("b", b, 2)):
                tasks.append(asyncio.ensure_future(replica.load(part_id(name, None))))
                while room._wanted[model] < count:
                    await asyncio.sleep(0.01)
            tasks[2].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        while a.users + b.users:
            await asyncio.sleep(0.01)
        return [*done]

    *done, given_up = asyncio.run(asyncio.wait_for(ask(), SECONDS))
    assert done == ["b#", "a#"]
    assert isinstance(given_up, asyncio.CancelledError)


def test_ids_of_one_model_are_not_taken_by_another(translator):
    precision = translator.system.precision
    known = identities({"m": "mini"}, None)

    async def ask(*model: str) -> object:
        replica = Replica({"m": as_model(translator)}, known, 300, 1)
        name, identity, precision = model
        return await replica.generate((name, identity, precision), Job((1, 2), GenerationOptions()))

    others = [
        ("m", "another", precision),
        ("m", identities({"m": "mini"}, 4096)["m"], precision),
        ("m", known["m"], "int4"),
        ("n", known["m"], precision),
    ]
    for other in others:
        found = asyncio.run(ask(*other))
        assert isinstance(found, OtherModels)
        assert isinstance(pickle.loads(pickle.dumps(found)), OtherModels)


def test_a_model_is_known_by_its_files_wherever_and_whenever_they_were_made(tmp_path):
    def made(name: str) -> dict[str, bytes]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return {
            "config.json": b"{}",
            "tokenizer.model": b"one",
            "model.safetensors": bytes(3 << 20),
            "notes.md": name.encode(),
        }

    def identity(name: str, files: dict[str, bytes]) -> str:
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        return identities({"m": str(tmp_path / name)}, None)["m"]

    first = identity("a", made("a"))
    assert identity("b", made("b")) == first
    changes = {"tokenizer.model": b"two", "model.safetensors": bytes(2 << 20) + b"1" * (1 << 20)}
    for file, content in changes.items():
        assert identity("b", {**made("b"), file: content}) != first
    assert identity("b", made("b")) == first


def test_a_replica_whose_engine_stands_still_says_so(monkeypatch):
    class Still:
        busy, turns = True, 7

    class Loaded:
        class loaded:
            class system:
                engine = Still()

    clock = [0.0]
    monkeypatch.setattr("dragoman.server.heartbeat.time.monotonic", lambda: clock[0])
    replica = Replica({"m": Loaded()}, {"m": "this"}, stall_seconds=2, look_seconds=1)
    for _ in range(3):
        replica.check()
        clock[0] += 1
    with pytest.raises(RuntimeError, match="no step"):
        replica.check()


def test_looks_that_are_further_apart_count_in_full(monkeypatch):
    class Still:
        busy, turns = True, 7

    clock = [0.0]
    monkeypatch.setattr("dragoman.server.heartbeat.time.monotonic", lambda: clock[0])
    stalls = Stalls(300, interval=2)
    while not stalls.any([Still]) and clock[0] < 1000:
        clock[0] += 2
    assert 300 < clock[0] < 306
