"""Two independent ways to the same answer must agree, on inputs that nobody chose."""

import json

import acgs1_kernel as kernel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCHEMA = """
entity Org;
entity Team in [Org, Team];
entity Human in [Team] = { level: Long };
entity Agent in [Team] = { owner: Human, trust: Long, tools: Set<String>, note?: String, limit: decimal } tags Long;
entity Doc in [Org] = { owner: Human, pii: Bool };
entity Tool = { risk: Long };
action any;
action use in [any];
type Ctx = { n: Long, ok: Bool, by?: Human, ip: ipaddr };
action read, write in [use] appliesTo { principal: [Agent, Human], resource: [Doc], context: Ctx };
action call in [any] appliesTo { principal: [Agent], resource: [Tool], context: Ctx };
"""
LONGS = [-(2**63), -1, 0, 1, 2, 3, 2**62, 2**63 - 1]
NAMES = ["a", "b"]
STRINGS = ["", "x", "y", 'q"\\', "ä\n"]
IPS = ["10.0.0.1", "10.0.0.0/8", "192.168.0.1", "::1"]

long = st.sampled_from(LONGS)
name = st.sampled_from(NAMES)


def uid(kind: str, eid: str) -> dict[str, str]:
    return {"type": kind, "id": eid}


def quoted(kind: str, eid: str) -> str:
    return f'{kind}::"{eid}"'


# Conditions that are well-typed in every environment, because they ask for the types that they need.
agent = "principal is Agent && ({})"
doc = "resource is Doc && ({})"
leaf = st.one_of(
    st.builds("context.n {} {}".format, st.sampled_from(["<", "<=", "==", ">"]), long),
    st.builds("context.n {} {} < {}".format, st.sampled_from(["+", "-", "*"]), long, long),
    st.just("context.ok"),
    st.builds('context.ip.isInRange(ip("{}"))'.format, st.sampled_from(["10.0.0.0/8", "::/0"])),
    st.builds("(context has by && context.by.level > {})".format, long),
    st.builds(("(" + agent + ")").format, st.builds("principal.trust > {}".format, long)),
    st.builds(("(" + agent + ")").format, st.builds('principal.tools.contains("{}")'.format, st.sampled_from(["x", "y"]))),
    st.builds(("(" + agent + ")").format, st.builds('principal has note && principal.note like "{}*"'.format, st.sampled_from(["x", ""]))),
    st.builds(("(" + agent + ")").format, st.just('principal.limit.lessThan(decimal("1.5"))')),
    st.builds(("(" + agent + ")").format, st.just('principal.hasTag("t") && principal.getTag("t") > 0')),
    st.builds(("(" + agent + ")").format, st.just("principal.owner.level > 1")),
    st.builds(("(" + agent + ")").format, st.builds('principal.owner in Team::"{}"'.format, name)),
    st.builds(("(" + doc + ")").format, st.just("resource.pii")),
    st.builds(("(" + doc + ")").format, st.just('resource.owner == Human::"a"')),
    st.builds('principal in Team::"{}"'.format, name),
    st.builds('principal in Org::"{}"'.format, name),
    st.builds('action in Action::"{}"'.format, st.sampled_from(["any", "use"])),
)  # fmt: skip
condition = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("(if {} then {} else {})".format, inner, inner, inner),
    ),
    max_leaves=4,
)
principal_scope = st.one_of(
    st.just("principal"),
    st.builds("principal is {}".format, st.sampled_from(["Agent", "Human"])),
    st.builds('principal == Agent::"{}"'.format, name),
    st.builds('principal in Team::"{}"'.format, name),
    st.builds('principal is Agent in Org::"{}"'.format, name),
)
action_scope = st.sampled_from([
    "action", 'action == Action::"read"', 'action == Action::"call"', 'action in Action::"any"', 'action in Action::"use"',
    'action in [Action::"write", Action::"call"]',
])  # fmt: skip
resource_scope = st.one_of(
    st.just("resource"),
    st.just("resource is Doc"),
    st.just("resource is Tool"),
    st.builds('resource == Doc::"{}"'.format, name),
    st.builds('resource in Org::"{}"'.format, name),
)
policy = st.builds(
    "{} ({}, {}, {}) when {{ {} }};".format,
    st.sampled_from(["permit", "permit", "forbid"]), principal_scope, action_scope, resource_scope, condition,
)  # fmt: skip


def fits(text: str) -> bool:
    try:
        kernel.validate_policies(SCHEMA, text)
    except kernel.CedarValidationError:
        return False
    return True


