"""Metrics are named by Prometheus' conventions, and what watches them names none that there is not."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from checkin_service.domain.decision import Outcome
from checkin_service.domain.reasons import Reason
from checkin_service.metrics import Metrics
from checkin_service.web.admission import Urgency
from checkin_service.web.routes import ROUTES
from face import MECHANISMS, PoolStats
from tests.deploy.files import DEPLOY, RUNBOOK, alerts, anchors, queries, text
from tests.service.stage import Stage

NAME = re.compile(r"\b(?:checkin|process)_[a-z_]+")
SELECTOR = re.compile(r"\b((?:checkin|process)_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)\s*(=~|!=|=|!~)\s*"([^"]*)"')
SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")
SCRAPED = {"instance", "job", "namespace", "pod"}
"""Labels that a scrape adds."""
KNOWN: Mapping[str, set[str]] = {
    "outcome": set(Outcome),
    "reason": set(Reason),
    "route": {route.path for route in ROUTES} | {"/v1/.*"},
    "method": {route.method for route in ROUTES},
    "urgency": {str(urgency.name).lower() for urgency in Urgency},
    "result": {"ok", "refused", "unreachable"},
    "why": {"idle", "answer", "crowded"},
    "by": set(MECHANISMS),
    "status": {"401", "500", "503"},
}


def own() -> list[MetricWrapperBase]:
    return [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]


def labels() -> dict[str, set[str]]:
    """By the metric's name as it is defined."""
    return {metric._name: set(metric._labelnames) for metric in own()}


async def scraped(stage: Stage) -> str:
    async with stage.client.get("/metrics") as response:
        assert response.status == 200
        return await response.text()


async def test_a_scrape_parses_and_says_what_each_metric_is(stage: Stage) -> None:
    families = list(text_string_to_metric_families(await scraped(stage)))
    assert {family.name for family in families} >= {metric._name for metric in own()}
    for family in families:
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}, family.name
        assert all(sample.timestamp is None for sample in family.samples)


@pytest.mark.parametrize("metric", own(), ids=lambda metric: metric._name)
def test_names_follow_the_conventions(metric: MetricWrapperBase) -> None:
    name = metric._name
    assert re.fullmatch(r"checkin_[a-z][a-z_]*[a-z]", name)
    # base units, and no word for what the type says; a counter's `_total` is added by its type
    assert not re.search(
        r"_(ms|millis|milliseconds|minutes|hours|percent|kb|mb|counter|gauge|total)(_|$)", name
    )
    assert isinstance(metric, Counter | Gauge | Histogram)
    if isinstance(metric, Histogram):
        assert name.endswith("_seconds")
    assert not metric._documentation.endswith(".")
    assert not {"le", "quantile", "instance", "job"} & set(metric._labelnames)


def test_no_label_can_name_anybody() -> None:
    used = {label for named in labels().values() for label in named}
    assert used == {*KNOWN, "call", "verify_ret"}


def test_lost_face_workers_are_counted_once() -> None:
    metrics = Metrics()
    plain = {field.name: 0 for field in fields(PoolStats)} | {"start_fault": None, "confined_by": ()}
    for failures in (2, 2, 3):
        metrics.observe_faces(PoolStats(**plain | {"failures": failures}))  # type: ignore[arg-type]
    assert b"checkin_face_worker_failures_total 3.0" in metrics.render()


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_what_is_watched_is_there(where: str, query: str) -> None:
    defined = labels()
    for name in NAME.findall(query):
        if name.startswith("process_"):
            continue
        assert SUFFIX.sub("", name) in defined, (where, name)
        if name.endswith("_total"):
            assert isinstance(_of(name), Counter), name
        if name.endswith("_bucket"):
            assert isinstance(_of(name), Histogram), name
    for name, inside in SELECTOR.findall(query):
        for label, _, value in LABEL.findall(inside):
            if label in SCRAPED:
                continue
            assert label in defined[SUFFIX.sub("", name)], (where, name, label)
            assert set(value.split("|")) <= KNOWN[label], (where, label, value)


def _of(name: str) -> MetricWrapperBase:
    [metric] = [metric for metric in own() if metric._name == SUFFIX.sub("", name)]
    return metric


async def test_what_the_process_tells_of_itself_is_watched_by_its_name(stage: Stage) -> None:
    told = set(re.findall(r"^# TYPE (\S+)", await scraped(stage), re.MULTILINE))
    watched = {name for _, query in queries() for name in NAME.findall(query) if name.startswith("process_")}
    assert watched <= told
    assert watched


def test_every_own_metric_is_on_the_dashboard() -> None:
    dashboard = text("grafana/checkin.json")
    assert {metric._name for metric in own() if metric._name not in dashboard} == set()


