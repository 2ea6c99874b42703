"""Jobs run to their end, with what they put out, whoever dies meanwhile and whatever they write."""

import asyncio
import threading
from typing import Any

import pytest

from reconciler.errors import NotFound, StepFailed
from reconciler.execution import jobs, program_steps
from reconciler.plan.steps import ConsumeOutputs, ForgetJob, StepKind
from reconciler.runtimes.instance_folders import InstanceFolders
from reconciler.state.programs import DesiredOutput, OutputType
from tests.plugins.rolling import Rolling, job, rolling
from tests.plugins.services import bench

__all__ = ["bench", "rolling"]

TOKEN = DesiredOutput(name="token", sensitive=True)
ROWS = DesiredOutput(name="rows", type=OutputType.NUMBER)


def writes(text: str) -> str:
    return f"cat > \"$JOB_OUTPUT\" <<'END'\n{text}\nEND\n"


async def test_what_a_job_puts_out_is_kept(rolling: Rolling) -> None:
    """Its outputs stand in the register under the hash of its inputs, and nothing of its run is left."""
    wanted = job(writes('{"token": "correct horse", "rows": 5}'), outputs=(TOKEN, ROWS))
    await rolling.carry_out(rolling.job(wanted), wanted)
    kept = {name: (made.value, made.sensitive, key) for name, (made, key) in rolling.register.outputs.items()}
    assert kept == {
        "seed.token": ("correct horse", True, wanted.inputs_hash),
        "seed.rows": (5, False, wanted.inputs_hash),
    }
    assert [(run["exit_status"], run["error"]) for run in rolling.register.runs] == [(0, None)]
    assert await rolling.there("seed") == ()


async def test_a_job_that_fails_is_tried_again_so_often(rolling: Rolling) -> None:
    """Each attempt is one run; after the last one it fails with how it ended, and what it said last."""
    place = rolling.bench.place
    wanted = job(f"echo again >> {place}/runs; echo out of luck; exit 4", attempts=2)
    with pytest.raises(StepFailed, match=r"in 2 attempts: it exited with 4; it said last: out of luck"):
        await rolling.carry_out(rolling.job(wanted), wanted)
    assert rolling.bench.read("runs").split() == ["again", "again"]
    assert [run["exit_status"] for run in rolling.register.runs] == [4, 4]
    assert await rolling.there("seed") == ()
    # The second of two attempts may be the one that is good.
    wanted = job(f"test -e {place}/there || {{ touch {place}/there; exit 1; }}", attempts=2)
    await rolling.carry_out(rolling.job(wanted), wanted)
    assert rolling.register.components["seed"].instance == rolling.register.runs[-1]["instance"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (writes("{'token': 'correct horse'}"), r"is not JSON \(line 1\)"),
        (writes('{"token": "correct horse"}'), "missing: 'rows'"),
        ('head -c 300000 /dev/zero > "$JOB_OUTPUT"', "more than"),
        (":", "it wrote none"),
    ],
    ids=["no-json", "missing", "too-much", "nothing"],
)
async def test_wrong_outputs_fail_a_job(rolling: Rolling, script: str, why: str) -> None:
    """It is told what is wrong with them, nothing of them is kept, and what is sensitive is not shown."""
    wanted = job(f"{script}\ncat \"$JOB_OUTPUT\" | tr -d '\\0'; true", outputs=(TOKEN, ROWS))
    with pytest.raises(StepFailed, match=why) as failed:
        await rolling.carry_out(rolling.job(wanted), wanted)
    assert rolling.register.outputs == {}
    assert "correct horse" not in f"{failed.value} {rolling.register.runs}"
    assert await rolling.there("seed") == ()


async def test_a_job_that_does_not_listen_is_ended(rolling: Rolling) -> None:
    """What takes longer than it may is asked to end, then killed; none of its processes is left."""
    wanted = job(
        f"trap '' TERM; echo $$ > {rolling.bench.place}/pid; while :; do sleep 1000; done",
        timeout_s=0.3,
        grace_s=0.2,
    )
    with pytest.raises(StepFailed, match=r"did not end within 0\.3 s"):
        await rolling.carry_out(rolling.job(wanted), wanted)
    assert await rolling.bench.running() == 0
    assert await rolling.there("seed") == ()


