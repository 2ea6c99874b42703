"""How a unit is, is read from what its manager says of it."""

from dataclasses import replace

import pytest

from reconciler.runtimes.runtime import ServiceState
from reconciler.runtimes.systemd_sight import UnitState, exit_status, has_ended, judged, starts

RUNS = UnitState(
    name="a.service", load="loaded", active="active", sub="running", path="/a", main_pid=7, has_run=True
)
ENDED = replace(
    RUNS, active="failed", sub="failed", main_pid=0, main_code=1, main_status=3, result="exit-code"
)


@pytest.mark.parametrize(
    ("state", "noted", "expected", "reason"),
    [
        pytest.param(RUNS, "", ServiceState.HEALTHY, "", id="runs"),
        pytest.param(ENDED, "", ServiceState.EXITED, "it exited with 3", id="failed"),
        pytest.param(
            replace(ENDED, active="active", sub="exited", main_status=0, result="success"),
            "",
            ServiceState.EXITED,
            "it exited with 0",
            id="done",
        ),
        pytest.param(
            replace(ENDED, active="activating", sub="auto-restart"),
            "exited 3",
            ServiceState.UNHEALTHY,
            "it exited with 3; it is started again",
            id="waits",
        ),
        pytest.param(
            replace(ENDED, main_code=2, main_status=9, result="oom-kill"),
            "",
            ServiceState.EXITED,
            "it was ended by SIGKILL; it was killed as it took too much memory",
            id="memory",
        ),
        pytest.param(
            replace(ENDED, result="start-limit-hit", main_code=0),
            "killed TERM",
            ServiceState.EXITED,
            "it was ended by SIGTERM; given up after too many starts in a row",
            id="given-up",
        ),
        pytest.param(
            replace(ENDED, main_status=203),
            "",
            ServiceState.EXITED,
            "its program cannot be run (203)",
            id="no-program",
        ),
        pytest.param(
            replace(RUNS, active="deactivating", sub="stop-sigterm"),
            "",
            ServiceState.UNHEALTHY,
            "it is being stopped",
            id="stops",
        ),
        pytest.param(
            replace(RUNS, active="activating", sub="start"),
            "",
            ServiceState.STARTING,
            "it is being started",
            id="starts",
        ),
        pytest.param(
            replace(RUNS, active="inactive", sub="dead", has_run=False, has_job=True, main_pid=0),
            "",
            ServiceState.STARTING,
            "it is being started",
            id="asked-to-start",
        ),
        pytest.param(
            replace(RUNS, active="inactive", sub="dead", has_run=False, main_pid=0),
            "exited 0",
            ServiceState.EXITED,
            "it was not started, or not since the machine was",
            id="machine-started-anew",
        ),
        pytest.param(
            replace(RUNS, load="masked"), "", ServiceState.EXITED, "its unit is masked", id="masked"
        ),
        pytest.param(
            replace(RUNS, load="not-found"),
            "",
            ServiceState.EXITED,
            "its unit is not there, or cannot be read",
            id="gone",
        ),
    ],
)
def test_states(state: UnitState, noted: str, expected: ServiceState, reason: str) -> None:
    """Each state has its meaning, and says why where it is not healthy."""
    assert judged(state, exit_status(state, noted)) == (expected, reason)


def test_only_what_runs_no_more_has_ended() -> None:
    """What waits for its next start, or has been asked to start, is not started once more."""
    assert has_ended(ENDED)
    assert has_ended(replace(ENDED, active="active", sub="exited"))
    assert not has_ended(RUNS)
    assert not has_ended(replace(ENDED, active="activating", sub="auto-restart"))
    assert not has_ended(replace(ENDED, active="inactive", has_job=True))


def test_status_of_the_last_end() -> None:
    """While it runs again it is what was noted, in whatever words; nonsense is none."""
    assert exit_status(RUNS, "exited 7\n") == 7
    assert exit_status(RUNS, "dumped SEGV") == -11
    assert exit_status(RUNS, "") is None
    assert exit_status(RUNS, "killed NONSENSE") is None
    assert exit_status(replace(ENDED, main_code=2, main_status=15), "") == -15


def test_starts_are_counted_on() -> None:
    """Those of before it was asked for again count with those that its manager knows of."""
    assert starts(RUNS, 2) == 3
    assert starts(replace(RUNS, restarts=4), 0) == 5
    assert starts(replace(RUNS, has_run=False), 2) == 2
