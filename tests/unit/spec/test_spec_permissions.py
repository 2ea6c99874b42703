"""A source uses what the settings allow it, and never a secret of the daemon."""

# ruff: noqa: E501 - tables are read by the row

import base64

import pytest

from reconciler.settings import AllowSettings, OwnSecrets
from reconciler.spec.parse import parse_file
from reconciler.spec.permissions import restrict

TEXT = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop-production}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: "SHOP_${deployment}"}}}
    - {name: us, postgres: {dsn: {file: /run/secrets/us}}}
  components:
    - {name: db, kind: Database, database: shop}
    - {name: m, kind: Module, database: {from: db}, path: modules/m}
"""
NONE = OwnSecrets(variables=frozenset(), files=frozenset())


@pytest.mark.parametrize(
    ("allow", "own", "expected"),
    [
        ({}, NONE, []),
        ({"environments": ["shop-*"], "secrets": ["SHOP_*"], "paths": ["/run/*"], "kinds": ["Database", "Module"]}, NONE, []),
        ({"environments": ["crm-*"]}, NONE, ["metadata.name"]),
        ({"secrets": ["SHOP_us"]}, NONE, ["spec.deployments[0].postgres.dsn"]),
        ({"secrets": []}, NONE, ["spec.deployments[0].postgres.dsn"]),
        ({"paths": ["/run/secrets/eu"]}, NONE, ["spec.deployments[1].postgres.dsn"]),
        ({"kinds": ["Database"]}, NONE, ["spec.components[1].kind"]),
        ({}, OwnSecrets(variables=frozenset({"SHOP_eu"}), files=frozenset()), ["spec.deployments[0].postgres.dsn"]),
        ({}, OwnSecrets(variables=frozenset(), files=frozenset({"/run/secrets/us"})), ["spec.deployments[1].postgres.dsn"]),
    ],
)  # fmt: skip
def test_what_is_not_allowed_breaks_the_environment(
    allow: dict[str, object], own: OwnSecrets, expected: list[str]
) -> None:
    """Names, secrets, files and kinds are judged with variables put in; each refusal names its place."""
    (parsed,) = restrict(parse_file("e.yaml", TEXT.encode()), AllowSettings.model_validate(allow), own)
    assert [problem.path for problem in parsed.problems] == expected
    assert (parsed.spec is None) == bool(expected)
    assert parsed.name == "shop-production"


def test_passwords_of_roles_are_secrets_too() -> None:
    """Each is judged in every deployment, as connection strings are; the daemon's own are never allowed."""
    roles = "[reader, {name: w, login: true, password: {env: 'W_${deployment}'}}]"
    text = TEXT.replace("database: shop}", f"database: shop, roles: {roles}}}")
    own = OwnSecrets(variables=frozenset({"W_us"}), files=frozenset())
    for allow, mine, expected in (
        ({}, NONE, []),
        ({"secrets": ["SHOP_*", "W_*"]}, NONE, []),
        ({"secrets": ["SHOP_*"]}, NONE, ["spec.components[0].roles[1].password"]),
        ({}, own, ["spec.components[0].roles[1].password"]),
    ):
        (parsed,) = restrict(parse_file("e.yaml", text.encode()), AllowSettings.model_validate(allow), mine)
        assert [problem.path for problem in parsed.problems] == expected


def test_broken_environments_stay_as_they_are() -> None:
    """Permissions add nothing to what could not be read."""
    broken = parse_file("e.yaml", b"kind: Environment\n")
    assert restrict(broken, AllowSettings(), NONE) == broken


def test_addresses_of_deferred_actions_are_limited() -> None:
    """Each is judged as every deployment has it; SQL that is deferred calls nobody."""
    actions = '[{name: tell, url: "https://${deployment}.example.com/x"}, {name: sql, sql: SELECT 1}]'
    text = TEXT.replace("kind: Module,", "kind: Objects,").replace(
        "modules/m}", f"objects, deferred: {actions}}}"
    )
    for addresses, expected in (
        (["*"], []),
        (["https://*.example.com/*"], []),
        (["https://eu.example.com/*"], ["spec.components[1].deferred[0].url"]),
        ([], ["spec.components[1].deferred[0].url"]),
    ):
        allow = AllowSettings.model_validate({"addresses": addresses})
        (parsed,) = restrict(parse_file("e.yaml", text.encode()), allow, NONE)
        assert [problem.path for problem in parsed.problems] == expected


