"""What somebody might send who means harm: each with the status that it must get, and in a few words what it tries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.serving import spec

MARK: Final = "tuneyard_hostile"  # in every module, file and host that nobody may import, open or ask


@dataclass(frozen=True)
class Attack:
    """One request of a submitter."""

    name: str
    method: str
    path: str
    status: int
    says: str = ""  # part of the refusal
    content: bytes = b""
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What the client is given beside method and path."""
        body: dict[str, Any] = {"content": self.content} if self.json is None else {"json": self.json}
        return {**body, "headers": self.headers}


def attacks() -> list[Attack]:
    """All of them."""
    return [*_specs(), *_bodies(), *_overrides(), *_fields(), *_paths(), *_headers(), *_webhooks()]


def _changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    whole = spec()
    place = whole
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value
    return whole


Cases = dict[str, tuple[tuple[str, ...], object, str]]  # where, what, and a part of the refusal


def _words() -> Cases:
    return {
        "a name that leads out": (("name",), f"../../{MARK}", "a name is"),
        "a name with a line break": (("name",), "x\nSet-Cookie: a=b", "a name is"),
        "a name for a shell": (("name",), "x; touch /tmp/x", "a name is"),
        "a name that is markup": (("name",), "<script>alert(1)</script>", "a name is"),
        "a name that is a template": (("name",), "{{7*7}}${7*7}", "a name is"),
        "a name of letters that look like others": (("name",), "d\u0456gits", "a name is"),
        "a name too long": (("name",), "a" * 10_000, "a name is"),
        "a name that is a number": (("name",), 7, ""),
    }


def _values() -> Cases:
    return {
        "endless trials": (("budget",), {"max_trials": None}, "no end"),
        "trials beyond all bounds": (("budget",), {"max_trials": 10**12}, "bounds"),
        "trials at once beyond all bounds":
            (("budget",), {"max_trials": 5, "max_concurrent_trials": 10**9}, "bounds"),
        "a negative budget": (("budget",), {"max_trials": -5}, "bounds"),
        "a budget that is true": (("budget",), {"max_trials": True}, "whole number"),
        "cpus beyond all bounds": (("resources",), {"cpu": 1e300}, "bounds"),
        "negative cpus": (("resources",), {"cpu": -1}, "bounds"),
        "memory that is no size": (("resources",), {"memory": "1e999GiB"}, ""),
        "folds beyond all bounds": (("evaluation",), {"folds": 10**9}, "bounds"),
        "a parameter of a million values":
            (("parameters", "model.init_args.lr"), {"values": list(range(19_990))}, ""),
        "a parameter with bounds that are text":
            (("parameters", "model.init_args.lr"), {"min": "__import__('os')", "max": 1}, ""),
        "a parameter whose path is code": (("parameters", "__import__('os').system('x')"), {"values": [1, 2]}, ""),
        "a parameter of nothing": (("parameters",), {}, ""),
        "parameters that are a list": (("parameters",), [1, 2], ""),
        "a metric that is a formula": (("metric",), {"name": "'; DROP TABLE x; --", "goal": "minimize"}, "metric"),
        "a metric with a line break": (("metric",), {"name": "a\nb", "goal": "minimize"}, "metric"),
        "a code root of the server": (("code",), {"root": "/etc", "evil": 1}, "unknown key"),
        "an unknown section": (("hooks",), {"on_start": "touch /tmp/x"}, "unknown key"),
        "a field of the prototype": (("__proto__",), {"is_admin": True}, "unknown key"),
        "a fit that is no mapping": (("fit",), "!!python/object/apply:os.system ['x']", "LightningCLI"),
        "a fit that is a list": (("fit",), [["x"]], "LightningCLI"),
        "another kind": (("kind",), "pickle", ""),
    }  # fmt: skip


