"""The dashboard and the alert rules: every name in them exists in the code, and promtool reads them."""

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
from prometheus_client.metrics import MetricWrapperBase

from cord_worker import metrics
from cord_worker.coordination.coordinator.table_metrics import TABLE_METRICS

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
_ALWAYS = {"instance", "job"}
"""Labels that Prometheus adds."""
_SUFFIXES: dict[str | None, dict[str, set[str]]] = {
    "counter": {"_total": set()},
    "histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()},
    "gauge": {"": set()},
}
_SELECTOR = re.compile(r"(cord_\w+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|group_left|without|ignoring)\s*\(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """Labels of every series, by its name."""
    found: dict[str, set[str]] = {metric.name: set(metric.labels) for metric in TABLE_METRICS}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix, more in _SUFFIXES[metric._type].items():
                found[metric._name + suffix] = set(metric._labelnames) | more
    return found


KNOWN = known()


def alerts() -> list[dict[str, Any]]:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]  # type: ignore[no-any-return]


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, with the texts that show its labels."""
    for rule in alerts():
        yield rule["expr"], " ".join(rule["annotations"].values())
    for panel in panels():
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]


@pytest.mark.parametrize(("expression", "texts"), list(expressions()))
def test_every_name_and_label_exists_in_the_code(expression: str, texts: str) -> None:
    selectors = _SELECTOR.findall(re.sub(_GROUPING, "", expression))
    assert selectors
    there: set[str] = set(_ALWAYS)
    for name, matchers in selectors:
        assert name in KNOWN
        there |= KNOWN[name]
        for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers):
            assert label in KNOWN[name], (name, label)
    for listed in _GROUPING.findall(expression):
        assert {label.strip() for label in listed.split(",")} <= there, expression
    shown = set(re.findall(r"\$labels\.(\w+)", texts)) | set(re.findall(r"\{\{\s*(\w+)\s*\}\}", texts))
    assert shown <= there, texts


def test_the_values_of_labels_in_the_alerts_exist() -> None:
    from cord_worker.store.schema.kinds import KINDS

    kinds = {kind.noun for kind in KINDS}
    for expression, _ in expressions():
        for name, matchers in _SELECTOR.findall(expression):
            values = dict(re.findall(r'(\w+)=~?"([^"$]+)"', matchers))
            if name == "cord_work" and "kind" in values:
                assert set(values["kind"].split("|")) <= kinds
            if name == "cord_recovered_faults_total" and "fault" in values:
                assert (values["fault"],) in metrics.RECOVERED_FAULTS._metrics


def test_panels_have_their_own_place_and_key() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= covered


_WORKERS = 'cord_workers{model="alpha", state="running"}'
_WAITING = 'cord_work{model="alpha", kind="proposal", state="waiting"}'
_CASES = {
    "CordNoWorker": ({_WAITING: "5x20", 'cord_workers{model="beta", state="running"}': "1x20"}, {"model": "alpha"}),
    "CordNoLeader": ({"cord_leading": "0x20"}, {}),
    "CordWorkIsGivenUp": ({"cord_given_up_work_total": "0x5 1x15"}, {}),
    "CordWorkersAreLost": ({'cord_recovered_faults_total{fault="lost_worker"}': "0+1x20"}, {}),
}
"""Alerts that fire at 20 minutes for these series, with these labels."""


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    return found


def test_promtool_takes_the_files(promtool: str) -> None:
    command = [promtool, "check", "config", str(FOLDER / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_alerts_fire_for_what_they_name_and_not_for_a_run_that_is_well(promtool: str, tmp_path: Path) -> None:
    rules = {rule["alert"]: rule for rule in alerts()}

    def case(series: dict[str, str], fired: dict[str, dict[str, str]]) -> dict[str, Any]:
        expected = []
        for name in rules:
            alert: dict[str, Any] = {"eval_time": "20m", "alertname": name}
            if name in fired:
                labels = {**rules[name]["labels"], **fired[name]}
                texts = {
                    key: text.replace("{{ $labels.model }}", labels.get("model", ""))
                    for key, text in rules[name]["annotations"].items()
                }
                alert["exp_alerts"] = [{"exp_labels": labels, "exp_annotations": texts}]
            expected.append(alert)
        listed = [{"series": name, "values": values} for name, values in series.items()]
        return {"interval": "1m", "input_series": listed, "alert_rule_test": expected}

    well = {"cord_leading": "1x20", _WORKERS: "1x20", _WAITING: "5x20"}
    tests = [case(well, {})]
    tests += [
        case({**well, **series} if _WAITING not in series else {"cord_leading": "1x20", **series}, {name: labels})
        for name, (series, labels) in _CASES.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "tests": tests}), encoding="utf-8")
    tested = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
