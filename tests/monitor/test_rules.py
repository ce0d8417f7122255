"""What Prometheus and Grafana are told to ask for is what the service exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from moodal.monitor.watch import Gauges
from moodal.serve.metrics import Metrics
from moodal.types import Prediction

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "moodal.json"
_NAME = re.compile(r"(?<![\w:])moodal_\w+")
_SELECTED = re.compile(r"(moodal_\w+)\{([^}]*)\}")
_BY = re.compile(r"\b(?:by|ignoring|on|without)\s*\(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def questions() -> Iterator[str]:
    """Everything that is asked of Prometheus."""
    yield from (rule["expr"] for rule in rules())
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", ()))
    notes = json.loads(DASHBOARD.read_text(encoding="utf-8"))["annotations"]["list"]
    yield from (note["expr"] for note in notes if "expr" in note)


def exported() -> dict[str, set[str]]:
    """Metric -> its labels, of a service on which something of each kind has happened."""
    metrics = Metrics()
    metrics.request("/v1/predict", 200, 0.01)
    metrics.error("record")
    metrics.batch([Prediction("1", "good", None, {}, 0.9, ("text",), {}, abstain=True)])
    metrics.judged(right=True)
    metrics.answering("0123456789ab", "base")
    metrics.lost({"dropped": 1})
    metrics.reloads.labels("done").inc()
    metrics.found(Gauges({"confidence": 0.1}, {"confidence": 0.1}, 0.9, 0.8, {"drift:label": True}))
    families = text_string_to_metric_families(metrics.render().decode())
    return {s.name: set(s.labels) for family in families for s in family.samples}


def test_every_metric_that_is_asked_for_is_exported() -> None:
    asked = {name for question in questions() for name in _NAME.findall(question)}
    assert len(asked) > 15
    assert not asked - exported().keys()


def test_every_metric_that_is_exported_is_shown() -> None:
    asked = {name for question in questions() for name in _NAME.findall(question)}
    histograms = {name.removesuffix("_bucket") for name in asked if name.endswith("_bucket")}
    unseen = {n for n in exported() if n not in asked and n.rsplit("_", 1)[0] not in histograms}
    assert not unseen


def test_every_label_that_is_asked_for_is_one_of_the_metric() -> None:
    known = exported()
    for question in questions():
        for name, selected in _SELECTED.findall(question):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selected))
            assert labels <= known[name], question
        names = _NAME.findall(question)
        for group in _BY.findall(question):
            labels = {label.strip() for label in group.split(",") if label.strip()}
            assert not names or labels <= set().union(*(known[n] for n in names)), question


def test_every_recorded_number_is_used_and_every_one_used_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for q in questions() for name in re.findall(r"moodal(?::\w+)+", q)}
    assert used == recorded


def test_every_alert_says_what_is_amiss_and_how_urgent_it_is() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"]["summary"]


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_panels_ask_the_data_source_that_is_provisioned() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {t["datasource"]["uid"] for p in panels() for t in p.get("targets", ())}
    assert used == {source[0]["uid"]}
    [provider] = yaml.safe_load((folder / "dashboards" / "moodal.yml").read_text())["providers"]
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here; Debian's package prometheus holds it")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_the_rules_right_and_they_raise_what_they_should(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))
    run(promtool, "test", "rules", str(Path(__file__).with_name("rules_test.yml")))


def test_promtool_can_read_what_the_panels_ask(promtool: str, tmp_path: Path) -> None:
    asked = [q.replace("$__rate_interval", "5m") for q in questions()]
    read = [{"record": f"panel:{place}", "expr": q} for place, q in enumerate(asked)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": read}]}))
    run(promtool, "check", "rules", str(path))


def test_promtool_can_read_the_configuration(promtool: str, tmp_path: Path) -> None:
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    key = tmp_path / "metrics_key"
    key.write_text("secret")
    (tmp_path / "prometheus.yml").write_text(config.replace("/run/secrets/metrics_key", str(key)))
    shutil.copy(RULES, tmp_path / "rules.yml")
    run(promtool, "check", "config", str(tmp_path / "prometheus.yml"))


def test_promtool_finds_nothing_odd_in_what_is_exported(promtool: str) -> None:
    metrics = Metrics()
    metrics.request("/v1/predict", 200, 0.01)
    command = [promtool, "check", "metrics"]
    done = subprocess.run(
        command, check=False, input=metrics.render(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
