"""Traces for OpenTelemetry, as a collector gets them."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dragoman.errors import InvalidOption
from dragoman.server.tracing import Tracing
from tests.server.test_documents import hand_in, wait

SECRET = "Mein geheimes Rezept"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector(HTTPServer):
    """Takes what exporters send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list:
        found = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                assert any(each.key == "service.name" for each in resource.resource.attributes)
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_request_is_a_span_with_its_waiting_and_its_work_and_no_words(serve, collector):
    served = serve(traces=collector.url)
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "Authorization": "Bearer geheim"}
    body = {"text": SECRET, "target": "fr"}
    assert served.post("/v1/translate", body, headers=headers).status_code == 200
    assert served.post("/v1/translate", {**body, "stream": True}).status_code == 200
    assert served.post("/detect", {"q": SECRET}).status_code == 200
    assert served.get(f"/{SECRET}").status_code == 404
    id = hand_in(served, "geheim.txt", SECRET).json()["id"]
    wait(served, id)
    served.stop()
    spans = collector.spans()
    first = next(span for span in spans if span.name == "POST /v1/translate")
    facts = {each.key: each.value for each in first.attributes}
    assert facts["http.response.status_code"].int_value == 200
    assert facts["dragoman.characters"].int_value == len(SECRET)
    assert first.trace_id.hex() == TRACE
    parts = {span.name: span for span in spans if span.parent_span_id == first.span_id}
    assert set(parts) == {"queue", "engine"}
    assert first.start_time_unix_nano <= parts["queue"].start_time_unix_nano
    assert parts["queue"].end_time_unix_nano == parts["engine"].start_time_unix_nano
    assert parts["engine"].end_time_unix_nano <= first.end_time_unix_nano
    file = next(span for span in spans if span.name == "file")
    assert {span.name for span in spans if span.parent_span_id == file.span_id} == {"queue", "engine"}
    assert {"POST /detect", "GET (none)", "POST /v1/documents"} <= {span.name for span in spans}
    assert not any(word in body for body in collector.bodies for word in (b"geheim", b"Rezept"))


def test_without_opentelemetry_traces_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidOption, match=r"dragoman\[otel\]"):
        Tracing("http://127.0.0.1:1/v1/traces")
