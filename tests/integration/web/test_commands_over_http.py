"""Commands that ask a daemon: what they print, and what their exit code says."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from reconciler.cli.main import app
from reconciler.errors import DatabaseUnavailable, InvalidInput, Problem, Refused
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.plan.model import LeftDeployment
from reconciler.plan.render import to_markdown, to_text
from reconciler.rollout.status import Condition, LeftStatus
from reconciler.web.access import Role, Token
from reconciler.web.values import to_json
from tests.plugins.daemon import until
from tests.plugins.memory_service import (
    AT,
    COMMIT,
    MemoryService,
    deployment,
    environment,
    operation,
    plan,
    rollout,
    serving,
)


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as found:
        yield found


class Command:
    """Runs commands against one daemon."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--server", self.url])


@pytest.fixture
def reconciler(url: str) -> Command:
    return Command(url)


def held() -> Any:
    return environment(
        applied_commit="f" * 40,
        deployments=(
            deployment(held='rollout 7 failed: relation "x" does not exist\nLINE 1: SELECT', pending=2),
            deployment("us", drift=1, diverged=1),
        ),
        conditions=(
            Condition(type="Ready", status=False, reason="Held", message="held", since=AT),
            Condition(type="Stalled", status=True, reason="Held", message="eu is held", since=AT),
        ),
    )


def test_diff_prints_the_same_value_in_each_form(reconciler: Command, service: MemoryService) -> None:
    """Text, JSON and Markdown show the plan that the daemon made, and nothing else."""
    row = LeftDeployment(name="us", leaves=False, prune=False, detail="it stays", databases=("shop_us",))
    made = service.next_plan = replace(plan(drift=True), left=(row,))
    told = reconciler("diff", "production", "--output", "json").stdout
    assert json.loads(told) == plan_to_json(made)
    assert reconciler("diff", "production").stdout == to_text(made)
    assert reconciler("diff", "production", "-o", "markdown").stdout == to_markdown(made)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (plan(pending=False), 0),
        (plan(), 3),
        (plan(pending=False, drift=True), 4),
        (plan(drift=True), 3),
        (plan(pending=False, unavailable="no route to host"), 1),
    ],
)
def test_diff_exit_codes(reconciler: Command, service: MemoryService, made: Any, code: int) -> None:
    """With --exit-code: 0 in sync, 3 pending, 4 drift, 3 before 4, 1 where nobody knows; without it, 0."""
    service.next_plan = made
    assert reconciler("diff", "production", "--exit-code").exit_code == code
    assert reconciler("diff", "production").exit_code == 0


def test_diff_passes_its_options(reconciler: Command, service: MemoryService) -> None:
    """Ref, deployment and scope reach the daemon as they were given, odd characters included."""
    reconciler("diff", "production", "--ref", "feature/ü&x=1", "--deployment", "eu", "--provision-only")
    asked = {"name": "production", "ref": "feature/ü&x=1", "deployment": "eu", "scope": "provision-only"}
    assert service.calls[0] == ("preview", asked)


def test_status_of_all(reconciler: Command, service: MemoryService) -> None:
    """One line for each environment, in columns that are never cut."""
    name = "production-with-a-very-long-name-that-does-not-fit-into-eighty-columns-of-a-terminal"
    service.known[name] = environment(name, suspended=True, suspended_reason="maintenance")
    result = reconciler("status")
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["ENVIRONMENT", "STATE", "DESIRED", "APPLIED"]
    assert lines[1].startswith("production ")
    assert "in sync" in lines[1]
    assert COMMIT[:12] in lines[1]
    assert f"{name}: suspended: maintenance" in lines
    assert f"{name}: what to do: reconciler status {name}" in lines
    assert "\x1b" not in result.stdout
    assert result.exit_code == 0


