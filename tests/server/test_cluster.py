"""A server on a cluster answers as one process does, whoever dies or is replaced meanwhile."""

import contextlib
import importlib.util
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from dragoman.errors import DragomanError, InvalidOption, NotEnoughMemory, Overloaded, TranslationFailed
from dragoman.generation.engine import Job
from dragoman.generation.hypotheses import Hypothesis
from dragoman.generation.options import GenerationOptions
from dragoman.server.keys import KeyFile
from dragoman.server.replica import OtherModels
from dragoman.server.settings import Settings
from tests.server.waiting import ENDLESS, SECONDS, wait_until

if any(importlib.util.find_spec(name) is None for name in ("ray", "grpc")):
    pytest.skip("needs Ray Serve: pip install 'dragoman[cluster]'", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as Ray Serve is imported

ENDLESS_TEXT = " ".join(ENDLESS)
LONG = " ".join(
    f"I would like to buy {number} tickets for the train to the old town." for number in range(30)
)


class Cluster:
    """A server that has begun, with all processes below it."""

    def __init__(self, process: Any, port: int, key: str) -> None:
        self.process, self.port, self.url = process, port, f"http://127.0.0.1:{port}"
        self._headers = {"Authorization": f"Bearer {key}"}
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.said.append(line.decode())

    def wait_for(self, said: str) -> None:
        """Until it has said something."""
        wait_until(lambda: self.process.poll() is not None or any(said in line for line in self.said))
        assert self.process.poll() is None, "".join(self.said)

    def translate(self, text: object, **more: Any) -> requests.Response:
        body = {"text": text, "source": "en", "target": "de", **more}
        return requests.post(f"{self.url}/v1/translate", json=body, headers=self._headers, timeout=SECONDS)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        """The processes with the model."""
        found = []
        for one in self.family():
            try:
                if "dragoman-translators:Translators" in " ".join(one.cmdline()):
                    found.append(one)
            except psutil.Error:  # it has ended just now
                continue
        return found

    def session(self) -> Path:
        """Where Ray has its logs."""
        words = " ".join(word for one in self.family() for word in one.cmdline())
        found = re.search(r"/\S*/session_[\d_-]+", words)
        assert found
        return Path(found[0])

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code: int = self.process.wait(SECONDS)
        self._reader.join()
        return code


@pytest.fixture
def cluster(process, tmp_path) -> Iterator[Callable[..., Cluster]]:
    """Start a server with a key, which may have ten requests in a minute."""
    key = KeyFile(tmp_path / "keys.json").add("anna", requests_per_minute=10)

    def begin(*args: object) -> Cluster:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ("--cluster", "auto", "--port", port, "--keys", tmp_path / "keys.json", *args)
        found = Cluster(process("serve", *options), port, key)
        found.wait_for("listening at")
        return found

    return begin


def listening(family: list[psutil.Process]) -> set[tuple[str, int]]:
    """Addresses and ports at which processes wait for others."""
    found = set()
    for one in family:
        try:
            connections = one.net_connections("tcp")
        except psutil.Error:
            continue
        found |= {
            (each.laddr.ip.removeprefix("::ffff:"), each.laddr.port)
            for each in connections
            if each.status == "LISTEN"
        }
    return found


def refuses_strangers(port: int) -> bool:
    """Whether a port, at which Serve's own processes call each other, asks who calls."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
    return False


def test_what_is_under_way_is_answered_though_its_replica_is_killed_or_replaced(cluster, translator):
    server = cluster("--replicas", 1)
    open_to_all = {port for address, port in listening(server.family()) if address != "127.0.0.1"}
    assert len(open_to_all) == 2  # one of each replica
    assert all(map(refuses_strangers, open_to_all))
    expected = translator.translate(LONG, "en", "de")
    session = server.session()
    with ThreadPoolExecutor(4) as pool:
        (replica,) = server.replicas()
        replica.suspend()  # so that it is not done before it is killed
        under_way = [pool.submit(server.translate, LONG, stream=streams) for streams in (False, True)]
        assert not under_way[0].done()
        replica.kill()
        whole, streamed = (each.result() for each in under_way)
        assert whole.json()["translations"][0]["text"] == expected
        pieces = re.findall(r"^event: piece\ndata: (.*)$", streamed.text, re.M)
        assert "".join(json.loads(piece)["text"] for piece in pieces) == expected

        before = server.replicas()
        server.process.send_signal(signal.SIGHUP)
        answers = [pool.submit(server.translate, LONG) for _ in range(4)]
        server.wait_for("all replicas are new")
        assert [each.result().json()["translations"][0]["text"] for each in answers] == [expected] * 4
        assert not {one.pid for one in before} & {one.pid for one in server.replicas()}

        # The limit is one for all replicas.
        statuses = [server.translate("Good morning!").status_code for _ in range(11)]
        assert 200 in statuses
        assert statuses[-1] == 429
        asked = {"q": "Geheim", "source": "de", "target": "en", "api_key": "dragoman-none"}
        assert requests.post(f"{server.url}/translate", params=asked, timeout=SECONDS).status_code == 403
    logs = [path.read_bytes() for path in session.rglob("*") if path.is_file()]
    assert any(b"Translators" in log for log in logs)
    hidden = (b"tickets for the train", b"Geheim", b"dragoman-none")
    assert not any(word in log for log in logs for word in hidden)
    assert server.end() == 0


@pytest.mark.slow
def test_sentences_go_to_the_replica_that_has_their_language_module(cluster, combined):
    server = cluster("--model", f"m={combined}", "--replicas", 2, "--replica-models", 1, "--log", "info")
    with ThreadPoolExecutor(2) as pool:

        def ask(number: int) -> int:
            texts = [f"Number {number}, {place}." for place in range(10)]
            more = {"target": ["zh", "de"][number % 2], "beams": 1}
            return server.translate(texts, **more).status_code

        assert set(pool.map(ask, range(8))) == {200}
    logs = [path.read_text(errors="replace") for path in server.session().rglob("*.err")]
    loads = [re.findall(r'"a replica has a part", "part": "(m#\d)"', log) for log in logs]
    assert server.end() == 0
    # Of 80 sentences in turn; by chance every second one would have found the other module.
    assert {part for log in loads for part in log} == {"m#1", "m#6"}
    assert sum(map(len, loads)) <= 8


@pytest.mark.slow
def test_more_replicas_come_when_there_is_too_much_to_do(cluster):
    server = cluster("--most-replicas", 2, "--replica-load", 4, "--max-characters", len(ENDLESS_TEXT) + 1)
    assert len(server.replicas()) == 1
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(server.translate, ENDLESS_TEXT)
        wait_until(lambda: len(server.replicas()) == 2)
        assert server.end() == 0
        with contextlib.suppress(requests.ConnectionError):  # it may end before the answer is written
            assert under_way.result().status_code in (500, 503, 504)


class Handle:
    """What a crew sends its jobs to; tells where to, and does what comes next."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes, self.parts = list(outcomes), []

    def options(self, method_name: str, stream: bool, multiplexed_model_id: str) -> "Handle":
        self.part = multiplexed_model_id
        return self

    def remote(self, model: tuple[str, str, str], job: Job) -> "Handle":
        self.parts.append(self.part)
        return self

    def __await__(self) -> Any:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception) and not isinstance(outcome, DragomanError):
            raise outcome
        return outcome
        yield


