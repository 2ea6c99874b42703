"""The runtime `container` does what every runtime does, on a real Docker Engine."""

from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler.runtimes.runtime import ServiceState

pytest.register_assert_rewrite("tests.integration.runtimes.conformance")

from tests.integration.runtimes.conformance import Conformance, in_state  # noqa: E402
from tests.plugins.services import FOR_EVER, shell  # noqa: E402
from tests.system.container_bench import ContainerBench, running_engine  # noqa: E402
from tests.system.engine import Engine  # noqa: E402

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def placed() -> Iterator[tuple[Engine, str]]:
    """An engine for all tests here, and the name of its network."""
    with running_engine() as found:
        yield found


@pytest.fixture
async def bench(placed: tuple[Engine, str]) -> AsyncIterator[ContainerBench]:
    """Services as containers; all are gone at the end."""
    found = ContainerBench(placed[0])
    yield found
    await found.close()


class TestContainer(Conformance):
    """The whole suite."""


async def test_engine_killed_and_back(bench: ContainerBench, placed: tuple[Engine, str]) -> None:
    """Where services end with their engine, it starts them again itself, and none runs twice."""
    spec = shell(FOR_EVER)
    await bench.runtime.apply(spec, "one")
    bench.engine.kill()
    bench.engine.start(namespace=placed[1])
    found = await in_state(bench.runtime, "one", ServiceState.HEALTHY)
    assert found.definition_hash == spec.definition_hash
    assert (await bench.runtime.apply(spec, "one")).handle == found.handle
    assert await bench.running() == 1