def test_status_says_what_stands_in_the_way(reconciler: Command, service: MemoryService) -> None:
    """Of one environment: what is desired and applied, what holds it and why, and what to do next."""
    service.known["production"] = held()
    failed = operation("failed", error={"what": "deploying", "why": "x"})
    service.history = [rollout(7, "failed", operations=(failed,))]
    result = reconciler("status", "production")
    shown = result.stdout
    assert shown.startswith("production: held  (platform: environments/production.yaml)")
    assert 'eu is held: rollout 7 failed: relation "x" does not exist' in shown
    assert f"see why with: reconciler show {service.history[0].id}" in shown
    assert f"reconciler retry {service.history[0].id}" in shown
    assert "1 object changed by hand" in shown
    assert "see what differs with: reconciler diff production" in shown
    assert "deployed changes differ from the plan file" in shown
    assert result.exit_code == 5


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, 0),
        ({"deployments": (deployment(pending=1),)}, 3),
        ({"deployments": (deployment(drift=1),)}, 4),
        ({"deployments": (deployment(drift=1, pending=1),)}, 3),
        ({"deployments": (deployment(held="x", drift=1),)}, 5),
        ({"deployments": (deployment(unavailable="away"),)}, 5),
        ({"observed_commit": "e" * 40}, 3),
        ({"observed_commit": None}, 3),
        ({"error": "environments/production.yaml:3: unknown key"}, 5),
        ({"suspended": True, "suspended_reason": "x"}, 0),
    ],
)
def test_status_exit_codes(
    reconciler: Command, service: MemoryService, changed: dict[str, Any], code: int
) -> None:
    """The exit code of `status` says what a script wants to know, the worst first."""
    service.known["production"] = environment(**changed)
    for arguments in (["status"], ["status", "production"], ["status", "production", "-o", "json"]):
        assert reconciler(*arguments).exit_code == code, arguments


def test_status_json_is_the_api_value(reconciler: Command, service: MemoryService) -> None:
    """`--output json` prints what the API answers."""
    one = to_json(service.known["production"])
    assert json.loads(reconciler("status", "production", "-o", "json").stdout) == one
    assert json.loads(reconciler("status", "-o", "json").stdout) == {"environments": [one]}


def test_apply_records_and_returns(reconciler: Command, service: MemoryService) -> None:
    """Without --wait a rollout is recorded, named, and left to the daemon."""
    result = reconciler(
        "apply", "production", "--reason", "hot fix", "--allow-hazard", "DELETES_DATA", "--allow-hazard", "X"
    )
    assert result.exit_code == 0
    assert f"rollout {service.history[0].id} of production at {COMMIT[:12]} recorded" in result.stdout
    asked = service.calls[0][1]
    assert (asked["reason"], asked["allow_hazards"]) == ("hot fix", frozenset({"DELETES_DATA", "X"}))


def test_apply_with_nothing_to_do(reconciler: Command, service: MemoryService) -> None:
    """Nothing to do is done."""
    service.next_apply = None
    result = reconciler("apply", "production", "--wait")
    assert (result.exit_code, result.stdout) == (0, "production: nothing to do\n")
    assert reconciler("apply", "production", "-o", "json").stdout == "null\n"


@pytest.mark.parametrize(
    ("state", "code"),
    [("completed", 0), ("failed", 5), ("reverted", 5), ("cancelled", 6), ("superseded", 6), ("stopped", 6)],
)
def test_apply_waits_until_settled(
    reconciler: Command, service: MemoryService, state: str, code: int
) -> None:
    """With --wait the command ends when the operations have settled, and its code says how."""
    running = rollout(2, "running", operations=(operation("running"),))
    service.next_apply = running

    def settle() -> None:
        until(lambda: [what for what, _given in service.calls].count("rollout") > 1, "the rollout to be seen")
        service.history[0] = replace(rollout(2, state), operations=(operation(state, reason="why\nso"),))

    settling = threading.Thread(target=settle)
    settling.start()
    result = reconciler("apply", "production", "--wait")
    settling.join()
    assert result.exit_code == code, result.output
    assert "eu: running" in result.stdout
    assert f"eu: {state}" in result.stdout
    assert f"rollout {running.id}: {state}" in result.stdout


def test_apply_times_out(reconciler: Command, service: MemoryService) -> None:
    """Waiting ends at its limit with 6; the rollout goes on, and the command says how to follow it."""
    service.next_apply = rollout(2, "running", operations=(operation("running"),))
    result = reconciler("apply", "production", "--timeout", "0.3")
    assert result.exit_code == 6
    assert "is still running" in result.stdout
    assert "reconciler show" in result.stderr
    assert [what for what, _ in service.calls if what == "request"] == []


def test_apply_json_prints_one_value(reconciler: Command, service: MemoryService) -> None:
    """With --output json only the rollout stands on standard output; progress goes beside it."""
    service.next_apply = rollout(2, "completed")
    result = reconciler("apply", "production", "--wait", "-o", "json")
    assert json.loads(result.stdout)["state"] == "completed"
    assert "eu: completed" in result.stderr


