"""What is wrong between the parts of a spec is found and told at its place."""

# ruff: noqa: E501 - expected messages stand in one piece

import time

import pytest

from reconciler.spec.parse import parse_file

HEAD = "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: production}\nspec:\n"
PLACES = "  deployments:\n    - {name: eu, postgres: {dsn: {env: EU_DSN}}}\n    - {name: us, postgres: {dsn: {env: US_DSN}}}\n"


def told(components: list[str], more: str = "") -> list[str]:
    """Messages about components, which begin on line 9 where nothing more stands before them."""
    listed = "".join(f"    - {{{component}}}\n" for component in components)
    text = HEAD + PLACES + more + "  components:\n" + listed
    (parsed,) = parse_file("e.yaml", text.encode())
    return [str(problem) for problem in parsed.problems]


DB = "name: db, kind: Database, database: shop"
MODULE = "name: m, kind: Module, database: {from: db}, path: modules/m"
STAGES = "  stages: [{name: one}, {name: databases}, {name: migrations}]\n"


def test_sound_references_are_fine() -> None:
    """A module uses a database of an earlier stage, or of its own."""
    assert told([DB, MODULE]) == []
    assert told([DB, MODULE + ", stage: databases, after: [db]"]) == []
    assert told([MODULE, DB]) == []


@pytest.mark.parametrize(
    ("components", "more", "expected"),
    [
        (
            [DB, DB.replace("shop", "other")],
            "",
            [
                "e.yaml:10:14: spec.components[1].name: duplicate component 'db' (the first one is spec.components[0])"
            ],
        ),
        (
            [DB],
            "  stages: [{name: databases}, {name: databases}]\n",
            [
                "e.yaml:8:38: spec.stages[1].name: duplicate stage 'databases' (the first one is spec.stages[0])"
            ],
        ),
        (
            [DB + ", stage: database"],
            STAGES,
            ["e.yaml:10:57: spec.components[0].stage: unknown stage 'database' (did you mean 'databases'?)"],
        ),
        (
            [DB],
            "  stages: [{name: one}, {name: two}]\n",
            [
                "e.yaml:10:7: spec.components[0]: a Database goes to stage 'databases' by default, and there is no such stage (name one with stage: one, two)"
            ],
        ),
        (
            [DB + ", stage: null"],
            "  stages: [{name: one}, {name: two}]\n",
            [
                "e.yaml:10:7: spec.components[0]: a Database goes to stage 'databases' by default, and there is no such stage (name one with stage: one, two)"
            ],
        ),
        (
            [DB, MODULE + ", after: [dbx]"],
            "",
            [
                "e.yaml:10:78: spec.components[1].after[0]: unknown component 'dbx' (there are no components in the stage)"
            ],
        ),
        (
            [DB, MODULE + ", after: [db]"],
            "",
            [
                "e.yaml:10:78: spec.components[1].after[0]: component 'db' is in stage 'databases', not in 'migrations'; after orders components of one stage (remove it: an earlier stage is done before)"
            ],
        ),
        (
            [DB + ", after: [m]", MODULE],
            "",
            [
                "e.yaml:9:58: spec.components[0].after[0]: component 'm' is in stage 'migrations', not in 'databases'; after orders components of one stage (move one of them to another stage)"
            ],
        ),
        (
            [DB + ", after: [db]"],
            "",
            ["e.yaml:9:58: spec.components[0].after[0]: component 'db' cannot be after itself (remove it)"],
        ),
        (
            [DB, "name: d2, kind: Database, database: two, after: [db, db]"],
            "",
            ["e.yaml:10:61: spec.components[1].after[1]: component 'db' is listed twice (name it once)"],
        ),
        (
            [DB, MODULE.replace("from: db", "from: bd")],
            "",
            [
                "e.yaml:10:48: spec.components[1].database.from: unknown component 'bd' (known Database components: db)"
            ],
        ),
        (
            [DB, MODULE, "name: n, kind: Module, database: {from: m}, path: modules/n"],
            "",
            [
                "e.yaml:11:48: spec.components[2].database.from: component 'm' is not a Database (known Database components: db)"
            ],
        ),
        (
            [DB, MODULE + ", stage: one"],
            STAGES,
            [
                "e.yaml:11:48: spec.components[1].database.from: database 'db' is made in stage 'databases', after stage 'one' (a component uses what the same or an earlier stage makes)"
            ],
        ),
        (
            [DB, "name: d2, kind: Database, database: shop"],
            "",
            [
                "e.yaml:10:44: spec.components[1].database: database 'shop' is declared twice (the other one is spec.components[0])"
            ],
        ),
        (
            [DB, "name: d2, kind: Database, database: 'shop${suffix}'"],
            "  variables: {suffix: ''}\n",
            [
                "e.yaml:11:44: spec.components[1].database: database 'shop' is declared twice in deployment 'eu' (the other one is spec.components[0])"
            ],
        ),
        (
            [DB, MODULE, MODULE.replace("name: m", "name: n").replace("modules/m", "modules/m/")],
            "",
            [
                "e.yaml:11:59: spec.components[2].path: module 'modules/m' is deployed to 'db' twice (the other one is spec.components[1])"
            ],
        ),
    ],
)
def test_each_mistake_is_told_exactly(components: list[str], more: str, expected: list[str]) -> None:
    """One mistake between components is one message, where the later of the two stands."""
    assert told(components, more) == expected


