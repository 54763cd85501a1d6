"""A workflow's service acts in a person's name: only that service, only with the roles the person has now, never to vote."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Request

from acgs1.contracts.auth import Identity, Role, User
from acgs1.kit.errors import Forbidden, UpstreamRejected
from acgs1.services.policy_governance.acting import acting
from apps import build

SERVICE = Identity(id="governance_synthesis", name="governance_synthesis", roles=(Role.SERVICE,))


class Auth:
    """Auth over the wire."""

    def __init__(self, *users: User) -> None:
        self.users = {user.id: user for user in users}

    async def get(self, path: str, answer: type[User]) -> User:
        user = self.users.get(path.rpartition("/")[2])
        if user is None:
            raise UpstreamRejected("no", upstream="auth", upstream_code="account_not_found", status=404)
        return user


def user(user_id: str, *roles: Role, active: bool = True) -> User:
    return User(id=user_id, username=user_id[4:], roles=roles, active=active, created_at=datetime.now(UTC))


class Room:
    """An endpoint for members, and whoever calls it."""

    def __init__(self) -> None:
        self.caller = SERVICE
        self.app = FastAPI()
        auth = Auth(
            user("usr_ines", Role.MEMBER),
            user("usr_olu", Role.OPERATOR),
            user("usr_gone", Role.MEMBER, active=False),
        )
        self.app.state.platform = SimpleNamespace(client=lambda part: {"auth": auth}[part])

        @self.app.middleware("http")
        async def authenticate(request: Request, call_next: Any) -> Any:
            request.scope["acgs_identity"] = self.caller
            return await call_next(request)

        @self.app.exception_handler(Forbidden)
        async def refuse(_: Request, error: Forbidden) -> Any:
            return httpx_response(403, error.detail)

        @self.app.get("/")
        async def members_only(identity: Annotated[Identity, acting(Role.MEMBER)]) -> str:
            return identity.id

    async def ask(self, **params: str) -> tuple[int, str]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://room") as client:
            answer = await client.get("/", params=params)
        return answer.status_code, answer.json()


def httpx_response(status: int, detail: str) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse(detail, status)


@pytest.fixture
async def room() -> Room:
    return Room()


async def test_the_delegate_acts_as_the_person_with_the_persons_roles(room: Room):
    assert await room.ask(on_behalf_of="usr_ines") == (200, "usr_ines")


async def test_a_role_that_the_person_does_not_have_is_not_lent(room: Room):
    status, detail = await room.ask(on_behalf_of="usr_olu")
    assert (status, detail) == (403, "this needs the role `member`; `olu` has operator")


@pytest.mark.parametrize("who", ["usr_gone", "usr_nobody"])
async def test_nobody_acts_for_an_account_that_is_not_active(room: Room, who: str):
    assert await room.ask(on_behalf_of=who) == (403, f"`{who}` is not an active account")


async def test_the_delegate_has_no_authority_of_its_own(room: Room):
    assert (await room.ask())[0] == 403


@pytest.mark.parametrize(
    "caller",
    [
        Identity(id="integrity", name="integrity", roles=(Role.SERVICE,)),
        Identity(id="usr_admin", name="admin", roles=(Role.ADMIN, Role.MEMBER)),
        # An account named like the service is not the service.
        Identity(id="usr_x", name="governance_synthesis", roles=(Role.MEMBER,)),
    ],
    ids=lambda caller: caller.id,
)
async def test_nobody_else_acts_for_others(room: Room, caller: Identity):
    room.caller = caller
    status, detail = await room.ask(on_behalf_of="usr_ines")
    assert (status, detail) == (403, f"`{caller.name}` may not act on behalf of others")


async def test_people_call_for_themselves_as_before(room: Room):
    room.caller = Identity(id="usr_ines", name="ines", roles=(Role.MEMBER,))
    assert await room.ask() == (200, "usr_ines")
    room.caller = Identity(id="usr_olu", name="olu", roles=(Role.OPERATOR,))
    assert (await room.ask())[0] == 403


def test_only_the_steps_of_a_policys_way_can_be_done_for_others_and_no_ballot(tmp_path: Path):
    app, _ = build("policy_governance", tmp_path)
    open_to_delegates = {
        f"{method.upper()} {path}"
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
        if any(parameter["name"] == "on_behalf_of" for parameter in operation.get("parameters", []))
    }
    assert open_to_delegates == {
        "POST /api/v1/bundles",
        "POST /api/v1/proposals",
        "POST /api/v1/bundles/{bundle_hash}/activation",
    }