def _specs() -> Iterator[Attack]:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    deeper: Any = "x"
    for _ in range(40):
        deeper = {"a": deeper}
    cases: Cases = {
        "a file of the server as base": (("base",), f"/etc/{MARK}", "reads none of its own"),
        "a file of the server as base, relative": (("base",), f"../../{MARK}", "reads none of its own"),
        "base as a URL": (("base",), f"http://{MARK}.example.org/x", "reads none of its own"),
        "base as a list": (("base",), ["/etc/passwd"], "reads none of its own"),
        "a tracking server of one's own": (("tracking",), {"uri": f"http://{MARK}.example.org"}, "operator"),
        "a tracking database": (("tracking",), {"uri": f"sqlite:////tmp/{MARK}.db"}, "operator"),
        "a tracking folder": (("tracking",), {"uri": f"file:///etc/{MARK}"}, "operator"),
        "the metadata service as tracking": (("tracking",), {"uri": "http://169.254.169.254/"}, "operator"),
        "tracking as text": (("tracking",), f"http://{MARK}", "mapping"),
        "packages nobody allowed": (("code",), {"pip": [f"{MARK}==1"]}, ""),
        "packages from a URL": (("code",), {"pip": f"git+https://{MARK}.example.org/x"}, ""),
        "a searcher by path": (("search",), {"name": f"../../{MARK}"}, "no searcher"),
        "a searcher by module": (("search",), {"name": "os"}, "no searcher"),
        "a searcher by dots": (("search",), {"name": f"..{MARK}"}, "no searcher"),
        "a searcher by a private file": (("search",), {"name": "__init__"}, "no searcher"),
        "a searcher with NUL": (("search",), {"name": "bayes\0"}, "NUL"),
        "a searcher of a megabyte": (("search",), {"name": "x" * 10**5}, "characters"),
        "a scheduler by path": (("scheduler",), {"name": f"/tmp/{MARK}", "max_epochs": 3}, "no scheduler"),
        "a scheduler by module": (("scheduler",), {"name": f"{MARK}.evil", "max_epochs": 3}, "no scheduler"),
        "a scheduler that is a list": (("scheduler",), {"name": ["asha"], "max_epochs": 3}, "text"),
        "options that nobody has": (("search",), {"name": "tpe", "__class__": "x"}, "unknown"),
        "an experiment of others": (("search",), {"name": "bayes", "warm_start": f"mlflow:{MARK}"}, "admin"),
        "a server of one's own to learn from":
            (("search",), {"name": "bayes", "warm_start": {"experiment": "x", "uri": f"http://{MARK}"}}, "but its own"),
        "a folder to learn from": (("search",), {"name": "bayes", "warm_start": f"../../{MARK}"}, "no sweep"),
        "a list of folders to learn from": (("search",), {"name": "bayes", "warm_start": ["/etc"] * 30}, ""),
        "a deep list": (("fit", "model"), deep, "nested too deeply"),
        "a deep mapping": (("fit", "model"), deeper, "nested too deeply"),
        "very many values": (("fit", "model"), list(range(30_000)), "too many values"),
        "a very long text": (("description",), "x" * 50_000, "characters"),
        "a NUL in a description": (("description",), "a\0b", "NUL"),
        "a number beyond all columns": (("seed",), 10**30, "too large"),
        "a number of many digits": (("budget", "max_trials"), 10**200, "too large"),
    }  # fmt: skip
    for name, (path, value, says) in {**cases, **_words(), **_values()}.items():
        yield Attack(name, "POST", "/sweeps", 422, says, json={"spec": _changed(path, value)})
    # What is only text to the service is taken; the point is that nothing is imported, opened or run on its account.
    taken = _changed(("constraints",), ["__import__('os').system('x') <= 1"])
    yield Attack("a constraint that is code", "POST", "/sweeps", 201, json={"spec": taken})
    for name, value in {
        "a model class": {"class_path": f"{MARK}.Evil", "init_args": {"x": "__import__('os').system('x')"}},
        "a model class of the system": {"class_path": "os.system", "init_args": {"command": f"touch /tmp/{MARK}"}},
        "a pickle to load": {"class_path": "torch.load", "init_args": {"f": f"/tmp/{MARK}.pkl"}},
        "a template": {"class_path": "{{''.__class__}}", "init_args": {"x": "${jndi:ldap://" + MARK + "/a}"}},
    }.items():
        yield Attack(name, "POST", "/sweeps", 201, json={"spec": _changed(("fit", "model"), value)})


