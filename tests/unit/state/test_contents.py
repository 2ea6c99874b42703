"""Modules kept between processes: they say what resolving again says, or nothing."""

import hashlib
import marshal
from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.errors import Problem
from reconciler.planner import view as view_module
from reconciler.planner.view import Parsing, Resolving, SourceView
from reconciler.source.tree import SourceTree, blob_id
from reconciler.state import contents
from reconciler.state.contents import Contents, Remembered, Resolved
from reconciler.state.desired import DesiredState
from reconciler.state.resolve import read_content

PLAN = """\
%syntax-version=1.0.0
%project=shop
%uri=https://example.org/shop

a 2026-01-01T00:00:00Z Ada <ada@example.org> # first
@v1 2026-01-01T00:00:00Z Ada <ada@example.org> # tag
b [a] 2026-01-02T00:00:00Z Ada <ada@example.org> # höher
a [a@v1] 2026-01-03T00:00:00Z Ada <ada@example.org> # again
"""
SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  variables: {tier: gold}
  deployments:
    - {name: eu, postgres: {dsn: {env: SHOP_DSN}}}
  components:
    - {name: db, kind: Database, database: shop}
    - {name: m, kind: Module, database: {from: db}, path: m}
"""
MODULE = {
    "m/sqitch.plan": PLAN.encode(),
    "m/shop.control": b"requires = 'citext'\n",
    "m/deploy/a@v1.sql": b"CREATE TABLE a ();\n",
    "m/deploy/a.sql": b"DROP TABLE a;\nCREATE TABLE a (b int);\n",
    "m/deploy/b.sql": "CREATE INDEX CONCURRENTLY i ON a ((1)); -- ü\n".encode(),
    "m/revert/b.sql": b"DROP INDEX i;\n",
    "m/verify/a.sql": b"SELECT '1'::int FROM a;\n",
}
US = "us"


class Store:
    """What was written down, as files would keep it."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def remembered(self, made_by: str = US) -> Remembered:
        """As a new process has it."""
        return Remembered(contents=Contents(self.written.get, made_by))

    def keep(self, known: Remembered) -> int:
        """Write down what came anew; gives how much that was."""
        assert known.contents is not None
        new = dict(known.contents.written())
        self.written |= new
        return len(new)


def view(**changed: bytes) -> SourceView:
    files = {"environments/shop.yaml": SPEC.encode(), **MODULE, **changed}
    tree = SourceTree(
        commit="1" * 40,
        files=files,
        blobs={path: blob_id(content, like="0" * 40) for path, content in files.items()},
        skipped=(),
    )
    return Parsing(restrict=lambda _source, parsed: parsed).view("site", tree, "environments")


def states(at: SourceView, known: Remembered | None = None) -> list[DesiredState]:
    spec = at.environments["shop"].spec
    assert spec is not None
    return Resolving(remembered=known).states(at, spec)


def kept() -> Store:
    store = Store()
    known = store.remembered()
    states(view(), known)
    assert store.keep(known) == 1
    return store


def test_a_kept_module_is_what_resolving_again_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it comes back whole, no script of it is looked at, and nothing is written again."""
    store, fresh = kept(), states(view())
    monkeypatch.setattr(view_module, "read_content", lambda *_args, **_kw: pytest.fail("it was resolved"))
    monkeypatch.setattr(view_module, "variable_names", lambda *_args: pytest.fail("it was looked at"))
    again = store.remembered()
    assert states(view(), again) == fresh
    assert store.keep(again) == 0


@pytest.mark.parametrize(
    "path", ["m/sqitch.plan", "m/deploy/a.sql", "m/revert/b.sql", "m/verify/a.sql", "m/shop.control"]
)
def test_a_changed_file_is_resolved_again(path: str) -> None:
    """Whichever file of the module changes, what was kept of it is not used."""
    store, edited = kept(), view(**{path: MODULE[path] + b"\n"})
    known = store.remembered()
    assert states(edited, known) == states(edited)
    assert store.keep(known) == 1


def test_values_count_where_scripts_may_use_them() -> None:
    """A module whose scripts name a variable is another one with another value; others are the same."""
    store, other = kept(), SPEC.replace("gold", "silver").encode()
    known = store.remembered()
    states(view(**{"environments/shop.yaml": other}), known)
    assert store.keep(known) == 0
    naming = {"m/deploy/b.sql": b"SELECT 'x:tier';\n"}
    known = store.remembered()
    states(view(**naming), known)
    assert store.keep(known) == 1
    known = store.remembered()
    states(view(**naming, **{"environments/shop.yaml": other}), known)
    assert store.keep(known) == 1


@pytest.mark.parametrize(
    "script", [b"\\set x 1\nSELECT :x;\n", b"SELECT :'tier';\n"], ids=["command", "variable"]
)
def test_scripts_for_psql_are_resolved_every_time(script: bytes) -> None:
    """What they are depends on more than their text; the module is not kept."""
    store = Store()
    known = store.remembered()
    at = view(**{"m/deploy/b.sql": script})
    assert states(at, known) == states(at)
    assert store.keep(known) == 0


def _flipped(written: bytes) -> bytes:
    at = written.index(b"CREATE TABLE")
    return written[:at] + b"c" + written[at + 1 :]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda written: written[:0],
        lambda written: written[:-1],
        lambda written: written + b" ",
        _flipped,
        lambda written: written.replace(b"module 1", b"module 0", 1),
        lambda written: written.partition(b"\n")[2],
        lambda _written: b"\n",
    ],
    ids=["empty", "short", "long", "flipped", "format", "headless", "nothing"],
)
def test_what_is_damaged_is_made_anew(damaged: Callable[[bytes], bytes]) -> None:
    """Nothing of a file is used unless all of it is as it was written."""
    store = kept()
    ((place, written),) = store.written.items()
    assert contents.decode(written, US) is not None
    store.written[place] = damaged(written)
    assert contents.decode(store.written[place], US) is None
    assert states(view(), store.remembered()) == states(view())


def test_what_another_program_wrote_is_made_anew() -> None:
    """Another version of the program may judge scripts otherwise."""
    store = kept()
    known = store.remembered("them")
    states(view(), known)
    assert store.keep(known) == 1


def test_rows_of_another_shape_are_no_module() -> None:
    """A file that is whole and of this program, and yet is not what it should be, is no error."""
    content = read_content("m", None, MODULE)
    written = contents.encode(Resolved(files=b"f", names=frozenset(), key=b"k", content=content), US)
    head, _, body = written.partition(b"\n")
    for odd in (None, 1, (), ((), (), ()), (*marshal.loads(body)[:2], [()])):
        other = marshal.dumps(odd)
        digest = head.rpartition(b" ")[0] + b" " + hashlib.sha256(other).hexdigest().encode()
        assert contents.decode(digest + b"\n" + other, US) is None


def test_modules_with_problems_are_not_kept() -> None:
    """What cannot run is told every time."""
    content = read_content("m", None, MODULE)
    assert contents.is_plain(content)
    assert not contents.is_plain(replace(content, problems=(Problem(message="no"),)))
