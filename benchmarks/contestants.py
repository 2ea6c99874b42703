"""Who is compared over a module: this program, bare psql sessions, pgpm's engine and Sqitch, each with its commands."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import conninfo

from benchmarks import pgpm
from benchmarks.chain import Chain, pgpm_files, session, sqitch_files
from benchmarks.content import DSN_VARIABLE
from benchmarks.fleet import Fleet
from reconciler.postgres.embedded import find_binaries

DATABASE = "bench_modules"
ENVIRONMENT = "bench"
LAUNCHER = Path(__file__).with_name("launch.py")
TASK_TIMEOUT_S = 900.0
SAID_MAX = 2000
INSIDE = (
    "SELECT extract(epoch FROM finished_at - started_at)::float8, state"
    " FROM reconciler_control.operations ORDER BY created_at DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One command that is timed."""

    verb: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    cwd: Path
    accepted: frozenset[int] = frozenset({0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a command took: seconds, processor time of it and its children, and its largest process's peak."""

    seconds: float
    cpu_s: float
    peak: int
    exit_code: int
    said: str
    accepted: bool

    @property
    def failed(self) -> str:
        """What it said, where it failed."""
        return "" if self.accepted else f"exit code {self.exit_code}: {self.said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Somebody with a command for each verb, in the order they are run.

    `prepare` is not timed, and says why it cannot be done where it cannot; `inside` gives what the last command
    took by its own record, where there is one.
    """

    name: str
    tasks: Sequence[Task]
    prepare: Callable[[], str] = lambda: ""
    inside: Callable[[], float | None] = field(default=lambda: None)


def run(task: Task) -> Taken:
    """Run one command by a small process that measures it."""
    result = task.cwd / "taken.json"
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-S", str(LAUNCHER), str(result), *task.command],
        cwd=task.cwd, env=dict(task.environ), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TASK_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{task.command[0]} did not start: {done.stderr[-SAID_MAX:]}")
    told = json.loads(result.read_text())
    accepted = told["exit_code"] in task.accepted
    return Taken(
        seconds=told["seconds"],
        cpu_s=told["cpu_s"],
        peak=told["peak"],
        exit_code=told["exit_code"],
        said=done.stdout if accepted else (done.stdout + done.stderr)[-SAID_MAX:],
        accepted=accepted,
    )


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def login(made: Fleet) -> dict[str, str]:
    """How programs of PostgreSQL are told where the database is; the server's own psql comes first."""
    known = conninfo.conninfo_to_dict(made.dsn)
    return {
        **made.environ,
        "PATH": f"{find_binaries()}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(known["port"]),
        "PGUSER": str(known["user"]),
        "PGPASSWORD": str(known["password"]),
        "PGDATABASE": DATABASE,
    }


# ---- this program


def spec(projects: Sequence[str], *, transaction: str, apart: bool = False) -> dict[str, Any]:
    """An environment of modules on one database; with `apart`, each in a stage of its own."""
    stages = [f"stage{number}" if apart else "stage0" for number in range(len(projects))]
    modules = [
        {
            "name": project,
            "kind": "Module",
            "stage": stage,
            "database": {"from": "data"},
            "path": f"modules/{project}",
            "transaction": transaction,
        }
        for project, stage in zip(projects, stages, strict=True)
    ]
    return {
        "apiVersion": "reconciler/v1",
        "kind": "Environment",
        "metadata": {"name": ENVIRONMENT},
        "spec": {
            "stages": [{"name": name} for name in ("databases", *dict.fromkeys(stages))],
            "deployments": [{"name": "one", "postgres": {"dsn": {"env": DSN_VARIABLE}}}],
            "components": [{"name": "data", "kind": "Database", "database": DATABASE}, *modules],
        },
    }


def blocked(plan: Mapping[str, Any]) -> list[str]:
    """What the plan of a dry run says cannot be done."""
    return [str(why) for deployment in plan["deployments"] for why in deployment["blocked"]]


def commit_modules(made: Fleet, chains: Sequence[Chain]) -> None:
    """Commit modules to the config repository, packed as one is after a while."""
    for chain in chains:
        made.write({f"modules/{chain.project}/{name}": text for name, text in sqitch_files(chain).items()})
    made.commit()
    made.git("repack", "-a", "-d", "--quiet")


def ours(
    made: Fleet, projects: Sequence[str], *, transaction: str, apart: bool = False, name: str = ""
) -> Contestant:
    """The installed program without a daemon; the commit is fetched before, as others find their files."""
    config = made.folder / "daemon0" / "reconciler.yaml"
    if not config.exists():
        made.add_daemon()
    program = str(Path(sys.executable).with_name("reconciler"))

    def task(verb: str, *arguments: str, accepted: frozenset[int] = frozenset({0})) -> Task:
        command = (program, *arguments, "--config", str(config))
        return Task(verb=verb, command=command, environ=made.environ, cwd=made.folder, accepted=accepted)

    def prepare() -> str:
        wanted = spec(projects, transaction=transaction, apart=apart)
        # JSON is YAML.
        made.write({f"environments/{ENVIRONMENT}.yaml": json.dumps(wanted)})
        if made.git("status", "--porcelain"):
            made.commit()
        looked = run(task("diff", "diff", ENVIRONMENT, "--output", "json"))
        if looked.failed:
            raise RuntimeError(looked.failed)
        return "; ".join(blocked(json.loads(looked.said)))

    def inside() -> float | None:
        seconds, state = made.ask(INSIDE)[0]
        if state not in {"completed", "reverted"}:
            raise RuntimeError(f"the operation is {state}")
        return float(seconds)

    tasks = [
        task("deploy", "module", "deploy", ENVIRONMENT),
        task("no-op", "module", "deploy", ENVIRONMENT),
        task("status", "module", "status", ENVIRONMENT),
        task("verify", "module", "verify", ENVIRONMENT),
    ]
    tasks += [
        task("revert", "module", "revert", ENVIRONMENT, project, "--all", "--yes") for project in projects
    ]
    return Contestant(name=name or f"us, {transaction}", tasks=tasks, prepare=prepare, inside=inside)


# ---- others


def floor(made: Fleet, folder: Path, chain: Chain, *, together: bool, verified: bool = False) -> Contestant:
    """One psql session for each verb, fed all scripts in one transaction or in one each.

    With `verified`, deploys run the verify scripts too, where we run them.
    """
    environ = login(made)
    tasks = []
    mode = ("module" if together else "change") + (", verified" if verified else "")
    for verb in ("deploy", "verify", "revert"):
        name = f"{verb}-{mode.replace(', ', '-')}.sql"
        write(folder, {name: session(chain, verb, together=together, verified=verified)})
        tasks.append(psql_task(environ, folder, verb, name))
    return Contestant(name=f"psql, {mode}", tasks=tasks)


def psql_task(environ: Mapping[str, str], folder: Path, verb: str, name: str) -> Task:
    """A psql session that reads a file."""
    command = (str(find_binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", name)
    return Task(verb=verb, command=command, environ=environ, cwd=folder)


def by_pgpm(made: Fleet, folder: Path, chain: Chain, engine: Path, *, fast: bool) -> Contestant:
    """The engine of pgpm: by default all in one transaction; `fast`, deploys in one piece.

    With `fast`, reverts make a transaction each: that is what it needs for many changes.
    """
    write(folder, pgpm_files(chain))
    environ = login(made) | ({"EACH": "1"} if fast else {})
    deploy = "fast" if fast else "deploy"
    verbs = {"deploy": deploy, "no-op": deploy, "status": "status", "verify": "verify", "revert": "revert"}
    return Contestant(
        name=f"pgpm, {'fast' if fast else 'default'}",
        tasks=[
            Task(verb=verb, command=pgpm.command(engine, folder, argument), environ=environ, cwd=folder)
            for verb, argument in verbs.items()
        ],
    )


def by_sqitch(made: Fleet, folder: Path, chain: Chain) -> Contestant:
    """Sqitch with nobody's settings but its own."""
    write(folder, sqitch_files(chain))
    environ = login(made) | {
        "SQITCH_USER_CONFIG": "none",
        "SQITCH_SYSTEM_CONFIG": "none",
        "SQITCH_FULLNAME": "Bench",
        "SQITCH_EMAIL": "bench@example.org",
        "LC_ALL": "C.UTF-8",
    }
    target = f"db:pg://{environ['PGUSER']}@127.0.0.1:{environ['PGPORT']}/{DATABASE}"
    verbs = {
        "deploy": ("deploy",),
        "no-op": ("deploy",),
        "status": ("status",),
        "verify": ("verify",),
        "revert": ("revert", "-y"),
    }
    return Contestant(
        name="sqitch",
        tasks=[
            Task(verb=verb, command=("sqitch", *arguments, target), environ=environ, cwd=folder)
            for verb, arguments in verbs.items()
        ],
    )
