"""What runs of verify scripts found, by deployment; whoever runs them is elsewhere."""

from reconciler.control.events import NewEvent, append_all
from reconciler.control.facts import refresh_conditions
from reconciler.control.ownership import lock_owned
from reconciler.control.sql import changing, many, one, run
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection


@frozen
class VerificationFound:
    """What one run found: how many scripts passed, failed or are unknown, and the first failures."""

    deployment: str
    commit: str
    passed: int
    failures: int
    unverified: int
    summary: str | None = None


async def note(
    connection: Connection, environment: str, found: VerificationFound, *, owner: str | None
) -> bool:
    """Record a run, in one transaction; true where it found another number of failures than the one before.

    LeaseLost where `owner` is given and the environment is passed over by another worker by now.
    """
    async with changing(connection, f"recording the verification of environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        before = await one(
            connection, "lock_verification", environment=environment, deployment=found.deployment
        )
        if before is None:
            # The deployment left the spec meanwhile.
            return False
        await run(
            connection,
            "write_verification",
            environment=environment,
            deployment=found.deployment,
            commit=found.commit,
            passed=found.passed,
            failures=found.failures,
            unverified=found.unverified,
            summary=found.summary,
        )
        known = before["failures"] or 0
        if found.failures == known:
            return False
        await append_all(connection, [_event(environment, found)])
        await refresh_conditions(connection, environment)
        return True


async def forget(connection: Connection, environment: str, *, owner: str | None) -> None:
    """Forget what runs found, as the spec does not ask for them any more."""
    async with changing(connection, f"forgetting the verifications of environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        if await many(connection, "forget_verifications", environment=environment):
            await refresh_conditions(connection, environment)


def _event(environment: str, found: VerificationFound) -> NewEvent:
    failed = found.failures > 0
    return NewEvent(
        kind="module.verify_failed" if failed else "module.verify_recovered",
        message=found.summary or f"all verify scripts on '{found.deployment}' pass again",
        environment=environment,
        deployment=found.deployment,
        data={"failures": found.failures, "passed": found.passed, "unverified": found.unverified},
    )
