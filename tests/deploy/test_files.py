"""The files of deploy/ agree with each other and with the service: settings, ports, paths, times, users, secrets.

There is no Docker and no cluster here: that images build and pods run is not shown.
"""

import json
import re
import shutil
import subprocess
from itertools import chain
from typing import Any

import pytest
import yaml

from checkin_service.logs import EVENTS
from checkin_service.settings import SETTINGS, read_settings
from checkin_service.web import body, form, server
from checkin_service.web.check_ins import MAX_BURST
from checkin_service.web.routes import ROUTES
from tests.deploy.files import DEPLOY, KUBERNETES, ROOT, objects, parsed, text

USER = 10001
PATHS = {route.path for route in ROUTES}
VARIABLES = {setting.variable for setting in SETTINGS.values()}
CONTAINERS = ("Deployment", "Job", "CronJob")


def files() -> list[str]:
    return [str(path.relative_to(DEPLOY)) for path in sorted(DEPLOY.rglob("*")) if path.is_file()]


def pods() -> list[tuple[str, dict[str, Any]]]:
    """The pods that run the image, by the kind of what makes them."""
    found = []
    for thing in objects():
        spec = thing["spec"] if thing["kind"] in CONTAINERS else None
        if thing["kind"] == "CronJob":
            spec = thing["spec"]["jobTemplate"]["spec"]
        if spec:
            found.append((thing["kind"], spec["template"]["spec"]))
    return found


@pytest.mark.parametrize("name", files())
def test_every_file_parses(name: str) -> None:
    if name.endswith((".yaml", ".yml")):
        assert list(yaml.safe_load_all(text(name)))
    elif name.endswith(".json"):
        assert json.loads(text(name))
    else:
        assert text(name)


@pytest.mark.parametrize("name", files())
def test_every_variable_is_a_setting(name: str) -> None:
    named = set(re.findall(r"\b(CHECKIN_[A-Z_]+|DATABASE_URL|REDIS_URL)\b", text(name)))
    assert named <= VARIABLES, name


@pytest.mark.parametrize("page", ["deploy.md", "runbook.md", "wechat.md"])
def test_pages_name_settings_and_sections_that_there_are(page: str) -> None:
    written = (ROOT / "docs" / page).read_text("utf-8")
    assert set(re.findall(r"\b(CHECKIN_[A-Z_]+)\b", written)) <= VARIABLES
    for linked, section in re.findall(r"\[[^]]+\]\((\w+\.md)\), \"(\w+)\"", written):
        assert f"\n## {section}" in (ROOT / "docs" / linked).read_text("utf-8"), (linked, section)
    for linked in re.findall(r"\]\(([\w./-]+)\)", written):
        assert (ROOT / "docs" / linked).exists(), linked


def test_the_runbook_names_events_that_are_logged() -> None:
    night = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    told = {
        word
        for word in re.findall(r"`([a-z]+_[a-z_]+)`", night)
        if word.startswith(("deferred_o", "deferred_u"))
    }
    told |= {"face_worker_lost", "faces_not_confined", "key_set_unread", "wechat_failed", "defect"}
    assert told <= EVENTS.keys()
    assert all(f"`{event}`" in night for event in told)


def test_values_that_stand_in_the_files_can_be_read() -> None:
    compose = parsed("compose.yaml")["x-checkin"]["environment"]
    image = dict(re.findall(r"\b(CHECKIN_[A-Z_]+)=(\S+)", text("Dockerfile")))
    [config] = [thing["data"] for thing in objects() if thing["kind"] == "ConfigMap"]
    for environment in (compose, image, config):
        assert environment
        read_settings(environment)


def test_replicas_know_how_many_share_what_waits() -> None:
    compose, [config] = (
        parsed("compose.yaml"),
        [thing["data"] for thing in objects() if thing["kind"] == "ConfigMap"],
    )
    [scaler] = [thing["spec"] for thing in objects() if thing["kind"] == "HorizontalPodAutoscaler"]
    replicas = [name for name in compose["services"] if name.startswith("checkin-")]
    alone = float(SETTINGS["longest_deferral_s"].default)
    for environment, number in (
        (compose["x-checkin"]["environment"], len(replicas)),
        (config, scaler["minReplicas"]),
    ):
        assert float(environment["CHECKIN_LONGEST_DEFERRAL_S"]) == number * alone


# --- The image ---


