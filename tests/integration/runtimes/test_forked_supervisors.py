"""Supervisors are forked from one program, outlive it, and start without it where it does not work."""

import os
import signal

import pytest

from reconciler.runtimes import instance as files
from reconciler.runtimes import processes
from reconciler.runtimes.forked import Forker
from reconciler.runtimes.runtime import ServiceState
from tests.plugins.services import FOR_EVER, ProcessBench, bench, shell, until

__all__ = ["bench"]

IDENTITY = shell(FOR_EVER).identity


def supervisor_of(bench: ProcessBench, instance: str) -> processes.Process:
    """The supervisor of an instance, by its lock."""
    found = processes.look(files.holder(bench.folder(instance)) or 0)
    assert found is not None
    return found


async def test_supervisors_outlive_what_they_are_forked_from(bench: ProcessBench) -> None:
    """It is the same for several, each with a session of its own; after its death another is started."""
    for name in ("one", "two"):
        await bench.runtime.apply(shell(FOR_EVER), name)
    one, two = supervisor_of(bench, "one"), supervisor_of(bench, "two")
    assert one.parent == two.parent != os.getpid()
    assert len({one.session, two.session, os.getsid(0)}) == 3
    os.kill(one.parent, signal.SIGKILL)

    async def gone() -> bool:
        there = processes.look(one.parent)
        return there is None or there.zombie

    await until(gone, "what they are forked from to end")
    await bench.runtime.apply(shell(FOR_EVER), "three")
    found = await bench.runtime.observe(IDENTITY.environment, IDENTITY.deployment)
    assert [each.state for each in found] == [ServiceState.HEALTHY] * 3
    assert supervisor_of(bench, "three").parent != one.parent


async def test_supervisors_start_without_it(bench: ProcessBench) -> None:
    """Where nothing can be forked each is started as a program."""
    bench.runtime._forker = Forker(["/bin/false"], {})
    found = await bench.runtime.apply(shell(FOR_EVER), "one")
    assert (found.state, found.starts) == (ServiceState.HEALTHY, 1)


async def test_it_ends_with_who_started_it(bench: ProcessBench) -> None:
    """Nothing of it is left; what was started runs on."""
    await bench.runtime.apply(shell(FOR_EVER), "one")
    parent = supervisor_of(bench, "one").parent
    bench.runtime = bench.again()

    async def gone() -> bool:
        there = processes.look(parent)
        return there is None or there.zombie

    await until(gone, "what it was forked from to end")
    found = await bench.runtime.observe(IDENTITY.environment, IDENTITY.deployment)
    assert [each.state for each in found] == [ServiceState.HEALTHY]


@pytest.mark.parametrize("word", ["busy", "gone"])
async def test_whoever_comes_second_is_told_so(bench: ProcessBench, word: str) -> None:
    """One that runs has its lock; where there is no folder any more, nothing starts."""
    await bench.runtime.apply(shell(FOR_EVER), "one")
    folder = bench.folder("one") if word == "busy" else bench.folder("one").parent / "other"
    said = bench.runtime._forker.start(folder, bench.folder("one") / files.COMPLAINTS, 30.0)
    assert said == word
