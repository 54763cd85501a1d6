"""Decisions: what is allowed, what is refused as input, and what a failure means."""

import json
import threading

import acgs1_kernel as kernel
import pytest


@pytest.fixture
def engine(bank) -> kernel.Engine:
    return kernel.Engine(bank.schema, bank.policies, bank.guards)


def pay(engine, bank, context=None, entities=None):
    entities = [bank.agent(), bank.account(), bank.human()] if entities is None else entities
    return engine.authorize(
        bank.bot, bank.action("pay"), bank.acc, bank.context() if context is None else context, entities
    )


def test_a_matching_permit_allows_and_is_the_reason(engine, bank) -> None:
    decision = pay(engine, bank)
    assert decision.allowed
    assert decision.reasons == ["agent-pays"]
    assert decision.guard == []


def test_nothing_that_matches_is_a_deny_without_reasons(engine, bank) -> None:
    decision = pay(engine, bank, bank.context(amount=6000, approved=True))
    assert (decision.allowed, decision.reasons, decision.errors) == (False, [], [])


def test_a_guard_denies_what_a_policy_permits_and_is_named(engine, bank) -> None:
    decision = pay(engine, bank, bank.context(amount=2000))
    assert (decision.allowed, decision.reasons, decision.guard) == (False, ["G-large"], ["G-large"])
    assert pay(engine, bank, bank.context(amount=2000, approved=True)).allowed


def test_a_forbid_that_is_no_guard_is_a_reason_only(engine, bank) -> None:
    decision = pay(engine, bank, entities=[bank.agent(), bank.account(frozen=True)])
    assert (decision.allowed, decision.reasons, decision.guard) == (False, ["no-frozen"], [])


def test_an_entity_that_nobody_supplied_denies_with_the_failures_named(engine, bank) -> None:
    decision = pay(engine, bank, entities=[bank.account()])
    assert not decision.allowed
    assert decision.reasons == []
    assert decision.errored == ["agent-pays"]
    assert 'Bank::Agent::"bot"' in decision.errors[0]


def test_a_failed_evaluation_denies_even_if_another_policy_permits(bank) -> None:
    overflow = """
@id("yes") permit (principal is Bank::Agent, action == Bank::Action::"pay", resource);
@id("boom") forbid (principal is Bank::Agent, action == Bank::Action::"pay", resource) when { context.amount * 9223372036854775807 > 1 };
"""
    engine = kernel.Engine(bank.schema, overflow)
    assert pay(engine, bank, bank.context(amount=0)).allowed
    decision = pay(engine, bank, bank.context(amount=2))
    assert (decision.allowed, decision.reasons, decision.errored) == (False, [], ["boom"])


def test_ancestors_across_request_and_engine_entities_are_followed(bank) -> None:
    schema = (
        "entity Org; entity Team in [Org]; entity Agent in [Team, Agent]; entity Doc;"
        "action read appliesTo { principal: Agent, resource: Doc, context: {} };"
    )
    policies = 'permit (principal in Org::"acme", action, resource);'
    team = {"uid": {"type": "Team", "id": "t"}, "parents": [{"type": "Org", "id": "acme"}]}
    bot = {"uid": {"type": "Agent", "id": "bot"}, "parents": [{"type": "Agent", "id": "mid"}]}
    mid = {"uid": {"type": "Agent", "id": "mid"}, "parents": [{"type": "Team", "id": "t"}]}
    ask = (("Agent", "bot"), ("Action", "read"), ("Doc", "d"), {})
    everything = [team, mid, bot]
    for in_engine in range(8):
        inside = [e for i, e in enumerate(everything) if in_engine >> i & 1]
        outside = [e for e in everything if e not in inside]
        engine = kernel.Engine(schema, policies, entities=json.dumps(inside))
        assert engine.authorize(*ask, outside).allowed, (inside, outside)
        if outside:
            assert not engine.authorize(*ask, outside[1:]).allowed
    loop = [
        mid,
        {**team, "parents": []},
        {"uid": {"type": "Agent", "id": "bot"}, "parents": [{"type": "Agent", "id": "bot"}]},
    ]
    with pytest.raises(kernel.EntityError, match="cycle"):
        kernel.Engine(schema, policies).authorize(*ask, loop)


