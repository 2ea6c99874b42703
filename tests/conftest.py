"""Loads the fixture plugins, and keeps the environment of whoever runs the tests out of them."""

import os
import signal
import threading
from importlib.util import find_spec

import hypothesis
import pytest

# Loaded before any test module: examples are not kept on disk, and a busy machine is no failure.
hypothesis.settings.register_profile("project", database=None, deadline=None)
hypothesis.settings.load_profile("project")

pytest_plugins = [
    name
    for name in (
        "tests.plugins.postgres",
        "tests.plugins.git",
        "tests.plugins.git_hosts",
        "tests.plugins.signers",
        "tests.plugins.proxy",
        "tests.plugins.daemon",
        "tests.plugins.fleet",
        "tests.plugins.site",
    )
    if find_spec(name) is not None
]

KEPT = frozenset({"RECONCILER_TEST_PG_BIN", "RECONCILER_TEST_LONGER", "RECONCILER_TEST_SEED"})


def _is_of_the_caller(name: str) -> bool:
    return name.startswith(("RECONCILER_", "PG", "GIT_")) and name not in KEPT


def pytest_configure(config: pytest.Config) -> None:
    """Session fixtures start servers and programs too: they see the clean environment as well."""
    for name in [name for name in os.environ if _is_of_the_caller(name)]:
        del os.environ[name]
    if threading.current_thread() is threading.main_thread():
        # Whoever starts us in the background may have SIGINT ignored, which the programs under test inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's settings, connections or Git configuration reaches a test."""
    for name in list(os.environ):
        if _is_of_the_caller(name):
            monkeypatch.delenv(name)
