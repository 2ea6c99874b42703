"""What operators do to rollouts, from the command line, with real daemons: stopped, paused, approved."""

import json
import signal
import subprocess
import sys
from typing import Any

from tests.plugins.daemon import until
from tests.plugins.fleet import Fleet, Member, gate, open_gate

NAME = "shop"


def shown(member: Member, rollout: str) -> dict[str, Any]:
    """A rollout as it is told over HTTP."""
    status, found = member.get(f"/v1/rollouts/{rollout}")
    assert status == 200, found
    return dict(found)


def states(member: Member, rollout: str) -> dict[str, str]:
    return {one["deployment"]: one["state"] for one in shown(member, rollout)["operations"]}


def newest(fleet: Fleet) -> str:
    """The number of the newest rollout."""
    return str(fleet.control("select coalesce(max(id), 0) from reconciler_control.rollouts")[0][0])


def until_states(fleet: Fleet, rollout: str, **wanted: str) -> None:
    """Wait until the operations of a rollout are in these states."""
    query = f"select deployment, state::text from reconciler_control.operations where rollout = {rollout}"
    try:
        until(lambda: dict(fleet.control(query)) == wanted, f"{wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{fleet.told()}") from None


def until_newer(fleet: Fleet, than: str) -> str:
    """Wait until there is a newer rollout, and give its number."""
    until(lambda: int(newest(fleet)) > int(than), "a newer rollout")
    return newest(fleet)


def deployed(fleet: Fleet, deployment: str) -> list[str]:
    rows = fleet.server.run(
        "select name from reconciler.changes order by position", database=f"{NAME}_{deployment}"
    )
    return [str(row[0]) for row in rows]


def follow(member: Member) -> subprocess.Popen[bytes]:
    """Follow the events of the environment, whoever serves them."""
    place = ("--config", str(member.config), "--server", member.url)
    with (member.folder / "followed").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "reconciler", "events", NAME, "--follow", "--output", "json", *place],
            env=member.environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            cwd=member.folder,
        )


