"""Cedar decisions and symbolic proofs in one extension, so that both have one Cedar version.

Decisions: `Engine`. Proofs: `Prover`. Texts: `check_schema`, `parse_policies`, `validate_policies`, `format_policies` and the
JSON conversions. All objects are immutable. Functions that parse, build or prove release the GIL.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, final

CEDAR_LANG_VERSION: Final[str]
CEDAR_SDK_VERSION: Final[str]
SYMCC_VERSION: Final[str]
SOURCE_SHA256: Final[str]
"""Hash over the sources that this extension was built from; `native/source_hash.py` defines it."""
KINDS: Final[list[str]]
"""The values of `Kind`."""

Kind: TypeAlias = Literal[
    "always_allows",
    "always_denies",
    "implies",
    "equivalent",
    "disjoint",
    "never_errors",
    "never_matches",
    "always_matches",
    "matches_implies",
    "matches_disjoint",
    "matches_equivalent",
]
Uid: TypeAlias = tuple[str, str] | str
"""An entity: (type, id), or as Cedar writes it: `Type::"id"`."""
RequestEnv: TypeAlias = tuple[str, str, str]
"""A request environment: principal type, action uid, resource type."""

class KernelError(Exception):
    """Base of all errors of this package."""

class CedarParseError(KernelError):
    """A text is not Cedar. The message renders all findings."""

    diagnostics: list[Diagnostic]

class CedarValidationError(KernelError):
    """A text is Cedar but does not fit its schema, or can never match. The message renders all findings."""

    diagnostics: list[Diagnostic]

class EntityError(KernelError):
    """An entity does not fit the schema. `path` names the place, such as `Agent::"a".roles[1]`; it may be empty."""

    path: str

class RequestError(KernelError):
    """A request does not fit the schema. `path` names the place, such as `context.amount`; it may be empty."""

    path: str

class ProverError(KernelError):
    """A proof could not be attempted: an unknown kind, policy or environment, or no solver."""

@final
class Diagnostic:
    """One finding in a text. Lines and columns are 1-based, columns count characters; the end is exclusive."""

    @property
    def message(self) -> str: ...
    @property
    def help(self) -> str | None: ...
    @property
    def source(self) -> str:
        """The name that the caller gave to the text."""
    @property
    def policy_id(self) -> str | None: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def end_line(self) -> int: ...
    @property
    def end_column(self) -> int: ...
    @property
    def snippet(self) -> str:
        """The source line at `line`."""
    def render(self) -> str:
        """`source:line:column: message`, the source line, carets under the place, and the help if there is one."""
    def to_dict(self) -> dict[str, Any]: ...

@final
class PolicyInfo:
    """What one policy says."""

    @property
    def id(self) -> str:
        """The `@id` annotation; without one, `policyN` by position, from 0."""
    @property
    def effect(self) -> Literal["permit", "forbid"]: ...
    @property
    def annotations(self) -> dict[str, str]: ...
    @property
    def text(self) -> str:
        """The policy's own source text, annotations included."""
    @property
    def principal(self) -> str:
        """The scope's first part, such as `principal is Agent`."""
    @property
    def action(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def end_line(self) -> int: ...

def check_schema(schema: str, source: str = "schema") -> None:
    """Raises CedarParseError unless the text is a schema in Cedar's schema syntax, of at most 4 MiB."""

def parse_policies(text: str, source: str = "policies") -> list[PolicyInfo]:
    """The policies in the order of the text.

    Raises CedarParseError with every finding: syntax, templates, an `@id` that is empty or occurs twice; and for a text over a
    limit: 16 MiB, brackets 100 deep, in one policy 1000 `if` or a condition 1000 operators deep.
    """

def validate_policies(
    schema: str, policies: str, source: str = "policies", schema_source: str = "schema"
) -> list[Diagnostic]:
    """The warnings of strict validation.

    Raises CedarParseError, or CedarValidationError with every type error and every policy that can never match: by its
    scope, or because its condition is false by type in every request environment.
    """

def format_policies(text: str) -> str:
    """The same policies in canonical layout; comments stay. Raises CedarParseError."""

def policies_to_json(text: str) -> str:
    """Cedar's JSON form of a policy set (`staticPolicies` by id). Raises CedarParseError."""

def policies_from_json(json: str) -> str:
    """Cedar text of a policy set in JSON form; ids are kept as `@id`. Raises CedarParseError."""

def schema_to_json(schema: str) -> str:
    """Cedar's JSON form of a schema. Raises CedarParseError."""

def schema_from_json(json: str) -> str:
    """Cedar text of a schema in JSON form. Raises CedarParseError."""

def request_envs(schema: str) -> list[RequestEnv]:
    """The request environments of a schema, sorted. Raises CedarParseError."""

@final
class Decision:
    """The answer to one request."""

    @property
    def allowed(self) -> bool:
        """True only if Cedar says Allow and no policy failed to evaluate."""
    @property
    def reasons(self) -> list[str]:
        """Ids of the policies that determined the answer, sorted: the forbids that matched, else the permits.

        Empty where nothing matched, and where an evaluation failure alone turned an allow into a deny.
        """
    @property
    def errors(self) -> list[str]:
        """What failed to evaluate, one message per policy."""
    @property
    def errored(self) -> list[str]:
        """Ids of the policies that failed to evaluate."""
    @property
    def guard(self) -> list[str]:
        """Ids of the guards that fired; they are among `reasons` too."""
    def to_dict(self) -> dict[str, Any]: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Engine:
    """Decides requests against one immutable set of policies and guards.

    Threads may share an engine. Decisions keep the GIL, so they run one at a time in a process; use processes to scale.
    """

    def __new__(cls, schema: str, policies: str, guards: str = "", entities: str = "[]") -> Engine:
        """`guards` are `forbid` policies with ids of their own. `entities` is a JSON list that every request can see.

        Raises CedarParseError, CedarValidationError (strict; a policy that can never match is an error), EntityError.
        """

    def authorize(
        self,
        principal: Uid,
        action: Uid,
        resource: Uid,
        context: dict[str, Any] | bytes | str | None = None,
        entities: list[dict[str, Any]] | tuple[dict[str, Any], ...] | bytes | str | None = None,
    ) -> Decision:
        """Decides one request; microseconds, so the GIL is kept.

        `context` and `entities` are Python objects (dict, list, tuple, set, str, int, bool) or JSON text. Both are typed by
        the schema: an unknown attribute, a missing required one, a wrong type or a float is an error that names the path.
        An entity value is {"type", "id"}, an extension value its text (`"10.0.0.0/8"`); `__entity` and `__extn` forms work too.

        An entity is {"uid": {"type", "id"}, "attrs": {..}, "parents": [..], "tags": {..}}. A request may add entities to the
        engine's, not redefine them. An entity that is nowhere makes the policies that read it fail, and so denies.

        Raises RequestError (the request or its context), EntityError (the entities).
        """

    def authorize_reference(
        self, principal: Uid, action: Uid, resource: Uid, context: str = "{}", entities: str = "[]"
    ) -> Decision:
        """The same question to Cedar's own authorizer, JSON layer and whole policy set: slow, for tests."""

    def actions(self) -> list[str]:
        """The actions that a request can name, as Cedar writes them, sorted."""

    def __len__(self) -> int:
        """Policies and guards."""

@final
class Counterexample:
    """A request and the entities around it for which a property fails."""

    @property
    def principal(self) -> str:
        """`Type::"id"`"""
    @property
    def action(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def context(self) -> str:
        """A JSON object, as `Engine.authorize` takes it."""
    @property
    def entities(self) -> str:
        """A JSON list sorted by uid, as `Engine.authorize` takes it; the schema's actions are left out."""
    def to_dict(self) -> dict[str, str]: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class Replay:
    """What the concrete evaluator says about one side of a check, on the counterexample."""

    @property
    def allowed(self) -> bool | None:
        """For a policy set: Cedar's own decision, in which a policy that fails is skipped. None for a policy."""
    @property
    def matched(self) -> bool | None:
        """For a policy: whether it matches; one that fails does not. None for a policy set."""
    @property
    def reasons(self) -> list[str]: ...
    @property
    def errors(self) -> list[str]: ...
    def to_dict(self) -> dict[str, Any]: ...
    def __eq__(self, other: object, /) -> bool: ...

@final
class CheckResult:
    """The verdict on one obligation in one request environment."""

    @property
    def kind(self) -> Kind: ...
    @property
    def env(self) -> RequestEnv: ...
    @property
    def policy_id(self) -> str | None:
        """The policy of `a` that the obligation is about; None if it is about sets."""
    @property
    def policy_id_b(self) -> str | None: ...
    @property
    def verdict(self) -> Literal["proved", "refuted", "unknown"]: ...
    @property
    def reason(self) -> str | None:
        """Why the verdict is `unknown`: `timeout`, `unsupported: ..`, `replay contradicts solver`, `dry run`, .."""
    @property
    def counterexample(self) -> Counterexample | None:
        """Present where refuted and a model was wanted; also on a contradiction, as evidence."""
    @property
    def replay(self) -> dict[str, Replay]:
        """`a`, and `b` where there is one: the concrete evaluator on the counterexample."""
    @property
    def smtlib(self) -> str | None:
        """The script that was put to the solver, ending in `(check-sat)`; only if asked for and not trivial."""
    @property
    def smtlib_sha256(self) -> str | None: ...
    @property
    def trivial(self) -> bool:
        """Decided by simplification, without a solver."""
    @property
    def abstracted(self) -> bool:
        """Proved by cvc5 on the script's `abstraction`, which follows from the script, and not on the script itself."""
    @property
    def compile_ms(self) -> float: ...
    @property
    def solve_ms(self) -> float: ...
    def to_dict(self) -> dict[str, Any]: ...

@final
class Prover:
    """Proves properties of policies for every request and every entity store that a schema admits.

    Compiled policies are cached by (text of the policies that can matter, environment). A time limit is soft and memory is
    not isolated: run a prover in a process that may be killed.
    """

    def __new__(cls, schema: str, solver_timeout_ms: int = 5000, cache_size: int = 1024) -> Prover:
        """`solver_timeout_ms`: soft limit of one query. `cache_size`: compiled policies and sets, each. Raises CedarParseError."""

    @property
    def envs(self) -> list[RequestEnv]:
        """The request environments, sorted."""
    @property
    def cached(self) -> int: ...
    @property
    def solver_timeout_ms(self) -> int: ...
    def check(
        self,
        kind: Kind,
        a: str,
        b: str | None = None,
        *,
        env: RequestEnv | None = None,
        policy_id: str | None = None,
        policy_id_b: str | None = None,
        assume: Sequence[str] = (),
        want_model: bool = True,
        dry: bool = False,
        smtlib: bool = False,
    ) -> list[CheckResult]:
        """One result per request environment (or only `env`) and subject.

        About sets: `always_allows`, `always_denies`; with `b`: `implies` (what `a` allows, `b` allows), `equivalent`,
        `disjoint` (nothing is allowed by both). About each policy of `a`, or only `policy_id`: `never_errors`,
        `never_matches`, `always_matches`. About pairs of a policy of `a` and one of `b` (without `b`: of `a`):
        `matches_implies`, `matches_equivalent`, `matches_disjoint`; without `policy_id` and `policy_id_b`, pairs of equal
        effect, for `matches_disjoint` a permit and a forbid.

        `assume`: Cedar conditions; requests for which one is false do not count. `want_model=False` is faster and gives no
        counterexample. `dry` builds scripts without solving: the verdict is `unknown` unless trivial.

        `refuted` with a model was confirmed by the concrete evaluator; if that contradicts the solver, or an assumption
        does not hold on the counterexample, the verdict is `unknown`. So is whatever the provable part of Cedar lacks, and
        arithmetic more than 12 operators deep, for which compilation would take exponential time.

        Raises CedarParseError and CedarValidationError (strict; policies that never match are fine here), ProverError.
        """

    def check_one(
        self,
        kind: Kind,
        a: str,
        b: str | None = None,
        *,
        env: RequestEnv,
        policy_id: str | None = None,
        policy_id_b: str | None = None,
        assume: Sequence[str] = (),
        want_model: bool = True,
        dry: bool = False,
        smtlib: bool = False,
    ) -> CheckResult:
        """`check` for exactly one obligation in one environment; raises ProverError if there are more or none."""

def cvc5_paths() -> tuple[str, str]:
    """Where the installed `cvc5` wheel keeps libcvc5 and libcvc5parser. Raises ProverError if it does not."""

def load_cvc5(cvc5_path: str | None = None, parser_path: str | None = None) -> None:
    """Loads the solver, by default from `cvc5_paths()`; provers do it by themselves. Later calls do nothing.

    Raises ProverError.
    """

def solve(script: str, timeout_ms: int = 5000) -> str:
    """What cvc5 prints for an SMT-LIB 2.6 script. The script must be trusted: SMT-LIB can name files. Raises ProverError."""

def abstraction(script: str) -> str | None:
    """A propositional script that is satisfiable if `script` is: its theory atoms are Boolean constants, with facts about them.

    If a solver refutes it, `script` is refuted; if not, nothing is known. None where there is none worth asking.
    """

def to_z3(script: str) -> str:
    """A script of `CheckResult.smtlib` in z3's dialect, for a second opinion on the verdict. Raises ProverError."""