def test_an_engine_entity_that_closes_a_cycle_through_the_request_is_refused() -> None:
    schema = "entity A in [A]; entity D; action read appliesTo { principal: A, resource: D, context: {} };"
    up = {"uid": {"type": "A", "id": "1"}, "parents": [{"type": "A", "id": "2"}]}
    down = {"uid": {"type": "A", "id": "2"}, "parents": [{"type": "A", "id": "1"}]}
    engine = kernel.Engine(schema, "permit (principal, action, resource);", entities=json.dumps([up]))
    with pytest.raises(kernel.EntityError, match="cycle"):
        engine.authorize(("A", "1"), ("Action", "read"), ("D", "d"), {}, [down])


def test_entities_that_attributes_and_policy_literals_name_are_found_in_the_engine() -> None:
    schema = """entity Config = { open: Bool, next: Config }; entity Agent = { boss: Agent, level: Long }; entity Doc = { of: Agent };
    action read appliesTo { principal: Agent, resource: Doc, context: { by: Agent } };"""
    policies = """permit (principal, action, resource) when {
      Config::"c".next.open && principal.boss.boss.level == 3 && resource.of.level == 1 && context.by.level == 9 };"""
    agents = {"a": ("b", 1), "b": ("c", 2), "c": ("c", 3), "x": ("x", 9)}
    base = [
        {"uid": {"type": "Agent", "id": n}, "attrs": {"boss": {"type": "Agent", "id": b}, "level": v}}
        for n, (b, v) in agents.items()
    ]
    base += [
        {"uid": {"type": "Config", "id": n}, "attrs": {"open": o, "next": {"type": "Config", "id": "d"}}}
        for n, o in (("c", False), ("d", True))
    ]
    engine = kernel.Engine(schema, policies, entities=json.dumps(base))
    doc = {"uid": {"type": "Doc", "id": "1"}, "attrs": {"of": {"type": "Agent", "id": "a"}}}
    by = {"by": {"type": "Agent", "id": "x"}}
    assert engine.authorize(("Agent", "a"), ("Action", "read"), ("Doc", "1"), by, [doc]).allowed


def test_a_request_may_repeat_an_engine_entity_but_not_redefine_it(bank) -> None:
    engine = kernel.Engine(bank.schema, bank.policies, entities=json.dumps([bank.agent(trust=1)]))
    assert not pay(engine, bank, entities=[bank.agent(trust=1), bank.account()]).allowed
    with pytest.raises(kernel.EntityError, match="redefine") as caught:
        pay(engine, bank, entities=[bank.agent(trust=5000), bank.account()])
    assert caught.value.path == 'Bank::Agent::"bot"'


def test_the_schemas_actions_may_be_listed_among_the_entities(engine, bank) -> None:
    own = {
        "uid": {"type": "Bank::Action", "id": "pay"},
        "attrs": {},
        "parents": [{"type": "Bank::Action", "id": "change"}],
    }
    assert pay(engine, bank, entities=[own, bank.agent(), bank.account()]).allowed
    with pytest.raises(kernel.EntityError, match="not in the schema"):
        pay(engine, bank, entities=[{"uid": {"type": "Bank::Action", "id": "steal"}}])


def test_every_form_of_the_same_request_gets_the_same_decision(engine, bank) -> None:
    entities, context = [bank.agent(), bank.account()], bank.context(spend="1.25")
    explicit = bank.context(
        origin={"ip": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}, "region": "eu"},
        at={"fn": "datetime", "arg": "2026-01-02T03:04:05Z"},
        spend={"__extn": {"fn": "decimal", "arg": "1.25"}},
        approver={"__entity": bank.uid("Human", "ann")},
    )
    whole = engine.authorize(bank.bot, bank.action("pay"), bank.acc, context, entities)
    assert whole.allowed
    for form in (
        (bank.bot, bank.action("pay"), bank.acc, json.dumps(context), json.dumps(entities)),
        (bank.bot, bank.action("pay"), bank.acc, json.dumps(context).encode(), json.dumps(entities).encode()),
        ('Bank::Agent::"bot"', 'Bank::Action::"pay"', 'Bank::Account::"acc"', context, entities),
        (bank.bot, bank.action("pay"), bank.acc, explicit, tuple(entities)),
        (bank.bot, bank.action("pay"), bank.acc, context, [bank.agent(tools={"pay"}), bank.account()]),
        (bank.bot, bank.action("pay"), bank.acc, context, [bank.agent(tools=frozenset({"pay"})), bank.account()]),
    ):
        assert engine.authorize(*form) == whole


