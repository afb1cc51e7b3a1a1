"""The Kubernetes API as this backend uses it: lightkube's client with strict creates, guarded deletes, and patience.

What is asked for twice does no more than once: creates go by name, patches and deletes by the uid that they mean. So
every request is tried again where the API server is in trouble of its own or says that it has too much to do.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx2

from cluster.backend import JobError, PlaceLostError

if TYPE_CHECKING:
    from lightkube.core.generic_client import BasicRequest

PATIENCE_S: Final = 15.0  # for one request, all tries together
TIMEOUT_S: Final = 10.0
PAGE: Final = 500
_CHANCE: Final = random.SystemRandom()  # leaves the numbers alone that others have seeded
_SLACK_S: Final = 15.0  # beyond the time after which a watch ends by itself: then its connection is dead
_PAUSE_S, _MOST_PAUSE_S = 0.2, 5.0
_TOO_MANY: Final = 429
_TROUBLE: Final = (_TOO_MANY, 500, 502, 503, 504)
_FORBIDDEN: Final = (401, 403)
_NOT_FOUND, _CONFLICT, _GONE = 404, 409, 410
RAY_JOB, RAY_CLUSTER, POD, POD_LOG = "RayJob", "RayCluster", "Pod", "PodLog"


class NotThereError(JobError):
    """There is no such object."""


class ConflictError(JobError):
    """The object is there already, or is another one than was meant."""


class ExpiredError(JobError):
    """What is asked for lies too far back: everything has to be listed again."""


class Api:
    """One namespace of one cluster, as the environment says it: in a pod its service account, else a kubeconfig.

    Safe to use from several threads. JobError where lightkube is not installed or there is no configuration.
    """

    def __init__(self, namespace: str | None = None, *, patience_s: float = PATIENCE_S) -> None:
        try:
            from lightkube.config.client_adapter import ConnectionParams
            from lightkube.config.kubeconfig import KubeConfig
            from lightkube.core.exceptions import ConfigError
            from lightkube.core.generic_client import GenericSyncClient
            from lightkube.generic_resource import create_namespaced_resource
            from lightkube.resources import core_v1
        except ImportError as error:
            msg = "the Kubernetes backend needs the extra `kubernetes`: pip install 'tuneyard[kubernetes]'"
            raise JobError(msg) from error
        try:
            config = KubeConfig.from_env().get()
        except (ConfigError, KeyError, OSError) as error:
            msg = f"no Kubernetes cluster is configured (KUBECONFIG, ~/.kube/config or a service account): {error}"
            raise JobError(msg) from error
        params = ConnectionParams(timeout=httpx2.Timeout(TIMEOUT_S))
        self._client = GenericSyncClient(params, config, namespace=namespace)
        self.namespace, self._patience_s = str(self._client.namespace), patience_s
        self._kinds: dict[str, Any] = {
            RAY_JOB: create_namespaced_resource("ray.io", "v1", RAY_JOB, "rayjobs"),
            RAY_CLUSTER: create_namespaced_resource("ray.io", "v1", RAY_CLUSTER, "rayclusters"),
            POD: core_v1.Pod,
            POD_LOG: core_v1.PodLog,
        }

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object. NotThereError."""
        return self._json(self._client.prepare_request("get", self._kinds[kind], name=name))

    def list(self, kind: str, labels: str) -> tuple[list[dict[str, Any]], str]:
        """All objects with these labels, and the version of the list, from which a watch goes on. ExpiredError."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"labelSelector": labels, "limit": str(PAGE)}
        while True:
            page = self._json(self._client.prepare_request("list", self._kinds[kind], params=params))
            found += page.get("items") or []
            about = page.get("metadata") or {}
            if not about.get("continue"):
                return found, str(about.get("resourceVersion") or "")
            params = {**params, "continue": about["continue"]}

    def watch(self, kind: str, labels: str, version: str, seconds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens to objects with these labels after `version`, for so long. ExpiredError; PlaceLostError.

        A BOOKMARK is no change: it only says how far one has come; the first one, that the watch is there.
        """
        params = {
            "labelSelector": labels,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        request = self._client.prepare_request("list", self._kinds[kind], watch=True, params=params)
        request.timeout = httpx2.Timeout(TIMEOUT_S, read=seconds + _SLACK_S)
        try:
            answer = self._client.send(self._client.build_adapter_request(request), stream=True)
            try:
                if not answer.is_success:
                    answer.read()
                    self._refuse(answer)
                yield "BOOKMARK", {"metadata": {"resourceVersion": version}}
                for line in answer.iter_lines():
                    yield _event(line)
            finally:
                answer.close()
        except httpx2.HTTPError as error:
            msg = f"the Kubernetes API broke off: {type(error).__name__}: {error}"
            raise PlaceLostError(msg) from error

    def create(self, kind: str, made: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object, every field of which the API server must know. ConflictError where the name is taken."""
        resource = self._kinds[kind]
        params = {"fieldValidation": "Strict", "fieldManager": "tuneyard"}
        request = self._client.prepare_request("post", resource, resource(made), params=params)
        answer = self._answer(request)
        if answer.status_code == _NOT_FOUND:
            msg = f"{_said(answer)}: is the namespace {self.namespace} there, and are KubeRay's CRDs installed?"
            raise PlaceLostError(msg)
        return self._taken(answer)

    def patch(self, kind: str, meant: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a change into the object that is meant, and no later one of its name. ConflictError; NotThereError."""
        uid = {"metadata": {**(change.get("metadata") or {}), "uid": meant["metadata"]["uid"]}}
        request = self._client.prepare_request(
            "patch",
            self._kinds[kind],
            {**change, **uid},
            name=meant["metadata"]["name"],
            params={"fieldValidation": "Strict", "fieldManager": "tuneyard"},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        return self._json(request)

    def delete(self, kind: str, meant: Mapping[str, Any]) -> None:
        """Have the object that is meant deleted, after all that it owns; nothing where it is gone."""
        request = self._client.prepare_request("delete", self._kinds[kind], name=meant["metadata"]["name"])
        request.data = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": meant["metadata"]["uid"]},
        }
        answer = self._answer(request)
        if answer.status_code not in (_NOT_FOUND, _CONFLICT):  # another one of its name is none of ours to delete
            self._taken(answer)

    def log(self, pod: str) -> str:
        """What a pod's first container wrote. NotThereError where there is nothing to read yet, or any more."""
        answer = self._answer(self._client.prepare_request("get", self._kinds[POD_LOG], name=pod))
        if not answer.is_success:
            msg = f"the log of {pod} cannot be read: {_said(answer)}"
            raise NotThereError(msg)
        return answer.text

    def _json(self, request: BasicRequest) -> dict[str, Any]:
        return self._taken(self._answer(request))

    def _answer(self, request: BasicRequest) -> httpx2.Response:
        """The answer, once the API server is in no trouble of its own. PlaceLostError where that takes too long."""
        deadline, pause = time.monotonic() + self._patience_s, _PAUSE_S
        while True:
            wait_s = pause
            try:
                answer: httpx2.Response = self._client.send(self._client.build_adapter_request(request))
            except httpx2.HTTPError as error:
                trouble = f"the Kubernetes API does not answer: {type(error).__name__}: {error}"
            else:
                if answer.status_code not in _TROUBLE:
                    return answer
                trouble = f"the Kubernetes API is in trouble (HTTP {answer.status_code}): {_said(answer)}"
                wait_s = max(pause, _retry_after_s(answer))
            if time.monotonic() + wait_s > deadline:
                raise PlaceLostError(trouble)
            time.sleep(wait_s * _CHANCE.uniform(1.0, 1.2))  # spreads clients
            pause = min(2 * pause, _MOST_PAUSE_S)

    def _taken(self, answer: httpx2.Response) -> dict[str, Any]:
        if not answer.is_success:
            self._refuse(answer)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            msg = "what answers in place of the Kubernetes API is none"
            raise PlaceLostError(msg)
        return found

    def _refuse(self, answer: httpx2.Response) -> None:
        said = _said(answer)
        if answer.status_code == _NOT_FOUND:
            raise NotThereError(said)
        if answer.status_code == _CONFLICT:
            raise ConflictError(said)
        if answer.status_code == _GONE:
            raise ExpiredError(said)
        if answer.status_code in _FORBIDDEN:  # a quota's word, too: it may be another one in a minute
            msg = f"Kubernetes does not allow it (HTTP {answer.status_code}): {said}"
            raise PlaceLostError(msg)
        if answer.status_code in _TROUBLE:
            msg = f"the Kubernetes API is in trouble (HTTP {answer.status_code}): {said}"
            raise PlaceLostError(msg)
        msg = f"Kubernetes refuses it (HTTP {answer.status_code}): {said}"
        raise JobError(msg)


def _event(line: str) -> tuple[str, dict[str, Any]]:
    try:
        event = json.loads(line)
        kind, found = str(event["type"]), event["object"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"the Kubernetes API sent what is no event: {line[:200]!r}"
        raise PlaceLostError(msg) from error
    if kind == "ERROR":
        said = str(found.get("message") or found)
        raise ExpiredError(said) if found.get("code") == _GONE else PlaceLostError(said)
    return kind, found


def _said(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:300] or f"HTTP {answer.status_code}"


def _retry_after_s(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 2 * PATIENCE_S) if text.isdecimal() else 0.0
