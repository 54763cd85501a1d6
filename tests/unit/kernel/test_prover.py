"""Proofs: verdicts that are known, counterexamples that replay, and what must never count as a pass."""

import json
import threading

import acgs1_kernel as kernel
import pytest

PAY = ("Bank::Agent", 'Bank::Action::"pay"', "Bank::Account")
LOOK = ("Bank::Agent", 'Bank::Action::"look"', "Bank::Account")


@pytest.fixture(scope="module")
def prover() -> kernel.Prover:
    from pathlib import Path

    text = (Path(__file__).parent / "conftest.py").read_text().split('SCHEMA = """')[1].split('"""')[0]
    return kernel.Prover(text, solver_timeout_ms=10_000)


def ceiling(condition: str) -> str:
    """Everything except what the condition names, for agents that pay."""
    scope = 'principal is Bank::Agent && action == Bank::Action::"pay"'
    return f"permit (principal, action, resource) unless {{ {scope} && {condition} }};"


def permit(condition: str, name: str = "p") -> str:
    scope = 'principal is Bank::Agent, action == Bank::Action::"pay", resource is Bank::Account'
    return f'@id("{name}") permit ({scope}) when {{ {condition} }};'


def forbid(condition: str, name: str = "f") -> str:
    return permit(condition, name).replace("permit", "forbid", 1)


def test_a_policy_set_under_its_ceiling_is_proved_in_every_environment(prover, bank) -> None:
    results = prover.check("implies", bank.policies, ceiling("context.amount > principal.trust"))
    assert [r.env for r in results] == prover.envs
    assert {r.verdict for r in results} == {"proved"}


def test_a_breach_is_refuted_with_a_request_that_the_engine_allows_too(prover, bank) -> None:
    limit = ceiling("context.amount > 1000 && !context.approved")
    (broken,) = [r for r in prover.check("implies", bank.policies, limit) if r.verdict != "proved"]
    assert (broken.verdict, broken.env, broken.reason) == ("refuted", PAY, None)
    assert broken.replay["a"].allowed
    assert broken.replay["a"].reasons == ["agent-pays"]
    assert not broken.replay["b"].allowed
    cex = broken.counterexample
    assert json.loads(cex.context)["amount"] > 1000
    ask = (cex.principal, cex.action, cex.resource, cex.context, cex.entities)
    assert kernel.Engine(bank.schema, bank.policies).authorize(*ask).allowed
    guarded = kernel.Engine(bank.schema, bank.policies, bank.guards).authorize(*ask)
    assert (guarded.allowed, guarded.guard) == (False, ["G-large"])
    assert {r.verdict for r in prover.check("implies", bank.policies + bank.guards, limit)} == {"proved"}


