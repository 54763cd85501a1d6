"""The public API as the first run and the command line use it: one client per caller, answers as contract types."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from acgs1.contracts.auth import AccessToken
from acgs1.contracts.common import Problem
from acgs1.kit.settings import PlatformSettings

Answer = TypeVar("Answer", bound=BaseModel)


class ApiProblem(Exception):
    """A service answered with a problem document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code} ({problem.status}): {problem.detail}")
        self.problem = problem


class Api:
    """Calls to any service, on behalf of whoever `token` speaks for."""

    def __init__(self, http: httpx.AsyncClient, settings: PlatformSettings, token: str | None = None) -> None:
        self._http = http
        self._settings = settings
        self._token = token

    def acting_as(self, token: str) -> "Api":
        """The same, for another caller."""
        return Api(self._http, self._settings, token)

    async def sign_in(self, name: str, password: str) -> "Api":
        """The same, for the person with this password."""
        credentials = {"username": name, "password": password}
        token = await self.post("auth", "/api/v1/sessions", credentials, AccessToken)
        return self.acting_as(token.access_token)

    async def get(self, part: str, path: str, answer: type[Answer], **params: Any) -> Answer:
        return answer.model_validate_json((await self.call("GET", part, path, params=params)).content)

    async def find(self, part: str, path: str, answer: type[Answer]) -> Answer | None:
        """The same, None where there is nothing (404)."""
        try:
            return await self.get(part, path, answer)
        except ApiProblem as problem:
            if problem.problem.status != 404:
                raise
            return None

    async def post(
        self, part: str, path: str, body: BaseModel | dict[str, Any], answer: type[Answer], **params: Any
    ) -> Answer:
        return answer.model_validate_json((await self.call("POST", part, path, body=body, params=params)).content)

    async def call(
        self,
        method: str,
        part: str,
        path: str,
        *,
        body: BaseModel | dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
    ) -> httpx.Response:
        """The response of a call that succeeded; raises ApiProblem for one that did not."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        content = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
        url = self._settings.url(part) + path
        response = await self._http.request(method, url, json=content, params=params, headers=headers)
        if response.status_code >= 400:
            raise ApiProblem(Problem.model_validate_json(response.content))
        return response
