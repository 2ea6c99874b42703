"""Prometheus' own tool agrees with the metrics and the alert rules."""

import subprocess
from pathlib import Path

import pytest

from reconciler.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "examples/prometheus"

pytestmark = pytest.mark.system


def promtool(*arguments: str, given: bytes = b"") -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=RULES, input=given, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


def test_metrics_follow_the_conventions() -> None:
    """`promtool check metrics` has nothing to say about a scrape."""
    assert promtool("check", "metrics", given=Metrics(sources=["platform"]).render(None)) == ""


def test_rules_are_valid() -> None:
    """`promtool check rules` and `check config` accept the examples."""
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_rules_fire_and_stay_quiet() -> None:
    """`promtool test rules` passes: each alert fires when it should, and not when it should not."""
    promtool("test", "rules", "alerts_test.yml")