@pytest.mark.parametrize(
    ("kind", "a", "b", "verdict"),
    [
        ("always_allows", permit("true"), None, "proved"),
        ("always_allows", permit("context.amount > 0"), None, "refuted"),
        ("always_denies", permit("context.amount > 5 && context.amount < 5"), None, "proved"),
        ("always_denies", permit("context.amount == 5"), None, "refuted"),
        ("implies", permit("context.amount > 5"), permit("context.amount > 4"), "proved"),
        ("implies", permit("context.amount > 4"), permit("context.amount > 5"), "refuted"),
        ("equivalent", permit("context.amount > 5"), permit("!(context.amount <= 5)"), "proved"),
        ("equivalent", permit("context.amount > 5"), permit("context.amount >= 5"), "refuted"),
        ("disjoint", permit("context.amount > 5"), permit("context.amount < 5"), "proved"),
        ("disjoint", permit("context.amount > 5"), permit("context.amount < 7"), "refuted"),
        ("never_errors", permit("context.amount > 5"), None, "proved"),
        ("never_errors", permit("context.amount + 1 > 5"), None, "refuted"),
        ("never_matches", permit("context.amount > 5 && context.amount < 5"), None, "proved"),
        ("never_matches", forbid("context.amount > 5"), None, "refuted"),
        ("always_matches", forbid("context.amount == context.amount"), None, "proved"),
        ("always_matches", forbid("context.approved"), None, "refuted"),
        ("matches_implies", permit("context.amount > 5"), forbid("context.amount > 4", "g"), "proved"),
        ("matches_implies", permit("context.amount > 4"), forbid("context.amount > 5", "g"), "refuted"),
        ("matches_disjoint", permit("context.amount > 5"), forbid("context.amount < 5", "g"), "proved"),
        ("matches_disjoint", permit("context.amount > 5"), forbid("context.amount < 9", "g"), "refuted"),
        ("matches_equivalent", permit("context.approved"), forbid("context.approved == true", "g"), "proved"),
        ("matches_equivalent", permit("context.approved"), forbid("!context.approved", "g"), "refuted"),
    ],
)
def test_each_kind_proves_what_is_true_and_refutes_what_is_not(
    prover, kind: str, a: str, b: str | None, verdict: str
) -> None:
    ids = {} if not kind.startswith("matches_") else {"policy_id": "p", "policy_id_b": "g"}
    if "matches" in kind and "g" not in str(b):
        ids = {}
    result = prover.check_one(kind, a, b, env=PAY, **ids)
    assert (result.verdict, result.reason) == (verdict, None)
    assert (result.counterexample is not None) == (verdict == "refuted")
    assert set(result.replay) == (
        {"a", "b"} if verdict == "refuted" and b else {"a"} if verdict == "refuted" else set()
    )
    quick = prover.check_one(kind, a, b, env=PAY, want_model=False, **ids)
    assert (quick.verdict, quick.counterexample) == (verdict, None)


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        ('context.origin.ip.isInRange(ip("10.1.0.0/16"))', 'context.origin.ip.isInRange(ip("10.0.0.0/8"))'),
        ('principal.limit.lessThan(decimal("1.0"))', 'principal.limit.lessThanOrEqual(decimal("1.0"))'),
        ("principal has since && context.at > principal.since", "principal has since"),
        (
            'context has "time limit" && context["time limit"] < duration("1h")',
            'context has "time limit" && context["time limit"] < duration("2h")',
        ),
        ('context.origin.region like "eu-*-1"', 'context.origin.region like "eu-*"'),
        ('principal.tools.containsAll(["a", "b"])', 'principal.tools.contains("a")'),
        ('principal.hasTag("q") && principal.getTag("q") == "on"', 'principal.hasTag("q")'),
        (
            'principal in Bank::Team::"ops" && resource.tier == Bank::Tier::"gold"',
            'resource.tier == Bank::Tier::"gold"',
        ),
        ("resource.owner.mfa && resource.owner == principal.owner", "principal.owner.mfa"),
        ("resource.owner.mfa && resource.owner == principal.owner", "resource.owner.mfa"),
    ],
)
def test_every_type_of_cedar_is_proved_one_way_and_refuted_the_other(prover, bank, stronger: str, weaker: str) -> None:
    assert prover.check_one("implies", permit(stronger), permit(weaker), env=PAY).verdict == "proved"
    back = prover.check_one("implies", permit(weaker), permit(stronger), env=PAY)
    assert (back.verdict, back.reason) == ("refuted", None)
    cex = back.counterexample
    ask = (cex.principal, cex.action, cex.resource, cex.context, cex.entities)
    assert kernel.Engine(bank.schema, permit(weaker)).authorize(*ask).allowed
    assert not kernel.Engine(bank.schema, permit(stronger)).authorize(*ask).allowed


def test_a_counterexample_with_a_date_before_1970_replays_in_the_engine(prover, bank) -> None:
    claim = permit('context.at >= datetime("1970-01-01")')
    result = prover.check_one("always_allows", claim, env=PAY)
    cex = result.counterexample
    assert result.verdict == "refuted"
    assert (
        not kernel.Engine(bank.schema, claim)
        .authorize(cex.principal, cex.action, cex.resource, cex.context, cex.entities)
        .allowed
    )


