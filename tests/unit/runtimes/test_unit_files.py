"""Unit files hold what a definition says, whatever letters are in it, and no value of an environment."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.runtimes.runtime import (
    Data,
    Hidden,
    Identity,
    Limits,
    Port,
    Restart,
    RestartWhen,
    ServiceSpec,
)
from reconciler.runtimes.systemd_unit import (
    Place,
    environment_text,
    faults_of_texts,
    unit_name,
    unit_text,
)

API = Identity(environment="production", deployment="eu", component="api")
SPEC = ServiceSpec(
    identity=API,
    definition_hash="1",
    argv=("serve", 'a "b" $C %d\\e\nf'),
    env=(("PASSWORD", Hidden("hunter2")),),
    data=(Data(name="main-1"),),
    limits=Limits(memory_bytes=4096, cpus=1.5, processes=3, open_files=99),
)
PLACE = Place(folder=Path("/var/lib/x y"), program="/bin/serve", ports={}, is_of_a_user=False, version=252)
FILES = {
    "environment": "/var/lib/x y/environment",
    "exit": "/var/lib/x y/exit",
    "output": "/var/lib/x y/output",
}


def lines(spec: ServiceSpec = SPEC, place: Place = PLACE) -> list[str]:
    return unit_text(spec, "one", place, FILES).splitlines()


def test_names_are_kept_apart() -> None:
    """Two instances whose parts make the same text have two names, and the longest is none too long."""
    first = unit_name(replace(API, environment="a-b", deployment="c"), "one")
    second = unit_name(replace(API, environment="a", deployment="b-c"), "one")
    assert first != second
    assert first.startswith("reconciler-a-b-c-api-one-")
    longest = Identity(environment="e" * 63, deployment="d" * 63, component="c" * 63)
    assert len(unit_name(longest, "i" * 63)) < 255
    assert unit_name(longest, "i" * 62 + "1") != unit_name(longest, "i" * 62 + "2")


def test_command_is_taken_by_the_letter() -> None:
    """Quotes, variables, specifiers and line ends in a command reach the program and nothing else."""
    assert r'ExecStart=:"/bin/serve" "a \"b\" $C %%d\\e\nf"' in lines()


def test_no_value_stands_in_it() -> None:
    """Variables come from a file; only where data stand is written in the unit."""
    text = unit_text(SPEC, "one", PLACE, FILES)
    assert "hunter2" not in text
    assert "EnvironmentFile=/var/lib/x y/environment" in text
    assert 'Environment="DATA_MAIN_1=%S/reconciler-data/production/eu/api/main-1"' in text
    assert "StateDirectory=reconciler-data/production/eu/api/main-1" in text


def test_limits() -> None:
    """Every limit of a definition is one of its unit."""
    assert {"MemoryMax=4096", "CPUQuota=150%", "TasksMax=3", "LimitNOFILE=99"} <= set(lines())


@pytest.mark.parametrize(
    ("restart", "version", "expected"),
    [
        pytest.param(Restart(when=RestartWhen.NEVER), 252, ["Restart=no", "RemainAfterExit=yes"], id="never"),
        pytest.param(
            Restart(when=RestartWhen.ON_FAILURE),
            252,
            ["Restart=on-failure", "RemainAfterExit=yes", "RestartSec=1.000"],
            id="on-failure",
        ),
        pytest.param(Restart(), 252, ["Restart=always", "RestartSec=1.000"], id="always"),
        pytest.param(
            Restart(),
            254,
            ["Restart=always", "RestartSec=1.000", "RestartSteps=10", "RestartMaxDelaySec=60.000"],
            id="growing-pauses",
        ),
    ],
)
def test_restart(restart: Restart, version: int, expected: list[str]) -> None:
    """When it is started again is systemd's to hold, with what the version of it knows."""
    found = lines(replace(SPEC, restart=restart), replace(PLACE, version=version))
    assert [each for each in found if each.startswith(("Restart", "RemainAfterExit"))] == expected
    assert ("[Install]" in found) is (restart.when is not RestartWhen.NEVER)
    assert "StartLimitIntervalSec=0" in found


def test_limit_of_quick_ends() -> None:
    """A limit counts starts within the time that so many quick ends and their pauses may take."""
    found = lines(replace(SPEC, restart=Restart(limit=3, steady_s=10, delay_max_s=5)))
    assert {"StartLimitIntervalSec=45.000", "StartLimitBurst=3"} <= set(found)


def test_no_grace_is_no_wait() -> None:
    """A grace of nothing is not what systemd takes for as long as it likes."""
    assert "TimeoutStopSec=0.001" in lines(replace(SPEC, grace_s=0.0))


def test_walls() -> None:
    """The sandbox opens for a low port, for a program at home and for an output, and for nothing else."""
    found = set(lines())
    assert {"ProtectSystem=strict", "ProtectHome=yes", "CapabilityBoundingSet=", "DynamicUser=yes"} <= found
    assert not [each for each in found if each.startswith(("BindPaths", "AmbientCapabilities"))]
    spec = replace(
        SPEC, ports=(Port(name="web", number=80),), output_bytes_max=1, user="www", cwd="/home/www"
    )
    found = set(lines(spec))
    assert {
        "ProtectHome=read-only",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "User=www",
        'BindPaths="/var/lib/x y/output":/run/reconciler-output',
    } <= found
    assert "DynamicUser=yes" not in found


def test_in_the_manager_of_a_user() -> None:
    """What only root's manager can give is not asked of a user's."""
    found = lines(place=replace(PLACE, is_of_a_user=True))
    assert not [
        each for each in found if each.startswith(("Protect", "Private", "User", "DynamicUser", "Bind"))
    ]
    assert {"NoNewPrivileges=yes", "WantedBy=default.target"} <= set(found)


def test_environment_file() -> None:
    """Letters that mean something to systemd are escaped, and all else stands as it is."""
    assert environment_text({"A": 'x "y" `z` $W \\ %n\n2é'}) == 'A="x \\"y\\" \\`z\\` \\$W \\\\ %n\n2é"\n'


def test_texts_that_systemd_does_not_pass() -> None:
    """A value that would be dropped without a word is refused, and not quoted."""
    spec = replace(SPEC, cwd="/a\nb")
    found = faults_of_texts(spec, {"GOOD": "a\tb\nc", "BAD": "secret\x1b[0m", "BYTES": "\udcff"})
    assert [each for each in found if "'GOOD'" in each or "secret" in each] == []
    assert len(found) == 3
