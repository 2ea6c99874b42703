"""Verdicts about scripts: what is kept between processes says the same as looking again, or nothing."""

from collections.abc import Callable

import pytest

from reconciler.changes.script import Script
from reconciler.errors import ScriptError
from reconciler.state import program, verdicts
from reconciler.state.program import Purpose, judge
from reconciler.state.resolve import read_content
from reconciler.state.verdicts import Verdict, Verdicts

DANGEROUS = Script("deploy/a.sql", "-- Deploy shop:a\n\nBEGIN;\nDROP TABLE old;\nCOMMIT;\n")
APART = Script("deploy/b.sql", "CREATE INDEX CONCURRENTLY i ON t (a);\n")
PLAN = "%project=shop\n\na 2026-01-01T00:00:00Z Ada <ada@example.org>\n"
MODULE = {
    "m/sqitch.plan": PLAN.encode(),
    "m/deploy/a.sql": b"CREATE TABLE a ();\n",
    "m/verify/a.sql": b"SELECT 1;\n",
}


def learnt(*scripts: Script) -> Verdicts:
    found = Verdicts()
    for script in scripts:
        judge(script, purpose=Purpose.DEPLOY, verdicts=found)
    return found


@pytest.mark.parametrize("script", [DANGEROUS, APART], ids=lambda script: script.path)
def test_what_is_known_is_what_looking_again_says(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hazards, hash and kind come back whole, and the script is not compiled for them."""
    fresh = judge(script, purpose=Purpose.DEPLOY)
    kept = verdicts.decode(learnt(script).encode("us"), "us")
    monkeypatch.setattr(program, "compile_script", lambda *_args, **_kw: pytest.fail("it was compiled"))
    assert judge(script, purpose=Purpose.DEPLOY, verdicts=kept) == fresh
    assert kept.learnt == 0


def test_another_text_or_purpose_is_another_script() -> None:
    """What is known of a deploy script says nothing of it as a verify script, or of another text."""
    known = learnt(DANGEROUS)
    edited = Script(DANGEROUS.path, DANGEROUS.text.replace("old", "new"))
    judge(edited, purpose=Purpose.DEPLOY, verdicts=known)
    judge(DANGEROUS, purpose=Purpose.VERIFY, verdicts=known)
    assert known.learnt == 3


def test_a_script_that_cannot_run_is_told_every_time() -> None:
    """No verdict hides a problem."""
    known = Verdicts()
    for _again in range(2):
        with pytest.raises(ScriptError):
            judge(Script("deploy/a.sql", "SELEC 1;"), purpose=Purpose.DEPLOY, verdicts=known)
    assert known.learnt == 0


def test_scripts_for_psql_are_looked_at_every_time() -> None:
    """What depends on other files or on values of variables gets no verdict."""
    known = Verdicts()
    script = Script("deploy/a.sql", "\\set x 1\nSELECT :x;\n")
    judge(script, purpose=Purpose.DEPLOY, verdicts=known)
    assert known.learnt == 0


def test_a_module_is_the_same_with_and_without() -> None:
    """Reading a module with verdicts gives what reading it without gives."""
    known = Verdicts()
    plain = read_content("m", None, MODULE)
    assert read_content("m", None, MODULE, verdicts=known) == plain
    again = verdicts.decode(known.encode("us"), "us")
    assert read_content("m", None, MODULE, verdicts=again) == plain
    assert (known.learnt, again.learnt) == (2, 0)


def _flipped(content: bytes) -> bytes:
    at = content.index(b"DELETES_DATA")
    return content[:at] + b"d" + content[at + 1 :]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[:0],
        lambda content: content[:-1],
        lambda content: content + b" ",
        _flipped,
        lambda content: content.replace(b"verdicts 1", b"verdicts 0", 1),
        lambda content: content.partition(b"\n")[2],
    ],
    ids=["empty", "cut", "longer", "flipped", "format", "headless"],
)
def test_what_is_damaged_is_not_believed(damaged: Callable[[bytes], bytes]) -> None:
    """A file that is not whole, or of another format, is as none."""
    content = learnt(DANGEROUS).encode("us")
    assert verdicts.decode(content, "us").encode("us") == content
    assert verdicts.decode(damaged(content), "us").encode("us") == Verdicts().encode("us")


def test_another_program_is_not_believed() -> None:
    """Verdicts serve only the program that found them."""
    assert verdicts.decode(learnt(DANGEROUS).encode("us"), "them").encode("us") == Verdicts().encode("us")


def test_those_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a most, and what nobody asked for goes first."""
    monkeypatch.setattr(verdicts, "VERDICTS_MAX", 3)
    kept = Verdicts({key: ["hash", True] for key in ("a", "b", "c")})
    kept.get("a")
    kept.put("d", Verdict())
    kept = verdicts.decode(kept.encode("us"), "us")
    assert [kept.get(key) is not None for key in "abcd"] == [True, False, True, True]
    for key in ("e", "f", "g", "h"):
        kept.put(key, Verdict())
    assert kept.learnt == 0
