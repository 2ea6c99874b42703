"""Where ports go that a runtime chooses: back where they were, and never two to one."""

from dataclasses import replace
from pathlib import Path

from reconciler.runtimes.definition import PORTS, candidates
from reconciler.runtimes.instance_folders import InstanceFolders
from reconciler.runtimes.runtime import Identity, Port, ServiceSpec

SPEC = ServiceSpec(
    identity=Identity(environment="shop", deployment="eu", component="api"),
    definition_hash="one",
    argv=("run",),
    ports=(Port(name="http"),),
)


def test_instance_made_anew_comes_back_where_it_was(tmp_path: Path) -> None:
    """What others were told of it holds, also for a daemon that knows nothing of before."""
    first = InstanceFolders(tmp_path).port(SPEC, "one", SPEC.ports[0])
    folders = InstanceFolders(tmp_path)
    assert folders.port(SPEC, "one", SPEC.ports[0]) == first == folders.port(SPEC, "one", SPEC.ports[0])
    assert first in PORTS


def test_others_go_elsewhere(tmp_path: Path) -> None:
    """Instances side by side, and other services, have ports of their own."""
    folders = InstanceFolders(tmp_path)
    other = replace(SPEC, identity=replace(SPEC.identity, component="web"))
    found = [
        folders.port(SPEC, "one", SPEC.ports[0]),
        folders.port(SPEC, "two", SPEC.ports[0]),
        folders.port(other, "one", SPEC.ports[0]),
    ]
    assert len(set(found)) == 3
    assert candidates(SPEC, "one", "http") != candidates(SPEC, "one", "admin")
