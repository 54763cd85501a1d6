"""`Idempotency-Key` on POST: the first answer is kept and given again to a repeated request (draft-ietf-httpapi-idempotency-key-header)."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.kit.access import caller
from acgs1.kit.db import RECORDED, Database, Instant, joined, metadata
from acgs1.kit.errors import (
    IdempotencyInProgress,
    IdempotencyMismatch,
    InvalidRequest,
    OutcomeUnknown,
    SecretGivenOnce,
)

_KEPT = timedelta(hours=24)
# Without a sign of life for this long the process of the first request is taken for dead.
_ABANDONED = timedelta(seconds=60)
_SIGN_OF_LIFE_SECONDS = 15.0

_log = structlog.get_logger()

IDEMPOTENCY = sa.Table(
    "idempotency",
    metadata(),
    sa.Column("caller", sa.String(80), primary_key=True),
    sa.Column("key", sa.String(128), primary_key=True),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("created_at", Instant(), nullable=False),
    sa.Column("claim", sa.String(40), nullable=False),
    sa.Column("alive_at", Instant(), nullable=True),
    sa.Column("committed", sa.Boolean(), nullable=False),
    sa.Column("effect", sa.String(340), nullable=True),
    sa.Column("status", sa.Integer(), nullable=True),
    sa.Column("body", sa.LargeBinary(), nullable=True),
)


@dataclass(slots=True)
class Claim:
    """The right to carry out the request that a key stands for."""

    id: str
    caller: str
    key: str
    over: bool = False
    """Answered: what goes on in the background is not the request any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The first answer. `body` is None where it held a secret; `effect` then says what the request brought about."""

    status: int
    body: bytes | None
    effect: str | None


class IdempotencyRecords:
    """What was asked under which key, and what was answered. Kept for 24 hours per caller and key.

    INVARIANT: of the requests with one key, at most one commits. Whoever commits marks the claim in the same transaction (see `joined`);
    that fails when the claim has passed to another. One that is marked passes on only where the endpoint finds by the key what it made.
    """

    def __init__(self, database: Database, clock: Clock, secret: str) -> None:
        """`secret` is known to every process of the service and stands in no database: what is kept of a request is keyed with it, so that
        a stolen database is nothing to try guessed bodies against (some hold passwords)."""
        self._database = database
        self._clock = clock
        self._hash_key = hmac.digest(secret.encode(), b"acgs1 idempotency fingerprint", "sha256")

    def fingerprint(self, *parts: bytes) -> str:
        """What tells requests apart: HMAC-SHA256 over `parts`."""
        return hmac.new(self._hash_key, b"\n".join(parts), hashlib.sha256).hexdigest()

    async def begin(self, caller_id: str, key: str, digest: str, *, found_by_key: bool = False) -> Claim | Kept:
        """Claim the key, or return what has been answered already. With `found_by_key` also a claim that has taken effect passes on.

        Raises IdempotencyMismatch when the key stands for another request, IdempotencyInProgress while the first one runs, and
        OutcomeUnknown when that took effect and was cut off before its answer.
        """
        now = self._clock.now()
        claim = Claim(new_id("clm"), caller_id, key)
        row_is = (IDEMPOTENCY.c.caller == caller_id) & (IDEMPOTENCY.c.key == key)
        async with self._database.transaction() as session:
            await session.execute(IDEMPOTENCY.delete().where(IDEMPOTENCY.c.created_at < now - _KEPT))
            row = (await session.execute(sa.select(IDEMPOTENCY).where(row_is))).one_or_none()
            if row is None:
                new = {"caller": caller_id, "key": key, "request_digest": digest, "created_at": now}
                try:
                    await session.execute(
                        IDEMPOTENCY.insert().values(**new, claim=claim.id, alive_at=now, committed=False)
                    )
                except IntegrityError:
                    raise IdempotencyInProgress("try again when it has been answered") from None
                return claim
            if row.request_digest != digest:
                raise IdempotencyMismatch(f"`{key}` belongs to another request; use a fresh key for this one")
            if row.status is not None:
                return Kept(row.status, row.body, row.effect)
            if row.alive_at is not None and now - row.alive_at < _ABANDONED:
                raise IdempotencyInProgress("try again when it has been answered")
            if row.committed and not found_by_key:
                raise OutcomeUnknown(_unknown(key, row.effect))
            # The other one may only have been held still, and commit at this moment.
            free = row_is & (IDEMPOTENCY.c.claim == row.claim) & (IDEMPOTENCY.c.committed == row.committed)
            taken = await session.execute(IDEMPOTENCY.update().where(free).values(claim=claim.id, alive_at=now))
            if not _changed(taken):
                raise IdempotencyInProgress("try again when it has been answered")
            return claim

    async def mark(self, claim: Claim, session: AsyncSession) -> None:
        """Note in the transaction of `session` that with its commit the request takes effect.

        Raises IdempotencyInProgress when the claim has passed to a repeat of the request: this one must not commit.
        """
        if claim.over:
            return
        effect: str | None = session.info.get(RECORDED)
        values = {"committed": True} | ({"effect": effect} if effect else {})
        marked = await session.execute(IDEMPOTENCY.update().where(_is(claim)).values(**values))
        if not _changed(marked):
            raise IdempotencyInProgress("it was taken for dead, and a repeat of it is carried out in its stead")

    async def renew(self, claim: Claim) -> None:
        """Show that the request is still being carried out."""
        async with self._database.transaction() as session:
            await session.execute(IDEMPOTENCY.update().where(_is(claim)).values(alive_at=self._clock.now()))

    async def finish(self, claim: Claim, status: int, body: bytes | None) -> None:
        """Keep a successful answer (`body` None: only that there was one).

        A refusal frees the key, so that the request may be tried again. So does a failure (500 and above), unless the request had taken
        effect by then: that stays on record, and a repeat is told so.
        """
        claim.over = True
        async with self._database.transaction() as session:
            if status < 400:
                await session.execute(IDEMPOTENCY.update().where(_is(claim)).values(status=status, body=body))
                return
            failed = status >= 500
            free = _is(claim) & ~IDEMPOTENCY.c.committed if failed else _is(claim)
            await session.execute(IDEMPOTENCY.delete().where(free))
            if failed:
                await session.execute(IDEMPOTENCY.update().where(_is(claim)).values(alive_at=None))


def _is(claim: Claim) -> sa.ColumnElement[bool]:
    table = IDEMPOTENCY.c
    return (table.caller == claim.caller) & (table.key == claim.key) & (table.claim == claim.id)


def _changed(result: Any) -> bool:
    return result.rowcount == 1


def _unknown(key: str, effect: str | None) -> str:
    kind, _, subject = (effect or "").partition(" ")
    what = f"`{kind}` of `{subject}` is on record" if effect else "the service's database has changed"
    return (
        f"the first request with `{key}` was cut off: {what}. Read how far it came; a fresh key would ask for it anew"
    )


class IdempotentRoute(APIRoute):
    """A route whose POST honours `Idempotency-Key`; other methods are idempotent by themselves."""

    keeps_answer = True
    found_by_key = False

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
            asked = f"{request.method} {request.url.path}?{request.url.query}".encode()
            digest = records.fingerprint(asked, await request.body())
            begun = await records.begin(caller_id, key, digest, found_by_key=self.found_by_key)
            if isinstance(begun, Kept):
                return self._again(key, begun)
            return await self._carry_out(records, begun, handle, request)

        return once

    def _again(self, key: str, kept: Kept) -> Response:
        if kept.body is None:
            kind, _, subject = (kept.effect or "request unnamed").partition(" ")
            raise SecretGivenOnce(
                f"`{kind}` of `{subject}` took effect under `{key}`; its secret was in the first answer only. Ask for a new secret"
            )
        return Response(kept.body, kept.status, {"Idempotency-Replayed": "true"}, media_type="application/json")

    async def _carry_out(
        self, records: IdempotencyRecords, claim: Claim, handle: Callable[[Request], Any], request: Request
    ) -> Response:
        status, body = 500, b""
        try:
            async with _carried_out(records, claim):
                response: Response = await handle(request)
            status, body = response.status_code, bytes(response.body)
        except DomainError as error:
            status = request.app.state.status_of(error)
            raise
        else:
            return response
        finally:
            try:
                await records.finish(claim, status, body if self.keeps_answer else None)
            except DomainError as error:
                # The caller gets the answer all the same; a repeat will be told that it is not known.
                _log.warning("idempotency_not_kept", code=error.code)


class SecretRoute(IdempotentRoute):
    """One whose answer holds a secret, which is given once: a repeat brings about nothing and is told that the first took effect."""

    keeps_answer = False


class FoundByKeyRoute(IdempotentRoute):
    """One whose use case keeps the key with what it makes: where the answer was cut off, a repeat finds that and answers."""

    found_by_key = True


@asynccontextmanager
async def _carried_out(records: IdempotencyRecords, claim: Claim) -> AsyncGenerator[None]:
    """The claim is committed with the change that is made within, and is kept alive meanwhile."""
    loop = asyncio.get_running_loop()
    signs: set[asyncio.Task[None]] = set()

    async def live() -> None:
        while True:
            try:
                await records.renew(claim)
            except DomainError as error:
                _log.warning("idempotency_not_renewed", code=error.code)
            await asyncio.sleep(_SIGN_OF_LIFE_SECONDS)

    # Nearly every request is answered long before.
    timer = loop.call_later(_SIGN_OF_LIFE_SECONDS, lambda: signs.add(loop.create_task(live())))
    token = joined.set(lambda session: records.mark(claim, session))
    try:
        yield
    finally:
        joined.reset(token)
        timer.cancel()
        for task in signs:
            task.cancel()
        await asyncio.gather(*signs, return_exceptions=True)
