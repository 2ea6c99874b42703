"""Find who answers a command: a daemon where one does, else this process itself."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.cli import address
from reconciler.cli.backend import Backend, Looks
from reconciler.cli.command import Common


@contextmanager
def look(common: Common) -> Iterator[Looks]:
    """Open what looks and writes nothing; a server that a person named is the only one that is tried."""
    backend: Looks = _daemon(common) or _local_looks(common)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def connect(common: Common, *, needs_control: bool) -> Iterator[Backend]:
    """Open a backend; a server that a person named is the only one that is tried.

    With `needs_control` the command writes: without a daemon the control database is started and installed.
    """
    backend: Backend = _daemon(common) or _local(common, needs_control=needs_control)
    try:
        yield backend
    finally:
        backend.close()


def _daemon(common: Common) -> Backend | None:
    """The daemon, where one answers or was named."""
    place = address.find(common.server, common.config, os.environ)
    if not place.given and not address.listens(place):
        return None
    from reconciler.cli.http_backend import HttpBackend, NobodyAnswers, Trust

    trust = Trust(ca=common.ca, client=os.environ.get("RECONCILER_CLIENT_CERTIFICATE") or None)
    daemon = HttpBackend(place, os.environ.get("RECONCILER_TOKEN"), trust)
    try:
        daemon.probe()
    except NobodyAnswers:
        if place.given:
            raise
        return None
    return daemon


def _local_looks(common: Common) -> Looks:
    from reconciler.cli.local_looks import open_looks
    from reconciler.cli.settings_file import load

    return open_looks(load(common.config, os.environ), os.environ)


def _local(common: Common, *, needs_control: bool) -> Backend:
    from reconciler.cli.local_backend import LocalBackend
    from reconciler.cli.settings_file import load

    return LocalBackend(load(common.config, os.environ), os.environ, needs_control=needs_control)