def test_assumptions_bound_what_counts(prover) -> None:
    small = ["context.amount >= 0 && context.amount <= 100"]
    cases = {
        "always_allows": (permit("context.amount < 200"), None),
        "always_denies": (permit("context.amount > 200"), None),
        "implies": (permit("context.amount < 200"), permit("context.amount < 150")),
        "equivalent": (permit("context.amount < 200"), permit("context.amount < 150")),
        "disjoint": (permit("context.amount > 50"), permit("context.amount < 50 || context.amount > 100")),
        "never_errors": (permit("context.amount * 2 > 1"), None),
        "never_matches": (permit("context.amount > 200"), None),
        "always_matches": (permit("context.amount < 200"), None),
        "matches_implies": (permit("context.amount < 200"), forbid("context.amount < 150")),
        "matches_disjoint": (permit("context.amount > 50"), forbid("context.amount < 50 || context.amount > 100")),
        "matches_equivalent": (permit("context.amount < 200"), forbid("context.amount < 150")),
    }
    assert set(cases) == set(kernel.KINDS)
    for kind, (a, b) in cases.items():
        pair = {"policy_id": "p", "policy_id_b": "f"} if kind.startswith("matches_") else {}
        bounded = prover.check_one(kind, a, b, env=PAY, assume=small, **pair)
        assert (kind, bounded.verdict, bounded.reason) == (kind, "proved", None)
        assert prover.check_one(kind, a, b, env=PAY, **pair).verdict == "refuted", kind
        still = prover.check_one(
            kind, a, b, env=PAY, assume=["context.amount > -9223372036854775807", "context.approved"], **pair
        )
        assert (kind, still.verdict, still.reason) == (kind, "refuted", None)
        assert json.loads(still.counterexample.context)["approved"] is True


def test_two_assumptions_must_both_hold(prover) -> None:
    both = ["context.amount > 5", "context.amount < 7"]
    assert prover.check_one("always_allows", permit("context.amount == 6"), env=PAY, assume=both).verdict == "proved"
    assert (
        prover.check_one("always_allows", permit("context.amount == 6"), env=PAY, assume=both[:1]).verdict == "refuted"
    )


def test_an_assumption_that_can_fail_never_makes_a_proof(prover) -> None:
    claim = permit("context.amount < 0")
    result = prover.check_one("implies", permit("true"), claim, env=PAY, assume=["context.amount + 1 < 0"])
    assert result.verdict != "proved"


@pytest.mark.parametrize(
    "text", ["true }; permit (principal, action, resource) when { true", "true // ", "", "context.amount >"]
)
def test_an_assumption_must_be_one_condition(prover, text: str) -> None:
    if text == "true // ":
        assert prover.check_one("always_allows", permit("true"), env=PAY, assume=[text]).verdict == "proved"
    else:
        with pytest.raises(kernel.CedarParseError):
            prover.check("always_allows", permit("true"), assume=[text])


def test_an_assumption_that_is_ill_typed_in_an_environment_is_unknown_there(prover) -> None:
    results = prover.check("always_denies", permit("true"), assume=["principal.trust > 3"])
    by_env = {r.env: r for r in results}
    assert by_env[PAY].verdict == "refuted"
    human = by_env[("Bank::Human", 'Bank::Action::"pay"', "Bank::Account")]
    assert human.verdict == "unknown"
    assert human.reason.startswith("unsupported: ")


def test_what_is_decided_without_a_solver_is_marked_trivial(prover) -> None:
    folded = prover.check_one("always_denies", permit("true"), env=LOOK, smtlib=True)
    assert (folded.verdict, folded.trivial, folded.smtlib, folded.smtlib_sha256) == ("proved", True, None, None)
    asked = prover.check_one("always_denies", permit("context.amount > 3"), env=PAY, smtlib=True)
    assert not asked.trivial
    assert asked.smtlib.rstrip().endswith("(check-sat)")
    assert len(asked.smtlib_sha256) == 64
    assert asked.solve_ms > 0


def test_the_recorded_script_reproduces_the_verdict(prover) -> None:
    for a, b in (
        (permit("context.amount > 5"), permit("context.amount > 4")),
        (permit("context.amount > 4"), permit("context.amount > 5")),
    ):
        result = prover.check_one("implies", a, b, env=PAY, smtlib=True)
        assert kernel.solve(result.smtlib).strip() == {"proved": "unsat", "refuted": "sat"}[result.verdict]
        assert result.smtlib == prover.check_one("implies", a, b, env=PAY, smtlib=True).smtlib


