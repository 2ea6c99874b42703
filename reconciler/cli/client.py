"""Find who answers a command: a daemon where one does, else this process itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.cli import address
from reconciler.cli.backend import Backend
from reconciler.cli.command import Common
from reconciler.cli.http_backend import HttpBackend, NobodyAnswers, Trust


@contextmanager
def connect(common: Common, *, needs_control: bool) -> Iterator[Backend]:
    """Open a backend.

    With `needs_control` the command writes: without a daemon the control database is started and installed.
    A server that a person named is the only one that is tried.
    """
    place = address.find(common.server, common.config, os.environ)
    backend: Backend
    trust = Trust(ca=common.ca, client=os.environ.get("RECONCILER_CLIENT_CERTIFICATE") or None)
    daemon = HttpBackend(place, os.environ.get("RECONCILER_TOKEN"), trust)
    try:
        daemon.probe()
    except NobodyAnswers:
        if place.given:
            raise
        backend = _local(common, needs_control=needs_control)
    else:
        backend = daemon
    try:
        yield backend
    finally:
        backend.close()


def _local(common: Common, *, needs_control: bool) -> Backend:
    from reconciler.cli.local_backend import LocalBackend
    from reconciler.cli.settings_file import load

    return LocalBackend(load(common.config, os.environ), os.environ, needs_control=needs_control)