def assert_followed(fleet: Fleet, member: Member, follower: subprocess.Popen[bytes]) -> None:
    """Every event of the environment since it began to follow was told, in order and once."""

    def told() -> list[int]:
        text = (member.folder / "followed").read_text()
        return [json.loads(line)["id"] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wanted() -> list[int]:
        first = min(told(), default=0)
        rows = fleet.control(
            f"select id from reconciler_control.events where environment = '{NAME}' and id >= {first} "
            "order by id"
        )
        return [row[0] for row in rows]

    try:
        until(lambda: told() == wanted(), "all events to be told")
    finally:
        follower.send_signal(signal.SIGINT)
        follower.wait(timeout=30)


def test_stopped_across_restarts(fleet: Fleet) -> None:
    """A stop outlives the daemons, beats a start, is known when asked twice; start goes on where it was."""
    member = fleet.member()
    changes = {"a": "create table a ();", "b": gate("b"), "c": "create table c ();"}
    commit = fleet.commit(changes, fleet.spec(NAME, deployments=("eu", "us")))
    fleet.start()
    rollout = until_newer(fleet, "0")
    follower = follow(member)
    until(lambda: "change b" in str(shown(member, rollout)["operations"][0]["current"]), "eu to be at b")
    status = member.run("status", NAME, check=False).stdout
    assert f"us (rollout {rollout}) waits for 'eu', which is running" in status
    asked = member.run("stop", rollout, "--reason", "incident 7").stdout
    assert "it is carried out at the next safe point" in asked
    assert "asked already by local" in member.run("stop", rollout).stdout
    refused = member.run("start", rollout, check=False)
    assert refused.returncode == 1
    assert "has not stopped yet" in refused.stderr
    until_states(fleet, rollout, eu="running", us="stopped")
    member.kill()
    # Nobody works on it any more: whoever asks again sees it through.
    told = member.run("stop", rollout, "--output", "json")
    assert json.loads(told.stdout)["state"] == "completed"
    until_states(fleet, rollout, eu="stopped", us="stopped")
    open_gate(fleet.server, "b")
    member.start()
    until(lambda: member.environment(NAME)["observed_commit"] == commit, "a pass")
    assert states(member, rollout) == {"eu": "stopped", "us": "stopped"}
    assert newest(fleet) == rollout
    advice = member.run("status", NAME, check=False).stdout
    assert f"go on with: reconciler start {rollout}; give it up with: reconciler cancel {rollout}" in advice
    going = member.run("start", rollout, "--reason", "it is over", "--wait")
    assert f"rollout {rollout}: completed" in going.stdout
    assert deployed(fleet, "eu") == deployed(fleet, "us") == ["a", "b", "c"]
    asked_of_it = [(one["verb"], one["state"], one["why"]) for one in shown(member, rollout)["requests"]]
    assert asked_of_it == [
        ("start", "completed", "it is over"),
        ("start", "failed", None),
        ("stop", "completed", "incident 7"),
    ]
    assert_followed(fleet, member, follower)


def test_paused_and_released(fleet: Fleet) -> None:
    """Under `onFailure: pause` a failure holds the rest until it is released; then it goes on, once."""
    member = fleet.member()
    fails = "do $$ begin if current_database() = 'shop_eu' then raise 'not here'; end if; end $$;"
    policy = {"rollout": {"order": "rolling", "onFailure": "pause"}}
    fleet.commit({"a": fails}, fleet.spec(NAME, deployments=("eu", "us", "jp"), more=policy))
    fleet.start()
    rollout = until_newer(fleet, "0")
    until_states(fleet, rollout, eu="failed", us="pending", jp="pending")
    status = member.run("status", NAME, check=False)
    assert status.returncode == 5
    assert "us, jp" in status.stdout
    assert "wait for the rollout to be released, since 'eu' failed" in status.stdout
    assert f"let the rest start with: reconciler release {rollout}" in status.stdout
    released = member.run("release", rollout, "--wait", check=False)
    assert released.returncode == 5
    until_states(fleet, rollout, eu="failed", us="completed", jp="completed")
    again = member.run("release", rollout, check=False)
    assert again.returncode == 1
    assert "released before" in again.stderr
    for verb in ("promote", "revert", "skip-revert"):
        answer = member.run(verb, rollout, check=False)
        assert answer.returncode == 1
        assert "nothing of this rollout" in answer.stderr


def test_approved_and_moved_by_hand(fleet: Fleet) -> None:
    """A plan waits until exactly it is approved; moved by hand, a new one asks; a newer commit replaces."""
    member = fleet.member()
    policy = {"policy": {"mode": "approve"}}
    fleet.commit({"a": "create table a ();"}, fleet.spec(NAME, more=policy))
    fleet.start()
    first = until_newer(fleet, "0")
    until_states(fleet, first, eu="waiting_for_approval")
    assert (
        f"agree to the plan with: reconciler approve {first}"
        in member.run("status", NAME, check=False).stdout
    )
    usage = member.run("approve", first, check=False)
    assert usage.returncode == 2
    assert "--digest" in usage.stderr
    digest = shown(member, first)["digest"]
    member.kill()
    # Without a daemon the command is the worker itself, and finds what was done by hand meanwhile.
    fleet.server.create_database(f"{NAME}_eu")
    moved = member.run("approve", first, "--digest", digest, check=False)
    assert moved.returncode == 6, moved.stdout + moved.stderr
    assert f"approved {digest}: what is to be done now is sha256:" in moved.stderr
    (approval,) = json.loads(member.run("show", first, "--output", "json").stdout)["approvals"]
    assert approval["void_at"] is not None
    member.start()
    second = until_newer(fleet, first)
    until_states(fleet, second, eu="waiting_for_approval")
    found = shown(member, second)
    assert "the state moved since command line approved rollout" in found["reason"]
    assert found["replaces"] == [first]
    assert found["digest"] != digest
    assert shown(member, first)["replaced_by"] == [second]
    wrong = member.run("approve", second, "--digest", digest, check=False)
    assert (wrong.returncode, found["digest"] in wrong.stderr) == (1, True)
    last = fleet.commit({"a": "create table a ();", "b": "create table b ();"})
    third = until_newer(fleet, second)
    assert f"rollout {third} at {last[:12]} takes its place" in member.run("history", NAME).stdout
    agreed = member.run("approve", third, "--yes", "--reason", "looked at it", "--wait")
    assert f"rollout {third}: completed" in agreed.stdout
    assert deployed(fleet, "eu") == ["a", "b"]
    fleet.until_applied(last, [NAME])
    assert newest(fleet) == third