FOUND = [Hypothesis((5, 2), -0.5)]
MODEL = ("m", "this", "fp32")


def done(crew: Any, group: int | None = None) -> list[Hypothesis]:
    import asyncio

    found: list[Hypothesis] = asyncio.run(crew.generate(Job((1,), GenerationOptions(), group=group), None))
    return found


def test_a_job_goes_to_whoever_has_its_model_and_module():
    from dragoman.server.crew import Crew

    for is_one_of_several, group, part in (
        (False, None, ""),
        (True, None, "m#"),
        (False, 6, "m#6"),
    ):
        handle: Any = Handle(FOUND)
        assert done(Crew(handle, MODEL, is_one_of_several, SECONDS), group) == FOUND
        assert handle.parts == [part]


def lost(name: str) -> Exception:
    """What Ray raises where a replica is gone, in one way or another."""
    from ray import exceptions
    from ray.serve.exceptions import ReplicaUnavailableError

    made: dict[str, Exception] = {
        "died": exceptions.ActorDiedError(),
        "unavailable": exceptions.ActorUnavailableError("gone", None),
        "memory": exceptions.OutOfMemoryError("the node ran low on memory"),
        "node": exceptions.NodeDiedError("the node is gone"),
        "object": exceptions.ObjectLostError("00", None, ""),
        "owner": exceptions.OwnerDiedError("00", None, ""),
        "chosen": ReplicaUnavailableError("one"),
    }
    return made[name]


