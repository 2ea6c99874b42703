"""What deployments want of services, jobs and routes follows from spec and files alone."""

import pytest

from reconciler.errors import SpecError
from reconciler.spec.parse import parse_file
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state import program_parts
from reconciler.state.desired import DesiredState
from reconciler.state.programs import DesiredServer, RuntimeName, Trigger
from reconciler.state.resolve import resolve

SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: prod}
spec:
  deployments:
    - {name: eu, postgres: {dsn: {env: EU_DSN}, provisionDsn: {env: EU_NARROW_DSN}}}
    - {name: us, postgres: {dsn: {env: US_DSN}}}
  components:
    - name: edge
      kind: Route
      host: ${deployment}.example.com
      to: {from: web}
    - name: api
      kind: Service
      runtime: {process: {command: [bin/api], ports: [{name: http, port: 8080}, {name: admin}]}}
      env: {URL: {from: shop, output: url}, TOKEN: {from: seed, output: token}, SECRET: {env: API_SECRET}}
      health: {http: {port: http, path: /healthz}, timeout: 30s}
      restart: {when: on-failure, delayMax: 30s}
      limits: {memory: 512Mi, cpus: 0.5}
      logs: {size: 1Mi, files: 2}
    - name: web
      kind: Service
      runtime: {container: {build: {context: web}, ports: [80]}}
      env: {API: {from: api, output: host}}
    - name: seed
      kind: Job
      runtime: {process: {command: [bin/seed]}}
      env: {URL: {from: shop, output: url}}
      inputs: ["seed/*.csv"]
      run: {on: [change, start], schedule: "0 3 * * *"}
      outputs: [{name: token, sensitive: true}]
    - name: shop
      kind: Database
      on: {from: pg, password: {file: /run/secrets/pg}}
      database: shop
    - name: pg
      kind: Service
      runtime: {systemd: {command: [postgres], ports: [{name: sql, port: 5433}]}}
    - name: other
      kind: Database
      database: other
      owner: other_boss
    - name: unasked
      kind: Database
      database: unasked
