"""Engines answer over pipes, and share memory by turns."""

from pathlib import Path

import pytest

from benchmarks.peers import client
from benchmarks.peers.client import Engine, PeerError, Pool, Worker, interpreter, needed
from benchmarks.peers.protocol import answer

ECHO = "tests.benchmarks.echo_engine"


class Adder:
    def add(self, a, b):
        return {"sum": a + b}

    def _secret(self):
        return {"told": True}


def test_a_request_is_a_method_with_its_fields():
    assert answer(Adder(), {"do": "add", "a": 2, "b": 3}) == {"sum": 5}


@pytest.mark.parametrize("name", ["subtract", "_secret"])
def test_what_an_engine_has_not_is_an_error_with_both_names(name):
    assert answer(Adder(), {"do": name}) == {"error": f"Adder can't {name}"}


def test_an_exception_becomes_an_error_and_not_the_end(capsys):
    found = answer(Adder(), {"do": "add", "a": 2, "b": "3"})
    assert found["error"].startswith("TypeError: ")
    assert "Traceback" in capsys.readouterr().err


def test_memory_is_told_of_any_engine():
    found = answer(Adder(), {"do": "memory"})
    assert found["peak"] >= found["own"] > 0


def test_a_process_answers_and_what_it_prints_is_no_answer():
    with Worker("dragoman", 1, ECHO) as worker:
        assert worker.ask("load", folder="f") == {"fields": {"folder": "f"}}
        assert worker.ask("run", sources=[[1, 2], [3]]) == {"seconds": 0.5, "tokens": 3}
        with pytest.raises(PeerError, match="dragoman can't encode: Echo can't encode"):
            worker.ask("encode")


def test_the_last_words_of_a_dead_process_are_in_the_error():
    with (
        Worker("dragoman", 1, ECHO) as worker,
        pytest.raises(PeerError, match="died with status 3: out of luck"),
    ):
        worker.ask("die")


def test_a_missing_peer_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PEER_VENVS", str(tmp_path))
    with pytest.raises(PeerError, match="run benchmarks/peers/setup ctranslate2"):
        interpreter("ctranslate2")


def engine(name: str, own: float, mapped: float = 0.0, folder: str = "model") -> Engine:
    return Engine(name, Path(folder), "fp32", own, mapped)


def test_files_that_several_engines_map_count_once():
    both = [engine("a", 1, 8), engine("b", 2, 8)]
    assert needed(both) == 11
    assert needed([*both, engine("c", 1, 8, "another")]) == 20


@pytest.fixture
def opened(monkeypatch):
    """Pools that start no processes; what happens is noted as "name verb"."""
    events: list[str] = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def ask(self, do, **fields):
            events.append(f"{self.name} {do} {fields.get('new_tokens')}")
            return {"seconds": 1.0}

        def stop(self):
            events.append(f"{self.name} stop")

    def open_engine(one, threads):
        events.append(f"{one.peer} start")
        if one.precision == "int3":
            raise PeerError("there is no int3")
        return Fake(one.peer)

    monkeypatch.setattr(client, "open_engine", open_engine)
    monkeypatch.setattr(client, "SETTLE_SECONDS", 0)
    return events


REQUESTS = {"start": {"do": "run", "new_tokens": 2}, "whole": {"do": "run", "new_tokens": 9}}


def test_new_work_is_warmed_up_once(opened):
    with Pool(10, 1) as pool:
        for _ in range(2):
            assert pool.measure(engine("a", 1), REQUESTS) == {"start": 1.0, "whole": 1.0}
    assert opened == ["a start", "a run 2", "a run 2", "a run 9", "a run 2", "a run 9", "a stop"]


def test_engines_that_do_not_fit_together_alternate(opened):
    with Pool(10, 1) as pool:
        for name in "abab":
            pool.ask(engine(name, 6), "run")
    starts = [event for event in opened if "run" not in event]
    assert starts == ["a start", "a stop", "b start", "b stop", "a start", "a stop", "b start", "b stop"]


def test_the_engine_unused_longest_makes_room(opened):
    with Pool(10, 1) as pool:
        for name in "abac":
            pool.ask(engine(name, 4), "run")
        assert opened.count("b stop") == 1
        assert "a stop" not in opened


def test_an_engine_that_cannot_load_is_not_started_again(opened):
    broken = Engine("a", Path("model"), "int3", 1)
    with Pool(10, 1) as pool:
        for _ in range(2):
            with pytest.raises(PeerError, match="no int3"):
                pool.ask(broken, "run")
    assert opened == ["a start"]
