"""The files of deploy/ as the tests read them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOK = ROOT / "docs" / "runbook.md"
KUBERNETES = DEPLOY / "kubernetes"


def text(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def parsed(name: str) -> Any:
    return yaml.safe_load(text(name))


def objects() -> Iterator[dict[str, Any]]:
    """Every Kubernetes object."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for found in yaml.safe_load_all(path.read_text("utf-8")):
            if "kind" in found and found["kind"] != "Kustomization":
                yield found


def alerts() -> list[dict[str, Any]]:
    [group] = parsed("prometheus/alerts.yaml")["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def queries() -> Iterator[tuple[str, str]]:
    """Every PromQL expression with where it stands."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in json.loads(text("grafana/checkin.json"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    yield "autoscaling", parsed("kubernetes/prometheus-adapter.yaml")["rules"]["custom"][0]["seriesQuery"]


def anchors(page: str) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
