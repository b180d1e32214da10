"""Prometheus' rules and Grafana's dashboard speak of metrics that exist, in a language both understand."""

import json
import re
from typing import Any

import pytest
import yaml
from deployment import DEPLOYMENT, documents, exposed_metrics, metrics_in, verdict

PROMETHEUS = DEPLOYMENT / "prometheus"
GRAFANA = DEPLOYMENT / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
ALERTS = [rule for group in documents(PROMETHEUS / "alerts.yml")[0]["groups"] for rule in group["rules"]]


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text())


def entries(node: Any, name: str) -> list[Any]:
    """Every value of this name anywhere in a dashboard."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = [node[name]] if isinstance(node, dict) and name in node else []
    return own + [found for child in children for found in entries(child, name)]


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """Every PromQL expression in a dashboard."""
    return [found for found in entries(dashboard, "expr") if isinstance(found, str)]


def test_prometheus_accepts_its_configuration_and_the_rules_it_names():
    assert f"{len(ALERTS)} rules found" in verdict("promtool", "check", "config", "prometheus.yml", folder=PROMETHEUS)


def test_alerts_fire_when_they_should_and_only_then():
    verdict("promtool", "test", "rules", "alerts.test.yml", folder=PROMETHEUS)


def test_alerts_each_have_a_test_in_which_they_fire_and_a_quiet_one():
    cases = [case for test in documents(PROMETHEUS / "alerts.test.yml")[0]["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_alerts_are_each_explained():
    explained = re.findall(r"^\| `(Dvt\w+)` \|", (DEPLOYMENT / "README.md").read_text(), flags=re.MULTILINE)
    assert explained == [rule["alert"] for rule in ALERTS]


def test_alerts_use_metrics_that_exist():
    assert metrics_in((PROMETHEUS / "alerts.yml").read_text()) <= exposed_metrics()


def test_alerts_select_the_job_that_prometheus_scrapes():
    jobs = {job["job_name"] for job in documents(PROMETHEUS / "prometheus.yml")[0]["scrape_configs"]}
    selected = {job for rule in ALERTS for job in re.findall(r'job="([^"]*)"', rule["expr"])}
    assert selected == jobs


def test_dashboard_panels_have_ids_of_their_own_and_do_not_overlap(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboard_shows_every_metric_and_none_that_does_not_exist(dashboard):
    used, exposed = metrics_in("\n".join(expressions(dashboard))), exposed_metrics()
    assert used <= exposed
    shown, all_of_them = ({re.sub("_(bucket|sum|count)$", "", name) for name in names} for names in (used, exposed))
    assert shown == all_of_them


def test_dashboard_expressions_are_promql(dashboard, tmp_path):
    # What Grafana fills in, at any value; promtool then reads them as if they were rules.
    variables = "|".join(variable["name"] for variable in dashboard["templating"]["list"])
    plain = [
        re.sub(rf"\$({variables})\b", ".*", text.replace("$__rate_interval", "1m")) for text in expressions(dashboard)
    ]
    rules = [{"record": f"expression:{index}", "expr": text} for index, text in enumerate(plain)]
    assert not any("$" in text for text in plain)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    verdict("promtool", "check", "rules", tmp_path / "rules.yml")


def test_dashboard_asks_only_the_data_source_that_is_provisioned(dashboard):
    provisioned = documents(GRAFANA / "provisioning/datasources/prometheus.yaml")[0]["datasources"]
    known = [{"type": source["type"], "uid": source["uid"]} for source in provisioned]
    used = entries(dashboard, "datasource")
    assert used
    assert all(reference in known for reference in used)
