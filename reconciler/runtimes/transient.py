"""Under systemd: in which unit this process is, and how a program is started in one of its own.

What a unit starts ends with it. A service must not end with the daemon, so its supervisor gets a transient
unit; where the manager does not permit that, it is said before anything is planned.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import Limits

_BOOTED = Path("/run/systemd/system")
_BYTES_MAX = 64 * 1024
_PROBE_TIMEOUT_S = 15.0
_SAID_MAX = 300


@frozen
class Unit:
    """The service of systemd that this process runs in; of the system's manager, or of a user's own."""

    name: str
    is_of_a_user: bool


def unit_of(cgroups: str) -> Unit | None:
    """The service that `/proc/self/cgroup` tells of; None for a session, a container or no systemd at all."""
    for line in cgroups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and controllers != "name=systemd":
            continue
        parts = [part for part in path.split("/") if part.endswith((".service", ".scope", ".slice"))]
        managers = [part for part in parts[:-1] if part.startswith("user@")]
        if parts and parts[-1].endswith(".service") and not parts[-1].startswith("user@"):
            return Unit(name=parts[-1], is_of_a_user=bool(managers))
    return None


def here() -> Unit | None:
    """The unit this process is in; none where no systemd is in reach, as in a container that a unit runs."""
    if not _BOOTED.is_dir():
        return None
    try:
        with Path("/proc/self/cgroup").open("rb") as file:
            return unit_of(file.read(_BYTES_MAX).decode("utf-8", "replace"))
    except OSError:
        return None


def command(
    unit: Unit,
    argv: Sequence[str],
    *,
    name: str,
    description: str,
    environment: Mapping[str, str],
    stop_s: float,
    limits: Limits,
) -> list[str]:
    """What starts a program in a unit of its own, and returns once it said that it is ready.

    The limits hold for all that is in the unit, and one more process for the program itself. The environment
    stands on a command line that everybody can read: nothing hidden may be in it.
    """
    user = (
        [] if unit.is_of_a_user else [f"--property=User={os.geteuid()}", f"--property=Group={os.getegid()}"]
    )
    return [
        "systemd-run",
        *(["--user"] if unit.is_of_a_user else []),
        "--quiet",
        "--collect",
        "--no-ask-password",
        f"--unit={name}",
        f"--description={description}",
        "--service-type=notify",
        "--property=KillMode=mixed",
        f"--property=TimeoutStopSec={stop_s:g}",
        *(f"--property={each}" for each in limit_lines(limits, beside=1)),
        *user,
        *(f"--setenv={key}={value}" for key, value in environment.items()),
        "--",
        *argv,
    ]


def is_taken(said: str) -> bool:
    """Whether a unit was not started as one of its name is there; others may write into what was said."""
    return not said or "already" in said


def limit_lines(limits: Limits, *, beside: int = 0) -> list[str]:
    """The limits of a control group in the words of a unit; those of open files are a process's own."""
    lines = []
    if limits.memory_bytes is not None:
        lines.append(f"MemoryMax={limits.memory_bytes}")
    if limits.cpus is not None:
        lines.append(f"CPUQuota={max(1, round(limits.cpus * 100))}%")
    if limits.processes is not None:
        lines.append(f"TasksMax={limits.processes + beside}")
    return lines


def why_no_unit(unit: Unit) -> str | None:
    """Why nothing can be started in a unit of its own; None where it can, which is tried."""
    said = f"it runs in the unit '{unit.name}', whose end would end every service"
    if shutil.which("systemd-run") is None:
        return f"{said}, and systemd-run is not there to start them elsewhere"
    manager = ["--user"] if unit.is_of_a_user else []
    try:
        done = subprocess.run(
            [
                "systemd-run", *manager, "--quiet", "--collect", "--no-ask-password", "--wait",
                f"--unit=reconciler-probe-{secrets.token_hex(8)}.service", "--", "/bin/true",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{said}, and systemd did not start another unit within {_PROBE_TIMEOUT_S:g} s"
    except OSError as error:
        return f"{said}, and systemd-run cannot be run: {(error.strerror or '').lower()}"
    if done.returncode == 0:
        return None
    why = done.stderr.decode("utf-8", "replace").strip()[:_SAID_MAX]
    return f"{said}, and systemd does not let it start another: {why}"
