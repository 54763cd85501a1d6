"""Schema and policy texts: every finding, with its place."""

import json

import acgs1_kernel as kernel
import pytest


def test_all_syntax_errors_of_a_text_are_reported_with_line_and_column() -> None:
    text = "permit (principal action, resource);\npermit (principal, action, resource);\nforbid (principal, action, resource) when { 1 + };"
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.parse_policies(text, "bad.cedar")
    places = [(d.source, d.line, d.column) for d in caught.value.diagnostics]
    assert places == [("bad.cedar", 1, 19), ("bad.cedar", 3, 49)]


def test_a_rendered_diagnostic_points_at_the_place_with_carets() -> None:
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.parse_policies("permit (principal,\n  actio, resource);", "p.cedar")
    rendered = caught.value.diagnostics[0].render().splitlines()
    assert rendered[0].startswith("p.cedar:2:3: ")
    assert rendered[1] == "    actio, resource);"
    assert rendered[2].rstrip() == "    ^^^^^"
    assert str(caught.value).startswith("p.cedar:2:3: ")


def test_columns_count_characters_not_bytes() -> None:
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.parse_policies('permit (principal, action, resource) when { "äöü" == };')
    assert caught.value.diagnostics[0].column == 54


@pytest.mark.parametrize(
    "text", ["permit (principal", 'permit (principal, action, resource) when { "x', "@", "permit", "/"]
)
def test_broken_text_at_the_end_of_the_input_is_a_diagnostic(text: str) -> None:
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.parse_policies(text)
    assert caught.value.diagnostics
    assert caught.value.diagnostics[0].render()


def test_policies_are_listed_in_the_order_of_the_text_with_their_scope() -> None:
    first, second = kernel.parse_policies(
        '\n@id("a")\n@note("n")\npermit (principal is Agent, action == Action::"x", resource);\nforbid (principal, action, resource);'
    )
    assert (first.id, first.effect, first.annotations) == ("a", "permit", {"id": "a", "note": "n"})
    assert (first.principal, first.action, first.resource) == (
        "principal is Agent",
        'action == Action::"x"',
        "resource",
    )
    assert (first.line, first.column, first.end_line) == (2, 1, 4)
    assert first.text.startswith('@id("a")')
    assert first.text.endswith(";")
    assert (second.id, second.effect, second.line) == ("policy1", "forbid", 5)


def test_eleven_unnamed_policies_keep_the_order_of_the_text() -> None:
    text = "\n".join(f'permit (principal, action, resource) when {{ "{i}" == "{i}" }};' for i in range(12))
    assert [p.id for p in kernel.parse_policies(text)] == [f"policy{i}" for i in range(12)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("permit (principal, action, resource);\npermit (principal == ?principal, action, resource);", 2, "template"),
        ('@id("x") permit (principal, action, resource);\n@id("x") forbid (principal, action, resource);', 2, "line 1"),
        ('permit (principal, action, resource);\n@id("policy0") forbid (principal, action, resource);', 2, "policy0"),
        ("@id permit (principal, action, resource);", 1, "no value"),
    ],
)
def test_templates_and_unclear_ids_are_refused_with_their_place(text: str, line: int, words: str) -> None:
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.parse_policies(text)
    (finding,) = caught.value.diagnostics
    assert finding.line == line
    assert words in finding.message


def test_a_text_over_the_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(kernel.CedarParseError, match="the limit is 16777216"):
        kernel.parse_policies("// " + "x" * (16 << 20))


DEEP = [
    ("(" * 101 + "true" + ")" * 101, 144, "deeper than 100"),
    ("(" * 500_000, 144, "deeper than 100"),
    ("[" * 101 + "1" + "]" * 101 + " == [1]", 144, "deeper than 100"),
    ("{a:" * 101 + "1" + "}" * 101 + ".a == 1", 342, "deeper than 100"),
    ("if context.a then true else " * 1001 + "true", None, "more than 1000 `if`"),
    (" || ".join(["context.a"] * 1001), 1, "deeper than 1000"),
    ("1" + " + 1" * 100_000 + " > 1", 1, "deeper than 1000"),
    ("context" + ".a" * 1001, 1, "deeper than 1000"),
    ("!" * 400_000 + "true", None, "too many"),
]


@pytest.mark.parametrize(("deep", "column", "words"), DEEP, ids=range(len(DEEP)))
def test_text_too_deep_for_a_recursive_parser_is_refused_at_its_place(
    deep: str, column: int | None, words: str
) -> None:
    with pytest.raises(kernel.CedarParseError, match=words) as caught:
        kernel.parse_policies(f"permit (principal, action, resource) when {{ {deep} }};")
    assert column in {None, caught.value.diagnostics[0].column}


def test_depth_is_counted_outside_strings_and_comments_and_per_policy() -> None:
    one = (
        'permit (principal, action, resource) when { "((((\\"" like "[*" || (if true then true else false) }; // ((((\n'
    )
    assert len(kernel.parse_policies(one * 600)) == 600
    inner = "(" * 97 + "true" + ")" * 97
    assert kernel.parse_policies(f"permit (principal, action, resource) when {{ {inner} }};")