def _bodies() -> Iterator[Attack]:
    whole = json.dumps({"spec": spec()})
    cases: dict[str, bytes] = {
        "no JSON": b"{spec: 1}",
        "nothing": b"",
        "a list": b"[]",
        "a text": b'"x"',
        "null": b"null",
        "NaN": b'{"spec": {"seed": NaN}}',
        "Infinity": b'{"spec": {"seed": Infinity}}',
        "a key twice": b'{"spec": {}, "spec": {"name": "x"}}',
        "a key twice, further in": b'{"spec": {"name": "a", "name": "b"}}',
        "100,000 brackets": b"[" * 100_000,
        "100,000 braces": b'{"a":' * 100_000,
        "a deep body": b'{"spec": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
        "a number of 100,000 digits": b'{"spec": {"seed": ' + b"9" * 100_000 + b"}}",
        "half a character": json.dumps({"spec": {**spec(), "description": "\ud800"}}).encode(),
        "no UTF-8": b'{"spec": "\xff\xfe"}',
        "UTF-16": whole.encode("utf-16"),
        "two bodies": (whole + whole).encode(),
        "YAML": b"spec: {name: x}",
        "a YAML bomb": b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        "a pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x01x\x94\x85R.",
        "a zip": b"PK\x03\x04" + b"\0" * 100,
        "XML": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "a field more": json.dumps({"spec": spec(), "is_admin": True}).encode(),
        "another owner": json.dumps({"spec": spec(), "owner": "operator"}).encode(),
        "another state": json.dumps({"spec": spec(), "state": "running", "id": "x"}).encode(),
    }  # fmt: skip
    for name, content in cases.items():
        yield Attack(f"body: {name}", "POST", "/sweeps", 422, "", content, headers={"Content-Type": "application/json"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", "\t"):
        yield Attack(
            f"a body that is {kind!r}", "POST", "/sweeps", 422, "", whole.encode(), headers={"Content-Type": kind}
        )


def _overrides() -> Iterator[Attack]:
    for name, text in {
        "a Python object": "seed=!!python/object/apply:os.system ['touch /tmp/x']",
        "a YAML bomb": "description=[&a [x,x], *a]",
        "a merge key": "fit.model={<<: {class_path: x}}",
        "a deep list": "description=" + "[" * 200 + "]" * 200,
        "no path": "=1",
        "no value": "seed",
        "dots": "...=1",
        "a base": f"base=/etc/{MARK}",
        "a tracking server": f"tracking.uri=http://{MARK}",
        "the root": ".=1",
        "a dunder": "__class__.__init__=1",
        "an index too far": "constraints.99=1",
        "packages": f"code.pip=[{MARK}]",
        "earlier trials of others": f"search.warm_start=mlflow:{MARK}",
    }.items():
        yield Attack(f"override: {name}", "POST", "/sweeps/{sweep}/fork", 422, "",
                     json={"overrides": [text], "keep_results": False})  # fmt: skip
    yield Attack("10,000 overrides", "POST", "/sweeps/{sweep}/fork", 422, "", json={"overrides": ["seed=1"] * 10_000})


def _fields() -> Iterator[Attack]:
    good: dict[str, Any] = {"spec": spec()}
    changes: dict[str, dict[str, Any]] = {
        "a project that leads out": {"project": "../other"},
        "a project by SQL": {"project": "default' OR '1'='1"},
        "all projects": {"project": "*"},
        "a priority beyond all bounds": {"priority": 10**9},
        "a priority that is text": {"priority": "1"},
        "a priority that is true": {"priority": True},
        "a code package by path": {"code": "../../etc/passwd"},
        "a code package nobody sent": {"code": "0" * 64},
        "a code package in capitals": {"code": "A" * 64},
        "facts that are deep": {"facts": {"a": {"b": "c"}}},
        "facts without end": {"facts": {str(i): "x" for i in range(1000)}},
        "a fact without end": {"facts": {"a": "x" * 10_000}},
        "a spec that is text": {"spec": "!!python/object:os.system"},
    }
    for name, change in changes.items():
        yield Attack(name, "POST", "/sweeps", 422, "", json={**good, **change})
    yield Attack("another's project", "POST", "/sweeps", 404, "", json={**good, "project": "other"})
    yield Attack("a project that is not", "POST", "/sweeps", 404, "", json={**good, "project": "nowhere"})
    for name, body in {
        "trials that shrink": {"max_trials": 0},
        "trials beyond all bounds": {"max_trials": 10**9},
        "trials that are text": {"max_trials": "9"},
        "trials that are infinite": {"max_trials": 1e400},
    }.items():
        text = json.dumps(body).encode()
        yield Attack(f"extend: {name}", "POST", "/sweeps/{sweep}/extend", 422, "", text,
                     headers={"Content-Type": "application/json"})  # fmt: skip
    for name, body in {
        "a role too high": {"name": "x", "roles": {"default": "admin"}},
        "a role everywhere": {"name": "x", "roles": {"*": "viewer"}},
        "a role that is not": {"name": "x", "roles": {"default": "root"}},
        "a name with a line break": {"name": "x\ny"},
        "an end in the past": {"name": "x", "expires_in_s": -1},
        "a user with a line break": {"name": "x", "user": "submitter\n"},
    }.items():
        yield Attack(f"token: {name}", "POST", "/tokens", 422, "", json=body)


def _paths() -> Iterator[Attack]:
    for name, path, status in (
        ("a sweep that leads out", "/sweeps/..%2f..%2fetc%2fpasswd", 404),
        ("a sweep that leads out, twice encoded", "/sweeps/..%252f..%252fetc", 404),
        ("a sweep with NUL", "/sweeps/a%00b", 404),
        ("a sweep by SQL", "/sweeps/x'%20OR%20'1'='1", 404),
        ("a sweep by a wildcard", "/sweeps/%25", 404),
        ("a sweep by a wildcard of one", "/sweeps/_inimal", 404),
        ("a sweep with a line break", "/sweeps/a%0d%0aSet-Cookie:%20a=b", 404),
        ("a sweep too long", "/sweeps/" + "a" * 5000, 422),
        ("a trial that is text", "/sweeps/{sweep}/trials/..%2f..%2fsweep/logs", 404),
        ("a trial below zero", "/sweeps/{sweep}/trials/-1/logs", 422),
        ("a trial beyond all", "/sweeps/{sweep}/trials/99999999999999999999/logs", 422),
        ("an offset beyond all", "/sweeps/{sweep}/logs?offset=99999999999999999999999", 422),
        ("a limit beyond all", "/sweeps/{sweep}/logs?limit=999999999", 422),
        ("a page by SQL", "/sweeps?after=1'%20OR%201=1--_x", 422),
        ("a page of nothing", "/sweeps?after=", 422),
        ("a state that is not", "/sweeps?state=root", 422),
        ("states without end", "/sweeps?" + "&".join(["state=queued"] * 100), 422),
        ("a limit of nothing", "/sweeps?limit=0", 422),
        ("a limit that is text", "/sweeps?limit=ten", 422),
        ("another's project", "/sweeps?project=other", 404),
        ("all projects", "/sweeps?project=*", 404),
        ("another's audit log", "/audit?project=other", 404),
        ("everybody's audit log", "/audit", 403),
        ("everybody's tokens", "/tokens?everybody=true", 403),
        ("sweeps to compare without end", "/compare?" + "&".join(["sweep=a"] * 100), 422),
        ("nothing to compare", "/compare", 422),
        ("a digest that leads out", "/packages/..%2f..%2fetc", 404),
        ("a page that is not", "/../../etc/passwd", 404),
        ("another method", "/whoami?_method=DELETE&x=1", 200),
    ):
        yield Attack(f"path: {name}", "GET", path, status)
    yield Attack("a package by name", "PUT", "/packages/evil", 422, "", b"x")
    yield Attack("a quota of one's own", "PUT", "/quotas/user/submitter", 403, "", json={"cpus": 10**6})
    yield Attack("a project of one's own", "POST", "/projects", 403, "", json={"name": "mine"})
    yield Attack("a method that is none", "PATCH", "/sweeps", 405)
    yield Attack("a trace", "TRACE", "/sweeps", 405)


def _headers() -> Iterator[Attack]:
    for name, headers, status in (
        ("a key without end", {"Idempotency-Key": "x" * 5000}, 422),
        ("a key with a blank", {"Idempotency-Key": "a b"}, 422),
        ("a key of nothing", {"Idempotency-Key": ""}, 422),
    ):
        yield Attack(f"header: {name}", "POST", "/sweeps", status, "", json={"spec": spec()}, headers=headers)
    for name, value in (("text", "abc"), ("all", "*"), ("too many digits", '"' + "9" * 100 + '"'), ("SQL", "1 OR 1=1")):
        yield Attack(f"If-Match: {name}", "POST", "/sweeps/{sweep}/pause", 422, "", headers={"If-Match": value})
    for name, value in (("text", "abc"), ("a negative number", "-1"), ("too many digits", "9" * 50)):
        yield Attack(f"Last-Event-ID: {name}", "GET", "/sweeps/{sweep}/events", 422, "",
                     headers={"Last-Event-ID": value, "Accept": "text/event-stream"})  # fmt: skip
    others = {"X-Forwarded-User": "operator", "X-HTTP-Method-Override": "DELETE", "X-Original-URL": "/audit"}
    for name, value in others.items():
        yield Attack(f"header: {name}", "GET", "/audit?project=default", 403, "", headers={name: value})


def _webhooks() -> Iterator[Attack]:
    """Of an admin: see the test."""
    for url in (
        "http://127.0.0.1/x", "http://localhost:8265/api/jobs/", "http://[::1]/", "http://0.0.0.0/", "http://10.0.0.5/",
        "http://192.168.1.1/", "http://172.16.0.1/", "http://169.254.169.254/latest/meta-data/", "http://127.1/",
        "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25eth0]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://255.255.255.255/",
        "http://[64:ff9b::7f00:1]/", "http://user:secret@192.0.2.1/", "file:///etc/passwd", "gopher://127.0.0.1:25/x",
        "ftp://192.0.2.1/", "javascript:alert(1)", "http://", "http:///x", "https://exa mple.org/", "http://a\r\nX: y/",
        "http://\u2488example.org/", "http://192.0.2.1:99999/", "http://192.0.2.1:0/", "http://127.0.0.1#@192.0.2.1/",
        "http://127.0.0.1\\@192.0.2.1/", "//127.0.0.1/x", "dict://127.0.0.1:11211/stat",
    ):  # fmt: skip
        body = {"url": url, "kinds": ["finished"], "project": "default"}
        yield Attack(f"webhook: {url!r}", "POST", "/webhooks", 422, "", json=body)