def test_history_events_show(reconciler: Command, service: MemoryService) -> None:
    """What happened is listed with ids that the next command takes."""
    error = {
        "what": "deploying change 'orders'",
        "where": "modules/shop/deploy/orders.sql:3",
        "why": 'relation "x" does not exist\nLINE 3: y',
        "next": "fix the script",
        "sqlstate": "42P01",
    }
    service.history = [rollout(7, "failed", operations=(operation("failed", error=error),))]
    for number in range(3):
        service.happen("operation.moved", message=f"number {number}\x1b[31m")
    listed = reconciler("history", "production").stdout
    assert service.history[0].id in listed
    assert "eu failed" in listed
    shown = reconciler("show", service.history[0].id).stdout
    for text in (*error.values(), "change orders", "migrations"):
        for line in text.splitlines():
            assert line in shown
    told = reconciler("events", "production", "--limit", "2").stdout
    assert [f"number {number}" in told for number in range(3)] == [False, True, True]
    assert "\x1b" not in told


def test_operators_ask(reconciler: Command, service: MemoryService) -> None:
    """Suspend, resume, reconcile and cancel say what was done; a refusal is an error with its reason."""
    assert reconciler("suspend", "production", "--reason", "x").stdout == "production: is suspended\n"
    assert service.known["production"].suspended_reason == "x"
    assert reconciler("resume", "production").stdout == "production: is reconciled again\n"
    assert reconciler("reconcile", "production").exit_code == 0
    refused = reconciler("cancel", service.history[0].id)
    assert (refused.exit_code, refused.stderr) == (1, "error: the rollout is over\n")


def test_forget(reconciler: Command, service: MemoryService) -> None:
    """What left is told with what becomes of it and how to be rid of it; forgotten, it is told no more."""
    row = LeftStatus(
        name="us",
        left_at=AT,
        applied_commit="a" * 40,
        server="db:5432",
        databases=("shop_us",),
        why="nothing is done to it: policy.prune is off",
    )
    service.known["production"] = environment(left=(row,))
    told = reconciler("status", "production").stdout
    assert "left: us (shop_us on db:5432) since " in told
    assert ", it carried aaaaaaaaaaaa: nothing is done to it: policy.prune is off\n" in told
    assert "where it is gone for good: reconciler forget production us\n" in told
    done = reconciler("forget", "production", "us", "--reason", "its server was sold")
    assert done.stdout == "production: us is forgotten; its databases are as they were\n"
    asked = next(given for what, given in service.calls if what == "forget")
    assert asked["reason"] == "its server was sold"
    assert "left: " not in reconciler("status", "production").stdout
    assert reconciler("forget", "production", "us").exit_code == 1


def test_retry_waits_for_the_rollout_that_tries_again(reconciler: Command, service: MemoryService) -> None:
    """An ended rollout is tried again by a new one; --wait follows that."""
    service.history = [rollout(7, "failed", operations=(operation("failed"),))]

    def record() -> None:
        """What a pass does once somebody asked."""
        until(lambda: any(what == "request" for what, _given in service.calls), "the request")
        service.history.insert(0, rollout(8, "completed"))

    daemon = threading.Thread(target=record)
    daemon.start()
    result = reconciler("retry", service.history[0].id, "--wait")
    daemon.join()
    assert result.exit_code == 0, result.output
    assert f"rollout {rollout(8).id}: completed" in result.stdout


def test_module_status_and_log(reconciler: Command) -> None:
    """What is deployed of each module, and what is pending, by name."""
    shown = reconciler("module", "status", "production").stdout
    assert "shop-schema" in shown
    assert "pending change prices" in shown
    assert reconciler("module", "status", "production").exit_code == 3
    assert reconciler("module", "log", "production").exit_code == 0
    assert reconciler("module", "check", "production").exit_code == 0


def test_module_verify(reconciler: Command, service: MemoryService) -> None:
    """Each failure has a line with its place and the words of the server, and the exit code is 4."""
    found = reconciler("module", "verify", "production", "shop-schema", "--to", "orders")
    assert found.exit_code == 4, found.output
    told = 'orders failed at modules/shop/verify/orders.sql:2: relation "orders" does not exist [42P01]'
    assert told in found.stdout
    assert "prices has no verify script" in found.stderr
    assert {"module": "shop-schema", "first": None, "last": "orders"}.items() <= service.calls[-1][1].items()