"""
FILES = {
    "seed/a.csv": b"1",
    "seed/b.txt": b"2",
    "web/Dockerfile": b"FROM scratch",
    "web/run.sh": b"#!/bin/sh",
    "else": b"",
}


def desired(text: str = SPEC, files: dict[str, bytes] = FILES, deployment: str = "eu") -> DesiredState:
    """What a deployment wants."""
    (parsed,) = parse_file("e.yaml", text.encode())
    assert parsed.problems == ()
    assert parsed.spec is not None
    return resolve(parsed.spec, deployment, "c" * 40, files)


def hashes(state: DesiredState) -> dict[str, str]:
    """The hashes that say what is rolled, run, set and provided again."""
    own = state.programs
    return {
        **{part.component: part.definition_hash for part in own.services},
        **{part.component: part.definition_hash for part in own.routes},
        **{part.component: part.inputs_hash for part in own.jobs},
        **{part.component: part.access.inputs_hash for part in state.databases if part.access is not None},
    }


def moved(old: str, new: str, files: dict[str, bytes] = FILES) -> set[str]:
    """The components whose hash is another one when a text of the spec, or files, are."""
    assert old in SPEC
    before, after = hashes(desired()), hashes(desired(SPEC.replace(old, new), files))
    return {name for name in after if before.get(name) != after[name]}


def test_all_that_a_spec_says_reaches_the_desired_state() -> None:
    """Services, jobs and routes are in the order of the spec, with everything they say and its defaults."""
    state = desired()
    assert state.provision_postgres == SecretReference(env="EU_NARROW_DSN")
    assert [part.component for part in state.programs.services] == ["api", "web", "pg"]
    api, web, pg = state.programs.services
    assert (api.stage, pg.stage, api.in_place, pg.in_place) == ("services", "servers", False, True)
    assert api.program.runtime is RuntimeName.PROCESS
    assert [(port.name, port.number) for port in api.program.ports] == [("http", 8080), ("admin", None)]
    assert api.program.env == (
        ("SECRET", SecretReference(env="API_SECRET")),
        ("TOKEN", OutputReference(component="seed", output="token")),
        ("URL", OutputReference(component="shop", output="url")),
    )
    assert (api.health.check, api.health.port, api.health.path) == ("http", "http", "/healthz")
    assert (api.health.deadline_s, api.health.interval_s, api.health.crashes_max) == (30.0, 1.0, 2)
    assert (api.restart.when, api.restart.delay_s, api.restart.delay_max_s) == ("on-failure", 1.0, 30.0)
    assert (api.program.limits.memory_bytes, api.program.limits.cpus) == (512 * 2**20, 0.5)
    assert (api.program.log_bytes_max, api.program.log_files) == (2**20, 2)
    assert web.program.build is not None
    assert [path for path, _hash in web.program.build.files] == ["web/Dockerfile", "web/run.sh"]
    (job,) = state.programs.jobs
    assert (job.triggers, job.schedule) == (frozenset({Trigger.CHANGE, Trigger.START}), "0 3 * * *")
    assert (job.timeout_s, job.attempts, job.outputs[0].sensitive) == (600.0, 1, True)
    (route,) = state.programs.routes
    assert (route.host, route.path, route.service, route.port) == ("eu.example.com", "/", "web", "80")


def test_databases_say_where_they_live_and_what_is_asked_of_them() -> None:
    """Access is made where somebody asks for an output, or a role is named."""
    shop, other, unasked = desired().databases
    assert shop.on == DesiredServer(
        service="pg", port="sql", user="postgres", password=SecretReference(file="/run/secrets/pg")
    )
    assert shop.access is not None
    assert (shop.access.owner, shop.access.reader) == ("shop_owner", "shop_reader")
    assert shop.access.outputs == ("url",)
    assert other.access is not None
    assert (other.access.owner, other.access.reader, other.access.outputs) == (
        "other_boss",
        "other_reader",
        (),
    )
    assert (unasked.on, unasked.access) == (None, None)


def test_what_only_skipped_components_take_is_not_asked_for() -> None:
    """Nothing is provided for who stays out of rollouts."""
    text = SPEC.replace("    - name: api\n", "    - name: api\n      skip: true\n").replace(
        "URL: {from: shop, output: url}}\n      inputs", "A: b}\n      inputs"
    )
    shop = next(each for each in desired(text).databases if each.component == "shop")
    assert shop.access is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # What makes another instance of it, and of who takes its outputs.
        ("[bin/api]", "[bin/api, --verbose]", {"api", "web"}),
        ("port: 8080", "port: 8081", {"api", "web"}),
        ("{env: API_SECRET}", "{env: API_SECRET_2}", {"api", "web"}),
        ("memory: 512Mi", "memory: 1Gi", {"api", "web"}),
        ("path: /healthz", "path: /ready", {"api", "web"}),
        # All numbers stand in the spec: it is reached as before.
        ("[postgres]", "[postgres, -F]", {"pg"}),
        ("port: 5433", "port: 5434", {"pg", "shop", "seed", "api", "web"}),
        ("[bin/seed]", "[bin/seed, -v]", {"seed", "api", "web"}),
        ("database: shop\n", "database: shop2\n", {"shop", "seed", "api", "web"}),
        ("other_boss", "boss", {"other"}),
        ("ports: [80]", "ports: [81]", {"web", "edge"}),
        ("${deployment}.example.com", "example.com", {"edge"}),
        # What makes no other instance.
        ("timeout: 30s", "timeout: 40s", set()),
        ("when: on-failure", "when: always", set()),
        ("size: 1Mi", "size: 2Mi", set()),
        ('schedule: "0 3 * * *"', 'schedule: "0 4 * * *"', set()),
        ("      kind: Route\n", "      kind: Route\n      stage: services\n", set()),
        # The connection string of the server is another one.
        ("{env: EU_DSN}", "{env: EU_DSN_2}", {"other"}),
    ],
)
def test_hashes_move_with_what_makes_another_instance_and_nothing_else(
    old: str, new: str, expected: set[str]
) -> None:
    """A service is rolled, and a job run, for its own definition and for outputs that are made anew."""
    assert moved(old, new) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"web/run.sh": b"#!/bin/bash"}, {"web"}),
        ({"web/more": b""}, {"web"}),
        ({"seed/a.csv": b"3"}, {"seed", "api", "web"}),
        ({"seed/c.csv": b"1"}, {"seed", "api", "web"}),
        ({"seed/b.txt": b"4", "else": b"1", "website": b"5"}, set()),
    ],
)
def test_files_move_the_hashes_of_who_is_made_from_them(
    changed: dict[str, bytes], expected: set[str]
) -> None:
    """An image is made from all files of its context, a job of those its globs mean."""
    assert moved("edge", "edge", {**FILES, **changed}) == expected


def test_one_more_output_that_is_asked_for_makes_none_of_the_others_another() -> None:
    """Who had outputs of a database before is left alone when another one asks for more."""
    before = desired()
    after = desired(SPEC.replace("env: {API:", "env: {RO: {from: shop, output: readerUrl}, API:"))
    shop = next(each for each in after.databases if each.component == "shop")
    assert shop.access is not None
    assert shop.access.outputs == ("readerUrl", "url")
    assert {name for name, found in hashes(after).items() if hashes(before)[name] != found} == {"web"}


def test_deployments_differ_in_what_their_variables_say() -> None:
    """The same spec gives every deployment its own routes, and services that are the same where it can."""
    eu, us = hashes(desired()), hashes(desired(deployment="us"))
    assert {name for name in eu if eu[name] != us[name]} == {"edge", "other"}


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        (
            SPEC,
            {"seed/a.csv": b"", "web/run.sh": b""},
            ["e.yaml:23:46: there is no file 'web/Dockerfile'"],
        ),
        (
            SPEC.replace("context: web", "context: app"),
            FILES,
            ["e.yaml:23:46: there is no file below 'app'"],
        ),
        (
            SPEC.replace("seed/*.csv", "seeds/*.csv"),
            FILES,
            ["e.yaml:29:16: means no file of the source"],
        ),
        (
            SPEC.replace("database: unasked", f"database: {'u' * 60}\n      reader: short"),
            FILES,
            [f"e.yaml:43:7: the role '{'u' * 60}_owner' is 66 bytes long; PostgreSQL takes 63 at most"],
        ),
    ],
    ids=["dockerfile", "context", "inputs", "role"],
)
def test_what_is_wrong_beside_a_commit_is_told_at_its_place(
    text: str, files: dict[str, bytes], expected: list[str]
) -> None:
    """Files that are not there, and names that become too long, are problems of the spec."""
    (parsed,) = parse_file("e.yaml", text.encode())
    assert parsed.spec is not None
    with pytest.raises(SpecError) as caught:
        resolve(parsed.spec, "eu", "c" * 40, files)
    told = parsed.placed(caught.value.problems)
    assert [f"{each.file}:{each.line}:{each.column}: {each.message}" for each in told] == expected


ROLES = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: prod}
spec:
  deployments: [{name: eu, postgres: {dsn: {env: EU_DSN}}}]
  components:
    - {name: pg, kind: Service, runtime: {systemd: {command: [postgres], ports: [5433]}}}
    - {name: one, kind: Database, database: one, owner: app, roles: [{name: w, login: true}]}
"""


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("owner: app", "role 'app' is to get into 'one' already"),
        ("owner: app, on: {from: pg}", None),
        ("owner: two, reader: two", "role 'two' is to get into 'two' already"),
        ("reader: w", "role 'w' is one of `roles` too, which are made without a generated password"),
        ("reader: w, on: {from: pg}", None),
        ("roles: [{name: w, login: true, createdb: true}], on: {from: pg}", None),
        (
            "roles: [{name: w, login: true, createdb: true}]",
            "role 'w' is declared in another way by component 'one'",
        ),
    ],
)
def test_roles_are_those_of_their_server(database: str, told: str | None) -> None:
    """Databases of one server share its roles, and each has its own to be got into; others do not matter."""
    text = ROLES + f"    - {{name: two, kind: Database, database: two, {database}}}\n"
    if told is None:
        assert len(desired(text).databases) == 2
        return
    with pytest.raises(SpecError) as caught:
        desired(text)
    assert [problem.message for problem in caught.value.problems] == [told]


