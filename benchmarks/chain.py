"""A module of tables, each of which requires the one before, written the way each tool wants its files."""

from collections.abc import Iterator
from dataclasses import dataclass

TAG_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A project and how many changes it has; its tables bear its name, so that projects share a database."""

    project: str
    changes: int

    def name(self, number: int) -> str:
        """Name of a change."""
        return f"t{number}"

    def bodies(self, number: int) -> tuple[tuple[str, str], ...]:
        """What is done, checked and taken back: kinds of scripts with what stands in them."""
        table = f"{self.project}_{self.name(number)}"
        columns = "id bigint PRIMARY KEY, name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()"
        return (
            ("deploy", f"CREATE TABLE {table} ({columns});"),
            ("verify", f"SELECT id, name, created_at FROM {table} WHERE false;"),
            ("revert", f"DROP TABLE {table};"),
        )


def wrapped(kind: str, body: str) -> str:
    """A script in a transaction of its own, as Sqitch's are written."""
    end = "ROLLBACK" if kind == "verify" else "COMMIT"
    return f"BEGIN;\n\n{body}\n\n{end};\n"


def plan(chain: Chain) -> str:
    """The plan file, with a tag every ten changes."""
    return f"%syntax-version=1.0.0\n%project={chain.project}\n\n" + "".join(_lines(chain))


def _lines(chain: Chain) -> Iterator[str]:
    for number in range(chain.changes):
        at = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        who = f"{at} Bench <bench@example.org>"
        needs = f" [{chain.name(number - 1)}]" if number else ""
        yield f"{chain.name(number)}{needs} {who} # table {number}\n"
        if (number + 1) % TAG_EVERY == 0:
            yield f"@v{(number + 1) // TAG_EVERY} {who} # {number + 1} tables\n\n"


def sqitch_files(chain: Chain) -> dict[str, str]:
    """The module as Sqitch and we have it; every script has its own transaction."""
    files = {"sqitch.plan": plan(chain), "sqitch.conf": "[core]\n\tengine = pg\n"}
    for number in range(chain.changes):
        for kind, body in chain.bodies(number):
            files[f"{kind}/{chain.name(number)}.sql"] = (
                f"-- {kind.capitalize()} {chain.project}:{chain.name(number)}\n\n{wrapped(kind, body)}"
            )
    return files


def pgpm_files(chain: Chain) -> dict[str, str]:
    """The module as pgpm has it; the tool makes the transactions."""
    control = f"default_version = '0.0.1'\ncomment = '{chain.project}'\n"
    files = {
        "pgpm.plan": plan(chain),
        f"{chain.project}.control": control,
        "package.json": f'{{"name": "{chain.project}", "version": "0.0.1"}}\n',
    }
    for number in range(chain.changes):
        for kind, body in chain.bodies(number):
            files[f"{kind}/{chain.name(number)}.sql"] = (
                f"-- {kind.capitalize()} {chain.project}:{chain.name(number)}\n\n{body}\n"
            )
    return files


def session(chain: Chain, kind: str, *, together: bool, verified: bool = False) -> str:
    """All scripts of a kind for one psql session, in one transaction or in one each.

    With `verified`, a deploy script has the verify script of its change behind it, as we run them.
    """
    numbers = range(chain.changes)
    order = reversed(numbers) if kind == "revert" else numbers
    kinds = (kind, "verify") if verified and kind == "deploy" else (kind,)
    bodies = ["\n".join(dict(chain.bodies(number))[each] for each in kinds) for number in order]
    if together:
        return wrapped(kind, "\n".join(bodies))
    return "".join(wrapped(kind, body) for body in bodies)
