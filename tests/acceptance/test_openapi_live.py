"""A running daemon is held to its own OpenAPI document: whatever is sent, the answer is one of its."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.plugins.daemon import Daemon, World, until

TOKEN = "root-0123456789abcdef"
SETTINGS = f"""
tokens:
  - {{name: root, role: admin, value: {TOKEN}}}
requests: {{writes_per_minute: 1000000, failures_per_minute: 1000000}}
"""
EXAMPLES = 3
"""Cases made up for each path beyond those that are derived from its parameters."""

# A stream has no end to wait for, and a spec can be wrong in ways that no schema says.
CHOICES = """
color = false
continue-on-failure = true

[parameters]
"path.env" = "production"
"path.rollout" = "{rollout}"

[[operations]]
include-path = "/v1/events"
enabled = false

[[operations]]
include-path = "/v1/environments/{{env}}/diff"
include-method = "POST"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "4xx"]
"""


@pytest.fixture
def daemon(world: World) -> Daemon:
    """A daemon with an environment that is applied, and a token."""
    made = world.daemon()
    webhook = "webhook: {provider: github, secret: a-secret-of-the-webhook}"
    text = made.config.read_text().replace("branch: main,", f"branch: main, {webhook},")
    made.config.write_text(text + SETTINGS)
    commit = world.repository.commit({**world.spec(), **world.repository.module({"a": "create table a();"})})
    made.start()
    applied = "select 1 from reconciler_control.environments where applied_commit = '{}'"
    until(lambda: world.rows(applied.format(commit), world.control), "the commit to be applied")
    return made


def schemathesis(folder: Path, daemon: Daemon, rollout: str) -> subprocess.CompletedProcess[str]:
    """Send what the document allows and what it forbids, the same each time, and check every answer."""
    (folder / "schemathesis.toml").write_text(CHOICES.format(rollout=rollout))
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "st"), "--config-file", "schemathesis.toml",
            "run", f"{daemon.url}/openapi.json",
            "--header", f"Authorization: Bearer {TOKEN}",
            "--checks", "all",
            # Without the sequences of calls that it makes up: they took ten times as long as all others.
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", str(EXAMPLES),
            "--generation-deterministic",
            "--no-shrink",
            "--request-timeout", "30",
        ],
        env=daemon.environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )  # fmt: skip


def test_texts_of_callers_are_taken_or_refused(daemon: Daemon) -> None:
    """What no column can hold, and no line of a log should, is never an internal error."""
    for text in ("\0", "\ud800", "\u202e", "\r\n", "\U0010ffff", "x" * 1001):
        for path in ("suspend", "rollouts"):
            answer = httpx.post(
                f"{daemon.url}/v1/environments/production/{path}",
                content=json.dumps({"reason": text}),
                headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
                timeout=30,
            )
            assert answer.status_code in {200, 201, 409, 422}, (text, answer.text)


def test_every_answer_is_one_of_the_document(world: World, daemon: Daemon, tmp_path: Path) -> None:
    """Neither proper nor improper input finds a server error, or an undescribed status, type or shape."""
    rollout = world.rows("select max(id)::text from reconciler_control.rollouts", world.control)[0][0]
    result = schemathesis(tmp_path, daemon, str(rollout))
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
    selected, total = re.findall(r"(\d+) selected / (\d+) total", result.stdout)[0]
    assert int(selected) == int(total) - 1, "all but the stream of events, which has no end"
    assert daemon.process is not None
    assert daemon.process.poll() is None
    failed = [line for line in daemon.log.read_text().splitlines() if "task.failed" in line]
    assert failed == []
    assert TOKEN not in json.dumps(result.stdout)
