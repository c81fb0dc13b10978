"""The manifests: every kind known, every field spelt right, and every command and variable one that there is."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from stack.cli import cli

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.34"
KUSTOMIZATION = {"apiVersion", "kind", "namespace", "resources", "images"}
"""The fields of `kustomization.yaml` that are used; there is no schema of it in `kubernetes-validate`."""


def check(resource: dict[str, Any]) -> None:
    """Raise for a resource that the API server would not take as it is: a kind without a schema is a failure."""
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def resources() -> Iterator[dict[str, Any]]:
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


ALL = list(resources())
NAMES = [f"{each['kind']} {each['metadata']['name']}" for each in ALL]


@pytest.mark.parametrize("resource", ALL, ids=NAMES)
def test_every_resource_is_valid(resource: dict[str, Any]) -> None:
    check(resource)


def test_an_unknown_kind_fails() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "media"}})


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every name of a field that the API defines."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name)
            if name in (
                "labels",
                "matchLabels",
                "nodeSelector",
                "data",
                "requests",
                "limits",
            ):  # names of the user's own
                continue
            if name != "selector" or "matchLabels" in item:
                yield from paths(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from paths(item, (*path, number))


@pytest.mark.parametrize("resource", ALL, ids=NAMES)
def test_every_misspelt_field_fails(resource: dict[str, Any]) -> None:
    found = list(paths(resource))
    assert found
    for path in found:
        if path[-1] in ("apiVersion", "kind") and len(path) == 1:
            continue
        spoilt = copy.deepcopy(resource)
        inside: Any = spoilt
        for step in path[:-1]:
            inside = inside[step]
        inside[f"{path[-1]}x"] = inside.pop(path[-1])
        with pytest.raises(kubernetes_validate.ValidationError):
            check(spoilt)


def test_the_kustomization_names_every_file() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert set(kustomization) <= KUSTOMIZATION
    assert kustomization["kind"] == "Kustomization"
    names = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == names


PODS = {each["metadata"]["name"]: each["spec"]["template"] for each in ALL if "template" in each.get("spec", {})}


@pytest.mark.parametrize("name", PODS)
def test_commands_and_variables_are_those_of_the_command_line(name: str) -> None:
    (container,) = PODS[name]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "stack"]
    command = cli.commands[container["command"][3]]
    known = {each.envvar for each in command.params if isinstance(each.envvar, str)}
    settings = next(each["data"] for each in ALL if each["kind"] == "ConfigMap")
    given = set(settings) | {each["name"] for each in container["env"] if each["name"].startswith("VOICE_STACK_")}
    assert given <= known


@pytest.mark.parametrize("name", PODS)
def test_pods_are_what_the_policies_and_services_select(name: str) -> None:
    labels = PODS[name]["metadata"]["labels"]
    budget = next(
        each for each in ALL if each["kind"] == "PodDisruptionBudget" and each["metadata"]["name"] == name
    )
    assert budget["spec"]["selector"]["matchLabels"] == labels
    for each in ALL:
        if each["kind"] == "Service" and each["metadata"]["name"] == name:
            assert each["spec"]["selector"] == labels
            assert all(port.get("protocol", "TCP") == "TCP" for port in each["spec"]["ports"])  # no media


@pytest.mark.parametrize("name", PODS)
def test_pods_may_do_little(name: str) -> None:
    spec = PODS[name]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    wanted = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    grace = float(wanted.get("VOICE_STACK_DRAIN_SECONDS", 5)) + float(wanted.get("VOICE_STACK_GOAWAY_SECONDS", 0))
    assert spec["terminationGracePeriodSeconds"] >= grace + 10


def test_liveness_never_asks_the_engine() -> None:
    probed = 0
    for template in PODS.values():
        (container,) = template["spec"]["containers"]
        for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            if probe in container:
                probed += 1
                assert container[probe]["httpGet"]["path"] == path
    assert probed == 6


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a file system read-only for a process")
@pytest.mark.parametrize("name", PODS)
def test_the_commands_start_without_rights_on_a_file_system_that_is_read_only(name: str) -> None:
    """Far enough to say that they are up: there is no NATS here, which none of them needs for that."""
    for tool in ("unshare", "setpriv", "timeout"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is absent")
    role = PODS[name]["spec"]["containers"][0]["command"][3:]
    keys = "/tmp/ticket.key"
    make_keys = f"{sys.executable} -m stack ticket-key {keys} >/dev/null && "
    listening = ["--udp-port", "0", "--port", "0"]
    options = {
        "media": ["--node", "m0", *listening, "--ticket-key", keys],
        "signaling": ["--port", "0", "--ticket-key", keys],
        "agent": [],
        "relay": ["--host", "127.0.0.1", *listening, "--flows", "/tmp/flows"],
    }[role[0]]
    run = " ".join([sys.executable, "-u", "-m", "stack", *role, "--nats", "nats://127.0.0.1:9", *options])
    as_user = f"{make_keys if keys in options else ''}touch {ROOT}/written 2>/dev/null; timeout -s INT 12 {run}"
    script = (
        "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -o remount,bind,ro / && chmod 1777 /tmp && "
        "exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs "
        # the interpreter of this machine may be in a folder that only root may read: read it, and write nothing
        f"--inh-caps +dac_read_search --ambient-caps +dac_read_search sh -c '{as_user}'"
    )
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp",
    }  # fmt: skip
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=60,
    )
    if "mount" in found.stderr and not found.stdout:
        pytest.skip(f"no mount namespace here: {found.stderr.strip()}")
    said = ("Open http", "Taking calls", "Relaying UDP")
    assert any(each in found.stdout for each in said), found.stdout + found.stderr
    assert "Read-only" not in found.stderr
    assert not (ROOT / "written").exists()
