"""Writes a sweep file in its canonical form: canonical words, the usual order of keys, one style.

Comments are lost, except those above the first key, where an editor's `# yaml-language-server` line stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from service.spec.document import FLOAT, read
from service.spec.faults import Faults
from service.spec.parameters import KEYS
from service.spec.reader import ORDER
from service.spec.sweep_spec import SweepSpec, canonical_tree

_SECTION_ORDER: Final = {
    "metric": ("name", "goal", "target"),
    "search": ("name", "start_from_defaults", "start_points", "warm_start"),
    "scheduler": ("name", "max_epochs"),
}
_WIDTH: Final = 120


def canonical_text(source: SweepSpec | Path) -> str:
    """The canonical YAML of a sweep file, with `base:` as written and nothing added; or of a spec, with everything.

    SpecError where the file cannot be read or its words contradict each other; other faults do not matter here.
    """
    if isinstance(source, SweepSpec):
        return _text(source.to_dict())
    root = read(source)
    faults = Faults(root)
    canonical_tree(root, faults)
    faults.raise_any()
    return _head(source) + _text({"kind": "sweep", **root.plain()})


def _head(path: Path) -> str:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    comments = itertools.takewhile(lambda line: not line.strip() or line.lstrip().startswith("#"), lines)
    return "".join(f"{line.strip()}\n" for line in comments if line.strip())


def _text(data: Mapping[str, Any]) -> str:
    """One section after the other: LightningCLI's as it writes them itself, ours with short mappings on one line."""
    keys = [*(key for key in ORDER if key in data), *(key for key in data if key not in ORDER)]
    return "".join(_section(key, _ordered(key, data[key])) for key in keys)


def _section(key: str, value: Any) -> str:  # noqa: ANN401  # any JSON value
    if key == "fit":
        return _dump(_Block({key: value}), flow=False)
    if key == "parameters" and isinstance(value, dict) and value:
        return "parameters:\n" + "".join(_indented(_entry(name, parameter)) for name, parameter in value.items())
    return _entry(key, value)


def _entry(key: str, value: Any) -> str:  # noqa: ANN401  # any JSON value
    """One key with its value, on one line where that fits."""
    line = _dump(_Block({key: _Inline(value)}) if isinstance(value, dict) else _Block({key: value}), width=10**9)
    return line if line.count("\n") == 1 and len(line) <= _WIDTH else _dump(_Block({key: value}))


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())


def _ordered(key: str, value: Any) -> Any:  # noqa: ANN401  # any JSON value
    if key == "parameters" and isinstance(value, dict):
        return {name: _sorted(parameter, KEYS) for name, parameter in value.items()}
    if key == "metrics" and isinstance(value, list):
        return [_sorted(metric, _SECTION_ORDER["metric"]) for metric in value]
    return _sorted(value, _SECTION_ORDER.get(key, ()))


def _sorted(value: Any, order: tuple[str, ...]) -> Any:  # noqa: ANN401  # any JSON value
    if not isinstance(value, dict):
        return value
    return {**{key: value[key] for key in order if key in value}, **value}


class _Block(dict[str, Any]):
    """A mapping that is written with a line per key."""


class _Inline(dict[str, Any]):
    """A mapping that is written on one line, with all that is in it."""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `service/spec/document.py` would otherwise read back as a number; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002  # PyYAML's signature
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", _number(value))


def _number(value: float) -> str:
    """As short as it can be and still the same float for every YAML reader: 1.0e-05, 0.001, .inf."""
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN is not itself
        return {float("inf"): ".inf", float("-inf"): "-.inf"}.get(value, ".nan")
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _block(dumper: yaml.SafeDumper, value: _Block) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=False)


def _inline(dumper: yaml.SafeDumper, value: _Inline) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(_Block, _block)
_Dumper.add_representer(_Inline, _inline)


def _dump(data: Any, *, flow: bool | None = None, width: int = _WIDTH) -> str:  # noqa: ANN401  # any JSON value
    text: str = yaml.dump(
        data, Dumper=_Dumper, default_flow_style=flow, sort_keys=False, width=width, allow_unicode=True
    )
    return text
