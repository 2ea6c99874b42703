"""What every runtime has to pass, on the real thing: one suite, which the tests of each runtime inherit.

A runtime brings a fixture `bench` that gives a `tests.plugins.services.Bench`; services are shell scripts.
"""

import asyncio
from dataclasses import replace

import pytest

from reconciler.errors import Conflict, PermanentError
from reconciler.runtimes.health import until_steady
from reconciler.runtimes.runtime import (
    Data,
    Hidden,
    Identity,
    Observed,
    Restart,
    RestartWhen,
    Runtime,
    ServiceSpec,
    ServiceState,
)
from tests.plugins.services import API, FOR_EVER, Bench, shell, until

ONCE = Restart(when=RestartWhen.NEVER)


async def look(runtime: Runtime, instance: str, identity: Identity = API) -> Observed | None:
    found = await runtime.observe(identity.environment, identity.deployment, identity.component)
    return next((each for each in found if each.instance == instance), None)


async def in_state(runtime: Runtime, instance: str, state: ServiceState) -> Observed:
    async def condition() -> Observed | None:
        found = await look(runtime, instance)
        return found if found is not None and found.state is state else None

    return await until(condition, f"'{instance}' to be {state}")


async def started_again(runtime: Runtime, instance: str, starts: int) -> Observed:
    async def condition() -> Observed | None:
        found = await look(runtime, instance)
        is_it = found is not None and found.starts >= starts and found.state is ServiceState.HEALTHY
        return found if is_it else None

    return await until(condition, f"'{instance}' to be started {starts} times")


async def written(bench: Bench, name: str) -> str:
    async def condition() -> str:
        return bench.read(name)

    return await until(condition, f"a service to write '{name}'")


