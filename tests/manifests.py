"""Renders what is under k8s/ as `kubectl apply -k` would, and takes it apart for the tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.readme import ROOT

K8S = ROOT / "k8s"
CRDS = ROOT.parent / "shared" / "crds"
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
COMPONENTS = tuple(sorted(path.name for path in (K8S / "components").iterdir()))
TEMPLATES = tuple(
    sorted(path.parent.name for path in (K8S / "components").glob("*/template"))
)  # what can patch a RayJob
OTHERS_SECRETS = {
    "tuneyard-tls": {"tls.crt", "tls.key"},
    "redis": {"password"},
}  # that an operator brings, as README says

Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod template, and where it stands."""

    owner: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Document]:
        """All containers, those of the beginning first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """The ports of its containers by name."""
        return {port["name"]: port["containerPort"] for c in self.containers for port in c.get("ports", [])}


def has_kubectl() -> bool:
    """Whether kustomize is at hand, in kubectl."""
    return shutil.which("kubectl") is not None


def kustomized(folder: Path, *options: str) -> list[Document]:
    """The objects that `folder` renders to."""
    command = ["kubectl", "kustomize", *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


@cache
def overlay(name: str) -> tuple[Document, ...]:
    """The objects of an overlay."""
    return tuple(kustomized(K8S / "overlays" / name))


@cache
def with_components(*names: str) -> tuple[Document, ...]:
    """The base with some components."""
    return tuple(_made({"resources": ["../../base"], "components": [f"../../components/{name}" for name in names]}))


def in_namespace(name: str, overlay_name: str) -> list[Document]:
    """The objects of an overlay, in another namespace than its own."""
    return _made({"namespace": name, "resources": [f"../{overlay_name}"]})


@cache
def template_with(*names: str) -> Document:
    """The RayJob of the base as the templates of some components patch it."""
    components = [f"../../components/{name}/template" for name in names]
    [job] = _made({"resources": ["../../base/rayjob.yaml"], "components": components})
    return job


def shared_cluster_with(*names: str) -> list[Document]:
    """The shared RayCluster with some components."""
    components = [f"../../components/{name}" for name in names]
    return _made({"resources": ["../../base/raycluster.yaml"], "components": components})


def _made(content: Mapping[str, Any]) -> list[Document]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "k8s"
        shutil.copytree(K8S, copy)
        place = copy / "overlays" / "made"
        place.mkdir()
        head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
        (place / "kustomization.yaml").write_text(yaml.safe_dump({**head, **content}))
        return kustomized(place, "--load-restrictor", "LoadRestrictionsNone")


def named(documents: tuple[Document, ...] | list[Document], kind: str, name: str) -> Document:
    """The one object of a kind whose name is `name`, or that with kustomize's hash after it."""
    found = [d for d in documents if d["kind"] == kind and plain_name(d) == name]
    assert len(found) == 1, f"{len(found)} objects are {kind} {name}"
    return found[0]


def plain_name(document: Document) -> str:
    """The name without kustomize's hash."""
    name: str = document["metadata"]["name"]
    head, dash, tail = name.rpartition("-")
    is_hashed = document["kind"] == "ConfigMap" and dash and len(tail) == 10 and tail.isalnum() and not tail.isalpha()
    return head if is_hashed else name


def ray_job(documents: tuple[Document, ...]) -> Document:
    """The RayJob that the service fills in, out of its ConfigMap."""
    job: Document = yaml.safe_load(named(documents, "ConfigMap", "tuneyard-rayjob")["data"]["rayjob.yaml"])
    return job


def cluster_of(document: Document) -> Document:
    """The cluster of a RayJob or a RayCluster."""
    spec: Document = document["spec"]
    return dict(spec["rayClusterSpec"]) if document["kind"] == "RayJob" else spec


def ray_pods(document: Document) -> Iterator[Pod]:
    """The pods that KubeRay makes of a RayJob or a RayCluster, its autoscaler beside the head included."""
    cluster = cluster_of(document)
    templates = {"head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if document["kind"] == "RayJob":
        templates["submitter"] = document["spec"]["submitterPodTemplate"]
    for name, template in templates.items():
        spec = dict(template["spec"])
        if name == "head" and cluster.get("enableInTreeAutoscaling"):
            options = cluster["autoscalerOptions"]
            own = {key: options[key] for key in ("resources", "securityContext", "volumeMounts")}
            image = spec["containers"][0]["image"]
            spec["containers"] = [*spec["containers"], {"name": "autoscaler", "image": image, **own}]
        yield Pod(f"{document['kind']} {name}", template["metadata"]["labels"], spec)


def pods(documents: tuple[Document, ...]) -> list[Pod]:
    """Every pod template of a rendered installation, those of its RayJob included."""
    found = []
    for document in documents:
        template = document.get("spec", {}).get("template") if isinstance(document.get("spec"), dict) else None
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            owner = f"{document['kind']} {document['metadata']['name']}"
            claims = [
                {"name": claim["metadata"]["name"], "persistentVolumeClaim": {}}
                for claim in document["spec"].get("volumeClaimTemplates", [])
            ]
            spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *claims]}
            found.append(Pod(owner, template["metadata"].get("labels", {}), spec))
        if document["kind"] in ("RayCluster", "RayJob"):
            found += ray_pods(document)
    return [*found, *ray_pods(ray_job(documents))]
