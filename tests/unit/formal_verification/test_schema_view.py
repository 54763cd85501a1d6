"""Names in Cedar schemas mean what Cedar says they mean."""

import acgs1_kernel as kernel
import pytest

from acgs1.services.formal_verification.adapters.kernel.cedar import PolicyTexts, Scopes
from acgs1.services.formal_verification.adapters.kernel.composition import CannotCompose, Composition, NoSuchAttribute
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView, entity_uid, split_uid

SCHEMA = """
type Money = { amount: Long, currency: String };
entity Outside;
namespace Shop {
  type Price = { net: Long, tax: decimal };
  type Cart = { total: Price, note?: String };
  entity Team;
  entity User in [Team] { limit: Money, home: Outside, seen: Set<Price>, boss: User };
  entity Order = { price: Price } tags String;
  action group;
  action "buy it" in [group] appliesTo { principal: [User], resource: [Order], context: Cart };
}
"""


@pytest.fixture(scope="module")
def view() -> SchemaView:
    return SchemaView(kernel.schema_to_json(SCHEMA))


def test_common_types_are_resolved_in_their_own_namespace_before_the_empty_one(view: SchemaView):
    user = view.entity_shape("Shop::User")["attributes"]
    assert user["limit"]["attributes"]["currency"] == {"type": "String", "required": True}
    assert user["home"]["name"] == "Outside"
    assert user["boss"]["name"] == "Shop::User"
    assert user["seen"]["element"]["attributes"]["tax"]["name"] == "decimal"
    context = view.action_context('Shop::Action::"buy it"')["attributes"]
    assert context["total"]["attributes"]["net"]["type"] == "Long"
    assert context["note"]["required"] is False
    assert view.entity_tags("Shop::Order") == {"type": "String"}


def test_the_resolved_schema_is_still_the_same_schema(view: SchemaView):
    import json

    again = kernel.schema_from_json(json.dumps(view.to_json()))
    assert kernel.request_envs(again) == kernel.request_envs(SCHEMA)


def test_an_action_is_below_its_groups(view: SchemaView):
    assert view.action_ancestors('Shop::Action::"buy it"') == {'Shop::Action::"buy it"', 'Shop::Action::"group"'}


@pytest.mark.parametrize("name", ["a", 'q"uote', "back\\slash", "new\nline", "\u200b", "ü"])
def test_an_entity_reference_is_read_as_it_was_written(name: str):
    assert split_uid(entity_uid("Shop::User", name)) == ("Shop::User", name)


@pytest.mark.parametrize(
    ("scope", "admitted"),
    [
        ("principal, action, resource", True),
        ("principal is Shop::User, action, resource", True),
        ("principal is Shop::Team, action, resource", False),
        ('principal is Shop::User in Shop::Team::"t", action, resource', True),
        ('principal == Shop::User::"is Shop::Team", action, resource', True),
        ('principal == Shop::Team::"t", action, resource', False),
        ('principal in Shop::Team::"t", action in [Shop::Action::"group"], resource is Shop::Order', True),
        ('principal, action == Shop::Action::"group", resource', False),
        ('principal, action == Shop::Action::"buy it", resource', True),
        ('principal, action in Shop::Action::"buy it", resource in Shop::Order::"o"', True),
        ('principal, action, resource == Shop::User::"u"', False),
    ],
)
def test_a_scope_admits_an_environment_unless_type_or_action_rule_it_out(view: SchemaView, scope: str, admitted: bool):
    (environment,) = kernel.request_envs(SCHEMA)
    texts = PolicyTexts(f"permit ({scope});", "p", Scopes(view, [environment]))
    assert [policy.id for policy in texts.in_environment(environment).policies] == (["policy0"] if admitted else [])


def test_a_slice_keeps_the_ids_of_the_whole_text(view: SchemaView):
    (environment,) = kernel.request_envs(SCHEMA)
    text = "permit (principal is Shop::Team, action, resource);\npermit (principal, action, resource) when { true };"
    (policy,) = PolicyTexts(text, "p", Scopes(view, [environment])).in_environment(environment).policies
    assert (policy.id, policy.line) == ("policy1", 2)
    assert kernel.parse_policies(policy.text)[0].id == "policy1"


def test_a_path_that_is_not_there_and_one_that_cannot_vary_are_told_apart(view: SchemaView):
    (environment,) = kernel.request_envs(SCHEMA)
    with pytest.raises(NoSuchAttribute):
        Composition(view, environment, ("principal.age",))
    with pytest.raises(NoSuchAttribute):
        Composition(view, environment, ("principal.seen.net",))
    with pytest.raises(CannotCompose, match="may itself differ"):
        Composition(view, environment, ("principal.boss", "principal.boss.limit"))
    with pytest.raises(CannotCompose, match="inside or the same"):
        Composition(view, environment, ("context.total", "context.total.net"))


def test_the_fresh_attribute_takes_no_name_that_is_taken():
    schema = "entity A { n: Long, n__other: Long }; action x appliesTo { principal: [A], resource: [A], context: {} };"
    (environment,) = kernel.request_envs(schema)
    composition = Composition(SchemaView(kernel.schema_to_json(schema)), environment, ("principal.n",))
    assert [target.fresh for target in composition.targets] == ["n__other_"]
