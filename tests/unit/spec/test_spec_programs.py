"""Services, jobs and routes are read strictly, and what they say of each other is checked at its place."""

# ruff: noqa: E501 - expected messages stand in one piece

import json

import pytest

from reconciler.spec.parse import parse_file

HEAD = "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: production}\nspec:\n"
PLACES = "  deployments:\n    - {name: eu, postgres: {dsn: {env: EU_DSN}}}\n    - {name: us, postgres: {dsn: {env: US_DSN}}}\n"
DB = "name: db, kind: Database, database: shop"
PG = "name: pg, kind: Service, runtime: {container: {image: 'postgres:18', ports: [5432], data: [{name: main, path: /data}]}}"
ON = "name: db, kind: Database, database: shop, on: {from: pg}"
API = "name: api, kind: Service, runtime: {process: {command: [bin/api], ports: [{name: http}]}}"
TWO = (
    "name: two, kind: Service, runtime: {process: {command: [bin/two], ports: [{name: http}, {name: admin}]}}"
)
SEED = "name: seed, kind: Job, runtime: {process: {command: [bin/seed]}}"
EDGE = "name: edge, kind: Route, host: shop.example.com, to: {from: api}"

FULL = """\
    - name: pg
      kind: Service
      runtime: {container: {image: "postgres:18", ports: [5432], data: [{name: main, path: /var/lib/postgresql}]}}
      env: {POSTGRES_PASSWORD: {file: /run/secrets/pg}}
      health: {tcp: {port: 5432}}
    - name: shop-db
      kind: Database
      on: {from: pg, port: 5432, user: postgres, password: {file: /run/secrets/pg}}
      database: shop_${deployment}
      owner: shop_owner
      reader: shop_reader
    - name: seed
      kind: Job
      runtime: {process: {command: [bin/seed]}}
      env: {DATABASE_URL: {from: shop-db, output: url}}
      inputs: [seed/*.csv]
      run: {on: [change], schedule: "0 3 * * *"}
      timeout: 10m
      attempts: 3
      grace: 10s
      outputs: [{name: token, type: string, sensitive: true}, {name: url, keep: true}]
    - name: api
      kind: Service
      runtime:
        process: {command: [bin/api, "${word}"], cwd: /srv/api, user: api, ports: [{name: http}]}
      env: {DATABASE_URL: {from: shop-db, output: url}, TOKEN: {from: seed, output: token}, MODE: prod}
      health: {http: {port: http, path: /healthz}, timeout: 60s, interval: 1s, checkTimeout: 5s, steady: 5s, crashes: 2}
      restart: {when: always, delay: 500ms, delayMax: 60s, limit: 10}
      replace: beside
      grace: 10s
      limits: {memory: 512Mi, cpus: 0.5, processes: 100, openFiles: 1024}
      logs: {size: 10Mi, files: 5}
    - name: web
      kind: Service
      runtime: {container: {build: {context: services/web}, ports: [{name: http, port: "${port}"}], networks: [shop]}}
      env: {API: {from: api, output: host}, API_PORT: {from: api, output: port}}
    - name: edge
      kind: Route
      host: shop.example.com
      path: /api
      to: {from: api, port: http}
      proxy: edge
"""


def told(components: list[str], more: str = "") -> list[str]:
    """Messages about components, which begin on line 9 where nothing more stands before them."""
    listed = "".join(f"    - {{{component}}}\n" for component in components)
    (parsed,) = parse_file("e.yaml", (HEAD + PLACES + more + "  components:\n" + listed).encode())
    return [str(problem).partition(": ")[2] for problem in parsed.problems]


def test_everything_that_can_be_said_is_read_and_written_back_the_same() -> None:
    """A spec with all keys is sound, and what it says is the same after it was written as JSON."""
    text = HEAD + PLACES + "  variables: {word: hello, port: '8080'}\n  components:\n" + FULL
    (parsed,) = parse_file("e.yaml", text.encode())
    assert parsed.problems == ()
    assert parsed.spec is not None
    written = json.loads(parsed.spec.model_dump_json(by_alias=True, exclude_unset=True))
    (again,) = parse_file("e.yaml", json.dumps(written).encode())
    assert (again.problems, again.spec) == ((), parsed.spec)


