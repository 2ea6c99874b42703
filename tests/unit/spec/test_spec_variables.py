"""Variables are put in as one deployment sees them."""

import pytest

from reconciler.errors import NotFound
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import parse_file
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import TEXT_CHARACTERS_MAX, BadVariable, for_deployment, substitute

TEXT = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  stages:
    - {name: databases, description: "of ${deployment}"}
    - {name: migrations}
  deployments:
    - {name: eu, postgres: {dsn: {env: "SHOP_${tier}_DSN"}}}
    - {name: us, postgres: {dsn: {file: "/run/${deployment}/dsn"}}, variables: {tier: "${deployment}-gold"}}
  variables: {tier: silver, version: v1}
  components:
    - {name: db, kind: Database, database: "${environment}_${deployment}_${tier}", extensions: ["${tier}"]}
    - {name: m, kind: Module, database: {from: db}, path: "modules/${tier}", to: "@${version}"}
    - {name: odd, kind: Database, database: "$${tier} $$${tier} $tier {tier} $$$${tier}"}
"""


def spec() -> EnvironmentSpec:
    (parsed,) = parse_file("e.yaml", TEXT.encode())
    assert parsed.problems == ()
    assert parsed.spec is not None
    return parsed.spec


def test_the_nearer_variable_wins_in_every_string() -> None:
    """Shared variables hold where a deployment has none of its own; the built-in ones are always there."""
    eu, us = for_deployment(spec(), "eu"), for_deployment(spec(), "us")
    assert (eu.databases[0].database, us.databases[0].database) == (
        "production_eu_silver",
        "production_us_us-gold",
    )
    assert us.databases[0].extensions == ("us-gold",)
    assert (us.modules[0].path, us.modules[0].to) == ("modules/us-gold", "@v1")
    assert eu.deployments[0].postgres.dsn == SecretReference(env="SHOP_silver_DSN")
    assert us.deployments[0].postgres.dsn == SecretReference(file="/run/us/dsn")
    assert us.stages[0].description == "of us"


def test_only_the_deployment_asked_for_is_left() -> None:
    """The values of one deployment do not fit another."""
    assert [place.name for place in for_deployment(spec(), "us").deployments] == ["us"]


def test_a_doubled_dollar_is_a_literal() -> None:
    """`$${` stands for `${`, and a dollar without a brace is a dollar."""
    assert for_deployment(spec(), "eu").databases[1].database == "${tier} $${tier} $tier {tier} $$${tier}"


def test_what_is_put_in_is_not_looked_at_again() -> None:
    """A value that looks like a variable stays what it is."""
    assert substitute("${a}", {"a": "${b}", "b": "no"}) == "${b}"


def test_the_spec_itself_stays_as_it_was() -> None:
    """Putting variables in makes another value, the same each time."""
    before = spec()
    assert for_deployment(before, "eu") == for_deployment(before, "eu")
    assert before == spec()


def test_an_unknown_deployment_is_named() -> None:
    """Asking for a deployment that is not there is told as such."""
    with pytest.raises(NotFound, match="environment 'production' has no deployment 'moon'"):
        for_deployment(spec(), "moon")


def test_strings_with_variables_are_limited() -> None:
    """Neither a long string nor long values make a longer one than the limit."""
    with pytest.raises(BadVariable, match="has more than"):
        substitute("${a}" * TEXT_CHARACTERS_MAX, {"a": ""})
    with pytest.raises(BadVariable, match="with its variables"):
        substitute("${a}" * 100, {"a": "x" * 1024})
