"""Spec files become models, or every problem at its place."""

# ruff: noqa: E501 - expected messages stand in one piece

import pytest

from reconciler.spec.components import DatabaseSpec, ModuleSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment, parse_file, parse_tree
from reconciler.spec.problems import PROBLEMS_MAX
from reconciler.spec.values import SecretReference

HEAD = "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: production}\nspec:\n"
PLACES = "  deployments:\n    - name: eu\n      postgres: {dsn: {env: EU_DSN}}\n"
SOUND = HEAD + PLACES + "  components:\n    - {name: db, kind: Database, database: shop}\n"

FULL = """\
apiVersion: reconciler/v1
kind: Environment
metadata:
  name: production
spec:
  stages:
    - name: databases
      description: where data lives
    - name: migrations
  deployments:
    - name: eu
      postgres: {dsn: {env: SHOP_EU_DSN}}
    - name: us
      postgres: {dsn: {file: /run/secrets/shop-us-dsn}}
      variables: {tier: gold}
  rollout: {order: barrier, promotion: manual, onFailure: pause, maxParallel: 3}
  policy: {mode: approve, scope: provision-only, drift: heal, prune: true, allowHazards: [DELETES_DATA],
    verify: {interval: 1h}, requireReason: true}
  variables: {tier: silver}
  components:
    - name: shop-db
      kind: Database
      stage: databases
      database: shop_${deployment}
      extensions: [citext, pg_trgm]
    - name: shop-schema
      kind: Module
      stage: migrations
      database: {from: shop-db}
      path: modules/shop/
      to: "@v1.2.0"
      transaction: module
"""


def one(text: str) -> ParsedEnvironment:
    (parsed,) = parse_file("e.yaml", text.encode())
    return parsed


def sound(text: str) -> EnvironmentSpec:
    parsed = one(text)
    assert parsed.problems == ()
    assert parsed.spec is not None
    return parsed.spec


def told(text: str) -> list[str]:
    parsed = parse_file("e.yaml", text.encode())
    assert all((item.spec is None) == bool(item.problems) for item in parsed)
    return [str(problem) for item in parsed for problem in item.problems]


def test_a_full_spec_is_read_as_written() -> None:
    """Every field of the language arrives in the model."""
    spec = sound(FULL)
    assert spec.name == "production"
    assert [(stage.name, stage.description) for stage in spec.stages] == [
        ("databases", "where data lives"),
        ("migrations", None),
    ]
    assert [(place.name, place.postgres.dsn) for place in spec.deployments] == [
        ("eu", SecretReference(env="SHOP_EU_DSN")),
        ("us", SecretReference(file="/run/secrets/shop-us-dsn")),
    ]
    assert spec.rollout.model_dump() == {
        "order": "barrier", "promotion": "manual", "onFailure": "pause", "maxParallel": 3,
        "waves": {"pause": None, "gate": None},
    }  # fmt: skip
    assert spec.policy.model_dump() == {
        "mode": "approve", "scope": "provision-only", "drift": "heal", "prune": True,
        "verify": {"interval": "1h"}, "allowHazards": ("DELETES_DATA",), "requireReason": True,
    }  # fmt: skip
    database, module = spec.components
    assert isinstance(database, DatabaseSpec)
    assert isinstance(module, ModuleSpec)
    assert (database.database, database.extensions) == ("shop_${deployment}", ("citext", "pg_trgm"))
    assert (module.path, module.to, module.transaction) == ("modules/shop", "@v1.2.0", "module")
    assert module.database.component == "shop-db"


def test_what_is_left_out_has_its_default() -> None:
    """A short spec is rolled out one deployment at a time, warns of drift and prunes nothing."""
    spec = sound(SOUND)
    assert [stage.name for stage in spec.stages] == [
        "servers", "databases", "migrations", "objects", "jobs", "services", "routes",
    ]  # fmt: skip
    assert spec.stage_of(spec.components[0]) == "databases"
    assert (spec.rollout.order, spec.rollout.on_failure, spec.rollout.max_parallel) == ("rolling", "halt", 1)
    assert (spec.policy.mode, spec.policy.drift, spec.policy.prune) == ("auto", "warn", False)
    assert spec.components[0].after == ()


@pytest.mark.parametrize(
    "name",
    ['"quo""ted"', "new\\nline", "dollar $x", "ünï→🐘", "select", " ", "a" * 63, "é" * 31, "'; drop table x;--", "-", "%s {0}"],
)  # fmt: skip
def test_hostile_database_names_are_names(name: str) -> None:
    """Anything PostgreSQL can hold as an identifier is taken as it is."""
    quoted = name.replace("\\n", "\n").replace('"', '\\"').replace("\n", "\\n")
    spec = sound(HEAD + PLACES + f'  components:\n    - {{name: db, kind: Database, database: "{quoted}"}}\n')
    assert spec.databases[0].database == name.replace("\\n", "\n")