def test_encrypted_values_can_be_kept_from_a_source() -> None:
    """Whoever can read a value could use it in a spec of another source; `encrypted: false` says no."""
    content = b"age-encryption.org/v1\n-> X25519 A\n--- B\n" + b"x" * 40
    value = base64.b64encode(content).decode()
    text = TEXT.replace("{file: /run/secrets/us}", f"{{age: {value}}}")
    for allow, expected in (
        ({}, []),
        ({"secrets": ["SHOP_*"], "paths": []}, []),
        ({"encrypted": False}, ["spec.deployments[1].postgres.dsn"]),
    ):
        (parsed,) = restrict(parse_file("e.yaml", text.encode()), AllowSettings.model_validate(allow), NONE)
        assert [problem.path for problem in parsed.problems] == expected


def test_kinds_are_told_with_their_article() -> None:
    """A refusal reads as a sentence, whatever letter a kind begins with."""
    text = TEXT.replace("kind: Module,", "kind: Objects,")
    allow = AllowSettings.model_validate({"kinds": []})
    (parsed,) = restrict(parse_file("e.yaml", text.encode()), allow, NONE)
    assert [problem.message for problem in parsed.problems] == [
        "this source may not declare a Database",
        "this source may not declare an Objects component",
    ]


PROGRAMS = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU}, provisionDsn: {env: EU_NARROW}}}
    - {name: us, postgres: {dsn: {env: US}}}
  components:
    - {name: pg, kind: Service, runtime: {container: {image: "postgres:18", ports: [5432], data: [{name: main, path: /data}]}}}
    - {name: db, kind: Database, database: shop, on: {from: pg, user: {env: PG_USER}, password: {file: "/run/${deployment}"}}}
    - {name: api, kind: Service, runtime: {process: {command: [a], ports: [80]}}, env: {A: {env: "A_${deployment}"}, B: plain}}
    - {name: web, kind: Service, runtime: {container: {build: {context: web}}}}
    - {name: edge, kind: Route, host: "${deployment}.example.com", to: {from: api}, proxy: edge}
    - {name: open, kind: Route, host: open.example.org, to: {from: api}}
"""


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ({}, []),
        ({"secrets": ["EU", "US", "PG_*", "A_*"]}, ["spec.deployments[0].postgres.provisionDsn"]),
        ({"secrets": ["EU*", "US", "A_eu"]}, ["spec.components[1].on.user", "spec.components[2].env.A"]),
        ({"paths": ["/run/eu"]}, ["spec.components[1].on.password"]),
        ({"runtimes": ["container"]}, ["spec.components[2].runtime.process"]),
        ({"images": ["registry.example.com/*", "build"]}, ["spec.components[0].runtime.container.image"]),
        ({"images": ["postgres:*"]}, ["spec.components[3].runtime.container.build"]),
        ({"hosts": ["*.example.com"]}, ["spec.components[5].host"]),
        ({"hosts": ["eu.example.com", "open.*"]}, ["spec.components[4].host"]),
        ({"proxies": ["inner"]}, ["spec.components[4].proxy", "spec.components[5]"]),
    ],
)  # fmt: skip
def test_what_programs_use_is_limited(allow: dict[str, object], expected: list[str]) -> None:
    """Secrets of variables, narrower credentials, runtimes, images, hosts and proxies, in each deployment."""
    (parsed,) = parse_file("e.yaml", PROGRAMS.encode())
    assert parsed.problems == ()
    (judged,) = restrict([parsed], AllowSettings.model_validate(allow), NONE)
    assert [problem.path for problem in judged.problems] == expected
