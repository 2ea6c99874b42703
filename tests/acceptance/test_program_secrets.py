"""What services are given, jobs put out and databases generate, from outside: nobody is shown any of it."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.daemon import age
from tests.plugins.daemon import Daemon, World, until

GIVEN, AGED, MADE = "perch-GIVEN-q1", "perch-AGED-q2", "perch-MADE-q3"
QUIET = """\
    - name: seed
      kind: Job
      runtime: {process: {command: [FOLDER/seed]}}
      outputs: [{name: token, sensitive: true}]
    - name: api
      kind: Service
      runtime: {process: {command: [/bin/sh, -c, 'umask 077; env | tee FOLDER/env; exec sleep 1000']}}
      env:
        DATABASE_URL: {from: shop-db, output: url}
        TOKEN: {from: seed, output: token}
        GIVEN: {env: API_KEY}
      health: {interval: 100ms, steady: 100ms}
"""
LOUD = """\
    - name: loud
      kind: Service
      runtime: {process: {command: [FOLDER/loud]}}
      env: {GIVEN: {env: API_KEY}, AGED: {age: SEALED}, URL: {from: shop-db, output: url}}
      health: {interval: 100ms, steady: 1s, crashes: 1}
    - name: mistaken
      kind: Job
      stage: services
      runtime: {process: {command: [FOLDER/seed, FOLDER/url]}}
      env: {URL: {from: shop-db, output: url}}
      outputs: [{name: misspelt, sensitive: true, keep: true}]
"""
SAYS = '#!/bin/sh\necho "with $GIVEN, $AGED, ${URL#*_owner:}"\nexit 3\n'
SEED = """\
#!/bin/sh
[ -z "$1" ] || (umask 077; echo "$URL" > "$1")
printf '{"token": "%s"}' "$(cat MADE)" | tee "$JOB_OUTPUT"
"""


@pytest.fixture
def daemon(world: World) -> Iterator[Daemon]:
    """A daemon with keys, and two environments: one that gets its secrets, one that says them and fails."""
    key = age.new_key()
    world.extra |= {"API_KEY": GIVEN, "AGE_KEY": key.secret}
    seed = SEED.replace("MADE", f"{world.folder}/made")
    for name, text, mode in (("made", MADE, 0o600), ("seed", seed, 0o755), ("loud", SAYS, 0o755)):
        (world.folder / name).write_text(text)
        (world.folder / name).chmod(mode)
    sealed = json.dumps(age.encrypted(AGED, [key.recipient]))
    files = {**world.spec("quiet"), **world.spec("loud", database=f"{world.database}_loud")}
    for name, more in (("quiet", QUIET), ("loud", LOUD)):
        files[f"environments/{name}.yaml"] += more.replace("FOLDER", str(world.folder)).replace(
            "SEALED", sealed
        )
    world.repository.commit({**files, **world.repository.module({"a": "create table a ();"})})
    made = world.daemon()
    made.config.write_text(made.config.read_text() + "secrets: {age_keys: [{env: AGE_KEY}]}\n")
    made.start()
    yield made
    for name in ("quiet", "loud"):
        made.run("env", "stop", name, check=False)
    until(lambda: not _runs(world), "the service to be stopped")
    made.kill()
    world.server.drop_database(f"{world.database}_loud")
    world.server.drop_database(world.database)
    for name in (world.database, f"{world.database}_loud"):
        world.server.run(f'drop role if exists "{name}_owner"')


def _runs(world: World) -> bool:
    return any(str(world.folder / "env") in line for line in _command_lines())


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().decode("latin-1"))
    return found


def _readable_by_all(folder: Path) -> list[str]:
    found, folders = [], [folder]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_symlink() or not path.stat().st_mode & 0o005:
                continue
            if path.is_dir():
                folders.append(path)
            elif path.is_file():
                found.append(path.read_bytes().decode("latin-1"))
    return found


def _tables(world: World, database: str) -> list[str]:
    tables = world.rows(
        "select format('select t::text from %I.%I as t', n.nspname, c.relname) from pg_class as c"
        " join pg_namespace as n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p') and n.nspname like 'reconciler%'",
        database,
    )
    return [str(row) for (query,) in tables for row in world.rows(str(query), database)]


def _shown(daemon: Daemon) -> list[str]:
    paths = ["/metrics", "/v1/environments"]
    shown = [daemon.log.read_text()]
    for name in ("quiet", "loud"):
        _status, found = daemon.get(f"/v1/environments/{name}/rollouts")
        latest = found["rollouts"][0]["id"]
        paths.append(f"/v1/rollouts/{latest}")
        paths += [f"/v1/environments/{name}{rest}" for rest in ("", "/diff", "/events", "/outputs", "/jobs")]
        for command in (("status", name), ("show", latest)):
            result = daemon.run(*command, check=False)
            shown += [result.stdout, result.stderr]
    return [*shown, *(json.dumps(daemon.get(path)) for path in paths)]


def test_secrets_of_programs_are_never_shown(world: World, daemon: Daemon) -> None:
    """No log, event, metric, answer, table, process listing or readable file has a value, nor the key."""
    until(lambda: daemon.condition("Stalled", "loud").get("status"), "the loud ones to fail")
    until(lambda: daemon.condition("Ready", "quiet").get("status"), "the quiet ones to be there")
    given, url = ((world.folder / name).read_text() for name in ("env", "url"))
    passwords = re.findall(r"://[^:]+:([^@]+)@", given + url)
    assert len(passwords) == 2
    assert {f"GIVEN={GIVEN}", f"TOKEN={MADE}"} <= set(given.splitlines())
    shown = [
        *_shown(daemon),
        *_tables(world, world.control),
        *_tables(world, world.database),
        *_command_lines(),
        *_readable_by_all(world.folder),
    ]
    secrets = (GIVEN, AGED, MADE, *passwords, world.extra["AGE_KEY"])
    assert [(secret, text) for secret in secrets for text in shown if secret in text] == []
    assert "it said last: with " in "".join(shown)
