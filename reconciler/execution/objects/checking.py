"""Runs the unit tests of what is built, and fails with the first that did not pass; it changes nothing."""

from collections.abc import Sequence

from reconciler.errors import StepFailed
from reconciler.execution.objects.sending import Manner
from reconciler.execution.session import DatabaseSession
from reconciler.execution.unit_tests import TIMEOUT_S, run_unit_tests
from reconciler.objects.generation import Generation
from reconciler.objects.model import Project, SqlObject, UnitTest
from reconciler.objects.unit_test_results import Outcome, UnitTestResult, difference, summary

LINES_MAX = 12
"""Lines of what differs that an error shows."""


def tests_of(project: Project, generation: Generation) -> tuple[tuple[SqlObject, UnitTest], ...]:
    """Return the unit tests of all that a generation builds."""
    return tuple(
        (wanted, test)
        for name, wanted in project.objects.items()
        if name in generation.objects
        for test in wanted.tests
    )


async def check_unit_tests(
    session: DatabaseSession,
    project: Project,
    chosen: Sequence[tuple[SqlObject, UnitTest]],
    *,
    manner: Manner,
    within_s: float,
) -> None:
    """Run unit tests in scratch schemas; raises StepFailed with the place of the first that did not pass."""
    passed = 0

    async def told(result: UnitTestResult) -> None:
        nonlocal passed
        if result.outcome is Outcome.PASSED:
            passed += 1
            await manner.told(f"{passed} of {len(chosen)} unit tests passed")

    timeout_s = min(TIMEOUT_S, within_s)
    results = await run_unit_tests(session.writer, project, chosen, timeout_s=timeout_s, told=told)
    failed = [one for one in results if one.outcome is not Outcome.PASSED]
    if not failed:
        return
    first = failed[0]
    lines = difference(first) if first.rows else first.message.splitlines()
    more = [] if len(failed) == 1 else [f"and {len(failed) - 1} more: " + _titles(failed[1:])]
    raise StepFailed(
        "\n".join([f"{summary(results)}; {first.title}:", *lines[:LINES_MAX], *more]),
        file=first.path,
        line=first.line,
        hint="nothing is live of this generation; correct the object or its test",
    )


def _titles(failed: Sequence[UnitTestResult]) -> str:
    shown = ", ".join(one.title for one in failed[:LINES_MAX])
    return shown + (", …" if len(failed) > LINES_MAX else "")
