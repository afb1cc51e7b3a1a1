"""KubeRay's schemas of its objects, as an API server goes by them; they are no part of the product."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.manifests import CRDS

needs_crds = pytest.mark.skipif(
    not CRDS.is_dir(), reason="../shared/crds has not KubeRay's ray.io_rayjobs.yaml and ray.io_rayclusters.yaml"
)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,), "array": (list,)
}  # fmt: skip


class Schema:
    """One kind's schema: which fields are unknown, and which have a value of another type than they should."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def check(self, thing: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Unknown fields, which are pruned, and wrong ones."""
        unknown: list[str] = []
        wrong: list[str] = []
        for key in ("spec", "status"):
            if thing.get(key) is not None:
                self._walk(self._root["properties"][key], thing[key], key, unknown, wrong)
        for key in set(thing) - {"apiVersion", "kind", "metadata", "spec", "status"}:
            unknown.append(key)
            del thing[key]
        return unknown, wrong

    def _walk(self, schema: Mapping[str, Any], value: object, path: str, unknown: list[str], wrong: list[str]) -> None:
        if schema.get("x-kubernetes-int-or-string"):
            return
        wanted = _TYPES.get(str(schema.get("type")), ())
        if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            wrong.append(f"{path}: must be of type {schema['type']}")
            return
        if isinstance(value, dict):
            for key, part in _parts(schema, value):
                if part is None:
                    unknown.append(f"{path}.{key}")
                    del value[key]
                else:
                    self._walk(part, value[key], f"{path}.{key}", unknown, wrong)
            wrong += [f"{path}.{key}: Required value" for key in schema.get("required", []) if key not in value]
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self._walk(schema.get("items") or {}, item, f"{path}[{number}]", unknown, wrong)


def _parts(schema: Mapping[str, Any], value: dict[str, Any]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    known, more = schema.get("properties"), schema.get("additionalProperties")
    for key in list(value):
        if known is not None and key in known:
            yield key, known[key]
        elif isinstance(more, dict):
            yield key, more
        else:
            is_open = schema.get("x-kubernetes-preserve-unknown-fields") or (known is None and more is None)
            yield key, {} if is_open else None


@functools.cache
def schemas() -> dict[str, Schema]:
    """By plural; empty where the files are not there."""
    found = {}
    for plural in ("rayjobs", "rayclusters"):
        path = CRDS / f"ray.io_{plural}.yaml"
        if path.is_file():
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where it was built: the file is a megabyte
            versions = yaml.load(path.read_text(), Loader=loader)["spec"]["versions"]  # noqa: S506  # a safe loader
            found[plural] = Schema(next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"])
    return found
