"""What a service as a process needs: its definition as the supervisor reads it, and what is wrong with it.

It looks and changes nothing.
"""

import errno
import os
import pwd
import secrets
import shutil
import socket
from pathlib import Path
from typing import Any

from reconciler.errors import PermanentError
from reconciler.runtimes.instance import FORMAT
from reconciler.runtimes.runtime import ServiceSpec, environment_of


def definition_of(spec: ServiceSpec, ports: dict[str, int]) -> dict[str, Any]:
    """What is written for the supervisor, hidden values too, with a token of its own."""
    return {
        "format": FORMAT,
        "hash": spec.definition_hash,
        "token": secrets.token_hex(16),
        "argv": list(spec.argv),
        "env": environment_of(spec, ports),
        "cwd": spec.cwd or "/",
        "user": None if spec.user is None else _account(spec.user),
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


def _account(user: str) -> tuple[int, int, list[int]]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise PermanentError(f"looking for the user '{user}': there is none of that name") from None
    return entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid)


def faults_here(spec: ServiceSpec) -> list[str]:
    """All that keeps a service from running as a process here, now; none of it quotes a value."""
    found = []
    if spec.image is not None:
        found.append("a process has no image")
    if any((spec.limits.memory_bytes, spec.limits.cpus, spec.limits.processes)):
        found.append("the runtime 'process' limits only open files; 'systemd' and 'container' limit the rest")
    if spec.user is not None:
        found += _faults_of_user(spec.user)
    if spec.cwd is not None and not Path(spec.cwd).is_absolute():
        found.append(f"its working directory '{spec.cwd}' is not absolute")
    elif spec.cwd is not None and not Path(spec.cwd).is_dir():
        found.append(f"its working directory '{spec.cwd}' is no directory that is there")
    found += _faults_of_program(spec)
    return found


def _faults_of_user(user: str) -> list[str]:
    try:
        uid, _, _ = _account(user)
    except PermanentError:
        return [f"there is no user '{user}'"]
    if os.geteuid() not in (0, uid):
        return [f"it cannot run as '{user}': only root can choose"]
    return []


def _faults_of_program(spec: ServiceSpec) -> list[str]:
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
