"""What a service as a process needs: its definition as the supervisor reads it, and what is wrong with it.

It looks and changes nothing.
"""

import errno
import os
import pwd
import random
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

from reconciler.errors import PermanentError
from reconciler.runtimes.instance import FORMAT
from reconciler.runtimes.runtime import ServiceSpec, environment_of

PORTS = range(20000, 32000)
"""Those that are chosen from: below those that the system gives to outgoing connections."""
PORTS_TRIED_MAX = 100


def definition_of(
    spec: ServiceSpec,
    ports: dict[str, int],
    folders: dict[str, str] | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """What is written for the supervisor, hidden values too, with a token of its own."""
    return {
        "format": FORMAT,
        "hash": spec.definition_hash,
        "token": secrets.token_hex(16),
        "argv": list(spec.argv),
        "env": environment_of(spec, ports, folders, output),
        "cwd": spec.cwd or "/",
        "user": account_of(spec.user),
        "ports": ports,
        "grace_s": spec.grace_s,
        "open_files": spec.limits.open_files,
        "log_bytes": spec.logs.bytes_max,
        "log_files": spec.logs.files,
        "restart": {
            "when": spec.restart.when.value,
            "delay_s": spec.restart.delay_s,
            "delay_max_s": spec.restart.delay_max_s,
            "steady_s": spec.restart.steady_s,
            "limit": spec.restart.limit,
        },
    }


def account_of(user: str | None) -> tuple[int, int, list[int]] | None:
    """The numbers of a user and its groups; None for the one that we are."""
    if user is None:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PermanentError(f"looking for the user '{user}': there is none of that name") from None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid)


def faults_here(spec: ServiceSpec, *, in_unit: bool) -> list[str]:
    """All that keeps a service from running as a process here, now; none of it quotes a value.

    `in_unit`: its supervisor gets a unit of systemd, which can hold more limits.
    """
    found = faults_of_kind(spec, "a process")
    if not in_unit and any((spec.limits.memory_bytes, spec.limits.cpus, spec.limits.processes)):
        found.append(
            "outside of systemd the runtime 'process' limits only open files; 'container' limits the rest"
        )
    if spec.user is not None:
        found += _faults_of_user(spec.user)
    return found + faults_of_program(spec)


def faults_of_kind(spec: ServiceSpec, what: str) -> list[str]:
    """What a definition asks that only a container has."""
    found = []
    if spec.image is not None or spec.build is not None:
        found.append(f"{what} has no image")
    if spec.networks:
        found.append(f"{what} has no networks of a container engine")
    return found + [
        f"its data '{each.name}' cannot stand at '{each.path}': {what} is told by a variable where they are"
        for each in spec.data
        if each.path is not None
    ]


def faults_of_program(spec: ServiceSpec) -> list[str]:
    """What is wrong with its command and folder on this machine."""
    found = []
    if spec.cwd is not None and not Path(spec.cwd).is_absolute():
        found.append(f"its working directory '{spec.cwd}' is not absolute")
    elif spec.cwd is not None and not Path(spec.cwd).is_dir():
        found.append(f"its working directory '{spec.cwd}' is no directory that is there")
    return found + _faults_of_command(spec)


def _faults_of_user(user: str) -> list[str]:
    try:
        account = account_of(user)
    except PermanentError:
        return [f"there is no user '{user}'"]
    if account is not None and os.geteuid() not in (0, account[0]):
        return [f"it cannot run as '{user}': only root can choose"]
    return []


def _faults_of_command(spec: ServiceSpec) -> list[str]:
    if not spec.argv:
        return ["it has no command"]
    program = spec.argv[0]
    if "/" in program:
        place = Path(spec.cwd or "/") / program
        if not place.exists():
            return [f"its program '{program}' is not there"]
        can_run = place.is_file() and os.access(place, os.X_OK)
        return [] if can_run else [f"its program '{program}' cannot be run"]
    path = environment_of(spec, {})["PATH"]
    return [] if shutil.which(program, path=path) else [f"its program '{program}' is not in '{path}'"]


def candidates(spec: ServiceSpec, instance: str, port: str) -> list[int]:
    """Numbers to try for a port of an instance, in the same order each time.

    So one that is made anew comes back where it was, and what was told of it holds.
    """
    seed = f"{spec.identity}/{instance}/{spec.definition_hash}/{port}"
    return random.Random(seed).sample(PORTS, PORTS_TRIED_MAX)  # noqa: S311 - a place, not a secret


def is_free(port: int) -> bool:
    """Whether nobody listens there, at any address of this machine."""
    families = [socket.AF_INET, *([socket.AF_INET6] if socket.has_dualstack_ipv6() else [])]
    for family in families:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True