def test_names_with_quotes_and_escapes_are_read_as_cedar_writes_them() -> None:
    schema = "entity A; action read appliesTo { principal: A, resource: A, context: {} };"
    engine = kernel.Engine(schema, r'permit (principal == A::"a\"b\\c", action, resource);')
    assert engine.authorize(r'A::"a\"b\\c"', ("Action", "read"), ("A", "x")).allowed
    assert engine.authorize(("A", 'a"b\\c'), ("Action", "read"), ("A", "x")).allowed
    assert not engine.authorize(("A", 'a\\"b\\\\c'), ("Action", "read"), ("A", "x")).allowed


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"amount": 1.5}, "context.amount", "float"),
        ({"amount": 1.0}, "context.amount", "float"),
        ({"amount": True}, "context.amount", "expected Long, got Bool"),
        ({"amount": "10"}, "context.amount", "expected Long, got String"),
        ({"amount": None}, "context.amount", "expected Long, got null"),
        ({"amount": 2**63}, "context.amount", "64-bit"),
        ({"approved": 1}, "context.approved", "expected Bool, got Long"),
        ({"aproved": True}, "context.aproved", "unknown attribute; the schema has `amount`, `approved`"),
        ({"origin": {"ip": "10.0.0.1"}}, "context.origin.region", "missing required attribute of type String"),
        ({"origin": {"ip": "10.0.0", "region": "eu"}}, "context.origin.ip", "not a ipaddr"),
        ({"origin": []}, "context.origin", "expected a record, got a list"),
        ({"at": "yesterday"}, "context.at", "not a datetime"),
        ({"spend": 1}, "context.spend", "expected decimal as its text"),
        ({"spend": {"__extn": {"fn": "ip", "arg": "1"}}}, "context.spend", "expected `decimal`, got `ip`"),
        ({"approver": "ann"}, "context.approver", "expected entity `Bank::Human`, got String"),
        ({"approver": {"type": "Bank::Agent", "id": "x"}}, "context.approver", "expected entity `Bank::Human`"),
        ({"approver": {"type": "Bank::Nobody", "id": "x"}}, "context.approver", "not in the schema"),
        ({"amount": object()}, "context.amount", "Python `object`"),
    ],
)
def test_a_context_that_does_not_fit_is_refused_with_the_path(engine, bank, change, path: str, words: str) -> None:
    with pytest.raises(kernel.RequestError) as caught:
        pay(engine, bank, bank.context(**change))
    assert caught.value.path == path
    assert words in str(caught.value)


def test_a_missing_context_attribute_is_named(engine, bank) -> None:
    context = bank.context()
    del context["approved"]
    with pytest.raises(kernel.RequestError) as caught:
        pay(engine, bank, context)
    assert caught.value.path == "context.approved"


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (lambda e: e["attrs"].update(tools=["a", 3]), 'Bank::Agent::"bot".tools[1]', "expected String, got Long"),
        (lambda e: e["attrs"].update(rank=1), 'Bank::Agent::"bot".rank', "unknown attribute"),
        (lambda e: e["attrs"].pop("limit"), 'Bank::Agent::"bot".limit', "missing required attribute of type decimal"),
        (
            lambda e: e.update(parents=[{"type": "Bank::Human", "id": "x"}]),
            'Bank::Agent::"bot".parents[0]',
            "the schema allows `Bank::Team`",
        ),
        (lambda e: e.update(tags={"k": 1}), 'Bank::Agent::"bot".tags.k', "expected String, got Long"),
        (lambda e: e.update(color=1), "entities[0].color", "unknown key"),
        (lambda e: e.update(parents={}), "entities[0].parents", "expected a list"),
        (lambda e: e.pop("uid"), "entities[0].uid", "missing"),
        (lambda e: e.update(uid="Bank::Agent"), "entities[0].uid", "expected an entity"),
        (lambda e: e.update(uid={"type": "Bank::Robot", "id": "x"}), "entities[0].uid", "not in the schema"),
    ],
)
def test_an_entity_that_does_not_fit_is_refused_with_the_path(engine, bank, change, path: str, words: str) -> None:
    entity = bank.agent()
    change(entity)
    with pytest.raises(kernel.EntityError) as caught:
        pay(engine, bank, entities=[entity, bank.account()])
    assert caught.value.path == path
    assert words in str(caught.value)


def test_an_id_that_an_enumerated_type_does_not_have_is_refused(engine, bank) -> None:
    with pytest.raises(kernel.EntityError, match="it has `basic`, `gold`"):
        pay(engine, bank, entities=[bank.agent(), bank.account(tier=bank.uid("Tier", "platinum"))])


def test_tags_of_a_type_without_tags_are_refused(engine, bank) -> None:
    with pytest.raises(kernel.EntityError, match="has no tags"):
        pay(engine, bank, entities=[bank.agent(), bank.account() | {"tags": {"a": "b"}}])


