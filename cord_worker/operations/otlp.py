"""Sends spans by OTLP over HTTP, or writes them to a file, with the packages of OpenTelemetry (the extra `trace`)."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cord_worker import __version__
from cord_worker.display_text import shown
from cord_worker.errors import ConfigError, CordError
from cord_worker.operations.tracing import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

INSTALLING = "pip install 'cord-worker[trace]'"
_TRACES_PATH = "/v1/traces"
_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http"
_IDS = ("traceId", "spanId", "parentSpanId")
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_FILE_START = b'{"resourceSpans"'
"""The beginning of every file of spans."""
_MAX_CHARACTERS = 300


class TracesRefused(CordError):
    """The receiver of spans cannot be reached, or refused them."""


def check_installed() -> None:
    """Raises ConfigError if the packages of OpenTelemetry are not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"cordctl trace needs packages of OpenTelemetry that are not installed ({error.name}): {INSTALLING}"
        ) from error


def traces_url(url: str) -> str:
    """The URL that spans are posted to: `url`, with the path `/v1/traces` if it has none.

    Raises ValueError, without repeating a password, if it is not an HTTP URL.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"must be an http:// or https:// URL of a receiver of OTLP, such as http://127.0.0.1:4318 (with the "
            f"path {_TRACES_PATH}, or another one)"
        ) from None
    return urlunsplit(parts._replace(path=parts.path if parts.path.strip("/") else _TRACES_PATH))


def check_output(output: str) -> None:
    """Raises ConfigError if the file exists and holds something other than spans, which would be lost."""
    path = Path(output)
    if output == "-" or not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(len(_FILE_START))
    if start and start != _FILE_START:
        raise ConfigError(f"-o {output} holds something other than spans, which would be lost: name another file")


class OtlpSender:
    """Posts spans to a receiver. The variables OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT and _CERTIFICATE apply."""

    def __init__(self, url: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._shown_url = _CREDENTIALS.sub("//***@", url)
        self._exporter = OTLPSpanExporter(endpoint=url)

    def write(self, spans: Sequence[Span]) -> None:
        """Sends the spans. Raises TracesRefused if the receiver did not take them."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        with _captured_log() as logged:
            result = self._exporter.export([_readable_span(span) for span in spans])
        if result is not SpanExportResult.SUCCESS:
            reason = _CREDENTIALS.sub("//***@", logged[-1]).rstrip(". ") if logged else "no reason was given"
            refusal = _refusal(self._shown_url)
            if refusal is not None:
                reason = f"{refusal}; {reason}"
            raise TracesRefused(
                f"{self._shown_url} did not take the spans: {shown(reason, _MAX_CHARACTERS)}. Start the receiver, or "
                "correct --otlp, and write them again: their ids are the same"
            )

    def close(self) -> None:
        """Ends the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


def _refusal(url: str) -> str | None:
    """Why no connection to the URL's host can be made; None if one can. The exporter does not log this reason."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=5):
            return None
    except OSError as error:
        return f"no connection: {error.strerror or error}"


class OtlpFile:
    """Writes spans as lines of OTLP in JSON, the format of files that collectors read."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, spans: Sequence[Span]) -> None:
        """Writes one line with these spans."""
        from google.protobuf.json_format import MessageToDict
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        document = MessageToDict(encode_spans([_readable_span(span) for span in spans]), use_integers_for_enums=True)
        self._file.write(json.dumps(_with_hex_ids(document), sort_keys=True) + "\n")

    def close(self) -> None:
        """Flushes the file; its owner closes it."""
        self._file.flush()


@contextmanager
def _captured_log() -> Iterator[list[str]]:
    """Collects the messages that the exporter logs in the `with`, and keeps them out of other logs."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(_EXPORTER_LOGGER), Keep()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _readable_span(span: Span) -> ReadableSpan:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(trace_id: int, span_id: int) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    status = Status() if span.failure is None else Status(StatusCode.ERROR, shown(span.failure, _MAX_CHARACTERS))
    return ReadableSpan(
        shown(span.name, _MAX_CHARACTERS),
        context=context(span.trace_id, span.span_id),
        parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
        resource=Resource({"service.name": "cord-worker", "service.version": __version__}),
        attributes=dict(span.attributes),
        links=[Link(context(*linked)) for linked in span.links],
        kind=SpanKind.INTERNAL,
        status=status,
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(span.end),
        instrumentation_scope=InstrumentationScope("cord_worker", __version__),
    )


def _nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970, exact to the microsecond."""
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _with_hex_ids(value: Any) -> Any:
    """The document with ids in hexadecimal, as OTLP's JSON has them; protobuf's own JSON has Base64."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in _IDS else _with_hex_ids(inner) for key, inner in value.items()
        }
    return [_with_hex_ids(inner) for inner in value] if isinstance(value, list) else value
