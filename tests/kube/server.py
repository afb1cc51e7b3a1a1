"""An HTTP server that behaves as the Kubernetes API does, for what `cluster/kuberay.py` asks of it.

The service may do what its Role in k8s/base/rbac.yaml says, and is refused all else; whoever plays the operator may do
everything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.kube.objects import Objects, RefusedError, Thing
from tests.kube.schemas import schemas

BOOKMARK_S = 0.3  # a real one sends them about once a minute
SERVICE, OPERATOR = "the-service", "the-operator"  # their tokens
ROLE = Path(__file__).resolve().parents[2] / "k8s" / "base" / "rbac.yaml"


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    who: str


@cache
def rights() -> frozenset[tuple[str, str]]:
    """(resource, verb) of all that the service may do."""
    documents = yaml.safe_load_all(ROLE.read_text())
    rules = [rule for document in documents if document["kind"] == "Role" for rule in document["rules"]]
    return frozenset((what, verb) for rule in rules for what in rule["resources"] for verb in rule["verbs"])


class KubeServer(ThreadingHTTPServer):
    """The server, what it has been asked, and what it is told to answer in place of the next answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects = Objects(schemas())
        self.asked: list[Asked] = []
        self.forbidden: list[str] = []  # what the service asked for beyond its rights
        self.troubles: list[tuple[str, int, dict[str, str]]] = []  # method, code, headers
        self.logs: dict[str, str] = {}  # by pod
        self.is_ending = threading.Event()
        self.cut = 0  # counts how often every watch was cut

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def trouble(self, method: str, code: int, times: int = 1, **headers: str) -> None:
        """Answer the next requests of this method so."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.troubles += [(method, code, named)] * times

    def kubeconfig(self, folder: Path, token: str) -> Path:
        """A kubeconfig of the service's or of the operator's."""
        path = folder / f"kubeconfig-of-{token}"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "test"}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


@contextmanager
def running() -> Iterator[KubeServer]:
    """A server that runs."""
    server = KubeServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.is_ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubeServer

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_POST(self) -> None:
        self._answer(self._create)

    def do_PUT(self) -> None:
        self._answer(self._replace)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, act: Callable[[], None]) -> None:
        if self.server.is_ending.is_set():
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        who = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.asked.append(Asked(self.command, parts.path, self.query, who))
        length = int(self.headers.get("Content-Length") or 0)
        self.body: Thing = json.loads(self.rfile.read(length)) if length else {}
        words = parts.path.strip("/").split("/")
        after = words[words.index("namespaces") + 1 :]
        at_top = ["", "namespaces", *after]
        self.namespace, self.plural, *rest = after if len(after) > 1 else at_top
        self.name, self.part = (*rest, "", "")[:2]
        try:
            self._let_in(who)
            act()
        except RefusedError as error:
            self._say(error.code, error.body())

    def _let_in(self, who: str) -> None:
        if who not in (SERVICE, OPERATOR):
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if who == SERVICE and self._meant() not in rights():
            what, verb = self._meant()
            self.server.forbidden.append(f"{verb} {what}")
            raise RefusedError(403, "Forbidden", f'{what} is forbidden: the service cannot {verb} resource "{what}"')
        for number, (method, code, headers) in enumerate(self.server.troubles):
            if method == self.command:
                del self.server.troubles[number]
                self._extra = headers
                raise RefusedError(code, "Trouble", f"the server answers {code}")

    def _meant(self) -> tuple[str, str]:
        """(resource, verb), as a Role has them."""
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}
        verb = verbs[self.command]
        if verb == "get" and not self.name:
            verb = "watch" if self.query.get("watch") == "true" else "list"
        return "/".join(filter(None, (self.plural, self.part))), verb

    def _say(self, code: int, body: Thing) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in getattr(self, "_extra", {}).items():
            self.send_header(name, value)
        self._extra = dict[str, str]()
        self.end_headers()
        self.wfile.write(data)

    def _read(self) -> None:
        objects = self.server.objects
        if self.part == "log":
            self._log()
        elif self.name:
            self._say(200, objects.get(self.plural, self.namespace, self.name))
        elif self.query.get("watch") == "true":
            self._watch()
        else:
            self._list()

    def _list(self) -> None:
        """Pages go by the number of the first object, and hold as long as nothing changes."""
        objects, selector = self.server.objects, self.query.get("labelSelector", "")
        version, _, begin = self.query.get("continue", "").partition(":")
        if version and int(version) < objects._oldest:
            raise RefusedError(410, "Expired", "the provided continue parameter is too old")
        found, first = objects.list(self.plural, self.namespace, selector), int(begin or 0)
        end = first + int(self.query.get("limit") or len(found) or 1)
        about = {"resourceVersion": version or str(objects.version)}
        more = {"continue": f"{about['resourceVersion']}:{end}"} if end < len(found) else {}
        self._say(200, {"kind": "List", "apiVersion": "v1", "metadata": {**about, **more}, "items": found[first:end]})

    def _watch(self) -> None:
        objects, cut = self.server.objects, self.server.cut
        version = int(self.query.get("resourceVersion") or objects.version)
        selector = self.query.get("labelSelector", "")
        ends_at = time.monotonic() + int(self.query.get("timeoutSeconds") or 300)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        bookmark_at = time.monotonic() + BOOKMARK_S
        while time.monotonic() < ends_at and not self.server.is_ending.is_set() and cut == self.server.cut:
            seen = objects.version
            try:
                for change in objects.since(version, self.plural, self.namespace, selector):
                    self._event(change.kind, change.thing)
                    version = change.version
            except RefusedError as error:
                self._event("ERROR", error.body())
                break
            if self.query.get("allowWatchBookmarks") == "true" and time.monotonic() > bookmark_at:
                bookmark_at, version = time.monotonic() + BOOKMARK_S, max(seen, version)
                self._event("BOOKMARK", {"kind": "RayJob", "metadata": {"resourceVersion": str(version)}})
            objects.wait(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, kind: str, thing: Thing) -> None:
        line = json.dumps({"type": kind, "object": thing}).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _log(self) -> None:
        if self.name not in self.server.logs:
            raise RefusedError(404, "NotFound", f'pods "{self.name}" not found')
        data = self.server.logs[self.name].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _create(self) -> None:
        is_strict = self.query.get("fieldValidation") == "Strict"
        self._say(201, self.server.objects.create(self.plural, self.namespace, self.body, is_strict=is_strict))

    def _replace(self) -> None:
        self._say(200, self.server.objects.replace(self.plural, self.namespace, self.body, self.part))

    def _patch(self) -> None:
        if self.headers.get("Content-Type") != "application/merge-patch+json":
            raise RefusedError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        self._say(200, self.server.objects.patch(self.plural, self.namespace, self.name, self.body, self.part))

    def _delete(self) -> None:
        self._say(200, self.server.objects.delete(self.plural, self.namespace, self.name, self.body))