def test_errors_are_told_in_words(reconciler: Command, service: MemoryService) -> None:
    """An error has its message, its problems one a line, and its hint; a code of 1; and no traceback."""
    result = reconciler("status", "prodution")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == ("error: there is no environment 'prodution'\nhint: did you mean 'production'?\n")
    service.fails = InvalidInput(
        [Problem(message="unknown key 'x'", file="a.yaml", line=3), Problem(message="no name", file="b.yaml")]
    )
    told = reconciler("diff", "production").stderr
    assert told == "error: 2 problems\n  a.yaml:3: unknown key 'x'\n  b.yaml: no name\n"
    service.fails = Refused("it needs consent", hint="use --allow-hazard")
    assert reconciler("apply", "production").stderr == "error: it needs consent\nhint: use --allow-hazard\n"
    service.fails = DatabaseUnavailable("the control database cannot be reached")
    assert reconciler("status").exit_code == 1


def test_secrets_do_not_come_out_of_an_error(reconciler: Command, service: MemoryService) -> None:
    """What looks like a password is masked on the way out, whoever wrote the message."""
    service.fails = Refused("fetching https://ci:hunter2@git.example.com failed: password=hunter2")
    assert "hunter2" not in reconciler("status").output


def test_token_is_sent(service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    """RECONCILER_TOKEN goes to the daemon; without it the error says what to set."""
    with serving(service, tokens=[Token(name="ci", role=Role.READ, value="s3cr3t-token-of-ci")]) as url:
        missing = Command(url)("status")
        assert missing.exit_code == 1
        assert "RECONCILER_TOKEN" in missing.stderr
        monkeypatch.setenv("RECONCILER_TOKEN", "s3cr3t-token-of-ci")
        assert Command(url)("status").exit_code == 0
        denied = Command(url)("suspend", "production")
        assert "operate is needed" in denied.stderr


def test_named_server_that_does_not_answer(unused_tcp_port: int) -> None:
    """A server that was named is the only one tried: there is no quiet fall back to the databases."""
    result = Command(f"http://127.0.0.1:{unused_tcp_port}")("status")
    assert result.exit_code == 1
    assert "nothing answers at http://127.0.0.1:" in result.stderr
    assert "reconciler run" in result.stderr


def test_config_says_where_the_daemon_is(service: MemoryService, url: str, tmp_path: Path) -> None:
    """Without --server the daemon at `listen` of the settings is asked, wherever they stand."""
    config = tmp_path / "reconciler.yaml"
    config.write_text(f"listen: {url.removeprefix('http://')}\n")
    for arguments in (["status", "--config", str(config)], ["--config", str(config), "status"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert CliRunner().invoke(app, ["status"], env={"RECONCILER_CONFIG": str(config)}).exit_code == 0


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_process_exit_codes(url: str, service: MemoryService) -> None:
    """The process itself exits with the code: of the command, or 2 where the command line is wrong."""
    assert run("diff", "production", "--exit-code", "--server", url).returncode == 3
    assert run("diff").returncode == 2
    assert run("frobnicate").returncode == 2
    assert run("status", "--server", "ftp://x").returncode == 1
    assert run("--version").stdout.startswith("reconciler ")


def test_ctrl_c_while_waiting_leaves_the_rollout_alone(url: str, service: MemoryService) -> None:
    """Interrupting a waiting command ends with 6 and asks nothing of the daemon: the rollout goes on."""
    service.next_apply = rollout(2, "running", operations=(operation("running"),))
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", "production", "--wait", "--server", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    # When it asks again, it has seen the first answer.
    while [what for what, _ in service.calls].count("rollout") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 6, out + err
    assert "the rollout goes on" in err
    assert "is still running" in out
    assert {what for what, _ in service.calls} == {"apply", "environment", "rollout"}


def test_light_commands_import_nothing_heavy(url: str) -> None:
    """Start-up counts: what asks a daemon imports no web server, database driver, Git or terminal library."""
    script = (
        "import sys\n"
        "from reconciler.cli.main import main\n"
        "sys.argv[1:] = %r\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('fastapi', 'uvicorn', 'git', 'rich', 'psycopg', 'structlog', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    for arguments in (["--help"], ["status", "--server", url], ["diff", "production", "--server", url]):
        done = subprocess.run(
            [sys.executable, "-c", script % arguments], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr.strip().splitlines()[-1] == "[]", arguments


def test_output_into_a_closed_pipe(url: str) -> None:
    """A reader that has seen enough, such as `head`, is no error."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "status", "--server", url],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
