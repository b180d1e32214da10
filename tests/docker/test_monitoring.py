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


def expressions(node: Any) -> list[str]:
    """Every PromQL expression in a dashboard."""
    if isinstance(node, list):
        return [found for item in node for found in expressions(item)]
    if not isinstance(node, dict):
        return []
    own = [node["expr"]] if isinstance(node.get("expr"), str) else []
    return own + [found for item in node.values() for found in expressions(item)]


def datasources(node: Any) -> list[Any]:
    """Every reference to a data source in a dashboard."""
    if isinstance(node, list):
        return [found for item in node for found in datasources(item)]
    if not isinstance(node, dict):
        return []
    own = [node["datasource"]] if "datasource" in node else []
    return own + [found for item in node.values() for found in datasources(item)]


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


def test_dashboards_exist():
    assert [path.stem for path in DASHBOARDS] == ["dvt"]


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


def test_dashboard_uses_metrics_that_exist(dashboard):
    used = metrics_in("\n".join(expressions(dashboard)))
    assert used
    assert used <= exposed_metrics()


def test_dashboard_shows_every_metric(dashboard):
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in metrics_in("\n".join(expressions(dashboard)))}
    assert shown == {re.sub("_(bucket|sum|count)$", "", name) for name in exposed_metrics()}


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
    used = datasources(dashboard)
    assert used
    assert all(reference in known for reference in used)
