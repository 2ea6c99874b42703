"""Which unit a process runs in is read from its control groups, and what starts another has no secrets."""

import pytest

from reconciler.runtimes import transient
from reconciler.runtimes.runtime import Limits
from reconciler.runtimes.transient import Unit


@pytest.mark.parametrize(
    ("cgroups", "expected"),
    [
        pytest.param("0::/system.slice/reconciler.service\n", ("reconciler.service", False), id="service"),
        pytest.param(
            "0::/system.slice/reconciler.service/workers\n", ("reconciler.service", False), id="below-one"
        ),
        pytest.param(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n",
            ("shop.service", True),
            id="of-a-user",
        ),
        pytest.param(
            "4:memory:/\n1:name=systemd:/system.slice/old.service\n0::/\n",
            ("old.service", False),
            id="hybrid",
        ),
        pytest.param("0::/user.slice/user-1000.slice/session-4.scope\n", None, id="session"),
        pytest.param(
            "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None, id="manager-of-a-user"
        ),
        pytest.param("0::/\n", None, id="container"),
        pytest.param("12:cpu:/docker/0123\n1:name=systemd:/docker/0123\n", None, id="old-container"),
        pytest.param("", None, id="none"),
        pytest.param("no such text", None, id="nonsense"),
    ],
)
def test_unit(cgroups: str, expected: tuple[str, bool] | None) -> None:
    """A service's own group tells its unit and whose manager that is; sessions and containers are none."""
    found = transient.unit_of(cgroups)
    assert (found and (found.name, found.is_of_a_user)) == expected


@pytest.mark.parametrize("is_of_a_user", [False, True])
def test_command(is_of_a_user: bool) -> None:
    """The manager is told to wait until it is ready, to end it in order, and to forget it afterwards."""
    command = transient.command(
        Unit(name="reconciler.service", is_of_a_user=is_of_a_user),
        ["python", "-m", "program"],
        name="one.service",
        description="service production/eu/api",
        environment={"PYTHONPATH": "/opt"},
        stop_s=30.0,
        limits=Limits(memory_bytes=4096, cpus=0.5, processes=3),
    )
    assert command[0] == "systemd-run"
    assert ("--user" in command) is is_of_a_user
    assert any(each.startswith("--property=User=") for each in command) is not is_of_a_user
    assert command[-4:] == ["--", "python", "-m", "program"]
    for each in (
        "--collect",
        "--unit=one.service",
        "--service-type=notify",
        "--property=KillMode=mixed",
        "--property=TimeoutStopSec=30",
        "--setenv=PYTHONPATH=/opt",
        "--property=MemoryMax=4096",
        "--property=CPUQuota=50%",
        "--property=TasksMax=4",
    ):
        assert each in command
