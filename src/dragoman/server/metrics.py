"""What can be counted of a server, for Prometheus; neither texts nor keys."""

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from dragoman.languages import Language
    from dragoman.server.orders import Result
    from dragoman.server.work import Workshop

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The figures of one server."""

    def __init__(self, workshop: "Workshop") -> None:
        self.registry = found = CollectorRegistry()
        self._requests = Counter(
            "dragoman_requests", "Requests that were answered.", ["route", "status"], registry=found
        )
        self._seconds = Histogram(
            "dragoman_request_seconds", "How long requests took.", ["route"], buckets=_SECONDS, registry=found
        )
        about = ["model", "target"]
        self._translations = Counter(
            "dragoman_translations", "Texts that were translated.", about, registry=found
        )
        self._characters = Counter(
            "dragoman_characters", "Characters of source texts.", about, registry=found
        )
        self._files = Counter("dragoman_files", "Files that were translated.", about, registry=found)
        self._warnings = Counter(
            "dragoman_warnings", "Warnings about translations.", ["model", "kind"], registry=found
        )
        self._replaced = Counter(
            "dragoman_workers_replaced", "Processes that were replaced.", ["reason"], registry=found
        )
        gone = Counter("dragoman_clients_gone", "Requests whose client went away.", registry=found)
        self.client_gone = gone.inc
        for name, admission in (("texts", workshop.texts), ("files", workshop.files)):
            for state in ("working", "waiting"):
                gauge = Gauge(f"dragoman_{name}_{state}", f"Requests with {name}: {state}.", registry=found)
                gauge.set_function(partial(getattr, admission, state))

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request has been answered. route: its path as it is declared."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def replaced(self, reason: str, count: int) -> None:
        """So many processes have served before this one, and were replaced."""
        self._replaced.labels(reason).inc(count)

    def translated(self, result: "Result", characters: int) -> None:
        """A text has been translated."""
        self._translations.labels(result.model, result.target.nllb).inc()
        self._characters.labels(result.model, result.target.nllb).inc(characters)
        for warning in result.warnings:
            self._warnings.labels(result.model, warning.kind).inc()

    def file(self, model: str, target: "Language", characters: int) -> None:
        """A file has been translated. Any thread may say so."""
        self._files.labels(model, target.nllb).inc()
        self._characters.labels(model, target.nllb).inc(characters)

    def written(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)