def test_z3_agrees_with_the_verdicts(prover) -> None:
    z3 = pytest.importorskip("z3", reason="the second solver is not installed")
    claims = [
        (permit('principal.tools.containsAll(["a", "b"])'), permit('principal.tools.contains("a")')),
        (permit('principal.tools.contains("a")'), permit('principal.tools.containsAll(["a", "b"])')),
        (permit('principal.tools == ["a", "b"]'), permit('principal.tools.containsAny(["b", "c"])')),
        (permit('["a", "b"].containsAll(principal.tools)'), permit('!principal.tools.contains("c")')),
        (permit('principal in Bank::Team::"ops"'), permit('principal in [Bank::Team::"ops", Bank::Team::"dev"]')),
        (permit("context.amount > 3"), permit("context.amount + 1 > 4")),
        (permit('context.origin.region like "a*"'), permit('context.origin.region like "*a"')),
    ]
    for a, b in claims:
        result = prover.check_one("implies", a, b, env=PAY, smtlib=True)
        context = z3.Context()
        answer = z3.Z3_eval_smtlib2_string(context.ref(), kernel.to_z3(result.smtlib)).strip()
        assert answer == {"proved": "unsat", "refuted": "sat"}[result.verdict], (a, b)


def test_set_operations_are_respelled_for_z3_outside_strings() -> None:
    script = (
        "(set-logic ALL)\n; (Set Int)\n(declare-const s (Set String))\n"
        '(assert (= (set.insert "a" "(Set ""x" s) (set.inter |Set | s)))\n(check-sat)'
    )
    assert kernel.to_z3(script) == (
        "(declare-const s (FiniteSet String))\n"
        '(assert (= (set.union (set.singleton "a") (set.union (set.singleton "(Set ""x") s)) (set.intersect |Set | s)))\n'
        "(check-sat)\n"
    )


@pytest.mark.parametrize("script", ["(", ")", '"', "(a))", "(" * 5000 + ")" * 5000])
def test_a_script_that_is_not_balanced_is_refused(script: str) -> None:
    with pytest.raises(kernel.ProverError):
        kernel.to_z3(script)


def test_a_time_out_is_unknown_with_its_reason(bank) -> None:
    hard = permit(
        "context.amount * resource.balance * principal.trust == 7 * resource.balance * resource.owner.clearance + 1234567891"
    )
    other = permit(
        "resource.owner.clearance * context.amount * principal.trust == 3 * resource.balance * resource.balance + 987654321"
    )
    result = kernel.Prover(bank.schema, solver_timeout_ms=20).check_one("implies", hard, other, env=PAY)
    assert (result.verdict, result.reason) == ("unknown", "timeout")
    assert result.counterexample is None


def test_arithmetic_too_deep_to_compile_is_unknown_with_the_limit(prover) -> None:
    def chain(n: int) -> str:
        return permit("context.amount" + " + context.amount" * n + " > 3")

    assert prover.check_one("always_denies", chain(8), env=PAY, want_model=False).verdict == "refuted"
    for kind in ("always_denies", "never_matches"):
        result = prover.check_one(kind, chain(13), env=PAY)
        assert (result.verdict, result.trivial) == ("unknown", False)
        assert "nested 13 deep; the limit for proofs is 12" in result.reason


def test_a_dry_run_writes_the_script_and_claims_nothing(prover) -> None:
    result = prover.check_one("always_denies", permit("context.amount > 3"), env=PAY, dry=True, smtlib=True)
    assert (result.verdict, result.reason, result.counterexample) == ("unknown", "dry run", None)
    assert result.smtlib == prover.check_one("always_denies", permit("context.amount > 3"), env=PAY, smtlib=True).smtlib


def test_policies_are_checked_each_and_in_pairs(prover) -> None:
    text = permit("context.amount > 5", "a") + permit("context.amount > 4", "b") + forbid("context.amount < 3", "c")
    singles = prover.check("never_errors", text, env=PAY)
    assert [r.policy_id for r in singles] == ["a", "b", "c"]
    shadows = {(r.policy_id, r.policy_id_b): r.verdict for r in prover.check("matches_implies", text, env=PAY)}
    assert shadows == {("a", "b"): "proved", ("b", "a"): "refuted"}
    conflicts = {(r.policy_id, r.policy_id_b): r.verdict for r in prover.check("matches_disjoint", text, env=PAY)}
    assert conflicts == {("a", "c"): "proved", ("b", "c"): "proved"}


def test_changing_one_policy_recompiles_only_where_it_can_matter(bank) -> None:
    prover = kernel.Prover(bank.schema)
    prover.check("always_denies", bank.policies)
    held = prover.cached
    prover.check("always_denies", bank.policies)
    assert prover.cached == held
    prover.check("always_denies", bank.policies.replace('Bank::Team::"ops"', 'Bank::Team::"dev"'))
    assert prover.cached == held + 1