@pytest.mark.parametrize(
    "schema",
    ["type A = " + "Set<" * 200 + "Long" + ">" * 200 + ";", "type A = " + "{a: " * 200 + "Long" + "}" * 200 + ";"],
)
def test_a_schema_too_deep_is_refused(schema: str) -> None:
    with pytest.raises(kernel.CedarParseError, match="deeper than 100"):
        kernel.check_schema(schema)


def test_a_schema_error_names_the_type_that_is_missing() -> None:
    with pytest.raises(kernel.CedarParseError) as caught:
        kernel.check_schema("entity A = { x: Strin };\nentity B in [C];", "s.cedarschema")
    assert "Strin" in str(caught.value)
    assert caught.value.diagnostics[0].source == "s.cedarschema"


def test_all_type_errors_are_reported_with_their_policy(bank) -> None:
    text = """
@id("one") permit (principal is Bank::Agent, action == Bank::Action::"pay", resource) when { principal.trustt > 1 };
@id("two") permit (principal is Bank::Agent, action == Bank::Action::"pay", resource) when { resource.balance == "x" };
"""
    with pytest.raises(kernel.CedarValidationError) as caught:
        kernel.validate_policies(bank.schema, text)
    assert [(d.policy_id, d.line) for d in caught.value.diagnostics] == [("one", 2), ("two", 3)]
    assert "trustt" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    "policy",
    [
        'permit (principal is Bank::Team, action == Bank::Action::"pay", resource);',
        "permit (principal is Bank::Agent, action, resource) when { resource is Bank::Team };",
    ],
)
def test_a_policy_that_can_never_match_is_an_error(bank, policy: str) -> None:
    with pytest.raises(kernel.CedarValidationError) as caught:
        kernel.validate_policies(bank.schema, policy)
    assert caught.value.diagnostics[0].policy_id == "policy0"


@pytest.mark.parametrize(
    "condition",
    [
        "[].contains(1)",
        'decimal(context.origin.region) == decimal("1.0")',
        'principal == "x"',
        "if context.approved then 1 else false",
    ],
)
def test_what_only_permissive_validation_accepts_is_refused(bank, condition: str) -> None:
    text = f'permit (principal is Bank::Agent, action == Bank::Action::"pay", resource) when {{ {condition} }};'
    with pytest.raises((kernel.CedarValidationError, kernel.CedarParseError)) as caught:
        kernel.validate_policies(bank.schema, text)
    assert caught.value.diagnostics[0].line == 1


def test_warnings_are_returned_not_raised(bank) -> None:
    text = 'permit (principal is Bank::Agent, action == Bank::Action::"pay", resource) when { context.origin.region == "s\u0430y" };'
    (warning,) = kernel.validate_policies(bank.schema, text)
    assert "mixed scripts" in warning.message


def test_policies_survive_the_way_through_json_with_their_ids(bank) -> None:
    back = kernel.policies_from_json(kernel.policies_to_json(bank.policies))
    assert [p.id for p in kernel.parse_policies(back)] == [p.id for p in kernel.parse_policies(bank.policies)]
    assert json.loads(kernel.policies_to_json(back)) == json.loads(kernel.policies_to_json(bank.policies))


def test_json_without_ids_gets_them_from_its_keys() -> None:
    form = json.loads(kernel.policies_to_json("permit (principal, action, resource);"))
    form["staticPolicies"] = {"named": form["staticPolicies"]["policy0"]}
    assert [p.id for p in kernel.parse_policies(kernel.policies_from_json(json.dumps(form)))] == ["named"]


@pytest.mark.parametrize("text", ["{", "[]", '{"staticPolicies": {"a": 1}}', '{"staticPolicies": {"a": {}}}'])
def test_json_that_is_no_policy_set_is_refused(text: str) -> None:
    with pytest.raises(kernel.CedarParseError):
        kernel.policies_from_json(text)


def test_a_schema_survives_the_way_through_json(bank) -> None:
    back = kernel.schema_from_json(kernel.schema_to_json(bank.schema))
    assert kernel.request_envs(back) == kernel.request_envs(bank.schema)
    assert kernel.schema_from_json(kernel.schema_to_json(back)) == back
    assert {"Origin"} == set(json.loads(kernel.schema_to_json(back))["Bank"]["commonTypes"])


def test_formatting_keeps_comments_and_is_stable() -> None:
    text = "// why\npermit(principal,action,resource)when{true};"
    once = kernel.format_policies(text)
    assert "// why" in once
    assert kernel.format_policies(once) == once


def test_request_environments_are_sorted(bank) -> None:
    envs = kernel.request_envs(bank.schema)
    assert envs == sorted(envs)
    assert ("Bank::Agent", 'Bank::Action::"look"', "Bank::Account") in envs
    assert len(envs) == 5
