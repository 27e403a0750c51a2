"""The manifest of the face tier agrees with the service, its image and its settings."""

import re
from pathlib import Path
from typing import Any

import yaml

from checkin_service.app import tier_engine
from checkin_service.face_tier import DRAIN_S
from checkin_service.settings import SETTINGS, read_settings
from tests.deploy.files import ROOT, objects, parsed, text

FILE = "kubernetes/face-tier/face-tier.yaml"


def thing(kind: str) -> dict[str, Any]:
    [found] = [found for found in yaml.safe_load_all(text(FILE)) if found["kind"] == kind]
    return dict(found)


def container() -> dict[str, Any]:
    [found] = thing("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_pods_are_confined_as_the_services() -> None:
    [service] = [found for found in objects() if found["kind"] == "Deployment"]
    theirs, ours = service["spec"]["template"]["spec"], thing("Deployment")["spec"]["template"]["spec"]
    for name in ("securityContext", "serviceAccountName", "automountServiceAccountToken"):
        assert ours[name] == theirs[name]
    for name in ("securityContext", "image"):
        assert container()[name] == theirs["containers"][0][name]


def test_only_the_service_and_the_scraper_come_in() -> None:
    policy, deployment = thing("NetworkPolicy")["spec"], thing("Deployment")["spec"]
    [service] = [found for found in objects() if found["kind"] == "Deployment"]
    assert policy["podSelector"] == deployment["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": container()["ports"][0]["name"]}]
    caller, scraper = rule["from"]
    assert caller == {"podSelector": service["spec"]["selector"]}
    assert scraper == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def test_it_runs_a_command_that_there_is_and_drains() -> None:
    [command] = container()["args"]
    assert f"| `{command}` |" in (ROOT / "README.md").read_text("utf-8")
    pause = float(re.findall(r"sleep\((\d+)\)", str(container()["lifecycle"]))[0])
    grace = thing("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > pause + DRAIN_S


def test_it_is_probed_by_the_name_that_its_settings_make() -> None:
    settings = read_settings(thing("ConfigMap")["data"])
    assert container()["readinessProbe"]["httpGet"]["path"] == f"/v2/models/{tier_engine(settings)}/ready"
    assert settings.face_workers == int(container()["resources"]["requests"]["cpu"])
    scaled = thing("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
    [rule] = parsed("kubernetes/prometheus-adapter.yaml")["rules"]["custom"]
    assert scaled["metric"]["name"] == rule["name"]["as"]
    assert int(scaled["target"]["averageValue"]) < settings.face_queue


def test_its_secret_holds_what_the_settings_name() -> None:
    [secret] = [found for found in objects() if found["metadata"]["name"] == "checkin-faces"]
    named = {
        value for value in thing("ConfigMap")["data"].values() if value.startswith("/run/secrets/faces/")
    }
    assert {Path(path).name for path in named} < secret["stringData"].keys()
    [port] = container()["ports"]
    assert str(port["containerPort"]) == SETTINGS["port"].default


def test_the_image_can_be_built_with_what_it_needs() -> None:
    [default] = re.findall(r"^ARG REQUIREMENTS=(\S+)", text("Dockerfile"), re.MULTILINE)
    asked = re.findall(r"REQUIREMENTS=(\S+\.txt)", text(FILE))
    runtime, tier = ((ROOT / name).read_text("utf-8") for name in (default, *asked))
    assert set(runtime.splitlines()) < set(tier.splitlines())
    assert "kserve==" in tier
    assert "kserve==" not in runtime