class Conformance:
    """The suite; each test leaves nothing behind, which its bench checks."""

    async def test_nothing_is_there_at_first(self, bench: Bench) -> None:
        """What was never applied is not there, and removing it is nothing to complain of."""
        assert await bench.runtime.observe("production", "eu") == ()
        assert await bench.runtime.observe("production", "eu", "api") == ()
        await bench.runtime.remove(API, "one")

    async def test_runs_and_is_found_by_a_daemon_started_anew(self, bench: Bench) -> None:
        """An applied instance runs, says who it is, and is the same to whoever looks at it later."""
        spec = shell(FOR_EVER)
        assert await bench.runtime.why_not() is None
        await bench.runtime.prepare(spec)
        await bench.runtime.apply(spec, "one")
        found = await in_state(bench.runtime, "one", ServiceState.HEALTHY)
        assert (found.identity, found.definition_hash, found.starts) == (API, spec.definition_hash, 1)
        assert found.handle
        assert found.since is not None
        assert await look(bench.again(), "one") == found

    async def test_applied_again_is_left_alone(self, bench: Bench) -> None:
        """What runs is not touched by applying it again, by ten at once and by another daemon."""
        spec = shell(f"echo started >> {bench.place}/starts; {FOR_EVER}")
        both = (bench.runtime, bench.again())
        await asyncio.gather(*(both[each % 2].apply(spec, "one") for each in range(10)))
        first = await in_state(bench.runtime, "one", ServiceState.HEALTHY)
        assert (await bench.again().apply(spec, "one")).handle == first.handle
        assert await bench.running() == 1
        assert await written(bench, "starts") == "started\n"

    async def test_old_and_new_stand_side_by_side(self, bench: Bench) -> None:
        """Two instances of a service run at once, and one goes without the other."""
        old, new = shell(FOR_EVER), shell(f"true; {FOR_EVER}")
        assert bench.runtime.may_stand_beside(new)
        assert not bench.runtime.may_stand_beside(shell(FOR_EVER, data=(Data(name="main"),)))
        await bench.runtime.apply(old, "old")
        await bench.runtime.apply(new, "new")
        found = await bench.runtime.observe("production", "eu", "api")
        assert [(each.instance, each.definition_hash) for each in found] == [
            ("new", new.definition_hash),
            ("old", old.definition_hash),
        ]
        await bench.runtime.remove(API, "old")
        assert await look(bench.runtime, "old") is None
        await in_state(bench.runtime, "new", ServiceState.HEALTHY)
        assert await bench.running() == 1

    async def test_another_definition_needs_another_instance(self, bench: Bench) -> None:
        """An instance is never turned into another under way."""
        await bench.runtime.apply(shell(FOR_EVER), "one")
        with pytest.raises(Conflict, match="'one' has another definition"):
            await bench.runtime.apply(shell(f"true; {FOR_EVER}"), "one")

    async def test_deployments_are_looked_at_apart(self, bench: Bench) -> None:
        """All services of a deployment are seen at once, by component, and none of another."""
        elsewhere = replace(API, deployment="us")
        worker = replace(API, component="worker")
        await asyncio.gather(
            *(bench.runtime.apply(shell(FOR_EVER, identity=each), "one") for each in (worker, API, elsewhere))
        )
        found = await bench.runtime.observe("production", "eu")
        assert [each.identity for each in found] == [API, worker]
        assert [each.identity for each in await bench.runtime.observe("production", "us")] == [elsewhere]
        await bench.runtime.remove(API, "one")
        assert await look(bench.runtime, "one", worker) is not None

    async def test_exit_status_is_kept(self, bench: Bench) -> None:
        """What ends and is not to be started again says how it ended, and its last words can be read."""
        spec = shell("echo the last words >&2; exit 3", restart=ONCE)
        await bench.runtime.apply(spec, "one")
        found = await in_state(bench.runtime, "one", ServiceState.EXITED)
        assert found.exit_status == 3
        assert "exited with 3" in found.reason
        assert await bench.runtime.log_end(spec, "one") == "the last words"
        assert (await look(bench.again(), "one")) == found

    async def test_exited_is_started_by_applying_it(self, bench: Bench) -> None:
        """What has ended for good runs again when it is applied, as the same instance."""
        spec = shell(
            f"test -e {bench.place}/been && {FOR_EVER}; touch {bench.place}/been; exit 1", restart=ONCE
        )
        await bench.runtime.apply(spec, "one")
        await in_state(bench.runtime, "one", ServiceState.EXITED)
        await bench.again().apply(spec, "one")
        assert (await in_state(bench.runtime, "one", ServiceState.HEALTHY)).starts == 2

    async def test_success_is_an_end_where_only_failures_are_started_again(self, bench: Bench) -> None:
        """`on-failure` starts again what failed, and lets what is done rest."""
        script = f"test -e {bench.place}/been && exit 0; touch {bench.place}/been; exit 1"
        restart = replace(shell("").restart, when=RestartWhen.ON_FAILURE)
        await bench.runtime.apply(shell(script, restart=restart), "one")
        found = await in_state(bench.runtime, "one", ServiceState.EXITED)
        assert (found.exit_status, found.starts) == (0, 2)

    async def test_killed_is_started_again(self, bench: Bench) -> None:
        """A crash is mended by the runtime, and can be seen by the count of starts."""
        await bench.runtime.apply(shell(FOR_EVER), "one")
        first = await in_state(bench.runtime, "one", ServiceState.HEALTHY)
        await bench.kill(first)
        found = await started_again(bench.runtime, "one", 2)
        assert found.handle != first.handle
        assert await bench.running() == 1

    async def test_crash_loop_is_seen(self, bench: Bench) -> None:
        """Waiting for what crashes at every start ends long before its deadline, and says why."""
        spec = shell("exit 7")
        await bench.runtime.apply(spec, "one")
        outcome = await until_steady(spec, lambda: look(bench.runtime, "one"))
        assert not outcome.is_steady
        assert "does not stay up" in outcome.reason
        assert "it ended with 7" in outcome.reason

    async def test_stays_up_is_seen(self, bench: Bench) -> None:
        """Waiting for what stays up ends once it has for as long as was asked."""
        spec = shell(FOR_EVER)
        await bench.runtime.apply(spec, "one")
        outcome = await until_steady(spec, lambda: look(bench.runtime, "one"))
        assert outcome.is_steady, outcome.reason
        assert outcome.observed is not None
        assert outcome.observed.starts == 1

    async def test_ends_in_its_own_time(self, bench: Bench) -> None:
        """Removing asks first: a service that wants to put its things in order can."""
        script = (
            f"trap 'echo bye > {bench.place}/bye; exit 0' TERM; echo up > {bench.place}/up;"
            " while :; do sleep 1000 & wait $!; done"
        )
        await bench.runtime.apply(shell(script), "one")

        await written(bench, "up")
        await bench.runtime.remove(API, "one")
        assert bench.read("bye") == "bye\n"
        assert await bench.running() == 0

    async def test_deaf_is_killed(self, bench: Bench) -> None:
        """What ignores the request to end is ended, with all that it made, and nothing of it is left."""
        script = f"trap '' TERM; sleep 1000 & sleep 1000 & echo up > {bench.place}/up; while :; do wait; done"
        await bench.runtime.apply(shell(script, grace_s=0.2), "one")

        await written(bench, "up")
        await bench.runtime.remove(API, "one")
        assert await bench.running() == 0
        assert await look(bench.runtime, "one") is None

    async def test_environment_reaches_it_and_nobody_else(self, bench: Bench) -> None:
        """A service has the variables of its definition; the hidden ones show nowhere."""
        spec = shell(
            f'echo "$PLAIN/$SECRET"; {FOR_EVER}',
            env=(("PLAIN", "a value"), ("SECRET", Hidden("hunter2"))),
        )
        await bench.runtime.apply(spec, "one")

        async def said() -> str:
            return await bench.runtime.log_end(spec, "one")

        assert await until(said, "the service to speak") == "a value/<hidden>"
        assert "hunter2" not in repr(spec) + repr(await look(bench.runtime, "one"))

    async def test_all_that_is_wrong_is_told_at_once(self, bench: Bench) -> None:
        """A definition is refused before anything is there, with every reason."""
        spec = shell(FOR_EVER, env=(("A-B", "1"), ("RECONCILER_X", "2")), grace_s=-1.0)
        for call in (bench.runtime.prepare(spec), bench.runtime.apply(spec, "one")):
            with pytest.raises(PermanentError) as refused:
                await call
            assert "'A-B' cannot be the name of a variable" in str(refused.value)
            assert "'RECONCILER_X'" in str(refused.value)
            assert "grace" in str(refused.value)
        assert await bench.runtime.observe("production", "eu") == ()
        with pytest.raises(PermanentError, match="is no name"):
            await bench.runtime.apply(shell(FOR_EVER), "../one")
        with pytest.raises(PermanentError, match="is no name"):
            await bench.runtime.remove(replace(API, component=".."), "one")

    async def test_names_are_free_again(self, bench: Bench) -> None:
        """What was removed may be applied anew, as something else, and removing twice is once."""
        await bench.runtime.apply(shell(FOR_EVER), "one")
        await asyncio.gather(*(bench.runtime.remove(API, "one") for _ in range(3)))
        assert await bench.runtime.observe("production", "eu") == ()
        other: ServiceSpec = shell(f"true; {FOR_EVER}")
        found = await bench.runtime.apply(other, "one")
        assert (found.definition_hash, found.starts) == (other.definition_hash, 1)

    async def test_applied_and_removed_at_once(self, bench: Bench) -> None:
        """Whoever comes first, what is there afterwards is one instance or none, and it can be removed."""
        spec = shell(FOR_EVER)
        for _ in range(3):
            await asyncio.gather(
                bench.runtime.apply(spec, "one"),
                bench.again().remove(API, "one"),
                bench.again().apply(spec, "one"),
                return_exceptions=True,
            )
            assert await bench.running() == len(await bench.runtime.observe("production", "eu"))
            await bench.runtime.remove(API, "one")
        assert await bench.running() == 0

    @pytest.mark.parametrize("status", [0, 3])
    async def test_done_is_an_end(self, bench: Bench, status: int) -> None:
        """What runs once ends for good with its status, good or bad."""
        await bench.runtime.apply(shell(f"exit {status}", restart=ONCE), "one")
        found = await in_state(bench.runtime, "one", ServiceState.EXITED)
        assert (found.exit_status, found.starts) == (status, 1)

    async def test_output_is_read(self, bench: Bench) -> None:
        """What it wrote to the file that it was told is given as it is; one that wrote nothing has none."""
        writes, silent = (
            shell(script, restart=ONCE, output_bytes_max=100)
            for script in ('printf \'{"a": 1}\' > "$JOB_OUTPUT"', "true")
        )
        for spec, instance, expected in ((writes, "one", b'{"a": 1}'), (silent, "two", None)):
            await bench.runtime.apply(spec, instance)
            await in_state(bench.runtime, instance, ServiceState.EXITED)
            assert await bench.again().output(spec, instance) == expected
        assert await bench.runtime.output(writes, "three") is None

    async def test_output_of_an_earlier_run_is_not_taken_for_its_own(self, bench: Bench) -> None:
        """What is run again begins with an empty output."""
        script = f'test -e {bench.place}/been && exit 0; touch {bench.place}/been; echo old > "$JOB_OUTPUT"'
        spec = shell(script, restart=ONCE, output_bytes_max=100)
        for expected in (b"old\n", None):
            await bench.runtime.apply(spec, "one")
            await in_state(bench.runtime, "one", ServiceState.EXITED)
            assert await bench.runtime.output(spec, "one") == expected

    async def test_too_much_output_is_refused(self, bench: Bench) -> None:
        """An output beyond its limit is none, and is said to be too much."""
        spec = shell('printf 12345 > "$JOB_OUTPUT"', restart=ONCE, output_bytes_max=4)
        await bench.runtime.apply(spec, "one")
        await in_state(bench.runtime, "one", ServiceState.EXITED)
        with pytest.raises(PermanentError, match="more than the 4 bytes"):
            await bench.runtime.output(spec, "one")

    async def test_data_outlive_instances(self, bench: Bench) -> None:
        """The next instance of a service finds what one before wrote to its data."""
        script = f'echo been >> "$DATA_MAIN/log"; cat "$DATA_MAIN/log" > {bench.place}/$NAME; {FOR_EVER}'
        for name, expected in (("one", "been\n"), ("two", "been\nbeen\n")):
            spec = shell(script, data=(Data(name="main"),), env=(("NAME", name),))
            await bench.runtime.prepare(spec)
            await bench.runtime.apply(spec, name)
            await in_state(bench.runtime, name, ServiceState.HEALTHY)

            async def all_written(name: str = name, expected: str = expected) -> bool:
                return bench.read(name) == expected

            await until(all_written, f"'{name}' to find {expected!r}")
            await bench.runtime.remove(API, name)