policies = st.lists(policy, max_size=6).map(lambda ps: [p for p in ps if fits(p)])
parents = st.lists(st.sampled_from([uid("Team", "a"), uid("Team", "b")]), max_size=2, unique_by=lambda u: u["id"])
human_attrs = st.builds(lambda v: {"level": v}, long)
agent_attrs = st.fixed_dictionaries(
    {
        "owner": name.map(lambda n: uid("Human", n)),
        "trust": long,
        "tools": st.lists(st.sampled_from(STRINGS), max_size=3),
        "limit": st.sampled_from(["1.0", "1.5", "-922337203685477.5808"]),
    },
    optional={"note": st.sampled_from(STRINGS)},
)
entities = st.fixed_dictionaries({}, optional={
    ("Human", "a"): st.tuples(human_attrs, parents), ("Human", "b"): st.tuples(human_attrs, parents),
    ("Agent", "a"): st.tuples(agent_attrs, parents), ("Agent", "b"): st.tuples(agent_attrs, parents),
    ("Doc", "a"): st.tuples(st.builds(lambda n, p: {"owner": uid("Human", n), "pii": p}, name, st.booleans()),
                            st.lists(st.just(uid("Org", "a")), max_size=1)),
    ("Tool", "a"): st.tuples(st.builds(lambda v: {"risk": v}, long), st.just([])),
    ("Team", "a"): st.tuples(st.just({}), st.sampled_from([[], [uid("Org", "a")], [uid("Org", "a"), uid("Team", "b")]])),
    ("Team", "b"): st.tuples(st.just({}), st.lists(st.just(uid("Org", "b")), max_size=1)),
})  # fmt: skip
contexts = st.fixed_dictionaries(
    {"n": long, "ok": st.booleans(), "ip": st.sampled_from(IPS)}, optional={"by": name.map(lambda n: uid("Human", n))}
)
requests = st.sampled_from([
    (p, a, r)
    for p in [("Agent", "a"), ("Agent", "b"), ("Human", "a")]
    for a, r in [("read", ("Doc", "a")), ("write", ("Doc", "b")), ("call", ("Tool", "a"))]
    if not (p[0] == "Human" and a == "call")
])  # fmt: skip
tags = st.dictionaries(st.just("t"), long, max_size=1)


def listed(
    found: dict[tuple[str, str], tuple[dict[str, object], list[object]]], tag: dict[str, int]
) -> list[dict[str, object]]:
    return [
        {"uid": uid(*key), "attrs": attrs, "parents": up} | ({"tags": tag} if key[0] == "Agent" else {})
        for key, (attrs, up) in found.items()
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=policies, found=entities, tag=tags, context=contexts, ask=requests, inside=st.integers(0, 255))
def test_the_sliced_engine_agrees_with_cedars_own_authorizer(texts, found, tag, context, ask, inside) -> None:
    """Whatever of the entities is in the engine and whatever comes with the request, as objects or as JSON."""
    principal, action, resource = ask
    everything = listed(found, tag)
    mine = [e for i, e in enumerate(everything) if inside >> i & 1]
    brought = [e for i, e in enumerate(everything) if not inside >> i & 1]
    engine = kernel.Engine(SCHEMA, "\n".join(texts), entities=json.dumps(mine))
    uids = (principal, ("Action", action), resource)
    expected = engine.authorize_reference(*uids, json.dumps(context), json.dumps(brought))
    assert engine.authorize(*uids, context, brought) == expected
    assert engine.authorize(*uids, json.dumps(context).encode(), json.dumps(brought).encode()) == expected
    if not brought:
        assert engine.authorize(*uids, context) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=policies, ceiling=policy.filter(fits), found=entities, tag=tags, context=contexts, ask=requests)
def test_no_request_contradicts_a_proof_and_every_counterexample_is_one(
    texts, ceiling, found, tag, context, ask
) -> None:
    principal, action, resource = ask
    text = "\n".join(texts)
    prover = PROVER
    result = prover.check_one("implies", text, ceiling, env=(principal[0], f'Action::"{action}"', resource[0]))
    upper, lower = kernel.Engine(SCHEMA, ceiling), kernel.Engine(SCHEMA, text)
    assert result.verdict in {"proved", "refuted"}, result.reason
    if result.verdict == "refuted":
        cex = result.counterexample
        again = (cex.principal, cex.action, cex.resource, cex.context, cex.entities)
        # Cedar's own decision skips a policy that fails; the engine denies.
        for engine, replay in ((lower, result.replay["a"]), (upper, result.replay["b"])):
            assert engine.authorize(*again).allowed == (replay.allowed and not replay.errors)
        assert (result.replay["a"].allowed, result.replay["b"].allowed) == (True, False)
    else:
        given_entities = json.dumps(listed(found, tag))
        uids = (principal, ("Action", action), resource)
        asked = (*uids, json.dumps(context), given_entities)
        below, above = lower.authorize_reference(*asked), upper.authorize_reference(*asked)
        missing = any("does not exist" in e for e in below.errors + above.errors)
        # The symbolic entity store has every entity that is referred to.
        if below.allowed and not missing:
            assert above.allowed or above.errors


PROVER = kernel.Prover(SCHEMA, solver_timeout_ms=20_000)
