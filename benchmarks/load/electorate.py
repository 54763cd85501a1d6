"""More voters for a system that the load has started itself: the example has three, and each has one vote on a proposal.

The register changes by vote alone, so this takes votes: one that gives a founding member enough weight to decide the others, then one per
new member. A running system's register is never changed.
"""

import asyncio
import json
import secrets
from typing import Any, Final

import httpx

from acgs1.contracts.auth import Role, User
from acgs1.contracts.policy_governance import Ballot, Proposal
from acgs1.kit.home import Home, write_private_json
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.api import Api
from acgs1.runtime.notes import read_notes

MEMBERS: Final = 20
"""Voting members of a system of the load's own."""
_DECIDING_WEIGHT: Final = 1000
_WINDOW_SECONDS: Final = 3600
_MOST_FINALIZATIONS: Final = 10


class NotEnlarged(Exception):
    """The votes on new members did not come out; the message says which."""


async def enlarge(settings: PlatformSettings) -> None:
    """Have MEMBERS members on the freshly governed system; the new ones' passwords are kept in the notes of the load (0600).

    Raises NotEnlarged.
    """
    home = Home(settings.home)
    people = read_notes(home).people
    new = {f"load-member-{number:02d}": secrets.token_urlsafe(18) for number in range(MEMBERS - 3)}
    async with httpx.AsyncClient(timeout=60.0, trust_env=False) as http:
        public = Api(http, settings)
        admin = await public.sign_in("admin", home.admin_password.read_text().strip())
        ines, jonas = [await public.sign_in(name, people[name].password) for name in ("ines", "jonas")]

        async def made(name: str, password: str) -> str:
            body = {"username": name, "password": password, "roles": [Role.MEMBER]}
            return (await admin.post("auth", "/api/v1/users", body, User)).id

        async def change(voters: list[Api], **what: Any) -> None:
            body = {"title": "More voters for a load test", "voting_seconds": _WINDOW_SECONDS, **what}
            proposal = await ines.post("policy_governance", "/api/v1/proposals/memberships", body, Proposal)
            path = f"/api/v1/proposals/{proposal.id}"
            for voter in voters:
                await voter.post("policy_governance", f"{path}/ballots", {"choice": "for"}, Ballot)
            done = proposal
            for _ in range(_MOST_FINALIZATIONS):
                # Safe to repeat: a busy ledger may have accepted the change and not carried it out yet.
                done = await ines.post("policy_governance", f"{path}/finalization", {}, Proposal)
                if done.status == "enacted":
                    return
            raise NotEnlarged(f"the member register was not changed: proposal `{done.id}` is `{done.status}`")

        ids = await asyncio.gather(*(made(*pair) for pair in new.items()))
        await change([ines, jonas], action="set_weight", user_id=people["ines"].id, weight=_DECIDING_WEIGHT)
        for user_id in ids:
            await change([ines], action="register", user_id=user_id, weight=1)
    notes = home.run / "load.json"
    kept: dict[str, Any] = json.loads(notes.read_text()) if notes.exists() else {}
    write_private_json(notes, {**kept, "members": new})