COMPONENT = HEAD + PLACES + "  components:\n    - "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "e.yaml:1:1: the document must be a mapping (start with apiVersion and kind)"),
        ("text", "e.yaml:1:1: the document must be a mapping (start with apiVersion and kind)"),
        (
            SOUND.replace("kind: Environment", "kind: Other"),
            "e.yaml:2:7: kind: unknown kind of document 'Other' (known kinds of document: Environment)",
        ),
        (
            SOUND.replace("kind: Environment", "kind: environment"),
            "e.yaml:2:7: kind: unknown kind of document 'environment' (did you mean 'Environment'?)",
        ),
        (
            SOUND.replace("reconciler/v1", "reconciler/v2"),
            "e.yaml:1:13: apiVersion: unknown version 'reconciler/v2' (this daemon reads reconciler/v1)",
        ),
        (SOUND.replace("kind: Environment\n", ""), "e.yaml:1:1: key 'kind' is missing"),
        (SOUND.replace("apiVersion", "apiversion"), None),
        (
            SOUND.replace("  components:", "  compnents: 1\n  components:"),
            "e.yaml:8:3: spec: unknown key 'compnents' (did you mean 'components'?)",
        ),
        (
            SOUND.replace("metadata: {name: production}", "metadata: {name: Production}"),
            ("e.yaml:3:18: metadata.name: is not a valid name "
            "(1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first and last)"),
        ),
        (
            SOUND.replace("metadata: {name: production}", "metadata: {name: 12}"),
            "e.yaml:3:18: metadata.name: must be a string, not a number (put it in quotes)",
        ),
        (
            SOUND.replace("name: eu", "name: eu-${tier}"),
            "e.yaml:6:13: spec.deployments[0].name: variables cannot be used in a name",
        ),
        (
            COMPONENT + "{name: db, kind: Databse, database: shop}\n",
            ("e.yaml:9:24: spec.components[0].kind: unknown kind 'Databse' "
            "(did you mean 'Database'? known kinds: Database, Module, Objects, Service, Job, Route)"),
        ),
        (
            COMPONENT + "{name: db, kind: Cluster, image: x}\n",
            "e.yaml:9:24: spec.components[0].kind: unknown kind 'Cluster' (known kinds: Database, Module, Objects, Service, Job, Route)",
        ),
        (
            COMPONENT + "{name: db, database: shop}\n",
            "e.yaml:9:7: spec.components[0]: key 'kind' is missing (known kinds: Database, Module, Objects, Service, Job, Route)",
        ),
        (COMPONENT + "{name: db, kind: Database}\n", "e.yaml:9:7: spec.components[0]: key 'database' is missing"),
        (COMPONENT + "db\n", "e.yaml:9:7: spec.components[0]: must be a mapping, not text"),
        (
            COMPONENT + "{name: db, kind: Database, database: 5}\n",
            "e.yaml:9:44: spec.components[0].database: must be a string, not a number (put it in quotes)",
        ),
        (
            COMPONENT + "{name: db, kind: Database, database: ''}\n",
            "e.yaml:9:44: spec.components[0].database: must not be empty",
        ),
        (
            COMPONENT + "{name: db, kind: Database, database: " + "é" * 32 + "}\n",
            "e.yaml:9:44: spec.components[0].database: is 64 bytes long; PostgreSQL takes 63 at most (shorten it)",
        ),
        (
            COMPONENT + '{name: db, kind: Database, database: "a\\0b"}\n',
            "e.yaml:9:44: spec.components[0].database: must not hold a NUL character",
        ),
        (
            COMPONENT + "{name: db, kind: Database, database: template1}\n",
            ("e.yaml:9:44: spec.components[0].database: is a template of the server and cannot be managed "
            "(name another database)"),
        ),
        (
            COMPONENT + "{name: db, kind: Database, database: x, extensions: citext}\n",
            "e.yaml:9:59: spec.components[0].extensions: must be a list, not text",
        ),
        (
            COMPONENT + "{name: db, kind: Database, database: x, extensions: [citext, '']}\n",
            "e.yaml:9:68: spec.components[0].extensions[1]: must not be empty",
        ),
        (HEAD + "  deployments: []\n  components: []\n", "e.yaml:5:16: spec.deployments: must not be empty"),
        (HEAD + "  deployments:\n  components: []\n", "e.yaml:5:15: spec.deployments: must be a list, not nothing"),
        (
            SOUND.replace("  components:", "  stages: []\n  components:"),
            "e.yaml:8:11: spec.stages: must not be empty",
        ),
        (
            SOUND.replace("  components:", "  rollout: {order: roling}\n  components:"),
            ("e.yaml:8:20: spec.rollout.order: must be rolling, barrier or parallel, not 'roling' "
            "(did you mean 'rolling'?)"),
        ),
        (
            SOUND.replace("  components:", "  rollout: {maxParallel: 0}\n  components:"),
            "e.yaml:8:26: spec.rollout.maxParallel: must be at least 1",
        ),
        (
            SOUND.replace("  components:", "  rollout: {on_failure: halt}\n  components:"),
            "e.yaml:8:13: spec.rollout: unknown key 'on_failure' (did you mean 'onFailure'?)",
        ),
        (
            SOUND.replace("  components:", "  policy: {prune: no}\n  components:"),
            "e.yaml:8:19: spec.policy.prune: must be true or false, not text",
        ),
        (
            SOUND.replace("  components:", "  policy: {allowHazards: [drops]}\n  components:"),
            ("e.yaml:8:27: spec.policy.allowHazards[0]: is not a hazard code "
            "(codes are upper case, such as DELETES_DATA)"),
        ),
        (
            SOUND.replace("  components:", "  variables: {a b: x}\n  components:"),
            ("e.yaml:8:15: spec.variables['a b']: is not a valid variable name "
            "(letters, digits, '_' and '-', with a letter or '_' first, up to 63)"),
        ),
        (
            SOUND.replace("  components:", "  variables: {port: 5432}\n  components:"),
            "e.yaml:8:21: spec.variables.port: must be a string, not a number (put it in quotes)",
        ),
        (
            SOUND.replace("  components:", "  variables: {deployment: x}\n  components:"),
            "e.yaml:8:15: spec.variables.deployment: variable 'deployment' is always there and cannot be set",
        ),
    ],
)  # fmt: skip
def test_bad_documents_are_told_exactly(text: str, expected: str | None) -> None:
    """One mistake is one message, at its line and column, with what to do."""
    messages = told(text)
    if expected is None:
        assert messages == [
            "e.yaml:1:1: key 'apiVersion' is missing",
            "e.yaml:1:1: unknown key 'apiversion' (did you mean 'apiVersion'?)",
        ]
    else:
        assert messages == [expected]


