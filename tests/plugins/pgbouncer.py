"""A real PgBouncer before a server; it needs the Debian package of that name."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import conninfo

from tests.plugins.postgres import DIE_WITH_US, PASSWORD, Server, free_port

START_TIMEOUT_S = 20.0


class Bouncer:
    """One PgBouncer, listening; whoever comes is the superuser of the server behind it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def text(self, database: str = "postgres") -> str:
        """Connection string through the pooler."""
        return conninfo.make_conninfo(
            "", host="127.0.0.1", port=str(self.port), user="postgres", password=PASSWORD, dbname=database
        )


@contextmanager
def bouncer(server: Server, **settings: str) -> Iterator[Bouncer]:
    """Run one before a server, with settings of its own such as `pool_mode`."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "install the Debian package pgbouncer"
    port = free_port()
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "max_client_conn": "200",
        "ignore_startup_parameters": "extra_float_digits",
        **settings,
    }
    with ExitStack() as stack:
        # Not below pytest's folder: another user than ours cannot pass through that.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reconciler-test-bouncer-")))
        folder.chmod(0o755)
        config = folder / "pgbouncer.ini"
        behind = f"host=127.0.0.1 port={server.port} user=postgres password={PASSWORD}"
        text = "\n".join(f"{key} = {value}" for key, value in lines.items())
        config.write_text(f"[databases]\n* = {behind}\n[pgbouncer]\n{text}\n")
        # As root it refuses to run; as who the servers of tests run, it does.
        owner = server.data_dir.stat()
        whose = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen(  # type: ignore[call-overload]
            [*DIE_WITH_US, program, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            **whose,
        )
        stack.callback(process.wait, timeout=START_TIMEOUT_S)
        stack.callback(process.kill)
        found = Bouncer(port)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(found.text(), connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                said = (folder / "log").read_text(errors="replace")
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.02)
        yield found
