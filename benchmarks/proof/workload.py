"""A constitution of N principles and a set of M compliant policies over ten request environments, from a seed."""

import random

from acgs1.contracts.constitution import Always, Constitution, IndifferentTo, MonotoneIn, Never, Principle

ACTIONS = ("read", "write", "export", "share", "delete")
TYPES = ("Agent", "Person")
SCHEMA = """
entity Team;
entity Person in [Team] { clearance: Long, department: String, nationality: String, active: Bool };
entity Agent in [Team] { owner: Person, trust: Long, suspended: Bool, nationality: String };
entity Folder;
entity Record in [Folder] {
  owner: Person, sensitivity: Long, personal: Bool, environment: String, labels: Set<String>, residency?: String,
};
action read, write, export, share, delete appliesTo {
  principal: [Person, Agent],
  resource: [Record],
  context: { amount: Long, approved: Bool, region: String, purpose: String },
};
"""
ENVIRONMENTS = len(ACTIONS) * len(TYPES)

_OWNER = "resource.owner == principal && principal.active && context.amount <= 1000 && !resource.personal"


def _sealed(principles: int) -> str:
    rounds = (principles + len(ACTIONS) - 1) // len(ACTIONS)
    return "[" + ", ".join(f'"sealed-{number}"' for number in range(rounds)) + "]"


def constitution(principles: int) -> Constitution:
    """`principles` principles with one invariant each: mostly never, every fifth another kind."""
    made: list[Principle] = []
    for number in range(principles):
        action = ACTIONS[number % len(ACTIONS)]
        round_ = number // len(ACTIONS)
        match number % 10:
            case 3:
                # A floor that every policy set here keeps: it permits nothing by itself.
                invariant = Always(
                    actions=(action,),
                    principal="Person",
                    when=f'{_OWNER} && !resource.labels.containsAny({_sealed(principles)}) && context.purpose == "own-{round_}"',
                )
            case 6:
                invariant = IndifferentTo(actions=(action,), attributes=("principal.nationality",))
            case 8:
                invariant = MonotoneIn(actions=(action,), principal="Agent", attribute="principal.trust")
            case _:
                condition = (
                    f"context.amount > {1000 + round_} && !context.approved",
                    f'resource.personal && context.region == "zone-{round_}"',
                    f'resource.labels.contains("sealed-{round_}")',
                )[number % 3]
                invariant = Never(actions=(action,), when=condition)
        name = f"principle-{number}"
        made.append(
            Principle(
                id=name, title=name, text=name, category="benchmark", priority=number + 1, invariants=(invariant,)
            )
        )
    return Constitution(name="benchmark", schema_text=SCHEMA, principles=tuple(made))


def policies(count: int, principles: int, seed: int = 7) -> list[str]:
    """`count` policies that comply with `constitution(principles)`."""
    chosen = random.Random(seed)
    sealed = _sealed(principles)
    made = [
        '@id("owner") permit (principal is Person, action, resource) when '
        f"{{ {_OWNER} && !resource.labels.containsAny({sealed}) }};",
    ]
    for number in range(1, count):
        kind = chosen.choice(TYPES)
        action = chosen.choice(ACTIONS)
        level = chosen.randint(1, 90)
        who = (
            f"principal.trust >= {level} && !principal.suspended"
            if kind == "Agent"
            else f'principal.clearance >= {level} && principal.department == "d{chosen.randint(0, 19)}"'
        )
        what = chosen.choice(
            [
                f"resource.sensitivity <= {chosen.randint(1, 9)}",
                f'resource.environment == "env-{chosen.randint(0, 9)}"',
                f'resource in Folder::"folder-{chosen.randint(0, 9)}"',
            ]
        )
        made.append(
            f'@id("rule-{number}") permit (principal is {kind}, action == Action::"{action}", resource is Record) when '
            f"{{ {who} && {what} && context.amount <= {chosen.randint(1, 1000)} && !resource.personal "
            f"&& !resource.labels.containsAny({sealed}) }};"
        )
    return made


def changed(rules: list[str], number: int) -> list[str]:
    """The same set with one policy a little stricter."""
    index = 1 + number % (len(rules) - 1)
    edited = rules[index].replace("context.amount <=", f"context.amount > -{number + 1} && context.amount <=")
    return [*rules[:index], edited, *rules[index + 1 :]]
