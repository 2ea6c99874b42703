"""Whatever stands in a file, parsing a spec is safe, bounded and the same each time."""

# ruff: noqa: E501 - specs are read by the line

import copy
import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import InvalidInput
from reconciler.spec.editing import listed
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import parse_file, parse_tree
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import resolve

GOOD = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  variables: {tier: gold}
  deployments:
    - name: eu
      postgres: {dsn: {env: SHOP_DSN}}
  components:
    - {name: db, kind: Database, database: "shop_${deployment}"}
    - {name: m, kind: Module, database: {from: db}, path: modules/shop}
"""
PROGRAMS = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: production}
spec:
  variables: {tier: gold}
  deployments:
    - {name: eu, postgres: {dsn: {env: SHOP_DSN}, provisionDsn: {file: /run/narrow}}}
  components:
    - name: pg
      kind: Service
      runtime: {container: {image: "postgres:18", ports: [5432], data: [{name: main, path: /data}], networks: [shop]}}
      env: {POSTGRES_PASSWORD: {file: /run/secrets/pg}}
      health: {tcp: {port: 5432}, timeout: 60s}
    - {name: db, kind: Database, database: "shop_${deployment}", on: {from: pg, port: 5432, password: {env: PG}}, owner: boss}
    - name: seed
      kind: Job
      runtime: {process: {command: [bin/seed]}}
      env: {URL: {from: db, output: url}}
      inputs: ["seed/*.csv"]
      run: {on: [change], schedule: "0 3 * * *"}
      outputs: [{name: token, type: string, sensitive: true}, {name: more, keep: true}]
    - name: api
      kind: Service
      after: [web]
      runtime: {process: {command: [bin/api, "${tier}"], cwd: /srv, user: api, ports: [{name: http}, {name: admin, port: 81}]}}
      env: {TOKEN: {from: seed, output: token}, MODE: "${tier}", KEY: {env: KEY}}
      health: {http: {port: http, path: /healthz}, interval: 1s, crashes: 2}
      restart: {when: always, delay: 1s, limit: 10}
      limits: {memory: 512Mi, cpus: 0.5, openFiles: 1024}
      logs: {size: 10Mi, files: 5}
      grace: 10s
    - name: web
      kind: Service
      skip: true
      runtime: {container: {build: {context: web, dockerfile: Dockerfile}, command: [web], ports: [{name: http, port: 80}]}}
    - {name: edge, kind: Route, host: "${deployment}.example.com", path: /api, to: {from: api, port: http}, proxy: edge}
"""
FILES = {"web/Dockerfile": b"FROM scratch", "seed/a.csv": b"1", "modules/shop/x": b""}
JUNK: list[object] = [
    *(
        None,
        True,
        0,
        -1,
        81,
        5432,
        1e300,
        [],
        {},
        [[]],
        [{}],
        {"a": 1},
        "",
        " ",
        ".",
        "..",
        "/",
        "a",
        "web",
        "pg",
    ),
    *(
        "api",
        "db",
        "seed",
        "url",
        "host",
        "port",
        "0s",
        "1s",
        "10h",
        "1Ki",
        "${tier}",
        "${no}",
        "$${",
        "a" * 5000,
    ),
    *(
        "beside",
        "process",
        "Service",
        "Route",
        "Job",
        "RECONCILER_X",
        "\0",
        "é",
        {"from": "api", "output": "host"},
    ),
    *(
        {"from": "web"},
        {"env": "X"},
        {"age": "x"},
        {"process": {"command": ["a"]}},
        {"name": "http"},
        [80, 80],
    ),
]
PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        "  ",
        "&a ",
        "*a",
        "!!x ",
        "<<: ",
        "|\n",
        ">",
        "'",
        '"',
        "${",
        "#",
        "\t",
        "\0",
        "é",
    ]
)


@given(st.binary(max_size=400))
def test_any_bytes(content: bytes) -> None:
    """Bytes of any kind give environments or problems, never an exception."""
    for item in parse_file("f.yaml", content):
        assert item.spec is not None or item.problems


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), PIECES), max_size=6), st.integers(0, 60))
@settings(max_examples=300)
def test_damaged_specs(edits: list[tuple[int, str]], cut: int) -> None:
    """A good spec with pieces put in or cut out is parsed or told, the same each time."""
    text = GOOD
    for place, piece in edits:
        text = text[:place] + piece + text[place + (cut if piece == "\n" else 0) :]
    first, second = (parse_tree({"environments/a.yaml": text.encode()}) for _ in range(2))
    assert [str(problem) for item in first for problem in item.problems] == [
        str(problem) for item in second for problem in item.problems
    ]
    assert all(item.spec is None or not item.problems for item in first)


@given(st.text(alphabet="abc{}$ \n'\"", max_size=30))
def test_secrets_in_the_wrong_place_are_not_told(around: str) -> None:
    """Where a connection string stands instead of a reference, no problem quotes it."""
    secret = "sw0rdfish-XyZ"
    text = GOOD.replace("{env: SHOP_DSN}", f'"{secret}"') + f"# {around!r}\n"
    assert secret not in "".join(
        str(problem) for item in parse_file("f.yaml", text.encode()) for problem in item.problems
    )


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all values of a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


SOUND = yaml.safe_load(PROGRAMS)
PLACES = [path for path in places(SOUND) if path[0] == "spec"]


def put(document: Any, path: tuple[str | int, ...], junk: object) -> None:
    """Put a value into a document, where an edit before has left that place."""
    *above, last = path
    try:
        for key in above:
            document = document[key]
        document[last] = copy.deepcopy(junk)
    except (KeyError, IndexError, TypeError):
        return


def desired(spec: EnvironmentSpec, deployment: str) -> DesiredState | str:
    """What a deployment wants, or what is wrong with it."""
    try:
        return resolve(spec, deployment, "c" * 40, FILES)
    except InvalidInput as error:
        return str(error)


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK)), max_size=3))
@settings(max_examples=60, deadline=None)
def test_whatever_programs_say_is_resolved_or_told(edits: list[tuple[tuple[str | int, ...], object]]) -> None:
    """Services, jobs and routes with junk in any place have problems with a place, or a desired state."""
    document = copy.deepcopy(SOUND)
    for path, junk in edits:
        put(document, path, junk)
    (parsed,) = parse_file("f.yaml", json.dumps(document).encode())
    if parsed.spec is None:
        assert parsed.problems
        assert all(problem.line is not None for problem in parsed.problems)
        return
    names = {part.name for part in parsed.spec.components}
    assert {part.name for _stage, _text, parts in listed(parsed.spec) for part in parts} == names
    for place in parsed.spec.deployments:
        found = desired(parsed.spec, place.name)
        if isinstance(found, DesiredState):
            assert {part.component for part in found.components} == names
        else:
            assert found
