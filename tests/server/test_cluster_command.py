"""The command of a server on a cluster, with a double in the place of the cluster."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.server.cluster import Command, Halted, Signals, checked
from dragoman.server.keys import KeyFile
from dragoman.server.settings import Settings
from dragoman.server.supervisor import WorkersDied
from tests.server.waiting import SECONDS


class Rollout:
    """Applications that begin at once, or never; notes what is done to them."""

    def __init__(self) -> None:
        self.halt = threading.Event()
        self.did: list[tuple[str, int]] = []
        self.looks: list[Callable[[], object]] = []
        self.problems: dict[tuple[str, int], Callable[[], object]] = {}

    def _do(self, what: str, settings: Settings) -> None:
        self.did.append((what, settings.replicas))
        self.problems.get(self.did[-1], lambda: None)()

    def begin(self, settings: Settings) -> None:
        self._do("begin", settings)

    def deploy(self, settings: Settings) -> None:
        self._do("deploy", settings)

    def check(self, settings: Settings) -> None:
        if settings.replicas > 5:
            raise InvalidOption("there is no room")

    def end(self, settings: Settings) -> None:
        self._do("end", settings)

    def look(self, settings: Settings) -> None:
        self.looks.pop(0)()

    def wait(self) -> None:
        """What is never done."""
        assert self.halt.wait(SECONDS)
        raise Halted


@pytest.fixture
def rollout() -> Rollout:
    return Rollout()


@pytest.fixture
def signals() -> Signals:
    return Signals()


def run(rollout: Rollout, signals: Signals, again: Callable[[], Settings] = Settings, **more: Any) -> None:
    """A command from its beginning to its end."""
    Command(rollout, signals, look=0, **more).run(Settings(), again)  # type: ignore[arg-type]


def raising(error: Exception) -> Callable[[], object]:
    def do() -> None:
        raise error

    return do


def test_settings_that_cannot_be_leave_all_as_it_is(rollout, signals, capfd):
    rollout.looks = [lambda: signals.note(-1), lambda: signals.note(signal.SIGTERM)]
    run(rollout, signals, again=raising(InvalidOption("'prot' is no setting")))  # type: ignore[arg-type]
    assert rollout.did == [("begin", 1), ("end", 1)]
    assert "all stays as it is, as the new settings can't be: 'prot' is no setting" in capfd.readouterr().err


def test_replicas_without_room_are_not_begun(rollout, signals, capfd):
    rollout.looks = [lambda: signals.note(-1), lambda: signals.note(signal.SIGTERM)]
    run(rollout, signals, again=lambda: Settings(replicas=6))
    assert rollout.did == [("begin", 1), ("end", 1)]
    assert "can't be: there is no room" in capfd.readouterr().err


def test_replicas_that_cannot_begin_give_way_to_those_before(rollout, signals, capfd):
    rollout.looks = [lambda: signals.note(-1), lambda: signals.note(signal.SIGTERM)]
    rollout.problems = {("deploy", 2): raising(WorkersDied("the model is damaged"))}
    run(rollout, signals, again=lambda: Settings(replicas=2))
    assert rollout.did == [("begin", 1), ("deploy", 2), ("deploy", 1), ("end", 1)]
    assert "the model is damaged; the settings before come back" in capfd.readouterr().err


def test_new_settings_count_but_for_the_address(rollout, signals, capfd):
    seen: list[Settings] = []
    rollout.deploy = seen.append
    rollout.looks = [lambda: signals.note(-1), lambda: signals.note(signal.SIGTERM)]
    run(rollout, signals, again=lambda: Settings(replicas=3, port=7))
    assert seen == [Settings(replicas=3)]
    assert rollout.did == [("begin", 1), ("end", 3)]
    assert "port and cluster stay" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_has_not_begun(rollout, signals, number, capfd):
    def begin() -> None:
        signals.note(number)
        rollout.wait()

    rollout.problems = {("begin", 1): begin}
    run(rollout, signals)
    assert rollout.did == [("begin", 1), ("end", 1)]
    assert "listening" not in capfd.readouterr().err


def test_a_second_signal_ends_the_drain(rollout, signals):
    def drain() -> None:
        assert not rollout.halt.is_set()
        signals.note(signal.SIGINT)
        assert rollout.halt.wait(SECONDS)

    rollout.looks = [lambda: signals.note(signal.SIGINT)]
    rollout.problems = {("end", 1): drain}
    run(rollout, signals)


def test_a_cluster_that_does_not_answer_holds_nobody(rollout, signals):
    never = threading.Event()
    rollout.looks = [lambda: signals.note(signal.SIGTERM) or never.wait(SECONDS)]
    rollout.problems = {("end", 1): lambda: never.wait(SECONDS)}
    try:
        with pytest.raises(WorkersDied, match="doesn't answer"):
            run(rollout, signals, grace=0.01)
    finally:
        never.set()


def test_a_cluster_that_is_gone_ends_the_command(rollout, signals):
    rollout.looks = [lambda: None, raising(WorkersDied("the cluster is gone"))]
    with pytest.raises(WorkersDied, match="cluster is gone"):
        run(rollout, signals)
    assert rollout.did == [("begin", 1), ("end", 1)]


def test_settings_mean_the_same_wherever_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DRAGOMAN_STATE", "state")
    monkeypatch.chdir(tmp_path)
    found = checked(Settings(cluster="somewhere:1", tm=Path("a.tmx")))
    assert found.keys is None
    assert found.tm == tmp_path / "a.tmx"
    assert found.data == tmp_path / "state" / "server-5000"
    assert found.model == ("mini=mini",)
    default = tmp_path / "config" / "dragoman" / "keys.json"
    default.parent.mkdir(parents=True)
    KeyFile(default).add("anna")
    found = checked(Settings(cluster="somewhere:1", data=Path("data")))
    assert found.keys == default  # named, as where the server is there may be none
    assert found.data == tmp_path / "data"


def test_a_model_s_path_is_whole_and_its_name_stays(tmp_path, monkeypatch):
    from dragoman.server.cluster import absolute

    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    settings = Settings(model=("./x", "y=x", "small100"))
    assert absolute(settings).model == (f"x={tmp_path}/x", f"y={tmp_path}/x", "small100=small100")


def test_keys_that_are_missing_are_no_open_door(tmp_path):
    with pytest.raises(InvalidOption, match="there are no keys in"):
        checked(Settings(cluster="somewhere:1", keys=tmp_path / "none.json"))