@pytest.mark.parametrize("point", ["noted", "applied", "kept", "recorded"])
async def test_a_worker_that_dies_leaves_its_job_to_the_next(rolling: Rolling, point: str) -> None:
    """A run that is under way, or over, is not made again; its end and its outputs are what counts."""
    output = writes('{"token": "correct horse"}')
    wanted = job(f"echo run >> {rolling.bench.place}/runs; {output}", outputs=(TOKEN,))
    step = rolling.job(wanted)
    await rolling.until_struck(f"{point} {step.id}", step, wanted)
    await rolling.carry_out(step, wanted)
    assert rolling.bench.read("runs").split() == ["run"]
    assert rolling.register.outputs["seed.token"][0].value == "correct horse"
    assert rolling.register.runs[-1]["error"] is None
    assert await rolling.there("seed") == ()


async def test_a_start_that_is_cancelled_is_waited_for(
    rolling: Rolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes next in the same process finds the run that was being started, and starts none beside it."""
    wanted = job(f"echo run >> {rolling.bench.place}/runs")
    step, place = rolling.job(wanted), InstanceFolders.place
    begun, go = threading.Event(), threading.Event()

    def slowly(*about: Any) -> None:
        if not begun.is_set():
            begun.set()
            go.wait(60)
        place(*about)

    monkeypatch.setattr(InstanceFolders, "place", slowly)
    first = asyncio.create_task(rolling.carry_out(step, wanted))
    assert await asyncio.to_thread(begun.wait, 60)
    first.cancel()
    over, _ = await asyncio.wait([first], timeout=0.1)
    if not over:
        go.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await rolling.carry_out(step, wanted)
    go.set()
    assert not over
    assert rolling.bench.read("runs").split() == ["run"]
    assert await rolling.there("seed") == ()


async def test_a_run_that_is_over_is_not_left_for_ever(rolling: Rolling) -> None:
    """Where the step is recorded as done and its run was not removed yet, whoever goes on removes it."""
    wanted = job("exit 0")
    step = rolling.job(wanted)
    await rolling.until_struck(f"recorded {step.id}", step, wanted)
    resources = rolling.resources(wanted)
    resources.left_runs = frozenset({"seed"})
    await jobs.clear(resources, {"seed"})
    assert len(await rolling.there("seed")) == 1
    await jobs.clear(resources, ())
    assert await rolling.there("seed") == ()


async def test_a_run_of_another_operation_is_ended_first(rolling: Rolling) -> None:
    """Two runs of a job never stand side by side."""
    slow = job("exec sleep 1000")
    step = rolling.job(slow)
    await rolling.until_struck(f"applied {step.id}", step, slow)
    wanted = job("exit 0")
    await rolling.carry_out(rolling.job(wanted), wanted)
    assert await rolling.bench.running() == 0


async def test_a_job_that_is_to_be_broken_off_is(rolling: Rolling) -> None:
    """Who asks to cancel an operation need not wait for its job."""

    class Asked(Exception):
        """Somebody asked to cancel."""

    def urgent() -> None:
        if rolling.bench.read("begun"):
            raise Asked

    wanted = job(f"echo x > {rolling.bench.place}/begun; exec sleep 1000")
    resources = rolling.resources(wanted)
    resources.urgent = urgent
    with pytest.raises(Asked):
        await program_steps.carry_out(rolling.job(wanted), resources, rolling.journal)
    assert await rolling.there("seed") == ()
    assert rolling.register.runs[-1]["ended"]


async def test_a_job_is_forgotten_with_what_it_put_out(rolling: Rolling) -> None:
    """Nothing is run for it; outputs that nobody consumes in this plan are only looked for."""
    wanted = job(writes('{"token": "correct horse"}'), outputs=(TOKEN,))
    await rolling.carry_out(rolling.job(wanted), wanted)
    named = {"component": "seed", "identity": "job seed", "database": ""}
    sink = ConsumeOutputs(id="sink", kind=StepKind.CONSUME_OUTPUTS, consumes=("seed.token",), **named)
    await rolling.carry_out(sink)
    await rolling.carry_out(ForgetJob(id="seed/forget-job", kind=StepKind.FORGET_JOB, **named))
    assert rolling.register.components == {}
    assert rolling.register.outputs == {}
    with pytest.raises(NotFound):
        await rolling.carry_out(sink)
