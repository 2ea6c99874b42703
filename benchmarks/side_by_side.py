"""Modules that need nothing of each other, deployed to one database at once or one after the other."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.chain import Chain, session
from benchmarks.contestants import Contestant, Task, commit_modules, login, ours, psql_task, write
from benchmarks.figures import INSIDE, Goal
from benchmarks.fleet import Fleet

SESSIONS = 2
"""As many psql sessions as the machine has cores."""
US, US_IN_ROW = "us, at once", "us, in a row"
PSQL, PSQL_IN_ROW = "psql, two at once", "psql, one in a row"
GOALS = tuple(
    Goal(verbs=("deploy",), who=who, against=(against,))
    for who, against in (
        (US, US_IN_ROW),
        (US + INSIDE, US_IN_ROW + INSIDE),
        (PSQL, PSQL_IN_ROW),
        (US, PSQL),
        (US + INSIDE, PSQL),
        (US_IN_ROW + INSIDE, PSQL_IN_ROW),
    )
)


def chains(modules: int, changes: int) -> list[Chain]:
    """Modules of one size that need nothing of each other."""
    return [
        Chain(project=f"chain{modules}of{changes}x{number}", changes=changes) for number in range(modules)
    ]


def contestants(made: Fleet, modules: Sequence[Chain]) -> list[Contestant]:
    """Our program with all modules in one stage and with a stage for each; psql in two sessions and in one."""
    commit_modules(made, modules)
    projects = [chain.project for chain in modules]
    folder = made.folder / "-".join(("side", projects[0]))
    folder.mkdir()
    return [
        _deploy_only(ours(made, projects, transaction="change", name=US)),
        _deploy_only(ours(made, projects, transaction="change", apart=True, name=US_IN_ROW)),
        psql(made, folder, modules, SESSIONS, name=PSQL),
        psql(made, folder, modules, 1, name=PSQL_IN_ROW),
    ]


def _deploy_only(contestant: Contestant) -> Contestant:
    return Contestant(
        name=contestant.name,
        tasks=[task for task in contestant.tasks if task.verb == "deploy"],
        prepare=contestant.prepare,
        inside=contestant.inside,
    )


def psql(made: Fleet, folder: Path, modules: Sequence[Chain], sessions: int, *, name: str) -> Contestant:
    """Sessions of psql at once, each fed the scripts of its share of the modules, a transaction each."""
    environ = login(made)
    commands = []
    for number in range(sessions):
        file = f"{sessions}-{number}.sql"
        share = modules[number::sessions]
        write(folder, {file: "".join(session(chain, "deploy", together=False) for chain in share)})
        commands.append(psql_task(environ, folder, "deploy", file).command)
    return Contestant(
        name=name,
        tasks=[Task(verb="deploy", command=at_once(commands), environ=environ, cwd=folder)],
    )


def at_once(commands: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One command that runs several at once and fails where one does; their words are plain."""
    if len(commands) == 1:
        return tuple(commands[0])
    started = "".join(f"{' '.join(command)} & p{number}=$!; " for number, command in enumerate(commands))
    return ("sh", "-c", started + " && ".join(f"wait $p{number}" for number in range(len(commands))))