def test_the_image_takes_what_is_there_and_runs_as_nobody_in_particular() -> None:
    dockerfile = text("Dockerfile")
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", dockerfile, re.MULTILINE):
        assert (ROOT / copied).exists(), copied
        assert f"!{copied.rstrip('/')}" in text("Dockerfile.dockerignore").splitlines()
    stages = dockerfile.split("\nFROM ")[1:]
    assert len(stages) == 2
    assert f"USER {USER}:{USER}" in stages[1]
    assert "--require-hashes" in stages[0]
    assert not re.search(r"apt-get|gcc|build-essential", dockerfile)
    assert "requirements/runtime.txt" in stages[0]
    assert "/livez" in stages[1]
    assert "/livez" in PATHS


def test_packages_of_the_package_are_all_in_the_image() -> None:
    copied = set(re.findall(r"^COPY (\w+)/ ", text("Dockerfile"), re.MULTILINE))
    assert copied == {"checkin_service", "geofence", "face", "requirements"}


# --- Compose ---


def test_compose_names_what_is_there() -> None:
    compose = parsed("compose.yaml")
    services, named = compose["services"], compose["secrets"]
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= named.keys(), name
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert set(service["networks"]) <= compose["networks"].keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"], (
                volume
            )
    assert {service.get("image") for service in services.values() if "build" in service} == {"checkin:local"}


def test_secrets_are_nowhere_in_the_repository() -> None:
    mounted = {secret["file"] for secret in parsed("compose.yaml")["secrets"].values()}
    assert all(name.startswith("secrets/") for name in mounted)
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    guide = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    env_files = {"secrets/service.env", "secrets/owner.env"}
    for name in chain(mounted, env_files):
        assert name.removeprefix("secrets/") in guide, name


def test_replicas_in_compose_are_confined() -> None:
    for name in ("checkin-a", "checkin-b", "migrate"):
        service = parsed("compose.yaml")["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["ulimits"]["core"] == 0
        assert float(service["stop_grace_period"].rstrip("s")) > drain_s()


def drain_s() -> float:
    """What `serve` takes at most from SIGTERM to its end; the grace is part of it."""
    return server.DRAINED_S + server.LAST_S + server.CUT_S


# --- nginx ---


def directive(name: str) -> list[str]:
    return re.findall(rf"^\s*{name} ([^;{{]+);", text("nginx/nginx.conf"), re.MULTILINE)


def seconds(name: str, index: int = 0) -> float:
    return float(directive(name)[index].removesuffix("s"))


def test_nginx_leaves_it_to_the_service_to_answer() -> None:
    largest = (1 + MAX_BURST) * form.FILE_LIMIT + form.MEGABYTE
    megabytes = int(directive("client_max_body_size")[0].removesuffix("m"))
    assert megabytes * 1024 * 1024 >= largest
    assert seconds("proxy_read_timeout") > server.ANSWER_S
    # between two reads only: a whole body has RECEIVE_TIMEOUT_S, and the service says when it was too slow
    assert seconds("client_body_timeout") > body.RATE_WINDOW_S
    assert seconds("client_header_timeout") >= server.HEAD_S


def test_nginx_gives_up_idle_connections_before_the_service_does() -> None:
    upstream = float(re.findall(r"upstream [^}]*keepalive_timeout (\d+)s", text("nginx/nginx.conf"))[0])
    assert upstream < server.IDLE_S


def test_nginx_keeps_no_picture_and_logs_no_path() -> None:
    assert directive("proxy_request_buffering") == ["off"]
    [log] = re.findall(r"log_format named(.*?);", text("nginx/nginx.conf"), re.DOTALL)
    logged = set(re.findall(r"\$\w+", log))
    assert "$request_id" in logged
    assert not logged & {"$request", "$request_uri", "$uri", "$args", "$remote_addr", "$http_authorization"}


def test_nginx_knows_the_replicas_and_hides_what_is_for_inside() -> None:
    servers = {found.split()[0] for found in directive("server")}
    replicas = {name for name in parsed("compose.yaml")["services"] if name.startswith("checkin-")}
    assert servers == {f"{name}:{SETTINGS['port'].default}" for name in replicas}
    for path in ("/metrics", "/readyz"):
        assert f"location = {path} {{ return 404; }}" in text("nginx/nginx.conf")
        assert path in PATHS
    [listen] = directive("listen")
    assert [listen.split()[0]] == [
        port.split(":")[1] for port in parsed("compose.yaml")["services"]["nginx"]["ports"]
    ]
    certificates = {*directive("ssl_certificate"), *directive("ssl_certificate_key")}
    assert certificates == {
        f"/run/secrets/{name}" for name in parsed("compose.yaml")["services"]["nginx"]["secrets"]
    }


def test_prometheus_scrapes_the_replicas() -> None:
    [job] = parsed("prometheus/prometheus.yaml")["scrape_configs"]
    assert job["job_name"] == "checkin"
    assert set(job["static_configs"][0]["targets"]) == {found.split()[0] for found in directive("server")}


# --- Kubernetes ---


def test_pods_are_confined() -> None:
    assert {kind for kind, _ in pods()} == set(CONTAINERS)
    for kind, pod in pods():
        context, [container] = pod["securityContext"], pod["containers"]
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, USER), kind
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} == container["resources"].keys()
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert "/var/lib/checkin" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert len({pod["containers"][0]["image"] for _, pod in pods()}) == 1


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_puts_the_manifests_together() -> None:
    """Which asks no cluster; `migrate` and the Secrets are applied by themselves."""
    command = ["kubectl", "kustomize", str(KUBERNETES)]
    made = list(yaml.safe_load_all(subprocess.check_output(command, text=True)))
    listed = parsed("kubernetes/kustomization.yaml")["resources"]
    written = [thing for name in listed for thing in yaml.safe_load_all(text(f"kubernetes/{name}"))]
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in written}
    assert {(thing["kind"], thing["metadata"]["name"]) for thing in made} == names
    assert {thing["metadata"].get("namespace", "checkin") for thing in made} == {"checkin"}


