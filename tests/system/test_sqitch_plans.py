"""Plan files beside Sqitch itself: what it accepts, the ids it computes, and the lines it writes."""

import os
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.changes import plan_file, plan_writer, sqitch_config
from reconciler.changes.plan_file import Flavor, PlanFile
from reconciler.changes.plan_writer import NewChange, Planned
from reconciler.errors import Conflict
from tests.unit.changes.test_plan_classification import ROWS

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ANN = "Ann Example <ann@example.com>"


def sqitch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Sqitch on the plan of a folder, with nobody's settings but its own."""
    home = {"HOME": str(folder), "SQITCH_USER_CONFIG": "none", "SQITCH_SYSTEM_CONFIG": "none"}
    person = {"SQITCH_FULLNAME": "Ann Example", "SQITCH_EMAIL": "ann@example.com"}
    return subprocess.run(
        ["sqitch", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **home, **person},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def project(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "sqitch.conf").write_text("[core]\n\tengine = pg\n")
    (folder / "sqitch.plan").write_bytes(text.encode())
    return folder


def read(folder: Path) -> PlanFile:
    return plan_file.parse((folder / "sqitch.plan").read_bytes().decode(), "p", flavor=Flavor.SQITCH)


def test_sqitch_accepts_and_refuses_the_same_plans(tmp_path: Path) -> None:
    """Every row of the table of plans is classified in strict mode as Sqitch classifies it."""

    def accepted(number: int) -> bool:
        folder = project(tmp_path / str(number), ROWS[number].text)
        return sqitch(folder, "plan", "--no-headers", "--format", "format:%H %n").returncode == 0

    with ThreadPoolExecutor(2) as pool:
        theirs = list(pool.map(accepted, range(len(ROWS))))
    found = {row.name: yes for row, yes in zip(ROWS, theirs, strict=True)}
    # Of a plan without changes it says that there is nothing to show, which is no error of the plan.
    assert found == {row.name: row.strict is None and row.name != "no changes" for row in ROWS}


@pytest.mark.parametrize("seed", [1, 2])
def test_ids_of_what_we_write_are_those_of_sqitch(tmp_path: Path, seed: int) -> None:
    """A long plan of additions, tags and reworks has the same ids in Sqitch, in the same order."""
    chance = random.Random(seed)
    plan = plan_writer.begin("p", "p", flavor=Flavor.SQITCH, uri="https://example.com/p é")
    for number in range(150):
        planned = Planned(
            planner=chance.choice([ANN, "Zoë  Q <zoë@example.com>"]),
            planned_at=f"2026-01-{1 + number // 24:02}T{number % 24:02}:00:00Z",
            note=chance.choice(["", "a note", "two\nlines \\ and # more", "☃"]),
        )
        names = [change.name for change in plan.changes]
        needs = tuple(dict.fromkeys(chance.choices(names, k=2))) if names else ()
        foreign = chance.choice([(), ("q:x",), ("q:x@v1", "q:@v2")])
        change = NewChange(
            name=f"part/c{number}", planned=planned, requires=(*needs, *foreign), conflicts=("old",)
        )
        if names and chance.random() < 0.2:
            plan = plan_writer.add_tag(
                plan, f"v{number}", planned, change=f"@HEAD^{chance.randrange(len(names))}"
            )
        elif names and chance.random() < 0.3:
            again = NewChange(name=chance.choice(names), planned=planned)
            try:
                plan = plan_writer.rework(plan, again).plan
            except Conflict:
                plan = plan_writer.add_change(plan, change)
        else:
            plan = plan_writer.add_change(plan, change)
    folder = project(tmp_path / "p", plan_file.render(plan))
    done = sqitch(folder, "plan", "--no-headers", "--format", "format:%H %n")
    theirs = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert (done.returncode, done.stderr) == (0, "")
    assert theirs == [f"{change.id} {change.name}" for change in plan.changes]
    assert any("@" in change.instance for change in plan.changes)


def test_the_lines_we_write_are_those_of_sqitch(tmp_path: Path) -> None:
    """Adding, tagging and reworking give the bytes that Sqitch writes, and its copies of scripts."""
    theirs = project(tmp_path / "theirs", "")
    (theirs / "sqitch.plan").unlink()
    commands = [
        ("init", "p", "--uri", "https://example.com/p"),
        ("add", "a", "--note", "first\n\nwith more \\ to say"),
        ("add", "b", "--requires", "a", "--conflicts", "old", "--note", "x"),
        ("tag", "v1", "--note", "one"),
        ("tag", "v2", "--note", "two"),
        ("add", "c", "--requires", "@v1", "--requires", "q:x@v3", "--note", "# c"),
        ("tag", "v0", "a", "--note", "late"),
        ("rework", "a", "--requires", "b", "--note", "again"),
    ]
    for command in commands:
        done = sqitch(theirs, *command)
        assert done.returncode == 0, done.stderr
    written = read(theirs)

    def planned(position: int, tag: int | None = None) -> Planned:
        line = written.changes[position] if tag is None else written.changes[position].tags[tag]
        return Planned(planner=line.planner, planned_at=line.planned_at, note=line.note)

    plan = plan_writer.begin("p", "p", flavor=Flavor.SQITCH, uri="https://example.com/p")
    plan = plan_writer.add_change(plan, NewChange(name="a", planned=planned(0)))
    plan = plan_writer.add_change(
        plan, NewChange(name="b", planned=planned(1), requires=("a",), conflicts=("old",))
    )
    plan = plan_writer.add_tag(plan, "v1", planned(1, 0))
    plan = plan_writer.add_tag(plan, "v2", planned(1, 1))
    plan = plan_writer.add_change(plan, NewChange(name="c", planned=planned(2), requires=("@v1", "q:x@v3")))
    plan = plan_writer.add_tag(plan, "v0", planned(0, 0), change="a")
    reworked = plan_writer.rework(plan, NewChange(name="a", planned=planned(3), requires=("b",)))
    assert plan_file.render(reworked.plan) == (theirs / "sqitch.plan").read_text()
    copies = plan_writer.script_copies(reworked, sqitch_config.places(""))
    assert {copy.target for copy in copies} <= {
        str(path.relative_to(theirs)) for path in theirs.rglob("*.sql")
    }
    assert (theirs / "revert" / "a.sql").read_text() == (theirs / "deploy" / "a@v1.sql").read_text()