@pytest.mark.parametrize("name", ["died", "unavailable", "memory", "node", "object", "owner", "chosen"])
def test_what_is_lost_with_a_replica_is_tried_again(name):
    from dragoman.server.crew import Crew

    handle: Any = Handle(lost(name), lost(name), FOUND)
    assert done(Crew(handle, MODEL, False, SECONDS, rest=0)) == FOUND


def test_what_kills_again_and_again_is_given_up_and_what_nobody_can_do_may_come_again():
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    from dragoman.server.crew import TRIES, Crew

    deadly: Any = Handle(*[lost("died")] * TRIES)
    with pytest.raises(TranslationFailed, match="5 replicas died"):
        done(Crew(deadly, MODEL, False, SECONDS, rest=0))
    # The machine's memory isn't the sentence's fault.
    scarce: Any = Handle(*[lost("memory")] * 3 * TRIES, FOUND)
    assert done(Crew(scarce, MODEL, False, SECONDS, rest=0)) == FOUND
    for losses in ([lost("memory")], [DeploymentUnavailableError(None)], [BackPressureError(1, 1)]):
        handle: Any = Handle(*losses)
        with pytest.raises(Overloaded, match="try again later"):
            done(Crew(handle, MODEL, False, SECONDS, rest=0, endurance=0))
    said: Any = Handle(NotEnoughMemory("no room"))
    with pytest.raises(NotEnoughMemory, match="no room"):
        done(Crew(said, MODEL, False, SECONDS))


def test_each_try_waits_longer_than_the_last():
    from dragoman.server.crew import _LONGEST_REST, Losses

    losses = Losses(rest=0.1, endurance=SECONDS)
    rests = [losses.count(lost("memory")) for _ in range(12)]
    assert all(0.05 * 2**number <= rest <= 0.1 * 2**number for number, rest in enumerate(rests[:5]))
    assert _LONGEST_REST / 2 <= rests[-1] <= _LONGEST_REST


def test_a_job_waits_for_replicas_with_its_model_but_not_for_ever():
    from dragoman.server.crew import Crew

    soon: Any = Handle(OtherModels(), FOUND)
    assert done(Crew(soon, MODEL, False, SECONDS)) == FOUND
    late: Any = Handle(OtherModels())
    with pytest.raises(Overloaded, match="replicas have other models"):
        done(Crew(late, MODEL, False, 0))


def test_replicas_on_one_computer_share_its_memory():
    from dragoman.limits import memory_limit, parse_size
    from dragoman.server.cluster import _sharing

    shared = _sharing(Settings(replicas=2, most_replicas=4)).memory
    assert shared is not None
    assert 0.6 * memory_limit() < 4 * parse_size(shared) < 0.7 * memory_limit()
    for settings in (Settings(), Settings(replicas=2, memory="3GB"), Settings(replicas=2, device="cuda:0")):
        assert _sharing(settings) == settings


def test_ports_are_named(dragoman):
    made = dragoman("serve", "--cluster", "auto", "--port", 0)
    assert made.code == 2
    assert "port is 0" in made.err


def test_who_may_come_follows_from_where_serve_listens(tmp_path, monkeypatch):
    from dragoman.server.deployments import keys_at

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keys_at(Settings(), ("127.0.0.1", 5000)) is None
    with pytest.raises(InvalidOption, match="can be reached from other computers"):
        keys_at(Settings(), ("0.0.0.0", 5000))
    assert keys_at(Settings(allow_open=True), ("0.0.0.0", 5000)) is None
    with pytest.raises(InvalidOption, match="no keys in"):
        keys_at(Settings(keys=tmp_path / "none.json"), ("127.0.0.1", 5000))


def test_what_replicas_run_on_is_said_where_there_are_gpus(monkeypatch):
    import ray

    from dragoman.server.deployments import needs

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    with pytest.raises(InvalidOption, match="--device cuda"):
        needs(Settings())
    assert needs(Settings(device="cuda:1")) == {"num_cpus": 1, "num_gpus": 1}
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    assert needs(Settings(threads=3)) == {"num_cpus": 3, "num_gpus": 0}


def test_the_server_is_where_its_keys_and_folders_are():
    from dragoman.server.deployments import server, server_at

    for application, place in (
        (server_at(Settings(), {"node:10.0.0.1": 0.001}), {"node:10.0.0.1": 0.001}),
        (server({}), {}),
    ):
        options = application._bound_deployment.ray_actor_options
        assert (options["num_cpus"], options["resources"]) == (0, place)
