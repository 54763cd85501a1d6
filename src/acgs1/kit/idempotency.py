"""`Idempotency-Key` on POST: the first answer is kept and given again to a repeated request (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import IntegrityError

from acgs1.core.clock import Clock
from acgs1.kit.access import caller
from acgs1.kit.db import Database, Instant, metadata
from acgs1.kit.errors import IdempotencyInProgress, IdempotencyMismatch, InvalidRequest

_KEPT = timedelta(hours=24)
# After this long without an answer the first request is taken for dead (its process was killed) and a repeat may run.
_ABANDONED = timedelta(seconds=60)

IDEMPOTENCY = sa.Table(
    "idempotency",
    metadata(),
    sa.Column("caller", sa.String(80), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("status", sa.Integer(), nullable=True),
    sa.Column("body", sa.LargeBinary(), nullable=True),
)


class IdempotencyRecords:
    """What was asked under which key, and what was answered. Kept for 24 hours per caller and key."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, caller_id: str, key: str, digest: str) -> tuple[int, bytes] | None:
        """Claim the key, or return the (status, body) already given for it.

        Raises IdempotencyMismatch when the key stands for another request, IdempotencyInProgress while the first one runs.
        """
        now = self._clock.now()
        row_is = (IDEMPOTENCY.c.caller == caller_id) & (IDEMPOTENCY.c.key == key)
        async with self._database.transaction() as session:
            await session.execute(IDEMPOTENCY.delete().where(IDEMPOTENCY.c.created_at < now - _KEPT))
            row = (await session.execute(sa.select(IDEMPOTENCY).where(row_is))).one_or_none()
            if row is None:
                try:
                    await session.execute(
                        IDEMPOTENCY.insert().values(caller=caller_id, key=key, request_digest=digest, created_at=now)
                    )
                except IntegrityError:
                    raise IdempotencyInProgress("try again when it has been answered") from None
                return None
            if row.request_digest != digest:
                raise IdempotencyMismatch(f"`{key}` belongs to another request; use a fresh key for this one")
            if row.status is not None:
                return row.status, row.body
            if now - row.created_at < _ABANDONED:
                raise IdempotencyInProgress("try again when it has been answered")
            await session.execute(IDEMPOTENCY.update().where(row_is).values(created_at=now))
            return None

    async def finish(self, caller_id: str, key: str, status: int, body: bytes) -> None:
        """Keep a successful answer; forget the claim of a failed one, so that it may be tried again."""
        row_is = (IDEMPOTENCY.c.caller == caller_id) & (IDEMPOTENCY.c.key == key)
        async with self._database.transaction() as session:
            if status < 400:
                await session.execute(IDEMPOTENCY.update().where(row_is).values(status=status, body=body))
            else:
                await session.execute(IDEMPOTENCY.delete().where(row_is))


class IdempotentRoute(APIRoute):
    """A route whose POST honours `Idempotency-Key`; other methods are idempotent by themselves."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return handle

        async def once(request: Request) -> Response:
            key = request.headers.get("Idempotency-Key")
            # A public endpoint has no caller whose answer could be kept: its tokens are nobody else's to be given again.
            if key is None or "acgs_identity" not in request.scope:
                return await handle(request)
            if not 1 <= len(key) <= 128 or not key.isprintable():
                raise InvalidRequest("`Idempotency-Key` holds 1 to 128 printable characters")
            caller_id = (await caller(request)).id
            records: IdempotencyRecords = request.app.state.platform.idempotency
            digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
            digest.update(await request.body())
            if kept := await records.begin(caller_id, key, digest.hexdigest()):
                status, body = kept
                return Response(body, status, {"Idempotency-Replayed": "true"}, media_type="application/json")
            status, body = 500, b""
            try:
                response = await handle(request)
                status, body = response.status_code, bytes(response.body)
                return response
            finally:
                await records.finish(caller_id, key, status, body)

        return once
