"""A receiver of traces that refuses connections is named with the cause."""

from __future__ import annotations

import socket

import pytest

from cord_worker.operations import otlp


def test_the_cause_stands_once_and_the_sentence_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with pytest.raises(otlp.TracesRefused) as refused:
        otlp.OtlpSender(url).write([])
    message = str(refused.value)
    assert "no connection: Connection refused" in message
    assert ".." not in message
