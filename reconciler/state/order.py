"""Order things so that each comes after what it requires; cycles are named in full."""

from collections.abc import Mapping, Sequence

from reconciler.errors import PermanentError, Problem


class Cycle(PermanentError):
    """Things that require each other; `path` starts and ends with the same one."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__("these require each other: " + " -> ".join(self.path))

    def problem(self) -> Problem:
        """The same as one problem of an input."""
        return Problem(message=self.message)


def topological(names: Sequence[str], requires: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Sort `names` by `requires`; where both orders are right, the order given stays.

    Requirements outside `names` are left aside. Raises Cycle.
    """
    known = set(names)
    done: dict[str, None] = {}
    for name in names:
        _visit(name, known, requires, done)
    return tuple(done)


def _visit(start: str, known: set[str], requires: Mapping[str, Sequence[str]], done: dict[str, None]) -> None:
    """Walk depth first without recursion: a plan may be longer than the interpreter's stack."""
    path: dict[str, None] = {start: None}
    pending = [iter(requires.get(start, ()))]
    if start in done:
        return
    while path:
        following = next((need for need in pending[-1] if need in known and need not in done), None)
        if following is None:
            done[path.popitem()[0]] = None
            pending.pop()
        elif following in path:
            names = list(path)
            raise Cycle([*names[names.index(following) :], following])
        else:
            path[following] = None
            pending.append(iter(requires.get(following, ())))
