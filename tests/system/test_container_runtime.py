"""The runtime `container` does what every runtime does, on a real Docker Engine."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.integration.runtimes.conformance")

from tests.integration.runtimes.conformance import Conformance  # noqa: E402
from tests.system.container_bench import ContainerBench, running_engine  # noqa: E402
from tests.system.engine import Engine  # noqa: E402

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """One for all tests here."""
    with running_engine() as (found, _):
        yield found


@pytest.fixture
def bench(engine: Engine) -> Iterator[ContainerBench]:
    """Services as containers; all are gone at the end."""
    found = ContainerBench(engine)
    yield found
    found.close()


class TestContainer(Conformance):
    """The whole suite."""
