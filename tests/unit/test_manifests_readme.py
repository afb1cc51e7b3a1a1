"""k8s/README.md: what its commands name is there, and each is one that kubectl and Tuneyard know."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from service.cli.main import app
from tests import pod_security
from tests.manifests import K8S, has_kubectl, overlay
from tests.readme import ROOT

TEXT = (K8S / "README.md").read_text()
LINES = [
    line.partition("  # ")[0].removesuffix("&").strip()
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.replace("|\n", "| ").splitlines()
]
COMMANDS = [part.strip() for line in LINES for part in re.split(r" \| | && ", line) if part.strip()]
OPERATIONS = ("apply", "create", "delete", "diff", "exec", "get", "port-forward", "rollout", "scale", "set", "wait")
needs_kubectl = pytest.mark.skipif(not has_kubectl(), reason="kubectl is not here")


def words_of(command: str) -> list[str]:
    return [word for word in shlex.split(command) if "=" not in word or word.startswith("-")]


def test_every_kind_of_command_is_there() -> None:
    assert {words_of(c)[0] for c in COMMANDS if words_of(c)} == {
        "kubectl", "docker", "kind", "k8s/make-secrets.sh", "k8s/render-templates.sh", "tuneyard", "make", "export",
    }  # fmt: skip


def help_of(*verbs: str) -> str:
    command = ["kubectl", *verbs, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("kubectl")])
@needs_kubectl
def test_a_command_of_kubectl_names_what_is_there(command: str) -> None:
    words = words_of(command)
    for option, follows in itertools.pairwise(words):
        if option in ("-f", "-k") and follows != "-" and not follows.startswith("github.com/"):
            assert (ROOT / follows).exists(), follows
    verbs = [word for word in words if word in OPERATIONS][:1]
    assert verbs, command
    known = help_of(*verbs, *(word for word in words if word in ("status", "image")))
    flags = {
        word.partition("=")[0]
        for word in words[: words.index("--") if "--" in words else None]
        if word.startswith("--")
    }
    for flag in flags:
        assert flag in known, f"{flag} of {command}"
    names = {f"{d['kind'].lower()}/{d['metadata']['name']}" for d in overlay("try")} | {
        "job/mlflow-upgrade",
        "crd/rayjobs.ray.io",
    }
    for word in words:
        if re.fullmatch(r"(deployment|statefulset|service|job|crd)/\S+", word):
            assert word in names, word


@pytest.mark.parametrize(
    "command", [c.partition(" -- ")[2] or c for c in COMMANDS if re.match(r"(.* -- )?tuneyard ", c)]
)
def test_a_command_of_tuneyard_is_one(command: str) -> None:
    words, known = shlex.split(command)[1:], get_command(app)
    while hasattr(known, "commands"):
        known = known.commands[words.pop(0)]
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_its_other_commands_name_what_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    stages = set(re.findall(r" AS (\w+)$", (K8S / "Dockerfile").read_text(), re.MULTILINE))
    for words in map(words_of, COMMANDS):
        if words[:1] == ["make"]:
            assert words[1] in targets
        if words[:2] == ["docker", "build"]:
            assert (ROOT / words[words.index("-f") + 1]).is_file()
            assert words[words.index("--target") + 1] in stages
        if words and words[0].startswith("k8s/"):
            assert (ROOT / words[0]).stat().st_mode & 0o100


def test_every_path_in_it_is_there() -> None:
    for path in re.findall(r"`((?:k8s/|base/|overlays/|components/|tests/)[\w./-]+)`", TEXT):
        assert (ROOT / path).exists() or (K8S / path).exists(), path


def test_its_table_has_every_component() -> None:
    [row] = [line for line in TEXT.splitlines() if line.startswith("| `components/`")]
    assert set(re.findall(r"`([\w-]+)`", row)) == {path.name for path in (K8S / "components").iterdir()}


def test_the_upgrade_of_mlflow_is_a_valid_and_restricted_job() -> None:
    job = yaml.safe_load((K8S / "mlflow-upgrade.yaml").read_text())
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert pod_security.violations(job["spec"]["template"]["spec"]) == []
