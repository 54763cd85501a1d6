"""The export of spans to a collector that listens on a socket of this machine and decodes what arrives."""

import asyncio
import gzip
from collections.abc import AsyncGenerator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

import factories
from acgs1.contracts.auth import Role
from acgs1.kit.breaker import Breakers, State
from acgs1.kit.otlp import OtlpExport
from acgs1.kit.tracing import CLIENT, SERVER, Span, recorder
from acgs1.services.auth.app import create_app

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """OTLP/HTTP (OpenTelemetry protocol specification 1.x): POST of a protobuf `ExportTraceServiceRequest`."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.status = 200
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.split("\r\n")
                headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                assert headers["content-type"] == "application/x-protobuf"
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                self.paths.append(first.split(" ")[1])
                if self.status == 200:
                    self.requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\nContent-Type: application/x-protobuf\r\n"
                    f"Content-Length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    @property
    def spans(self) -> dict[str, list]:
        """Service name -> spans."""
        found: dict[str, list] = {}
        for request in self.requests:
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found.setdefault(names["service.name"], []).extend(scope.spans)
        return found


@pytest.fixture
async def collector() -> AsyncGenerator[Collector]:
    made = Collector()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    yield made
    server.close()


async def test_a_request_to_a_service_arrives_at_the_collector_with_its_statements(collector, tmp_path):
    settings = factories.settings(tmp_path, otlp_endpoint=collector.url, trace_sample_rate=0.0)
    try:
        async with factories.running(create_app, settings) as auth:
            answer = await auth.client.get(
                "/api/v1/users", headers={**auth.headers(Role.ADMIN), "traceparent": f"00-{TRACE}-{PARENT}-01"}
            )
            assert answer.status_code == 200, answer.text
            quiet = await auth.client.get("/api/v1/users", headers=auth.headers(Role.ADMIN))
            assert quiet.status_code == 200
            openmetrics = {**auth.headers(Role.OPERATOR), "Accept": "application/openmetrics-text; version=1.0.0"}
            shown = await auth.client.get("/metrics", headers=openmetrics)
            plain = await auth.client.get("/metrics", headers=auth.headers(Role.OPERATOR))
            assert shown.headers["content-type"].startswith("application/openmetrics-text")
            assert f'trace_id="{TRACE}"' in shown.text, "an exemplar of the latency histogram"
            assert plain.headers["content-type"].startswith("text/plain")
            assert f'trace_id="{TRACE}"' not in plain.text
    finally:
        recorder().sample(0.0)
        recorder().drain(10_000)
    assert set(collector.paths) == {"/v1/traces"}
    spans = collector.spans["acgs1-auth"]
    assert {span.trace_id.hex() for span in spans} == {TRACE}, "what was not sampled is not sent"
    (root,) = [span for span in spans if span.kind == 2]
    assert (root.name, root.parent_span_id.hex()) == ("GET /api/v1/users", PARENT)
    assert {a.key: a.value.int_value for a in root.attributes} == {"http.response.status_code": 200}
    statements = [span for span in spans if span.kind == 3]
    assert any(span.name == "sqlite SELECT" for span in statements)
    assert all(span.parent_span_id == root.span_id for span in statements)
    assert all(root.start_time_unix_nano - 1e6 <= span.start_time_unix_nano for span in statements)


async def test_errors_and_kinds_are_told_in_opentelemetrys_terms(collector):
    edge = Breakers().get("x->otlp")
    export = OtlpExport(collector.url, "x", edge)
    export.export(Span(TRACE, "a" * 16, "", "GET /x", SERVER, 1000.5, 0.25, "503", {"n": 1, "f": 0.5, "s": "t"}))
    export.export(Span(TRACE, "b" * 16, "a" * 16, "auth", CLIENT, 1000.6, 0.1, None, {}))
    await asyncio.to_thread(export.close)
    failed, fine = collector.spans["acgs1-x"]
    assert (failed.status.code, fine.status.code) == (2, 0)
    assert (failed.start_time_unix_nano, failed.end_time_unix_nano) == (1_000_500_000_000, 1_000_750_000_000)
    assert {a.key for a in failed.attributes} == {"n", "f", "s", "error.type"}
    assert (failed.parent_span_id, fine.parent_span_id.hex()) == (b"", "a" * 16)


async def test_a_collector_that_refuses_costs_nobody_anything_and_is_left_alone_after_a_while(collector):
    collector.status = 400
    edge = Breakers().get("x->otlp")
    export = OtlpExport(collector.url, "x", edge)
    for _ in range(10):
        export.export(Span(TRACE, "a" * 16, "", "GET /x", SERVER, 1000.5, 0.25, None, {}))
        await asyncio.to_thread(export._processor.force_flush)
    assert edge.state is State.OPEN
    asked = len(collector.paths)
    export.export(Span(TRACE, "a" * 16, "", "GET /x", SERVER, 1000.5, 0.25, None, {}))
    await asyncio.to_thread(export.close)
    assert len(collector.paths) == asked