MODULE = SOUND + "    - {name: m, kind: Module, database: {from: db}, "


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/etc", "must be relative to the root of the source (leave the first '/' out)"),
        ("../x", "must stay below the root of the source (leave '..' out)"),
        ("a/../../x", "must stay below the root of the source (leave '..' out)"),
        ("a//b", "must not hold empty parts or '.' (write it as in modules/shop)"),
        ("./a", "must not hold empty parts or '.' (write it as in modules/shop)"),
        ("''", "must not be empty"),
        ("a\\b", "must not hold control characters or backslashes (separate folders with '/')"),
        ('"a\\0"', "must not hold control characters or backslashes (separate folders with '/')"),
    ],
)
def test_paths_stay_below_the_source(path: str, wrong: str) -> None:
    """A path leads neither up nor to another root."""
    assert told(MODULE + f"path: {path}}}\n") == [f"e.yaml:10:59: spec.components[1].path: {wrong}"]


def test_targets_are_names_or_tags() -> None:
    """A version number without quotes is told as what it is."""
    assert told(MODULE + "path: m, to: 1.2}\n") == [
        "e.yaml:10:66: spec.components[1].to: must be a string, not a number (put it in quotes)"
    ]
    assert sound(MODULE + 'path: m, to: "@v1"}\n').modules[0].to == "@v1"


SECRET = "hunter2-is-a-secret"
REFERENCE = "must refer to a secret, not hold it (write {env: NAME}, {file: PATH} or {age: …}; a secret never stands in a spec in the clear)"
ONE_KEY = "must have exactly one key, env, file or age (write {env: NAME}, {file: PATH} or {age: …}; a secret never stands in a spec in the clear)"


