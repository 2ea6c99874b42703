"""The dashboard and the alert rules refer to metrics that exist, and every alert is tried and documented."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
ALERTS = ROOT / "examples/prometheus/alerts.yml"
TESTS = ROOT / "examples/prometheus/alerts_test.yml"
PAGE = (ROOT / "docs/reference/metrics.md").read_text()


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "examples/grafana/dashboard.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def documented() -> set[str]:
    return set(re.findall(r"^\| `(reconciler_\w+)` \|", PAGE, re.MULTILINE))


def used(expression: str) -> set[str]:
    names = set(re.findall(r"reconciler_\w+", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_dashboard_asks_for_metrics_that_exist() -> None:
    """Each expression of each panel and variable names documented metrics only."""
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    expressions += [row["definition"] for row in dashboard()["templating"]["list"] if "definition" in row]
    assert len(expressions) > 15
    assert set().union(*map(used, expressions)) <= documented()


def test_dashboard_has_the_shape_of_one() -> None:
    """Ids are unique, panels do not overlap, fit the 24 columns, say what they show, and choose no server."""
    found = dashboard()
    assert "id" not in found
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
        assert panel["title"]
        assert panel["description"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert {source["uid"] for source in sources} == {"${datasource}"}


def test_alerts_ask_for_metrics_that_exist() -> None:
    """Each alert names documented metrics only, how grave it is, and what to do."""
    for rule in rules():
        assert used(rule["expr"]) <= documented(), rule["alert"]
        assert rule["labels"]["severity"] in {"warning", "critical", "none"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_is_tried_firing_and_quiet() -> None:
    """The promtool tests hold a case in which it fires and, the watchdog aside, one in which it does not."""
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in rules():
        mine = [case for case in cases if case["alertname"] == rule["alert"]]
        assert any(case.get("exp_alerts") for case in mine), rule["alert"]
        if rule["alert"] != "ReconcilerWatchdog":
            assert any(not case.get("exp_alerts") for case in mine), rule["alert"]


def test_every_alert_is_documented() -> None:
    """The reference page lists the alerts that there are."""
    assert set(re.findall(r"^\| `(Reconciler\w+)` \|", PAGE, re.MULTILINE)) == {
        rule["alert"] for rule in rules()
    }
