"""The OpenAPI document as one page that loads nothing from anywhere: no script of others runs where tokens are used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,summary b{font-family:ui-monospace,monospace}summary{cursor:pointer;padding:.3rem 0}"
    "table{border-collapse:collapse;margin:.5rem 0 1rem 1rem}td{padding:.1rem .8rem .1rem 0;vertical-align:top}"
    "i{color:#666}"
)
_WORDS: Final = {"public": "anybody", "signed_in": "anybody known", "operator": "an admin of every project"}


def page(document: Mapping[str, Any]) -> str:
    """All operations of an OpenAPI document, and the shapes that they speak of."""
    info = document["info"]
    operations = [
        _operation(f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    shapes = [_shape(name, schema) for name, schema in document["components"]["schemas"].items()]
    title = escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"<h2>Operations</h2>{''.join(operations)}<h2>Shapes</h2>{''.join(shapes)}</html>"
    )


def _operation(line: str, operation: Mapping[str, Any]) -> str:
    needs = operation.get("x-needs", "")
    who = _WORDS.get(needs, f"{needs} of the project") + (", for sweeps of their own" if operation.get("x-own") else "")
    rows = [
        (p["name"], f"{p['in']}, {_type(p.get('schema', {}))}", p.get("description", ""))
        for p in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    rows += [("body", kind, _type(entry.get("schema", {}))) for kind, entry in body.items()]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            contents = answer.get("content", {})
            rows += [(status, kind, _type(entry.get("schema", {}))) for kind, entry in contents.items()]
    about = escape(operation.get("description", ""))
    return f"<details><summary><b>{escape(line)}</b> <i>{escape(who)}</i><br>{about}</summary>{_table(rows)}</details>"


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (field, _type(entry) + ("" if field in required else ", may be left out"), entry.get("description", ""))
        for field, entry in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    return f'<details id="{escape(name)}"><summary><b>{escape(name)}</b> {about}</summary>{_table(rows)}</details>'


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_types(schema))) or "any"


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for part in schema.get("anyOf", ()):
        yield from _types(part)
    if schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    elif "type" in schema:
        yield schema["type"]
