"""The manifests, units and tables in configs/deploy: valid, and true to the code they start."""

from __future__ import annotations

import copy
import importlib.metadata
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pipeline.exit_codes import ExitCode
from pipeline.refresh import RefreshConfig
from sweettok.strict_config import load_config
from tests.job_runs import REPOSITORY
from tests.kuberay_schema import SCHEMAS

DEPLOY = REPOSITORY / "configs" / "deploy"
KUBERNETES = "1.34"
MANIFESTS = sorted(path.name for path in DEPLOY.glob("*.yaml") if path.name != "runtime_env.yaml")
Values = dict[str, Any]


def manifest(name: str) -> Values:
    loaded: Values = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


def pod_templates(value: Any) -> Iterator[Values]:
    """Every pod template in a manifest."""
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield value
        for below in value.values():
            yield from pod_templates(below)
    elif isinstance(value, list):
        for below in value:
            yield from pod_templates(below)


def check(values: Values) -> None:
    """Raises what is wrong: against Kubernetes' published schemas, and ours of KubeRay."""
    if values["apiVersion"].startswith("ray.io/"):
        jsonschema.validate(values, SCHEMAS[values["kind"]])
    else:
        kubernetes_validate.validate(values, KUBERNETES, strict=True)
    for template in pod_templates(values):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_fits_its_schema(name: str) -> None:
    check(manifest(name))


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schemas_see_a_misspelt_key_and_a_wrong_type(name: str) -> None:
    sound = manifest(name)
    misspelt = copy.deepcopy(sound)
    misspelt["spec"]["bakcoffLimit"] = 1
    in_a_pod = copy.deepcopy(sound)
    next(pod_templates(in_a_pod))["spec"]["containers"][0]["imagee"] = "x"
    wrong = copy.deepcopy(sound)
    next(pod_templates(wrong))["spec"]["containers"][0]["env"] = "none"
    for values in (misspelt, in_a_pod, wrong):
        with pytest.raises(jsonschema.ValidationError):
            check(values)


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_pod_runs_as_root_or_may_become_more(name: str) -> None:
    templates = list(pod_templates(manifest(name)))
    assert templates
    for template in templates:
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        for container in template["spec"]["containers"]:
            context = container["securityContext"]
            assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert "memory" in container["resources"]["limits"]


def test_clusters_are_those_of_the_locked_ray_and_ask_for_a_token() -> None:
    locked = importlib.metadata.version("ray")
    for spec in (
        manifest("raycluster.yaml")["spec"],
        manifest("rayjob.yaml")["spec"]["rayClusterSpec"],
    ):
        assert spec["rayVersion"] == locked
        assert spec["authOptions"] == {"mode": "token"}


def test_the_image_is_the_same_everywhere_and_of_this_version() -> None:
    texts = [path.read_text() for path in (*DEPLOY.glob("*.yaml"), DEPLOY / "Dockerfile")]
    images = {image for text in texts for image in re.findall(r"registry\.example/\S+", text)}
    assert images == {f"registry.example/sweettok:{importlib.metadata.version('sweettok')}"}


def commands() -> dict[str, list[str]]:
    """How each file starts the refresh: the words from "python" on."""
    job = manifest("rayjob.yaml")["spec"]["entrypoint"]
    (template,) = pod_templates(manifest("cronjob.yaml"))
    (submit,) = template["spec"]["containers"][0]["args"]
    service = (DEPLOY / "sweettok-refresh.service").read_text()
    crontab = (DEPLOY / "crontab").read_text()
    texts = {
        "rayjob": job,
        "cronjob": submit.partition(" -- ")[2],
        "service": re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)[0],
        "crontab": re.findall(r"&& (\S+python .*?) >>", crontab)[0],
    }
    return {name: shlex.split(text) for name, text in texts.items()}


def test_every_command_is_one_that_the_job_takes() -> None:
    for name, (python, job, *arguments) in commands().items():
        assert python.endswith("python"), name
        script = job.removeprefix("/app/")
        assert (REPOSITORY / script).is_file(), name
        assert arguments == ["--config", "/etc/sweettok/refresh_dataset.yaml"], name
    load_config(RefreshConfig, REPOSITORY / "configs" / "refresh_dataset.yaml")


def test_the_submission_names_the_clusters_own_service_and_token() -> None:
    cluster = manifest("raycluster.yaml")["metadata"]["name"]
    (template,) = pod_templates(manifest("cronjob.yaml"))
    (container,) = template["spec"]["containers"]
    assert f"http://{cluster}-head-svc:8265" in container["args"][0]
    secret = next(item for item in container["env"] if item["name"] == "RAY_AUTH_TOKEN")
    assert secret["valueFrom"]["secretKeyRef"] == {"name": cluster, "key": "auth_token"}


def test_a_stop_leaves_time_for_the_last_commit() -> None:
    for name in ("raycluster.yaml", "rayjob.yaml"):
        head = next(
            template
            for template in pod_templates(manifest(name))
            if template["spec"]["containers"][0]["name"] == "ray-head"
        )
        (wait_s,) = (
            int(item["value"])
            for item in head["spec"]["containers"][0]["env"]
            if item["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
        )
        assert 60 <= wait_s < head["spec"]["terminationGracePeriodSeconds"]


def test_exit_codes_in_units_and_tables_are_the_jobs_own() -> None:
    service = (DEPLOY / "sweettok-refresh.service").read_text()
    (codes,) = re.findall(r"^SuccessExitStatus=(.*)$", service, re.MULTILINE)
    assert {int(code) for code in codes.split()} == {ExitCode.BUSY, ExitCode.INTERRUPTED}
    assert f"[ $code -eq {ExitCode.BUSY.value} ]" in (DEPLOY / "crontab").read_text()


def test_the_line_of_the_crontab_is_shell_and_has_five_fields_of_time() -> None:
    (line,) = [line for line in (DEPLOY / "crontab").read_text().splitlines() if line[0].isdigit()]
    *times, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"\*|\d+", field) for field in times)
    assert "%" not in command  # a line break, to cron
    subprocess.run(["sh", "-n", "-c", command], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in DEPLOY.glob("sweettok-refresh.*"):
        # The program that it starts is not installed here.
        text = path.read_text().replace("/opt/sweettok/.venv/bin/python", "/bin/true")
        (tmp_path / path.name).write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in verified.stderr.splitlines() if "sweettok-refresh" in line]
    assert complaints == []
    timer = (DEPLOY / "sweettok-refresh.timer").read_text()
    (calendar,) = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)
