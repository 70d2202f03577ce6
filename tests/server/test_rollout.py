"""What becomes of a server's applications, with what Ray says put in its place."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from dragoman.errors import InvalidOption
from dragoman.server.settings import Settings
from dragoman.server.supervisor import WorkersDied

if any(importlib.util.find_spec(name) is None for name in ("ray", "grpc")):
    pytest.skip("needs Ray Serve: pip install 'dragoman[cluster]'", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as Ray Serve is imported
SETTINGS = Settings(device="cpu", replicas=4)


@pytest.fixture
def said() -> list[str]:
    return []


def rollout(said: list[str], is_own: bool = True) -> Any:
    """On a cluster with two processors and no GPU."""
    from dragoman.server.rollout import Rollout

    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})
    return Rollout(ray, is_own, said.append)


def test_what_a_cluster_lacks_is_said_and_on_an_own_one_an_error(said):
    with pytest.raises(InvalidOption, match="4 need 4 CPU, and the cluster has 2"):
        rollout(said).check(SETTINGS)
    with pytest.raises(InvalidOption, match="1 need 1 GPU, and the cluster has 0"):
        rollout(said).check(Settings(device="cuda:0"))
    rollout(said).check(Settings(device="cpu", replicas=2))
    assert said == []
    rollout(said, is_own=False).check(SETTINGS)
    assert said == ["replicas: 4 need 4 CPU, and the cluster has 2; this waits until it has more"]


@pytest.fixture
def status(monkeypatch) -> dict[str, Any]:
    """Both applications as they are said to be; whose the server is said to be stands by "mark"."""
    from dragoman.server import rollout as module

    def one(status: str) -> Any:
        parts = {"a": SimpleNamespace(status=status, message="Traceback\nit is broken\n")}
        return SimpleNamespace(status=status, message="see below", deployments=parts)

    found: dict[str, Any] = {module.TRANSLATORS: "RUNNING", module.SERVER: "RUNNING", "mark": None}

    def status() -> Any:
        names = [name for name in (module.TRANSLATORS, module.SERVER) if name in found]
        return SimpleNamespace(applications={name: one(found[name]) for name in names})

    monkeypatch.setattr(module.serve, "status", status)
    monkeypatch.setattr(module, "_is_of", lambda mark: found["mark"] in (None, mark))
    return found


def test_what_may_get_well_again_is_said_and_waited_for(said, status):
    made = rollout(said)
    made.look(SETTINGS)
    status["dragoman"] = "UNHEALTHY"
    made.look(SETTINGS)
    made.look(SETTINGS)
    assert said == ["dragoman isn't well: it is broken"]
    status["dragoman"] = "RUNNING"
    made.look(SETTINGS)
    assert said[1:] == ["the cluster is well again"]


def test_what_is_over_ends_the_command(said, status):
    for change, expected in (
        ({"dragoman": "DEPLOY_FAILED"}, "can't begin: it is broken"),
        ({"dragoman": "RUNNING", "mark": "another's"}, "another command has put its server"),
    ):
        status |= change
        with pytest.raises(WorkersDied, match=expected):
            rollout(said).look(SETTINGS)
    del status["dragoman"]
    with pytest.raises(WorkersDied, match="somebody has ended dragoman"):
        rollout(said).look(SETTINGS)


def test_another_command_s_applications_are_left_alone(said, status, monkeypatch):
    from dragoman.server import rollout as module

    deleted: list[str] = []

    def delete(name: str, _blocking: bool) -> None:
        deleted.append(name)
        del status[name]

    def none(name: str) -> Any:
        raise module.RayServeException("there is none")

    monkeypatch.setattr(module.serve, "delete", delete)
    monkeypatch.setattr(module.serve, "get_app_handle", none)
    made = rollout(said)
    made.end(SETTINGS)
    made._has_begun, status["mark"] = True, "another's"
    made.end(SETTINGS)
    assert deleted == []
    status["mark"] = made._mark
    made.end(SETTINGS)
    assert deleted == [module.SERVER, module.TRANSLATORS]