def test_each_kind_has_its_default_stage() -> None:
    """Nothing names a stage: servers come before databases, and routes after services."""
    (parsed,) = parse_file(
        "e.yaml",
        (HEAD + PLACES + "  variables: {word: a, port: '80'}\n  components:\n" + FULL).encode(),
    )
    assert parsed.spec is not None
    stages = {part.name: parsed.spec.stage_of(part) for part in parsed.spec.components}
    assert stages == parsed.spec.stages_of()
    assert stages == {
        "pg": "servers",
        "shop-db": "databases",
        "seed": "jobs",
        "api": "services",
        "web": "services",
        "edge": "routes",
    }


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [("8080", 8080, "8080"), ("{name: http}", None, "http"), ("{name: http, port: 80}", 80, "http")],
)
def test_a_port_is_a_number_or_a_name_or_both(text: str, number: int | None, name: str) -> None:
    """A number alone is its name as well."""
    service = f"name: api, kind: Service, runtime: {{process: {{command: [a], ports: [{text}]}}}}"
    (parsed,) = parse_file("e.yaml", (HEAD + PLACES + f"  components:\n    - {{{service}}}\n").encode())
    assert parsed.spec is not None
    program = parsed.spec.services[0].runtime.process
    assert program is not None
    assert [(port.name, port.port) for port in program.ports] == [(name, number)]


SOUND = [
    [PG, ON],
    [DB, API + ", env: {URL: {from: db, output: readerUrl}}"],
    [API + ", env: {PEER: {from: two, output: port.admin}}", TWO],
    [API, EDGE],
    [API, EDGE, EDGE.replace("edge", "other") + ", path: /api"],
    [API, EDGE, EDGE.replace("edge", "other") + ", proxy: inner"],
    [SEED + ", outputs: [{name: a, keep: true}]"],
    [SEED + ", run: {on: [], schedule: '0 3 * * *'}"],
    [SEED + ", outputs: [{name: a}], stage: services", API + ", env: {A: {from: seed, output: a}}"],
    [API + ", env: {name: 'x', password: {env: API_PASSWORD}}"],
    [PG.replace("5432", "8080"), PG.replace("pg", "other").replace("5432", "8080")],
    [API + ", skip: true, env: {URL: {from: db, output: url}}", DB + ", skip: true"],
]


@pytest.mark.parametrize("components", SOUND, ids=range(len(SOUND)))
def test_sound_programs_are_fine(components: list[str]) -> None:
    """What may be said is taken."""
    assert told(components) == []