@pytest.mark.parametrize(
    ("dsn", "wrong"),
    [
        (f"postgres://me:{SECRET}@h/db", REFERENCE),
        (f"host=h password={SECRET}", REFERENCE),
        ("12345678", REFERENCE),
        (f"[{SECRET}]", REFERENCE),
        ("", REFERENCE),
        ("{}", ONE_KEY),
        (f"{{env: A, file: /{SECRET}}}", ONE_KEY),
        (f"{{{SECRET}: x}}", ONE_KEY),
        (f"{{env: {{x: {SECRET}}}}}", "env must be a string (write {env: NAME}, {file: PATH} or {age: …}; a secret never stands in a spec in the clear)"),
        (f"{{env: 'postgres://{SECRET}'}}", "is not the name of an environment variable (write it as in {env: SHOP_DSN})"),
        ("{env: RECONCILER_CONTROL_DSN}", "environment variables that start with RECONCILER_ are the daemon's own (keep the secret under another name)"),
        ("{env: reconciler_control_dsn}", "environment variables that start with RECONCILER_ are the daemon's own (keep the secret under another name)"),
        (f"{{file: {SECRET}}}", "must be an absolute path (write it as in {file: /run/secrets/shop-dsn})"),
        ("{file: /run/../etc/shadow}", "must not hold empty parts, '.' or '..' (write the plain path)"),
        ("{file: //run/x}", "must not hold empty parts, '.' or '..' (write the plain path)"),
    ],
)  # fmt: skip
def test_connection_strings_are_only_referred_to(dsn: str, wrong: str) -> None:
    """What stands where a reference should is refused, and never repeated."""
    messages = told(SOUND.replace("{env: EU_DSN}", dsn or "''"))
    assert messages == [f"e.yaml:7:23: spec.deployments[0].postgres.dsn: {wrong}"]
    assert SECRET not in str(messages)


@pytest.mark.parametrize(
    "text",
    [
        SOUND.replace("{env: EU_DSN}", f"&x {SECRET}").replace("name: db", "name: *x"),
        SOUND.replace("{env: EU_DSN}", f"&x {SECRET}").replace("kind: Database", "kind: *x"),
        SOUND.replace("{env: EU_DSN}", f"&x {SECRET}") + "  rollout: {order: *x}\n",
        SOUND.replace("{env: EU_DSN}", f"&x {SECRET}") + "  policy: {mode: *x}\n",
        SOUND.replace("{env: EU_DSN}", f"{{{SECRET}: 1, {SECRET}: 2}}"),
        SOUND.replace("{env: EU_DSN}", f"{{env: A, {SECRET}: 2}}").replace("database: shop", f"database: '${{{SECRET}}}'"),
        SOUND.replace("{env: EU_DSN}", f"&x {SECRET}").replace("database: shop", "database: shop, stage: *x"),
        SOUND.replace("{env: EU_DSN}", f"'${{{SECRET}}}'"),
        SOUND.replace("dsn: {env: EU_DSN}", f"dsn: {SECRET}, dsn: {SECRET}"),
        SOUND.replace("dsn: {env: EU_DSN}", f"dsn: {{env: {SECRET}, env: {SECRET}}}"),
        SOUND.replace("{env: EU_DSN}", f"*{SECRET}"),
        SOUND.replace("{env: EU_DSN}", f"&{SECRET}"),
        SOUND.replace("{env: EU_DSN}", f"{{env: 'p://u:${{{SECRET}}}@h'}}"),
        SOUND.replace("{env: EU_DSN}", f'"{SECRET}'),
        SOUND.replace("{env: EU_DSN}", f"!{SECRET} x"),
        SOUND.replace("{env: EU_DSN}", f"@{SECRET}"),
        SOUND.replace("{env: EU_DSN}", f"{{? {{{SECRET}: 1}} : 2}}"),
    ],
)  # fmt: skip
def test_secrets_in_the_wrong_place_are_never_told(text: str) -> None:
    """Aliases, keys and broken YAML do not carry what stands under `dsn` into a message."""
    messages = told(text)
    assert messages
    assert SECRET not in str(messages)


def test_connection_strings_elsewhere_are_not_repeated() -> None:
    """Text that looks like a connection string is not quoted, wherever it stands."""
    for text in (
        SOUND + f"  rollout: {{order: 'postgres://u:{SECRET}@h/db'}}\n",
        SOUND.replace("kind: Database", f"kind: 'postgres://u:{SECRET}@h/db'"),
        SOUND + f"  'host=h password={SECRET}': 1\n",
    ):
        messages = told(text)
        assert messages
        assert SECRET not in str(messages)


