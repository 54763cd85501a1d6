"""A small domain that uses every type of Cedar: agents that read, export and move money."""

from types import SimpleNamespace

import pytest

SCHEMA = """
namespace Bank {
  type Origin = { ip: ipaddr, region: String };
  entity Team;
  entity Human in [Team] = { clearance: Long, mfa: Bool };
  entity Agent in [Team] = { owner: Human, trust: Long, tools: Set<String>, limit: decimal, since?: datetime } tags String;
  entity Tier enum ["basic", "gold"];
  entity Account = { owner: Human, tier: Tier, balance: Long, frozen: Bool };
  action change;
  action pay, close in [change] appliesTo {
    principal: [Agent, Human], resource: [Account],
    context: { amount: Long, approved: Bool, origin: Origin, spend?: decimal, at: datetime, "time limit"?: duration, approver?: Human }
  };
  action look appliesTo { principal: [Agent], resource: [Account], context: {} };
}
"""

POLICIES = """
@id("agent-pays")
permit (principal is Bank::Agent, action == Bank::Action::"pay", resource is Bank::Account)
when { principal.tools.contains("pay") && context.amount <= principal.trust && resource.owner == principal.owner };

@id("human-changes")
permit (principal is Bank::Human, action in Bank::Action::"change", resource is Bank::Account)
when { resource.owner == principal && principal.mfa };

@id("team-looks")
permit (principal in Bank::Team::"ops", action == Bank::Action::"look", resource);

@id("no-frozen")
forbid (principal, action, resource is Bank::Account) when { resource.frozen };
"""

GUARDS = """
@id("G-large")
forbid (principal is Bank::Agent, action == Bank::Action::"pay", resource)
when { context.amount > 1000 && !context.approved };
"""


def uid(kind: str, name: str) -> dict[str, str]:
    return {"type": f"Bank::{kind}", "id": name}


def agent(name: str = "bot", parents: tuple[str, ...] = (), **attrs: object) -> dict[str, object]:
    values: dict[str, object] = {"owner": uid("Human", "ann"), "trust": 5000, "tools": ["pay"], "limit": "10.5"}
    return {"uid": uid("Agent", name), "attrs": values | attrs, "parents": [uid("Team", t) for t in parents]}


def account(name: str = "acc", **attrs: object) -> dict[str, object]:
    values: dict[str, object] = {
        "owner": uid("Human", "ann"),
        "tier": uid("Tier", "gold"),
        "balance": 1,
        "frozen": False,
    }
    return {"uid": uid("Account", name), "attrs": values | attrs, "parents": []}


def human(name: str = "ann", **attrs: object) -> dict[str, object]:
    return {"uid": uid("Human", name), "attrs": {"clearance": 3, "mfa": True} | attrs, "parents": []}


def context(**values: object) -> dict[str, object]:
    base: dict[str, object] = {
        "amount": 10,
        "approved": False,
        "origin": {"ip": "10.0.0.1", "region": "eu"},
        "at": "2026-01-02T03:04:05Z",
    }
    return base | values


BOT = ("Bank::Agent", "bot")
ANN = ("Bank::Human", "ann")
ACC = ("Bank::Account", "acc")


def action(name: str) -> tuple[str, str]:
    return ("Bank::Action", name)


@pytest.fixture
def bank() -> SimpleNamespace:
    return SimpleNamespace(
        schema=SCHEMA, policies=POLICIES, guards=GUARDS, uid=uid, agent=agent, account=account, human=human,
        context=context, action=action, bot=BOT, ann=ANN, acc=ACC,
    )  # fmt: skip
