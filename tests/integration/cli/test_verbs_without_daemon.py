"""Verbs of operators where no daemon answers: recorded, and carried out once anybody works on it."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from tests.plugins.git import git
from tests.plugins.site import Gate, Process, Site, holds


async def command(site: Site, folder: Path, *arguments: str) -> Result:
    """A command without a daemon, beside what this process has."""
    config = folder / "reconciler.yaml"
    config.write_text(
        f"control: {{dsn: {json.dumps(site.control.reveal())}}}\n"
        f"state_dir: {json.dumps(str(folder / 'command'))}\n"
        # Port 1 answers nobody, so no daemon of whoever runs the tests is asked by accident.
        "listen: 127.0.0.1:1\n"
        f"sources: [{{name: shop, url: {json.dumps(str(site.repository.path))}}}]\n"
    )
    run = CliRunner().invoke
    return await asyncio.to_thread(run, app, [*arguments, "--config", str(config)], env=dict(site.environ))


async def states(process: Process, rollout: str) -> dict[str, str]:
    found = await process.parts.reconciler.rollout(rollout)
    return {one.deployment: one.state.value for one in found.operations}


async def handed_back(site: Site) -> tuple[Process, str]:
    """A rollout that nobody works on any more, in the middle of its first deployment."""
    process = site.process()
    before = {"gate": "create table gate ();"}
    site.commit(before, site.spec(deployments=("eu", "us")))
    await process.look()
    process.work()

    async def ended() -> bool:
        return (await process.rollouts())[0].finished_at is not None

    await holds(ended, "the first rollout to end")
    gate = Gate(site)
    await gate.close()
    site.commit({**before, "b": Gate.SCRIPT, "c": "create table c ();"}, site.spec(deployments=("eu", "us")))
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    process.worker.stop()
    await gate.open()
    await process.stop()
    return process, (await process.rollouts())[0].id


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("cancel", "cancelled")])
async def test_one_deployment_is_halted_when_a_worker_looks(
    site: Site, tmp_path: Path, verb: str, state: str
) -> None:
    """What is in flight is nobody's to move: the answer says so, asks once, and the next worker does it."""
    process, rollout = await handed_back(site)
    assert await states(process, rollout) == {"eu": "running", "us": "pending"}
    told = await command(site, tmp_path, verb, rollout, "--deployment", "eu", "--reason", "incident 7")
    assert told.exit_code == 0, told.output
    assert f"{verb}: recorded (request " in told.stdout
    assert "no daemon answers here, so it takes effect when a worker looks" in told.stdout
    again = await command(site, tmp_path, verb, rollout, "--deployment", "eu")
    assert f"{verb}: asked already by command line" in again.stdout
    assert await states(process, rollout) == {"eu": "running", "us": "pending"}
    assert site.deployed() == ["gate", "b"]

    other = site.process("two")
    other.work()

    async def halted() -> bool:
        return (await states(other, rollout))["eu"] == state

    await holds(halted, f"eu to be {state}")
    assert site.deployed() == ["gate", "b"]
    asked = (await other.parts.reconciler.rollout(rollout)).requests
    assert [(one.state, one.why) for one in asked] == [("completed", "incident 7")]


@pytest.mark.parametrize(("verb", "state"), [("stop", "stopped"), ("cancel", "cancelled")])
async def test_what_nobody_has_in_hand_is_halted_at_once(
    site: Site, tmp_path: Path, verb: str, state: str
) -> None:
    """A deployment that has not begun needs no worker, and the others stay as they were."""
    process, rollout = await handed_back(site)
    told = await command(site, tmp_path, verb, rollout, "--deployment", "us")
    assert (told.exit_code, told.stdout) == (0, f"{verb}: us\n")
    assert await states(process, rollout) == {"eu": "running", "us": state}


async def test_forget_and_diff_of_what_left(site: Site, tmp_path: Path) -> None:
    """Without a daemon one tells of it, with `--ref` before it leaves, and the other ends that."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(deployments=("eu", "us")))
    await process.look()
    process.work()

    async def applied() -> bool:
        await process.look()
        return (await process.environment()).applied_commit is not None

    await holds(applied, "both deployments to carry the commit")
    git(site.repository.path, "switch", "--quiet", "--create", "leaves")
    site.repository.commit(site.spec(deployments=("eu",)))
    told = await command(site, tmp_path, "diff", "production", "--ref", "leaves")
    assert f"leaves: us ({site.database('us')} on " in told.stdout
    git(site.repository.path, "switch", "--quiet", "main")
    git(site.repository.path, "merge", "--quiet", "leaves")
    assert (
        f"left: us ({site.database('us')} on "
        in (await command(site, tmp_path, "status", "production")).stdout
    )
    assert "left: us (" in (await command(site, tmp_path, "diff", "production")).stdout
    done = await command(site, tmp_path, "forget", "production", "us", "--reason", "sold")
    assert (done.exit_code, "us is forgotten" in done.stdout) == (0, True)
    assert "us" not in (await command(site, tmp_path, "diff", "production")).stdout
    assert (await command(site, tmp_path, "forget", "production", "us")).exit_code == 1
