"""The runtime `process` does what every runtime does."""

import pytest

pytest.register_assert_rewrite("tests.integration.runtimes.conformance")

from tests.integration.runtimes.conformance import Conformance  # noqa: E402
from tests.plugins.services import bench  # noqa: E402

__all__ = ["bench"]


class TestProcess(Conformance):
    """The whole suite."""