def test_the_dashboard_is_whole() -> None:
    panels = json.loads(text("grafana/checkin.json"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == sorted(
            {t["refId"] for t in panel["targets"]}
        )


def test_every_alert_leads_to_its_night() -> None:
    found = anchors(RUNBOOK.read_text("utf-8"))
    page = RUNBOOK.read_text("utf-8")
    for alert in alerts():
        section = alert["annotations"]["runbook_url"].partition("#")[2]
        assert section in found, alert["alert"]
        [body] = [
            part for part in page.split("\n## ")[1:] if anchors("## " + part.splitlines()[0]) == {section}
        ]
        assert f"`{alert['alert']}`" in body
        assert alert["labels"]["severity"] in {"page", "ticket"}
    assert len({alert["alert"] for alert in alerts()}) == len(alerts())


def test_every_night_says_what_to_do_what_not_and_who_is_at_risk() -> None:
    known = {alert["alert"] for alert in alerts()}
    nights = RUNBOOK.read_text("utf-8").split("\n## ")[1:]
    assert len(nights) >= 10
    for night in nights:
        named = set(re.findall(r"`(Checkin\w+)`", night))
        assert named, night.splitlines()[0]
        assert named <= known
        assert "Not: " in night, night.splitlines()[0]
        assert re.search(r"lose the month|[Aa]t risk|Nobody loses|Check-ins go on", night), (
            night.splitlines()[0]
        )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules() -> None:
    command = ["promtool", "check", "config", "prometheus.yaml"]
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_can_read_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"query_{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_prometheus_finds_no_fault_with_the_metrics(stage: Stage) -> None:
    metrics, command = await scraped(stage), ["promtool", "check", "metrics"]
    done = await asyncio.to_thread(
        subprocess.run, command, input=metrics, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


REQUESTS = "checkin_request_duration_seconds_count"
# What a replica tells each minute, and the alerts that are up after half an hour of it.
NIGHTS: Mapping[str, tuple[Mapping[str, str], set[str]]] = {
    "quiet": (
        {
            'up{job="checkin"}': "1x40",
            f'{REQUESTS}{{route="/v1/check-ins",status="201"}}': "0+60x40",
            f'{REQUESTS}{{route="/readyz",status="503"}}': "0+60x40",
            "checkin_deferred_oldest_seconds": "0x40",
            "checkin_face_workers_ready": "3x40",
            "checkin_calendar_end_timestamp_seconds": f"{100 * 86400}x40",
        },
        set(),
    ),
    "a replica is gone": ({'up{job="checkin"}': "0x40"}, {"CheckinDown"}),
    "nobody is there": ({"other": "1x40"}, {"CheckinDown"}),
    "the database is away": (
        {
            'up{job="checkin"}': "1x40",
            f'{REQUESTS}{{route="/v1/check-ins",status="503"}}': "0+30x40",
            f'{REQUESTS}{{route="/v1/me",status="200"}}': "0+60x40",
        },
        {"CheckinFailing"},
    ),
    "too many come, and nothing is broken": (
        {
            'up{job="checkin"}': "1x40",
            f'{REQUESTS}{{route="/v1/check-ins",status="503"}}': "0+30x40",
            f'{REQUESTS}{{route="/v1/check-ins",status="201"}}': "0+60x40",
            'checkin_shed_total{urgency="submission"}': "0+30x40",
        },
        {"CheckinShedding"},
    ),
    "verdicts wait": (
        {'up{job="checkin"}': "1x40", "checkin_deferred_oldest_seconds": "0+60x40"},
        {"CheckinVerdictsLate"},
    ),
    "a wrong frame": (
        {
            'up{job="checkin"}': "1x40",
            'checkin_reasons_total{reason="position_frame_suspect"}': "0+1x40",
            'checkin_check_ins_total{outcome="rejected"}': "0+1x40",
            'checkin_check_ins_total{outcome="accepted"}': "0+2x40",
        },
        {"CheckinFrameSuspect"},
    ),
    "a replica of the face tier is away": (
        {'up{job="checkin"}': "1x40", "checkin_face_tier_away": "0x10 1x30"},
        {"CheckinFaceTierAway"},
    ),
    "photographs take long": (
        {'up{job="checkin"}': "1x40", "checkin_face_analysis_seconds": "0.2x10 1.5x30"},
        {"CheckinFacesSlow"},
    ),
    "next year is not published": (
        {'up{job="checkin"}': "1x200", "checkin_calendar_end_timestamp_seconds": f"{30 * 86400}x200"},
        {"CheckinCalendarEnds"},
    ),
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("night", NIGHTS)
def test_each_night_wakes_for_its_own_reason(night: str, tmp_path: Path) -> None:
    told, expected = NIGHTS[night]
    after = "100m" if any("x200" in values for values in told.values()) else "30m"
    series = [{"series": name, "values": values} for name, values in told.items()]
    firing = 'ALERTS{alertstate="firing"}'
    case = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": f"count by (alertname) ({firing})",
                "eval_time": after,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)
                ],
            }
        ],
    }
    file = tmp_path / "night.yaml"
    rules = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