def test_all_problems_of_a_document_are_told_at_once() -> None:
    """Fields, references, variables and YAML keys: nothing hides anything else, and they come in order."""
    text = (
        HEAD
        + PLACES
        + "  rollout: {order: x, order: rolling}\n"
        + "  components:\n"
        + "    - {name: db, kind: Database, database: 'x${nope}', after: [nowhere]}\n"
        + "    - {name: m, kind: Module, database: {from: dbb}, path: /x, stage: migration}\n"
        + "    - {name: m, kind: Modul}\n"
    )
    assert [message.split(": ", 2)[:2] for message in told(text)] == [
        ["e.yaml:8:23", "spec.rollout"],
        ["e.yaml:8:20", "spec.rollout.order"],
        ["e.yaml:10:44", "spec.components[0].database"],
        ["e.yaml:10:64", "spec.components[0].after[0]"],
        ["e.yaml:11:48", "spec.components[1].database.from"],
        ["e.yaml:11:60", "spec.components[1].path"],
        ["e.yaml:11:71", "spec.components[1].stage"],
        ["e.yaml:12:14", "spec.components[2].name"],
        ["e.yaml:12:23", "spec.components[2].kind"],
    ]


def test_documents_of_a_file_are_apart() -> None:
    """A broken document does not touch the sound one beside it; empty ones are nothing."""
    text = f"---\n---\n{SOUND}---\n# nothing\n---\n{SOUND.replace('production', 'staging')}  nope: 1\n"
    parsed = parse_file("e.yaml", text.encode())
    assert [(item.name, item.spec is not None, len(item.problems)) for item in parsed] == [
        ("production", True, 0),
        ("staging", False, 1),
    ]


def test_a_broken_document_keeps_its_name() -> None:
    """People are told which environment cannot be read."""
    parsed = one(SOUND + "  - broken\n")
    assert (parsed.name, parsed.spec, len(parsed.problems)) == ("production", None, 1)


@pytest.mark.parametrize(
    "content", [b"\xff", b"\x00", b"x" * (1024 * 1024 + 1), b"[" * 100_000, b"%TAG\n" * 50]
)
def test_unreadable_files_are_told_without_a_name(content: bytes) -> None:
    """A file that cannot be read at all is one broken document without a name."""
    (parsed,) = parse_file("e.yaml", content)
    assert (parsed.name, parsed.spec) == (None, None)
    assert parsed.problems


def test_names_are_unique_over_the_tree() -> None:
    """Two documents that claim a name are both broken, each pointing at the other; no others are."""
    other = SOUND.replace("production", "staging")
    parsed = parse_tree(
        {"b.yml": SOUND.encode(), "a.yaml": (SOUND + "---\n" + other).encode(), "notes.txt": b"\xff"}
    )
    assert [(item.file, item.name, [str(problem) for problem in item.problems]) for item in parsed] == [
        (
            "a.yaml",
            "production",
            [
                "a.yaml:3:18: metadata.name: environment 'production' is declared more than once (also at b.yml:3)"
            ],
        ),
        ("a.yaml", "staging", []),
        (
            "b.yml",
            "production",
            [
                "b.yml:3:18: metadata.name: environment 'production' is declared more than once (also at a.yaml:3)"
            ],
        ),
    ]
    assert [item.spec is None for item in parsed] == [True, False, True]


def test_a_broken_document_still_claims_its_name() -> None:
    """Otherwise the other document would take over while somebody mends the first."""
    parsed = parse_tree({"a.yaml": (SOUND + "  nope: 1\n").encode(), "b.yaml": SOUND.encode()})
    assert [len(item.problems) for item in parsed] == [2, 1]


def test_problems_are_limited() -> None:
    """A document that is wrong everywhere is told up to a limit, and that there is more."""
    text = HEAD + PLACES + "  components:\n" + "    - {}\n" * 900
    messages = told(text)
    assert len(messages) == PROBLEMS_MAX + 1
    assert messages[-1] == "e.yaml: and 100 more problems"


@pytest.mark.parametrize("text", ["9s", "31d", "1w", "1.5h", "h", "''", "10"])
def test_an_interval_of_verifying_is_a_duration_within_bounds(text: str) -> None:
    """What is no duration, or a useless one, is told with what to write."""
    (message,) = told(
        SOUND.replace("  components:", f"  policy: {{verify: {{interval: {text}}}}}\n  components:")
    )
    assert "policy.verify.interval" in message


def test_divergence_of_a_module_is_read_by_sort() -> None:
    """Each sort has a policy of its own; what is left out has the default, and other words are told."""
    spec = sound(FULL.replace("transaction: module", "divergence: {missing: allow}"))
    assert spec.modules[0].divergence.model_dump() == {
        "edited": "warn", "missing": "allow", "inserted": "fail", "reordered": "fail", "renamed": "warn",
    }  # fmt: skip