def test_commands_are_the_services() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for _, pod in pods():
        [command] = pod["containers"][0]["args"]
        assert f"| `{command}` |" in readme


def test_names_refer_to_something() -> None:
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in objects()}
    for _, pod in pods():
        assert ("ServiceAccount", pod["serviceAccountName"]) in names
        for source in pod["containers"][0]["envFrom"]:
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                assert key not in source or (kind, source[key]["name"]) in names
        for volume in pod["volumes"]:
            assert "secret" not in volume or ("Secret", volume["secret"]["secretName"]) in names
    resources = parsed("kubernetes/kustomization.yaml")["resources"]
    assert all((KUBERNETES / resource).exists() for resource in resources)


def test_key_files_are_the_mounted_ones() -> None:
    [config] = [thing["data"] for thing in objects() if thing["kind"] == "ConfigMap"]
    [keys] = [thing for thing in objects() if thing["metadata"]["name"] == "checkin-keys"]
    for variable in ("CHECKIN_KEY_FILE", "CHECKIN_RECEIPT_KEY_FILE"):
        folder, _, name = config[variable].rpartition("/")
        assert (folder, name in keys["stringData"]) == ("/run/secrets/checkin", True)


def test_the_deployment_is_probed_drained_and_found() -> None:
    [deployment] = [thing for thing in objects() if thing["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    [port] = container["ports"]
    image = re.findall(r"CHECKIN_PORT=(\d+)", text("Dockerfile"))
    assert [str(port["containerPort"])] == image == re.findall(r"EXPOSE (\d+)", text("Dockerfile"))
    pause = float(re.findall(r"sleep\((\d+)\)", str(container["lifecycle"]))[0])
    assert pod["terminationGracePeriodSeconds"] > pause + drain_s()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for kind, where in (
        ("Service", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        [thing] = [thing for thing in objects() if thing["kind"] == kind]
        selector = thing["spec"][where]
        wanted = selector.get("matchLabels", selector if kind == "Service" else {})
        assert wanted.items() <= labels.items()
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_autoscaler_goes_by_the_queue() -> None:
    [scaler] = [thing for thing in objects() if thing["kind"] == "HorizontalPodAutoscaler"]
    [metric] = scaler["spec"]["metrics"]
    [rule] = parsed("kubernetes/prometheus-adapter.yaml")["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"] == "checkin_face_queue_length"
    assert int(metric["pods"]["target"]["averageValue"]) < int(SETTINGS["face_queue"].default)


def test_the_ingress_lets_in_only_the_services_own_paths() -> None:
    [ingress] = [thing for thing in objects() if thing["kind"] == "Ingress"]
    paths = [path["path"] for path in ingress["spec"]["rules"][0]["http"]["paths"]]
    assert not any(hidden.startswith(tuple(paths)) for hidden in ("/metrics", "/readyz", "/livez"))
    inside = {"/metrics", "/readyz", "/livez"}
    assert [path for path in PATHS - inside if not f"{path}/".startswith(tuple(paths))] == []
    annotations = {key.partition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert annotations["proxy-body-size"] == directive("client_max_body_size")[0]
    assert f"{annotations['proxy-read-timeout']}s" == directive("proxy_read_timeout")[0]