def test_a_context_may_hold_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, or too large ones, are refused with what there is and what may be."""
    monkeypatch.setattr(program_parts, "BUILD_FILES_MAX", 2)
    monkeypatch.setattr(program_parts, "BUILD_BYTES_MAX", 1000)
    with pytest.raises(SpecError) as caught:
        desired(files={**FILES, "web/big": b"." * 2000})
    (problem,) = caught.value.problems
    assert problem.message == (
        "'web' has 3 files of 2021 bytes in all, and an image is built from 2 files of 1000 bytes at most"
    )


def test_all_problems_of_a_deployment_are_told_at_once() -> None:
    """What is wrong with programs stands beside what is wrong with modules."""
    text = SPEC + "    - {name: m, kind: Module, database: {from: other}, path: modules/m}\n"
    with pytest.raises(SpecError) as caught:
        desired(text, {"seed/a.csv": b""})
    assert len(caught.value.problems) == 2


def test_a_long_chain_of_outputs_is_followed() -> None:
    """Many services, each of which takes the port of the one before, are resolved."""
    head, _, _ = SPEC.partition("  components:\n")
    count = 1500
    parts = "".join(
        f"    - {{name: s{number}, kind: Service, "
        "runtime: {process: {command: [a], ports: [{name: a}]}}"
        + (f", env: {{A: {{from: s{number - 1}, output: port}}}}" if number else "")
        + "}\n"
        for number in reversed(range(count))
    )
    state = desired(head + "  components:\n" + parts)
    assert len({part.definition_hash for part in state.programs.services}) == count


def test_a_path_has_one_name() -> None:
    """A slash at its end makes no other path of a route: who has it has both."""
    routes = [
        desired(SPEC.replace("to: {from: web}", f"to: {{from: web}}\n      path: {path}")).programs.routes
        for path in ("/api", "/api/")
    ]
    assert routes[0] == routes[1]
    assert routes[0][0].path == "/api"