def test_the_cache_is_bounded(bank) -> None:
    prover = kernel.Prover(bank.schema, cache_size=4)
    for i in range(20):
        prover.check_one("always_denies", permit(f"context.amount > {i}"), env=PAY, dry=True)
    assert prover.cached <= 4


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("proves", "x"), {}, "expected one of `always_allows`"),
        (("implies", permit("true")), {}, "`b` is missing"),
        (("always_denies", permit("true"), permit("true")), {}, "`b` has no meaning"),
        (("never_errors", permit("true")), {"policy_id": "zz"}, "no policy `zz`"),
        (("always_denies", permit("true")), {"env": ("A", "B", "C")}, "not a request environment"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(prover, arguments, options, words: str) -> None:
    with pytest.raises(kernel.ProverError, match=words.replace("(", r"\(")):
        prover.check(*arguments, **options)


def test_check_one_refuses_several_obligations(prover) -> None:
    with pytest.raises(kernel.ProverError, match="more than one"):
        prover.check_one("never_errors", permit("true", "a") + permit("true", "b"), env=PAY)
    with pytest.raises(kernel.ProverError, match="no policy"):
        prover.check_one("never_errors", "", env=PAY)


def test_policies_that_do_not_fit_the_schema_are_refused_not_judged(prover) -> None:
    with pytest.raises(kernel.CedarValidationError):
        prover.check("always_denies", permit("principal.nope > 3"))
    with pytest.raises(kernel.CedarParseError):
        prover.check("always_denies", "permit (principal == ?principal, action, resource);")


def test_a_text_is_judged_policy_by_policy_however_often_it_was_seen(bank) -> None:
    prover = kernel.Prover(bank.schema)
    for _ in range(2):
        assert prover.check("always_denies", permit("true", "ok"), dry=True)
        with pytest.raises(kernel.CedarValidationError) as caught:
            prover.check("always_denies", permit("true", "ok") + permit("principal.nope > 3", "bad"), dry=True)
        assert [d.policy_id for d in caught.value.diagnostics] == ["bad"]


def test_a_policy_that_never_matches_is_a_fair_question(prover) -> None:
    never = 'permit (principal is Bank::Team, action == Bank::Action::"pay", resource);'
    assert {r.verdict for r in prover.check("never_matches", never)} == {"proved"}


def test_proofs_run_in_several_threads_at_once_with_the_right_verdicts(prover) -> None:
    wrong: list[object] = []

    def work(offset: int) -> None:
        for i in range(offset, offset + 6):
            results = (
                prover.check_one(
                    "implies", permit(f"context.amount > {i + 1}"), permit(f"context.amount > {i}"), env=PAY
                ).verdict,
                prover.check_one(
                    "implies", permit(f"context.amount > {i}"), permit(f"context.amount > {i + 1}"), env=PAY
                ).verdict,
            )
            if results != ("proved", "refuted"):
                wrong.append((i, results))

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_solves_do_not_leak(prover) -> None:
    script = prover.check_one(
        "implies", permit("context.amount > 5"), permit("context.amount > 4"), env=PAY, smtlib=True
    ).smtlib

    def resident_kib() -> int:
        with open("/proc/self/status") as status:  # noqa: PTH123
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    for _ in range(60):
        kernel.solve(script)
    before = resident_kib()
    for _ in range(120):
        kernel.solve(script)
    assert resident_kib() - before < 120 * 200  # without releasing the parser and the terms, about 1 MB each


def test_a_script_the_solver_cannot_read_is_an_error() -> None:
    with pytest.raises(kernel.ProverError):
        kernel.solve("(assert (= x 1))\n(check-sat)")
    with pytest.raises(kernel.ProverError, match="NUL"):
        kernel.solve("(check-sat)\0")


def test_a_result_can_be_written_as_plain_data(prover) -> None:
    result = prover.check_one("always_denies", permit("context.amount > 3"), env=PAY)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["verdict"] == "refuted"
    assert plain["counterexample"]["principal"] == result.counterexample.principal
    assert plain["replay"]["a"]["allowed"] is True


def test_a_missing_solver_library_is_named() -> None:
    with pytest.raises(kernel.ProverError, match="both"):
        kernel.load_cvc5("/nowhere/libcvc5.so")
    core, parser = kernel.cvc5_paths()
    assert core.rsplit("/", 1)[1].startswith("libcvc5-")
    assert parser.rsplit("/", 1)[1].startswith("libcvc5parser-")
