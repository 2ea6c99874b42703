"""A live daemon's metrics are well formed, and a real Prometheus with our rules tells what goes wrong."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins.daemon import Daemon, World
from tests.plugins.package import ROOT
from tests.plugins.postgres import free_port
from tests.system.conftest import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

EXAMPLES = ROOT / "examples" / "prometheus"
FIRING_S = 60.0
GOOD = {"orders": "CREATE TABLE orders (id integer PRIMARY KEY);"}
BAD = {**GOOD, "broken": "SELECT 1 / 0;"}
MENDED = {**GOOD, "broken": "SELECT 1;"}


class Prometheus:
    """A Prometheus that scrapes one daemon each second, with our rules made impatient."""

    def __init__(self, folder: Path, daemon: Daemon) -> None:
        folder.mkdir()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "prometheus.log"
        rules = re.sub(r"\bfor: \w+", "for: 2s", (EXAMPLES / "alerts.yml").read_text())
        (folder / "alerts.yml").write_text(rules)
        config = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{daemon.port}"]}]
        del config["alerting"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def get(self, path: str) -> Any:
        """The data of an answer; None where there is none yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return json.load(response)["data"]
        except OSError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def scraped(self) -> bool:
        """Whether it has scraped the daemon."""
        found = self.get("/api/v1/query?query=up")
        return bool(found and any(row["value"][1] == "1" for row in found["result"]))

    def alerts(self) -> dict[str, dict[str, Any]]:
        """What fires, by name."""
        found = self.get("/api/v1/alerts") or {"alerts": []}
        return {row["labels"]["alertname"]: row for row in found["alerts"] if row["state"] == "firing"}

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=60)


@pytest.fixture
def applied(world: World) -> Daemon:
    """A daemon that has applied a first commit."""
    commit = world.repository.commit({**world.spec(), **world.repository.module(GOOD)})
    daemon = world.daemon().start()
    daemon.until_applied(commit)
    return daemon


@pytest.fixture
def prometheus(tmp_path: Path, applied: Daemon) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the daemon."""
    made = Prometheus(tmp_path / "prometheus", applied)
    try:
        until(made.scraped, lambda: f"a first scrape\n{made.log.read_text()}", deadline_s=FIRING_S)
        yield made
    finally:
        made.close()


def test_metrics_of_a_live_daemon_are_well_formed(applied: Daemon) -> None:
    """promtool has nothing to say of a live scrape."""
    status, text = applied.get("/metrics")
    assert status == 200
    assert 'reconciler_pending_changes{deployment="eu",environment="production"} 0.0' in text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failing_rollout_fires_and_a_fix_ends_what_holds(world: World, prometheus: Prometheus) -> None:
    """A real failing rollout raises the alerts that are for it, and no others; the fix ends the hold."""
    until(
        lambda: set(prometheus.alerts()) == {"ReconcilerWatchdog"},
        lambda: f"quiet: {prometheus.alerts()}",
        deadline_s=FIRING_S,
    )
    world.repository.commit(world.repository.module(BAD))
    until(
        lambda: {"ReconcilerRolloutFailing", "ReconcilerHeld"} <= set(prometheus.alerts()),
        lambda: f"the alerts: {prometheus.alerts()}\n{world.daemons[0].tail()}",
        deadline_s=FIRING_S,
    )
    firing = prometheus.alerts()
    assert set(firing) == {"ReconcilerRolloutFailing", "ReconcilerHeld", "ReconcilerWatchdog"}
    assert firing["ReconcilerHeld"]["labels"]["environment"] == "production"
    assert firing["ReconcilerRolloutFailing"]["labels"]["severity"] == "critical"

    world.daemons[0].until_applied(world.repository.commit(world.repository.module(MENDED)))
    until(
        lambda: "ReconcilerHeld" not in prometheus.alerts(),
        lambda: f"the hold to end: {prometheus.alerts()}",
        deadline_s=FIRING_S,
    )


def test_a_daemon_that_is_gone_fires(applied: Daemon, prometheus: Prometheus) -> None:
    """Prometheus tells that nobody answers once the daemon is killed."""
    applied.kill()
    until(
        lambda: "ReconcilerDown" in prometheus.alerts(),
        lambda: f"the alert: {prometheus.alerts()}",
        deadline_s=FIRING_S,
    )
