"""A primary and its streaming standby, real ones, to be failed over as operators do it."""

import shutil
import signal

from psycopg import conninfo

from reconciler.postgres.programs import run
from tests.plugins.daemon import until
from tests.plugins.postgres import PASSWORD, OwnServer, Server

PROMOTION_S = 60


class Pair:
    """Two servers: at first `primary` is written to, and `standby` follows it, asynchronously."""

    def __init__(self) -> None:
        self.primary = OwnServer(wal_level="replica", max_wal_senders="4")
        self.standby: OwnServer | None = None

    def start(self) -> None:
        self.primary.start()
        self.standby = OwnServer(hot_standby="on")
        shutil.rmtree(self.standby.data_dir)
        backup(self.primary, self.standby)
        self.standby.start()

    def servers(self) -> tuple[OwnServer, OwnServer]:
        assert self.standby is not None
        return self.primary, self.standby

    def text(self, database: str) -> str:
        """The connection string of whichever of the two is written to."""
        return conninfo.make_conninfo(
            "",
            host=",".join("127.0.0.1" for _ in self.servers()),
            port=",".join(str(server.port) for server in self.servers()),
            user="postgres",
            password=PASSWORD,
            dbname=database,
            target_session_attrs="read-write",
        )

    def caught_up(self) -> bool:
        """Whether the standby has all that the primary wrote."""
        primary, standby = self.servers()
        position = primary.run("select pg_current_wal_flush_lsn()")[0][0]
        return bool(standby.run(f"select pg_last_wal_replay_lsn() >= '{position}'")[0][0])

    def fail_over(self) -> Server:
        """Kill the primary as a power cut does, promote the standby, and give it."""
        primary, standby = self.servers()
        if primary.process is not None:
            primary.stop(signal.SIGQUIT)
        assert standby.run(f"select pg_promote(true, {PROMOTION_S})") == [(True,)]
        until(lambda: standby.run("select pg_is_in_recovery()") == [(False,)], "the standby to be promoted")
        return standby

    def remove(self) -> None:
        self.primary.remove()
        if self.standby is not None:
            self.standby.remove()


def backup(primary: OwnServer, standby: OwnServer) -> None:
    """Fill the folder of a server with a copy of another, which it is to follow."""
    outcome = run(
        [primary.bin_dir / "pg_basebackup", "--pgdata", standby.data_dir, "--dbname", primary.text(),
         "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"],
        account=standby.account, cwd=standby.root, timeout_s=60,
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert (standby.data_dir / "standby.signal").exists()