def test_the_same_entity_twice_is_refused(engine, bank) -> None:
    with pytest.raises(kernel.EntityError, match="given twice"):
        pay(engine, bank, entities=[bank.agent(), bank.agent()])


@pytest.mark.parametrize(
    ("principal", "action", "resource", "words"),
    [
        (("Bank::Robot", "x"), "pay", ("Bank::Account", "acc"), "`Bank::Robot` is not in the schema"),
        (("Bank::Human", "x"), "look", ("Bank::Account", "acc"), "it applies to `Bank::Agent` on `Bank::Account`"),
        (("Bank::Agent", "x"), "change", ("Bank::Account", "acc"), "is not an action of the schema that applies"),
        (("Bank::Agent", "x"), "fly", ("Bank::Account", "acc"), "is not an action of the schema"),
        ("Bank::Agent", "pay", ("Bank::Account", "acc"), "expected a pair"),
        (("Bank::Agent", 3), "pay", ("Bank::Account", "acc"), "expected a pair"),
    ],
)
def test_a_request_outside_the_schema_is_refused(engine, bank, principal, action: str, resource, words: str) -> None:
    with pytest.raises(kernel.RequestError) as caught:
        engine.authorize(principal, bank.action(action), resource, {}, [])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ['{"amount": 1, "amount": 2}', '{"origin": {"ip": "::1", "ip": "::1"}}', "{", "[]", "1", "\ud7ff", '{"a": NaN}'],
)
def test_context_json_that_is_not_one_clear_object_is_refused(engine, bank, text: str) -> None:
    with pytest.raises(kernel.RequestError):
        pay(engine, bank, text)


def test_json_deeper_than_the_limit_is_refused_in_both_forms(engine, bank) -> None:
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    for context in (json.dumps({"amount": deep}), {"amount": deep}):
        with pytest.raises(kernel.RequestError):
            pay(engine, bank, context)


def test_json_over_the_limit_is_refused_with_the_limit(engine, bank) -> None:
    with pytest.raises(kernel.EntityError, match="the limit is 4194304"):
        pay(engine, bank, entities=b" " * ((4 << 20) + 1))


def test_guards_must_forbid_and_have_ids_of_their_own(bank) -> None:
    with pytest.raises(kernel.CedarValidationError, match="must be a `forbid`") as caught:
        kernel.Engine(bank.schema, bank.policies, '\n@id("g") permit (principal, action, resource);')
    assert (caught.value.diagnostics[0].source, caught.value.diagnostics[0].line) == ("guards", 2)
    with pytest.raises(kernel.CedarValidationError, match="ids of guards and policies must differ"):
        kernel.Engine(bank.schema, bank.policies, '@id("no-frozen") forbid (principal, action, resource);')


def test_policies_and_guards_are_validated_strictly_before_anything_is_decided(bank) -> None:
    with pytest.raises(kernel.CedarValidationError):
        kernel.Engine(bank.schema, "permit (principal, action, resource) when { principal.nope };")
    with pytest.raises(kernel.CedarValidationError) as caught:
        kernel.Engine(bank.schema, "", "forbid (principal, action, resource) when { principal.nope };")
    assert caught.value.diagnostics[0].source == "guards"


def test_an_engine_without_policies_denies(bank) -> None:
    engine = kernel.Engine(bank.schema, "")
    assert len(engine) == 0
    assert not pay(engine, bank).allowed


def test_actions_and_size_are_listed(engine) -> None:
    assert len(engine) == 5
    assert engine.actions() == ['Bank::Action::"close"', 'Bank::Action::"look"', 'Bank::Action::"pay"']


def test_results_cannot_be_changed(engine, bank) -> None:
    decision = pay(engine, bank)
    with pytest.raises(AttributeError):
        decision.allowed = False
    assert decision.to_dict()["reasons"] == ["agent-pays"]


def test_threads_share_an_engine_and_get_their_own_answers(engine, bank) -> None:
    wrong: list[int] = []

    def work(offset: int) -> None:
        amounts = range(offset, 2000, 7)
        wrong.extend(a for a in amounts if pay(engine, bank, bank.context(amount=a)).allowed != (a <= 1000))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ten_thousand_decisions_do_not_grow_the_process(engine, bank) -> None:
    def resident_kib() -> int:
        with open("/proc/self/status") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    for _ in range(2000):
        pay(engine, bank)
    before = resident_kib()
    for _ in range(10_000):
        pay(engine, bank)
    assert resident_kib() - before < 4096
