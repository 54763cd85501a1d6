"""A workflow acts in the name of the person who started it, for as long as that person's roles allow the act.

A workflow outlives its starter's access token by days, so the service that runs it calls with its own token and names the person in
`on_behalf_of`. What the person may do is read from auth at that moment, not from what was true at the start. Endpoints opt in: those that
take a policy set along its way, none that casts a ballot.
"""

from typing import Annotated, Any, Final

from fastapi import Depends, Query, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.kit.access import caller
from acgs1.kit.errors import Forbidden
from acgs1.services.policy_governance.adapters.parts import AuthPeople
from acgs1.services.policy_governance.ports import People

DELEGATES: Final = frozenset({"governance_synthesis"})
"""The services that may act for people."""


def acting(*roles: Role) -> Any:
    """A FastAPI dependency: the caller, or the person on whose behalf a delegate calls; either must hold one of `roles`.

    Raises Forbidden when nobody of the two does, and for anybody but a delegate who names another person.
    """

    async def check(
        request: Request,
        identity: Identity = Depends(caller),
        on_behalf_of: Annotated[
            str | None, Query(max_length=80, description="the person in whose name a workflow acts")
        ] = None,
    ) -> Identity:
        acts = identity if on_behalf_of is None else await _person(_people(request), identity, on_behalf_of)
        if not set(roles) & set(acts.roles):
            names = " or ".join(f"`{role}`" for role in roles)
            raise Forbidden(f"this needs the role {names}; `{acts.name}` has {', '.join(acts.roles) or 'none'}")
        return acts

    return Depends(check)


async def _person(people: People, identity: Identity, user_id: str) -> Identity:
    if Role.SERVICE not in identity.roles or identity.name not in DELEGATES:
        raise Forbidden(f"`{identity.name}` may not act on behalf of others")
    user = await people.user(user_id)
    if user is None or not user.active:
        raise Forbidden(f"`{user_id}` is not an active account")
    return Identity(id=user.id, name=user.username, roles=user.roles)


def _people(request: Request) -> People:
    return AuthPeople(request.app.state.platform.client("auth"))
