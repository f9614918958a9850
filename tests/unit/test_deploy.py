"""What images and clusters are made by: pinned, unprivileged, watched, and agreed with each other.

Nothing is run here: there is neither a container engine nor a cluster.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.dockerfile import base_image, path_of

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "bento" / "deploy" / "kubernetes.yaml"
# The oldest that is still maintained, and the newest that the validator knows.
VERSIONS = ("1.34", "1.37")


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile, beyond what hadolint looks at."""
    found = []
    every = instructions(text)
    last = every[max(k for k, (name, _) in enumerate(every) if name == "FROM") :]
    for name, value in every:
        base = value.split()[0]
        if name == "FROM" and not re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d+\.\d+-\w+", base):
            found.append("base not pinned")
    users = [value for name, value in last if name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        found.append("root")
    if any(name in ("COPY", "RUN", "ADD") for name, _ in last[_place(last, "USER") :]):
        found.append("written by the user that serves")
    if not any(name == "HEALTHCHECK" and "CMD" in value for name, value in last):
        found.append("no health check")
    if any("pip install" in value and "--require-hashes" not in value for _, value in every):
        found.append("packages without hashes")
    if "--chown" in text or "chmod" in text:
        found.append("code that its user may change")
    return found


def _place(every: list[tuple[str, str]], wanted: str) -> int:
    return next((k for k, (name, _) in enumerate(every) if name == wanted), len(every))


def test_the_image_is_pinned_unprivileged_and_watched() -> None:
    assert faults(path_of(ROOT).read_text("utf-8")) == []
    assert base_image(ROOT).startswith("python:3.11.")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("python:3.11.14-slim-trixie", "python:3.11-slim", "base not pinned"),
        ("USER 1034:1034", "USER root", "root"),
        ("USER 1034:1034\n", "", "root"),
        ("\nHEALTHCHECK", "\nLABEL", "no health check"),
        (" --require-hashes", "", "packages without hashes"),
        ("COPY . ", "COPY --chown=1034 . ", "code that its user may change"),
    ],
)
def test_a_fault_in_the_dockerfile_is_found(old: str, new: str, fault: str) -> None:
    text = path_of(ROOT).read_text("utf-8")
    assert old in text
    assert fault in faults(text.replace(old, new))


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, path_of(ROOT)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def manifest() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text("utf-8"))}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_manifest_is_what_kubernetes_takes(version: str) -> None:
    assert set(manifest()) == {"Deployment", "Service", "PodDisruptionBudget"}
    for one in manifest().values():
        kubernetes_validate.validate(one, version, strict=True)
    spoilt = manifest()["Deployment"]
    spoilt["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, version, strict=True)


def test_pods_have_no_rights_and_bounds_and_are_replaced_without_a_gap() -> None:
    deployment = manifest()["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {*container["resources"]["limits"]} == {"cpu", "memory"}
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= {*container}
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert deployment["replicas"] > manifest()["PodDisruptionBudget"]["spec"]["minAvailable"]
    (volume,) = pod["volumes"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]


def test_a_pod_that_ends_has_time_for_what_it_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    from bento import guards

    for name in ("QUEUE", "BODY", "REQUEST"):
        monkeypatch.delenv(f"ECGBEATS_{name}_SECONDS", raising=False)
    limits = guards._traffic()
    pod = manifest()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, waits = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    longest = limits.queue_s + limits.body_s + limits.request_s
    assert pod["terminationGracePeriodSeconds"] >= int(waits) + longest


def test_image_and_manifest_agree() -> None:
    of_image = dict(instructions(path_of(ROOT).read_text("utf-8")))
    found = manifest()
    deployment = found["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    user, group = map(int, of_image["USER"].split(":"))
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (user, group)
    (port,) = pod["containers"][0]["ports"]
    assert str(port["containerPort"]) == of_image["EXPOSE"] == json.loads(of_image["CMD"])[-1]
    assert f"'127.0.0.1', {of_image['EXPOSE']}, " in of_image["HEALTHCHECK"]
    assert "/readyz" in of_image["HEALTHCHECK"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
