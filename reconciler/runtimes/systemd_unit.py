"""The unit file of one instance of a service and the file of its environment, as text; it touches nothing."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import Identity, Restart, RestartWhen, ServiceSpec
from reconciler.runtimes.transient import limit_lines

PREFIX = "reconciler-"
OUTPUT_INSIDE = "/run/reconciler-output"
_DATA = "reconciler-data"
_PART_MAX = 40
_START_S = 30
_STEPS_SINCE = 254
_STEPS_MAX = 10
_PRIVILEGED_BELOW = 1024
_HOMES = ("/home/", "/root/", "/run/user/")
_IN_QUOTES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "%": "%%"}
_NOT_PASSED = re.compile(r"[\x01-\x08\x0b-\x1f\x7f\ud800-\udfff]")

_ESCAPED = re.compile(r'["\\$`]')

_FOR_ALL = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
"""
_OF_THE_SYSTEM = """\
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
"""


@frozen
class Place:
    """Where the unit of an instance lives: its folder, what is told of its manager, its program and ports."""

    folder: Path
    program: str
    ports: Mapping[str, int]
    is_of_a_user: bool
    version: int


def unit_name(identity: Identity, instance: str) -> str:
    """The name of the unit of an instance: people find it by its parts, and its end keeps it apart.

    It keeps to letters that unit names may have, and below their limit of 255.
    """
    parts = (identity.environment, identity.deployment, identity.component, instance)
    mark = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
    return f"{PREFIX}{'-'.join(part[:_PART_MAX] for part in parts)}-{mark}.service"


def data_variable(name: str) -> str:
    """What tells where data stand."""
    return f"DATA_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"


def faults_of_texts(spec: ServiceSpec, environment: Mapping[str, str]) -> list[str]:
    """What systemd would not pass on; none of it quotes a value."""
    found = [
        f"the value of '{name}' has a control character or a byte that is no text; systemd passes none"
        for name, value in environment.items()
        if _NOT_PASSED.search(value)
    ]
    if any(_NOT_PASSED.search(each) for each in spec.argv):
        found.append("the command has a control character or a byte that is no text")
    if spec.cwd is not None and ("\n" in spec.cwd or _NOT_PASSED.search(spec.cwd)):
        found.append("its working directory has a control character")
    return found


def environment_text(environment: Mapping[str, str]) -> str:
    """The file that systemd reads the variables from, hidden ones too."""
    quoted = (f'{name}="{_ESCAPED.sub(_with_backslash, value)}"' for name, value in environment.items())
    return "".join(f"{line}\n" for line in quoted)


def _with_backslash(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def unit_text(spec: ServiceSpec, instance: str, place: Place, files: Mapping[str, str]) -> str:
    """The whole unit file; `files` names those of the instance: environment, exit, output."""
    sections = {
        "Unit": [
            f"Description=Service {spec.identity} ({instance})",
            f"RequiresMountsFor={_quoted(str(place.folder))}",
            *_start_limit(spec.restart),
        ],
        "Service": _service(spec, place, files),
        **({} if spec.restart.when is RestartWhen.NEVER else {"Install": [_wanted_by(place)]}),
        "X-Reconciler": [
            f"Environment={spec.identity.environment}",
            f"Deployment={spec.identity.deployment}",
            f"Component={spec.identity.component}",
            f"Instance={instance}",
        ],
    }
    body = "\n".join(
        f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items()
    )
    return f"# Written by pg-reconciler for the service of a spec; what is changed here is undone.\n{body}"


def _wanted_by(place: Place) -> str:
    return f"WantedBy={'default' if place.is_of_a_user else 'multi-user'}.target"


def _start_limit(restart: Restart) -> list[str]:
    if restart.limit is None:
        return ["StartLimitIntervalSec=0"]
    # Counted are starts in a time: as long as that many quick ends with their pauses may take.
    within_s = max(1.0, restart.limit * (restart.steady_s + restart.delay_max_s))
    return [f"StartLimitIntervalSec={within_s:.3f}", f"StartLimitBurst={max(1, restart.limit)}"]


def _service(spec: ServiceSpec, place: Place, files: Mapping[str, str]) -> list[str]:
    argv = " ".join(_quoted(each) for each in (place.program, *spec.argv[1:]))
    note = 'echo "$$EXIT_CODE $$EXIT_STATUS" >"$$0"'
    lines = [
        "Type=exec",
        f"ExecStart=:{argv}",
        # Outside of its sandbox: it tells how each run ended, before the next begins.
        f"ExecStopPost=-+/bin/sh -c '{note}' {_quoted(files['exit']).replace('$', '$$')}",
        f"WorkingDirectory={(spec.cwd or '/').replace('%', '%%')}",
        f"EnvironmentFile={files['environment'].replace('%', '%%')}",
        *_restart(spec.restart, place.version),
        "KillMode=mixed",
        f"TimeoutStartSec={_START_S}",
        f"TimeoutStopSec={max(spec.grace_s, 0.001):.3f}",
        "StandardInput=null",
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={spec.identity.component}",
        *limit_lines(spec.limits),
    ]
    if spec.limits.open_files is not None:
        lines.append(f"LimitNOFILE={spec.limits.open_files}")
    for each in spec.data:
        of_it = f"{_DATA}/{spec.identity}/{each.name}"
        lines += [f"StateDirectory={of_it}", f'Environment="{data_variable(each.name)}=%S/{of_it}"']
    if spec.data:
        lines.append("StateDirectoryMode=0700")
    return lines + _sandbox(spec, place, files)


def _restart(restart: Restart, version: int) -> list[str]:
    if restart.when is RestartWhen.NEVER:
        return ["Restart=no", "RemainAfterExit=yes"]
    # What ended well is kept as it was, or systemd forgets how it ended.
    lines = [f"Restart={restart.when}"] + ["RemainAfterExit=yes"] * (restart.when is RestartWhen.ON_FAILURE)
    lines.append(f"RestartSec={restart.delay_s:.3f}")
    if version >= _STEPS_SINCE and restart.delay_max_s > restart.delay_s:
        lines += [f"RestartSteps={_STEPS_MAX}", f"RestartMaxDelaySec={restart.delay_max_s:.3f}"]
    return lines


def _sandbox(spec: ServiceSpec, place: Place, files: Mapping[str, str]) -> list[str]:
    lines = _FOR_ALL.splitlines()
    if place.is_of_a_user:
        # Name spaces are for root to give: a user's own manager has the rest.
        return lines
    lines += _OF_THE_SYSTEM.splitlines()
    at_home = any(each.startswith(_HOMES) for each in (place.program, f"{spec.cwd or ''}/"))
    lines.append(f"ProtectHome={'read-only' if at_home else 'yes'}")
    if any(port.number is not None and port.number < _PRIVILEGED_BELOW for port in spec.ports):
        lines += ["CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE"]
    else:
        lines.append("CapabilityBoundingSet=")
    if spec.output_bytes_max is not None:
        lines.append(f"BindPaths={_quoted(files['output'])}:{OUTPUT_INSIDE}")
    if spec.user is not None:
        lines.append(f"User={spec.user}")
    else:
        mark = hashlib.sha256(str(spec.identity).encode()).hexdigest()[:12]
        lines += ["DynamicUser=yes", f"User=reconciler-{mark}", "RemoveIPC=yes"]
    return lines


def _quoted(text: str) -> str:
    return '"' + "".join(_IN_QUOTES.get(each, each) for each in text) + '"'