def test_one_module_may_go_to_two_databases() -> None:
    """The same folder on another database is another thing."""
    other = MODULE.replace("name: m", "name: n").replace("from: db", "from: d2")
    assert told([DB, "name: d2, kind: Database, database: two", MODULE, other]) == []


def test_databases_that_differ_in_every_deployment_are_fine() -> None:
    """What counts is the name after the variables are put in."""
    assert told([DB, "name: d2, kind: Database, database: 'shop_${deployment}'"]) == []


def database(name: str, *after: str) -> str:
    return f"name: {name}, kind: Database, database: {name}, after: [{', '.join(after)}]"


def test_cycles_are_named_in_full() -> None:
    """Every cycle is told with all that are in it, and nobody who only waits for one."""
    messages = told(
        [
            database("a", "b"), database("b", "c"), database("c", "a"), database("d", "a"),
            database("x", "y"), database("y", "x"), database("free"),
        ]
    )  # fmt: skip
    assert messages == [
        "e.yaml:9:53: spec.components[0].after: components wait for each other: a -> b -> c -> a (remove one edge)",
        "e.yaml:13:53: spec.components[4].after: components wait for each other: x -> y -> x (remove one edge)",
    ]


def test_a_reference_is_an_edge_too() -> None:
    """A database that waits for the module that is deployed to it never starts."""
    messages = told([DB + ", after: [m]", MODULE + ", stage: databases"])
    assert messages == [
        "e.yaml:9:57: spec.components[0].after: components wait for each other: db -> m -> db (remove one edge)"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${nope}", ["unknown variable 'nope' (known variables: deployment, environment, tier)"]),
        ("${tire}", ["unknown variable 'tire' (did you mean 'tier'?)"]),
        ("${a}${b}", ["unknown variable 'a' (known variables: deployment, environment, tier)", "unknown variable 'b' (known variables: deployment, environment, tier)"]),
        ("${open", ["'${' is not followed by a name and '}'"]),
        ("${a ${tier}}", ["'${' is not followed by a name and '}'"]),
        ("${}", ["the text between '${' and '}' is not the name of a variable"]),
        ("${a b}", ["the text between '${' and '}' is not the name of a variable"]),
    ],
)  # fmt: skip
def test_uses_of_variables_are_checked(text: str, expected: list[str]) -> None:
    """Every use that cannot work out is told, at the string it stands in."""
    messages = told([f"name: db, kind: Database, database: '{text}'"], "  variables: {tier: gold}\n")
    assert messages == [f"e.yaml:10:44: spec.components[0].database: {message}" for message in expected]


def test_a_variable_that_one_deployment_lacks_is_told_with_it() -> None:
    """What is there for one deployment only is unknown in the other."""
    places = PLACES.replace("env: EU_DSN}}", "env: EU_DSN}}, variables: {tier: gold}")
    text = HEAD + places + "  components:\n    - {name: db, kind: Database, database: 'x${tier}'}\n"
    (parsed,) = parse_file("e.yaml", text.encode())
    assert [str(problem) for problem in parsed.problems] == [
        "e.yaml:9:44: spec.components[0].database: unknown variable 'tier' in deployment 'us' (known variables: deployment, environment)"
    ]


@pytest.mark.parametrize("key", ["tier", "name", "stage", "from"])
def test_variables_use_the_built_in_ones_only(key: str) -> None:
    """A variable made of another one would depend on an order nobody wrote."""
    assert told([DB], f"  variables: {{a: x, {key}: '${{a}}'}}\n") == [
        f"e.yaml:8:{len(key) + 23}: spec.variables.{key}: a variable can use ${{environment}} and ${{deployment}} only (write the value out)"
    ]
    assert told([DB], "  variables: {a: '${environment}-${deployment}'}\n") == []


