"""Calls to other parts: a deadline, a breaker, retries where a repeat is harmless, the caller's trace, a service token."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import httpx
import stamina
from pydantic import BaseModel, ValidationError

from acgs1.contracts.auth import AccessToken
from acgs1.core.clock import Clock
from acgs1.core.errors import ErrorItem
from acgs1.core.ids import new_id
from acgs1.kit.breaker import CircuitBreaker, CircuitOpenError
from acgs1.kit.errors import DependencyUnavailable, IdempotencyInProgress, OutcomeUnknown, UpstreamRejected
from acgs1.kit.telemetry import OUTBOUND, request_id_var
from acgs1.kit.tracing import CLIENT, span, traceparent

Answer = TypeVar("Answer", bound=BaseModel)
Token = Callable[[], Awaitable[str]]

_ATTEMPTS = 3
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.25
_WARM_ATTEMPTS = 4
_WARM_SECONDS = 1.0
_TOKEN_SECONDS = 3.0
_CUT_OFF = frozenset({IdempotencyInProgress.code, OutcomeUnknown.code})


class _ServerFault(Exception):
    """The other side failed or did not answer: counts against its breaker."""


class _TooSlow(_ServerFault):
    """It had no answer by the deadline."""


def _tries(ends_at: float) -> AsyncIterator[AbstractContextManager[object]]:
    """Three, 50 and 200 ms apart and a little more by chance, so that callers who failed together do not come back together; none
    that could begin only after `ends_at`."""
    loop = asyncio.get_running_loop()
    return aiter(
        stamina.retry_context(
            on=lambda error: isinstance(error, _ServerFault) and loop.time() + _LONGEST_PAUSE < ends_at,
            attempts=_ATTEMPTS,
            timeout=None,  # the deadline is the call's own
            wait_initial=_FIRST_PAUSE,
            wait_exp_base=4,
            wait_jitter=_FIRST_PAUSE,
        )
    )


class PartClient:
    """Speaks to one other part. Every call ends within `deadline` seconds, retries included.

    Raises DependencyUnavailable when the part is gone, too slow or behind an open breaker; UpstreamRejected, with the part's own code and
    status, when it refuses the request.
    """

    def __init__(
        self,
        source: str,
        target: str,
        base_url: str,
        http: httpx.AsyncClient,
        breaker: CircuitBreaker,
        token: Token | None,
    ) -> None:
        self._source = source
        self._target = target
        self._base_url = base_url
        self._http = http
        self._breaker = breaker
        self._token = token

    async def warm(self) -> None:
        """Make a connection before the first call needs it; returns when there is one, or when the part does not come up soon."""
        for attempt in range(_WARM_ATTEMPTS):
            try:
                async with self._breaker, asyncio.timeout(_WARM_SECONDS):
                    await self._http.get(self._base_url + "/health/live", timeout=_WARM_SECONDS)
            except (httpx.HTTPError, TimeoutError, CircuitOpenError):
                # It may be starting: the parts of a system start together.
                await asyncio.sleep(_FIRST_PAUSE * 4**attempt)
            else:
                return

    async def get(
        self, path: str, answer: type[Answer], *, params: Mapping[str, Any] | None = None, deadline: float = 5.0
    ) -> Answer:
        return self._parse(await self._call("GET", path, params=params, deadline=deadline), answer)

    async def get_json(self, path: str, *, deadline: float = 5.0) -> dict[str, Any]:
        return (await self._call("GET", path, deadline=deadline)).json()

    async def post(
        self,
        path: str,
        body: BaseModel | str,
        answer: type[Answer],
        *,
        deadline: float = 5.0,
        idempotency_key: str | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """POST `body`, a model or JSON text. Retries are safe because every call carries an idempotency key: the one given, or one
        made here.

        `repeatable`: to do it twice costs work and changes nothing more, so that where a kill cut off the answer it is asked anew.
        """
        key = idempotency_key or new_id("idk")
        try:
            response = await self._call("POST", path, body=body, deadline=deadline, key=key)
        except UpstreamRejected as error:
            if repeatable and error.upstream_code == OutcomeUnknown.code:
                response = await self._call("POST", path, body=body, deadline=deadline, key=new_id("idk"))
            elif idempotency_key is None and error.upstream_code in _CUT_OFF:
                # About a try within this call, of which the caller knows nothing.
                raise self._gone("it was cut off before its answer", "failed") from error
            else:
                raise
        return self._parse(response, answer)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: BaseModel | str | None = None,
        deadline: float,
        key: str | None = None,
    ) -> httpx.Response:
        # INVARIANT: no timeout spans the breaker's block. Its expiry would cross the block as a cancellation, which is the caller's own
        # and never counts, and a part that hangs would never open its breaker.
        ends_at = asyncio.get_running_loop().time() + deadline
        try:
            async for attempt in _tries(ends_at):
                with attempt:
                    return await self._once(method, path, params, body, key, ends_at)
        except CircuitOpenError:
            raise self._gone("its circuit breaker is open", "rejected") from None
        except (TimeoutError, _TooSlow):
            raise self._gone(f"no answer within {deadline:g} s", "timeout") from None
        except _ServerFault as fault:
            raise self._gone(str(fault), "failed") from fault
        raise AssertionError("INVARIANT: the last try returns or raises")

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: BaseModel | str | None,
        key: str | None,
        ends_at: float,
    ) -> httpx.Response:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            async with asyncio.timeout_at(ends_at):
                headers["Authorization"] = f"Bearer {await self._token()}"
        if key is not None:
            headers["Idempotency-Key"] = key
        if request_id := request_id_var.get():
            headers["X-Request-Id"] = request_id
        content = None
        if body is not None:
            content = body if isinstance(body, str) else body.model_dump_json()
            headers["Content-Type"] = "application/json"
        if asyncio.get_running_loop().time() >= ends_at:
            raise TimeoutError  # the token took it all, which is no fault of the part
        async with self._breaker:
            with span(f"{method} {self._target}", CLIENT, {"server.part": self._target, "url.path": path}):
                response = await self._exchange(method, path, params, content, headers, ends_at)
        if response.status_code >= 400:
            OUTBOUND.labels(self._source, self._target, "refused").inc()
            raise self._refused(response)
        OUTBOUND.labels(self._source, self._target, "ok").inc()
        return response

    async def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        content: str | None,
        headers: dict[str, str],
        ends_at: float,
    ) -> httpx.Response:
        if trace := traceparent():
            headers["Traceparent"] = trace
        try:
            # httpx's own timeouts are for each read and write: an answer that drips in would outlast them all.
            async with asyncio.timeout_at(ends_at):
                response = await self._http.request(
                    method, self._base_url + path, params=params, content=content, headers=headers, timeout=None
                )
        except TimeoutError:
            raise _TooSlow from None
        except httpx.HTTPError as error:
            raise _ServerFault(f"{type(error).__name__}: {error}") from error
        if response.status_code >= 500:
            raise _ServerFault(f"it answered {response.status_code}")
        return response

    def _gone(self, why: str, outcome: str) -> DependencyUnavailable:
        OUTBOUND.labels(self._source, self._target, outcome).inc()
        return DependencyUnavailable(f"`{self._target}` is not available: {why}")

    def _refused(self, response: httpx.Response) -> UpstreamRejected:
        try:
            problem = response.json()
            items = tuple(
                ErrorItem(e["detail"], e.get("pointer"), e.get("line"), e.get("column"), e.get("parameter"))
                for e in problem.get("errors", [])
            )
            code, detail = str(problem["code"]), str(problem["detail"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            code, detail, items = "upstream_rejected", f"`{self._target}` answered {response.status_code}", ()
        return UpstreamRejected(
            detail, upstream=self._target, upstream_code=code, status=response.status_code, items=items
        )

    def _parse(self, response: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise self._gone(
                f"its answer is not a `{answer.__name__}`: {error.error_count()} errors", "failed"
            ) from error


class ServiceToken:
    """This service's own access token, by client credentials (RFC 6749, section 4.4), renewed at four fifths of its life.

    One renewal serves all who wait for it; it goes on when they stop waiting, for three seconds at most.
    """

    def __init__(
        self, service: str, secret: str, auth_url: str, http: httpx.AsyncClient, clock: Clock, breaker: CircuitBreaker
    ) -> None:
        self._service = service
        self._secret = secret
        self._url = f"{auth_url}/oauth2/token"
        self._http = http
        self._clock = clock
        self._breaker = breaker
        self._token = ""
        self._renew_at = float("-inf")
        self._ends_at = float("-inf")
        self._renewing: asyncio.Task[str] | None = None

    async def __call__(self) -> str:
        if self._clock.monotonic() < self._renew_at:
            return self._token
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name=f"token-{self._service}")
            self._renewing.add_done_callback(_retrieve)
        # Shielded: a caller with less patience must not cut it off before the breaker has heard how it ended.
        return await asyncio.shield(self._renewing)

    async def _renew(self) -> str:
        now = self._clock.monotonic()
        try:
            fresh = await self._fetch()
        except (httpx.HTTPError, TimeoutError, CircuitOpenError, _ServerFault) as error:
            # While auth is away the old token serves until it ends.
            if now < self._ends_at:
                return self._token
            raise DependencyUnavailable(f"`auth` gave no service token: {error or type(error).__name__}") from error
        self._token = fresh.access_token
        self._renew_at = now + fresh.expires_in * 0.8
        self._ends_at = now + fresh.expires_in - 5
        return self._token

    async def _fetch(self) -> AccessToken:
        async with self._breaker, asyncio.timeout(_TOKEN_SECONDS):
            response = await self._http.post(
                self._url,
                data={"grant_type": "client_credentials"},
                auth=(self._service, self._secret),
                timeout=_TOKEN_SECONDS,
            )
            if response.status_code != 200:
                raise _ServerFault(f"it answered {response.status_code}")
        return AccessToken.model_validate_json(response.content)


def _retrieve(task: asyncio.Task[str]) -> None:
    """Nobody may be waiting any more for how it ended."""
    if not task.cancelled():
        task.exception()
