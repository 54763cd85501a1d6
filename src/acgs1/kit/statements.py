"""The statements of a database engine as spans."""

import time
from typing import Any

from sqlalchemy import event

from acgs1.kit.tracing import CLIENT, Span, TraceContext, new_span_id, recorder, trace_var


def watch_engine(engine: Any) -> None:
    """Record the statements of a SQLAlchemy engine (the synchronous one inside an asynchronous) as client spans."""

    def before(_: Any, __: Any, ___: str, ____: Any, context: Any, _____: bool) -> None:
        trace = trace_var.get()
        if trace is not None and trace.sampled and context is not None:
            context.acgs_trace = (trace, time.perf_counter())

    def finish(context: Any, statement: str, error: str | None) -> None:
        begun = getattr(context, "acgs_trace", None)
        if begun is not None:
            context.acgs_trace = None
            trace, started = begun
            _record_statement(trace, engine.dialect.name, statement, time.perf_counter() - started, error)

    def after(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
        finish(context, statement, None)

    def failed(context: Any) -> None:
        finish(context.execution_context, context.statement or "", type(context.original_exception).__name__)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


def _record_statement(trace: TraceContext, system: str, statement: str, seconds: float, error: str | None) -> None:
    verb = statement.lstrip().partition(" ")[0].upper()
    attributes: dict[str, str | int | float] = {
        "db.system.name": system,
        # Parameters are bound, never written into the text.
        "db.query.text": " ".join(statement.split())[:300],
    }
    recorder().record(
        Span(
            trace.trace_id, new_span_id(), trace.span_id, f"{system} {verb}", CLIENT,
            time.time() - seconds, seconds, error, attributes,
        )
    )  # fmt: skip