@pytest.mark.parametrize(
    ("component", "variables", "expected"),
    [
        (
            "name: db, kind: Database, database: '${v}'",
            "v: " + "x" * 64,
            "spec.components[0].database: in deployment 'eu', is 64 bytes long; PostgreSQL takes 63 at most (shorten it)",
        ),
        ("name: db, kind: Database, database: '${v}'", "v: ''", "spec.components[0].database: in deployment 'eu', must not be empty"),
        (
            "name: db, kind: Database, database: x, extensions: ['${v}']",
            "v: ''",
            "spec.components[0].extensions[0]: in deployment 'eu', must not be empty",
        ),
    ],
)  # fmt: skip
def test_rules_hold_for_what_variables_make(component: str, variables: str, expected: str) -> None:
    """A value that breaks a rule only with its variables put in is told all the same."""
    (message,) = told([component], f"  variables: {{{variables}}}\n")
    assert message.split(": ", 1)[1] == expected


@pytest.mark.parametrize("path", ["${up}/x", "a/${up}", "${root}etc", "a${nul}"])
def test_variables_never_lead_out_of_the_source(path: str) -> None:
    """A path is judged as it is used."""
    module = f"name: m, kind: Module, database: {{from: db}}, path: '{path}'"
    more = '  variables: {up: "..", root: "/", nul: "\\x01"}\n'
    (message,) = told([DB, module], more)
    assert "spec.components[1].path: in deployment 'eu', must" in message


@pytest.mark.parametrize(
    ("dsn", "wrong"),
    [
        ("{env: '${v}CONCILER_CONTROL_DSN'}", "environment variables that start with RECONCILER_ are the daemon's own"),
        ("{env: 'a${bad}'}", "is not the name of an environment variable"),
        ("{file: '/run/${up}/x'}", "must not hold empty parts, '.' or '..'"),
        ("{file: '${v}/x'}", "must be an absolute path"),
    ],
)  # fmt: skip
def test_variables_never_reach_the_secrets_of_the_daemon(dsn: str, wrong: str) -> None:
    """A reference to a secret is judged as it is used."""
    places = f"  deployments:\n    - {{name: eu, postgres: {{dsn: {dsn}}}}}\n"
    text = HEAD + places + "  variables: {v: RE, up: '..', bad: '-'}\n  components: []\n"
    (parsed,) = parse_file("e.yaml", text.encode())
    (problem,) = parsed.problems
    assert (problem.line, problem.path) == (6, "spec.deployments[0].postgres.dsn")
    assert problem.message == f"in deployment 'eu', {wrong}"


def test_a_rule_broken_in_another_deployment_points_there() -> None:
    """The place is that of the deployment, not of the first one."""
    places = PLACES.replace("env: US_DSN", "file: '/run/${v}/x'").replace(
        "}}}\n", "}}, variables: {v: '..'}}\n"
    )
    text = HEAD + places + "  components: []\n"
    (parsed,) = parse_file("e.yaml", text.encode())
    assert [(problem.line, problem.path) for problem in parsed.problems] == [
        (7, "spec.deployments[1].postgres.dsn")
    ]


def test_too_many_places_are_refused() -> None:
    """Deployments times components have a limit, and a spec beyond it is told soon."""
    places = "".join(f"    - {{name: d{n}, postgres: {{dsn: {{env: A}}}}}}\n" for n in range(300))
    components = "".join(
        f"    - {{name: c{n}, kind: Database, database: 'c{n}${{deployment}}'}}\n" for n in range(300)
    )
    began = time.process_time()
    (parsed,) = parse_file(
        "e.yaml", (HEAD + "  deployments:\n" + places + "  components:\n" + components).encode()
    )
    assert time.process_time() - began < 20
    assert [problem.message for problem in parsed.problems] == [
        "deployments times components make 90000, more than the limit of 50000"
    ]


def test_many_unknown_names_are_told_soon() -> None:
    """Hints are looked for as often as they are shown, not more."""
    components = [f"name: c{n}, kind: Database, database: c{n}, after: [x{n}, y{n}]" for n in range(1000)]
    began = time.process_time()
    messages = told(components)
    assert time.process_time() - began < 20
    assert len(messages) == 101


def test_a_long_chain_is_no_cycle() -> None:
    """A thousand components one after another are fine, and take no deep recursion."""
    assert told([database("c0"), *(database(f"c{n}", f"c{n - 1}") for n in range(1, 1000))]) == []