FAULTS: list[tuple[list[str], list[str]]] = [
    # runtimes
    (
        ["name: a, kind: Service, runtime: {}"],
        ["spec.components[0].runtime: names no runtime (write one of process, systemd, container)"],
    ),
    (
        ["name: a, kind: Job, runtime: {process: {command: [a]}, systemd: {command: [a]}}"],
        ["spec.components[0].runtime: names 2 runtimes: process, systemd (write one of process, systemd, container)"],
    ),
    (
        ["name: a, kind: Service, runtime: {procss: {command: [a]}}"],
        ["spec.components[0].runtime: unknown key 'procss' (did you mean 'process'?)"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: []}}"],
        ["spec.components[0].runtime.process.command: must not be empty"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: bin/a}}"],
        ["spec.components[0].runtime.process.command: must be a list, not text"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: [a], cwd: srv/a}}"],
        ["spec.components[0].runtime.process.cwd: must be an absolute path (write it as in /srv/shop)"],
    ),
    (
        ["name: a, kind: Job, runtime: {process: {command: [a], ports: [80]}}"],
        ["spec.components[0].runtime.process: unknown key 'ports' (known keys: command, cwd, data, user)"],
    ),
    (
        ["name: a, kind: Service, runtime: {container: {}}"],
        ["spec.components[0].runtime.container: a container needs `image` or `build`"],
    ),
    (
        ["name: a, kind: Service, runtime: {container: {image: a, build: {context: a}}}"],
        ["spec.components[0].runtime.container: a container has `image` or `build`, not both"],
    ),
    (
        ["name: a, kind: Service, runtime: {container: {build: {context: ../a}}}"],
        ["spec.components[0].runtime.container.build.context: must stay below the root of the source (leave '..' out)"],
    ),
    (
        ["name: a, kind: Service, runtime: {container: {image: 'A b'}}"],
        ["spec.components[0].runtime.container.image: is not the name of an image (write it as in registry.example.com/shop/api:1.4.2)"],
    ),
    # ports
    (
        ["name: a, kind: Service, runtime: {process: {command: [a], ports: [70000]}}"],
        ["spec.components[0].runtime.process.ports[0].port: must be the number of a port, 1 to 65535"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: [a], ports: ['8080']}}"],
        ["spec.components[0].runtime.process.ports[0]: must be a number or a mapping (write it as in 8080 or {name: http})"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: [a], ports: [{name: a-b}, {name: a.b}]}}"],
        ["spec.components[0].runtime.process.ports[1]: port 'a.b' is told to the program as PORT_A_B, and so is port 'a-b' (name one of them another way)"],
    ),
    (
        ["name: a, kind: Service, runtime: {container: {image: a, ports: [{name: http}]}}"],
        ["spec.components[0].runtime.container.ports[0]: port 'http' has no number (say with `port` which it is in the container)"],
    ),
    (
        [
            "name: a, kind: Service, runtime: {process: {command: [a], ports: [80]}}",
            "name: b, kind: Service, runtime: {systemd: {command: [a], ports: [{name: http, port: 80}]}}",
        ],
        ["spec.components[1].runtime.systemd.ports[0]: port 80 of the machine is taken by 'a' already (the other one is spec.components[0])"],
    ),
    # data
    (
        ["name: a, kind: Service, runtime: {container: {image: a, data: [{name: main}]}}"],
        ["spec.components[0].runtime.container.data[0]: folder 'main' has no path (say with `path` where it stands in the container)"],
    ),
    (
        ["name: a, kind: Service, runtime: {process: {command: [a], data: [{name: main, path: /a}]}}"],
        ["spec.components[0].runtime.process.data[0].path: only a container has a place for a folder (leave it out: the program is told where it is as DATA_MAIN)"],
    ),
    # env
    (
        [API + ", env: {RECONCILER_DSN: a}"],
        ["spec.components[0].env.RECONCILER_DSN: environment variables that start with RECONCILER_ are the daemon's own (name it another way)"],
    ),
    (
        [API + ", env: {A-B: a}"],
        ["spec.components[0].env.A-B: is not the name of an environment variable (letters, digits and '_', up to 255)"],
    ),
    (
        [API + ", env: {A: 1}"],
        ["spec.components[0].env.A: must be a text, or refer to a secret or an output (put it in quotes)"],
    ),
    (
        [API + ", env: {PORT_HTTP: '80'}"],
        ["spec.components[0].env.PORT_HTTP: variable 'PORT_HTTP' tells the program of port 'http' (name it another way)"],
    ),
    (
        [SEED + ", env: {JOB_OUTPUT: /tmp/a}"],
        ["spec.components[0].env.JOB_OUTPUT: variable 'JOB_OUTPUT' tells the program of the file for its outputs (name it another way)"],
    ),
    (
        [API + ", env: {A: {from: db}}", DB],
        ["spec.components[0].env.A: must have exactly the keys from and output (write it as in {from: shop-db, output: url})"],
    ),
    (
        [API + ", env: {A: '${nothing}'}"],
        ["spec.components[0].env.A: unknown variable 'nothing' (known variables: deployment, environment)"],
    ),
    # outputs
    (
        [API + ", env: {A: {from: bd, output: url}}", DB],
        ["spec.components[0].env.A: unknown component 'bd' (known components with outputs: db)"],
    ),
    (
        [API + ", env: {A: {from: api, output: port}}"],
        ["spec.components[0].env.A: component 'api' refers to itself (name another one)"],
    ),
    (
        [API + ", env: {A: {from: db, output: uri}}", DB],
        ["spec.components[0].env.A: component 'db' has no output 'uri' (did you mean 'url'?)"],
    ),
    (
        [API + ", env: {A: {from: two, output: port}}", TWO],
        ["spec.components[0].env.A: component 'two' has no output 'port' (did you mean 'port.http'?)"],
    ),
    (
        [API + ", env: {A: {from: m, output: url}}", DB, "name: m, kind: Module, database: {from: db}, path: m"],
        ["spec.components[0].env.A: component 'm' has no output 'url' (a Module has none)"],
    ),
    (
        [SEED + ", env: {A: {from: api, output: host}}", API],
        ["spec.components[0].env.A: component 'api' is in stage 'services', after stage 'jobs' (a component uses what the same or an earlier stage makes)"],
    ),
    (
        [SEED + ", outputs: [{name: a}]"],
        ["spec.components[0].outputs[0]: no component consumes output 'a' of job 'seed' (write keep: true to keep it all the same, or leave it out)"],
    ),
    (
        [SEED + ", outputs: [{name: a, keep: true}, {name: a, keep: true}]"],
        ["spec.components[0].outputs[1].name: duplicate output 'a' (name it once)"],
    ),
    (
        [SEED + ", run: {on: [stop]}, outputs: [{name: a}]", API + ", env: {A: {from: seed, output: a}}"],
        ["spec.components[1].env.A: job 'seed' does not run on change, so that nothing makes its outputs in a rollout (add `change` to its `run.on`)"],
    ),
    # health
    (
        [API + ", health: {http: {port: htp}}"],
        ["spec.components[0].health.http: service 'api' has no port 'htp' (did you mean 'http'?)"],
    ),
    (
        [TWO + ", health: {tcp: {}}"],
        ["spec.components[0].health.tcp: service 'two' has 2 ports, and none is named here (name one with `port`)"],
    ),
    (
        [API + ", health: {tcp: {}, command: [a]}"],
        ["spec.components[0].health: has 2 checks: tcp, command (keep one of them)"],
    ),
    (
        [API + ", health: {timeout: 0s}"],
        ["spec.components[0].health.timeout: is not a duration from 1s to 1d (write it as in 60s or 10m)"],
    ),
    # replacing
    (
        [API.replace("{name: http}", "80") + ", replace: beside"],
        ["spec.components[0].replace: two instances of 'api' cannot run side by side: port '80' has a number of its own, which only one of them can have (write in-place, or leave it out)"],
    ),
    (
        [PG + ", replace: beside", ON],
        ["spec.components[0].replace: two instances of 'pg' cannot run side by side: it has data ('main') (write in-place, or leave it out)"],
    ),
    (
        [API + ", replace: beside", ON.replace("pg", "api")],
        ["spec.components[0].replace: two instances of 'api' cannot run side by side: a database lives on it (write in-place, or leave it out)"],
    ),
    (
        [PG.replace(", data: [{name: main, path: /data}]", ""), ON],
        ["spec.components[0]: databases live on 'pg', and would go with its container (add `data` with the folder that PostgreSQL keeps them in)"],
    ),
    # servers
    (
        [PG, ON.replace("from: pg", "from: gp")],
        ["spec.components[1].on: unknown component 'gp' (known Service components: pg)"],
    ),
    (
        [SEED, ON.replace("from: pg", "from: seed, port: 1")],
        ["spec.components[1].on: a database lives on a Service, and 'seed' is a Job (there are no Service components)"],
    ),
    (
        [PG, ON.replace("from: pg", "from: pg, port: 5433")],
        ["spec.components[1].on: service 'pg' has no port '5433' (did you mean '5432'?)"],
    ),
    (
        [PG + ", stage: services", ON],
        ["spec.components[1].on: component 'pg' is in stage 'services', after stage 'databases' (a component uses what the same or an earlier stage makes)"],
    ),
    (
        [PG, ON.replace("from: pg", "from: pg, password: hunter22222")],
        ["spec.components[1].on.password: must refer to a secret, not hold it (write {env: NAME}, {file: PATH} or {age: …}; a secret never stands in a spec in the clear)"],
    ),
    # routes
    (
        [EDGE, DB.replace("db", "api")],
        ["spec.components[0].to: a route leads to a Service, and 'api' is a Database (there are no Service components)"],
    ),
    (
        [EDGE.replace("from: api", "from: api, port: https"), API],
        ["spec.components[0].to: service 'api' has no port 'https' (did you mean 'http'?)"],
    ),
    (
        [EDGE.replace("shop.example.com", "Shop.example.com"), API],
        ["spec.components[0].host: is not the name of a host (write it in lower case, as in shop.example.com)"],
    ),
    (
        [EDGE + ", path: api", API],
        ["spec.components[0].path: is not a path of requests (write it as in /api)"],
    ),
    (
        [EDGE + ", path: /api", EDGE.replace("edge", "other") + ", path: /api/", API],
        ["spec.components[1].host: requests for 'shop.example.com/api' go by 'edge' already (the other one is spec.components[0])"],
    ),
    # jobs
    (
        [SEED + ", run: {on: []}"],
        ["spec.components[0].run: runs for nothing (name something under `on`, or a `schedule`)"],
    ),
    (
        [SEED + ", run: {on: [chang]}"],
        ["spec.components[0].run.on[0]: must be change, start, stop or remove, not 'chang' (did you mean 'change'?)"],
    ),
    (
        [SEED + ", limits: {memory: 512MB}"],
        ["spec.components[0].limits.memory: is not a size (write it as in 512Mi or 1Gi, or as a number of bytes)"],
    ),
    (
        [SEED + ", limits: {cpus: 0}"],
        ["spec.components[0].limits.cpus: must be more than 0"],
    ),
    (
        [SEED + ", inputs: [/seed/*]"],
        ["spec.components[0].inputs[0]: must be relative to the root of the source (leave the first '/' out)"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("components", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_faults_of_programs_are_told_exactly(components: list[str], expected: list[str]) -> None:
    """One mistake is one message at its place, with what to do."""
    assert told(components) == expected


def test_all_that_is_wrong_is_told_at_once() -> None:
    """Faults of models and of references stand side by side, by line."""
    found = told(
        [
            API + ", grace: 1",
            EDGE.replace("from: api", "from: apy"),
            SEED + ", env: {A: {from: db, output: url}}",
        ]
    )
    assert [each.partition(": ")[0] for each in found] == [
        "spec.components[0].grace",
        "spec.components[1].to",
        "spec.components[2].env.A",
    ]


@pytest.mark.parametrize(
    ("components", "cycle"),
    [
        (
            [
                API + ", env: {A: {from: two, output: host}}",
                TWO + ", env: {A: {from: api, output: host}}",
            ],
            "api -> two -> api",
        ),
        ([API + ", after: [two]", TWO + ", env: {A: {from: api, output: host}}"], "api -> two -> api"),
        ([API + ", stage: routes, after: [edge]", EDGE], "api -> edge -> api"),
        (
            [
                PG + ", stage: databases, env: {A: {from: db, output: host}}",
                ON,
            ],
            "pg -> db -> pg",
        ),
    ],
    ids=["outputs", "after and output", "route", "server"],
)
def test_cycles_through_any_reference_are_named_in_full(components: list[str], cycle: str) -> None:
    """What waits for itself in a stage, however, is told with all who are part of it."""
    (found,) = told(components)
    assert found.endswith(f": components wait for each other: {cycle} (remove one edge)")


def test_what_is_taken_twice_is_seen_in_each_deployment() -> None:
    """Variables may make two hosts, or two ports, the same in one deployment only."""
    text = (
        HEAD
        + "  deployments:\n"
        + "    - {name: eu, postgres: {dsn: {env: EU_DSN}}, variables: {host: a.example.com, port: '80'}}\n"
        + "    - {name: us, postgres: {dsn: {env: US_DSN}}, variables: {host: b.example.com, port: '81'}}\n"
        + "  components:\n"
        + "    - {name: api, kind: Service, runtime: {process: {command: [a], ports: [{name: http, port: '${port}'}]}}}\n"
        + "    - {name: two, kind: Service, runtime: {process: {command: [a], ports: [81]}}}\n"
        + "    - {name: edge, kind: Route, host: '${host}', to: {from: api}}\n"
        + "    - {name: other, kind: Route, host: a.example.com, to: {from: two}}\n"
    )
    (parsed,) = parse_file("e.yaml", text.encode())
    assert [problem.message for problem in parsed.problems] == [
        "port 81 of the machine is taken by 'api' already in deployment 'us'",
        "requests for 'a.example.com/' go by 'edge' already in deployment 'eu'",
    ]


def test_values_with_variables_follow_their_rules_in_each_deployment() -> None:
    """A port that is no number once variables are in is told with the deployment."""
    service = "name: api, kind: Service, runtime: {process: {command: [a], ports: [{name: http, port: '${deployment}'}]}}"
    assert told([service]) == [
        "spec.components[0].runtime.process.ports[0].port: in deployment 'eu', must be the number of a port, 1 to 65535"
    ]


def test_no_message_shows_a_value_of_a_variable() -> None:
    """What stands under env or as a password may be a secret by mistake."""
    secret = "correcthorse"
    found = told(
        [
            API + f", env: {{A: {{env: '{secret} battery'}}, B: [{secret}], C: {{{secret}: 1}}}}",
            ON.replace("from: pg", f"from: pg, password: {secret}, user: [{secret}]"),
            PG,
        ]
    )
    assert len(found) == 5
    assert not [each for each in found if secret in each]


def test_a_slip_among_thousands_of_names_is_told_with_the_nearest_one() -> None:
    """A hint costs little, however many components there are, and is the same as among few."""
    parts = [
        f"name: service-{number}, kind: Service, runtime: {{process: {{command: [a], ports: [{{name: a}}]}}}}"
        for number in range(400)
    ]
    found = told([*parts, "name: last, kind: Route, host: a.example.com, to: {from: srvice-123}"])
    assert found == ["spec.components[400].to: unknown component 'srvice-123' (did you mean 'service-123'?)"]
