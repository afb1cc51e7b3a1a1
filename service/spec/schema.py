"""The JSON Schema of the sweep file, for editors: sections, plugin options, other tools' words as deprecated ones.

An editor uses it by a first line `# yaml-language-server: $schema=sweep.schema.json`.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from service import plugins
from service.spec.aliases import RENAMED, SECTIONS
from service.spec.parameters import DISTRIBUTIONS
from service.spec.priors import STRENGTHS
from service.spec.reader import ORDER
from service.spec.sections import SchedulerSection, SearchSection
from service.spec.sweep_spec import SweepSpec

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_OTHER_WORDS: Final = {
    "distribution": (
        "constant", "categorical", "categorical_w_probabilities", "log_uniform_values", "q_uniform",
        "q_log_uniform_values",
    ),
    "search": ("bayes", "bayesianoptimization", "multivariate-tpe"),
}  # fmt: skip
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
_NUMBER: Final = {"type": "number"}


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 7) of all that `load_sweep` takes; imports every plugin file for its options."""
    schema = SweepSpec.model_json_schema(by_alias=True)
    definitions, properties = schema["$defs"], schema["properties"]
    for name in ("Constant", "Choice", "Integer", "Real", "Prior", "SearchSection", "SchedulerSection"):
        definitions.pop(name, None)
    definitions["Parameter"] = _parameter()
    properties["parameters"] = {
        "description": properties["parameters"]["description"],
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/Parameter"},
    }
    properties["search"] = _plugin_section("searchers", SearchSection, definitions)
    properties["scheduler"] = _plugin_section("schedulers", SchedulerSection, definitions)
    ordered = {name: properties[name] for name in ORDER} | _aliases()
    needed = [("metric", "metrics", "objective", "searcher"), ("base", "fit")]
    return {
        "$schema": _DRAFT,
        "title": "Tuneyard sweep",
        "type": "object",
        "properties": ordered,
        "required": ["name", "parameters"],
        "allOf": [
            *({"anyOf": [{"required": [name]} for name in names]} for names in needed),
            *({"not": {"required": list(pair)}} for pair in (("metric", "metrics"), ("base", "fit"))),
        ],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _parameter() -> dict[str, Any]:
    words = [*DISTRIBUTIONS, *_OTHER_WORDS["distribution"]]
    form = {
        "type": "object",
        "properties": {
            "value": {"description": "A constant."},
            "values": {"description": "A choice of any values.", "type": "array", "minItems": 1},
            "weights": {"description": "How likely each of `values` is.", "type": "array", "items": _NUMBER},
            "min": {"description": "The least value, inclusive.", **_NUMBER},
            "max": {"description": "The greatest value, inclusive.", **_NUMBER},
            "distribution": {
                "description": "How values are spread; int_uniform where min and max are whole, else uniform.",
                "enum": words,
            },
            "step": {"description": "Values are min, min + step, …", **_NUMBER},
            "prior": {
                "description": "A value that is probably good: three of four draws crowd around it.",
                "type": "object",
                "properties": {
                    "around": {"description": "The value."},
                    "strength": {"description": "How sure that is; medium where left out.", "enum": list(STRENGTHS)},
                },
                "required": ["around"],
                "additionalProperties": False,
            },
            "when": {
                "description": "The parameter exists only where these others have this value, or one of these.",
                "type": "object",
                "minProperties": 1,
            },
            "q": {"description": "W&B's word for step.", "deprecated": True, **_NUMBER},
            "probabilities": {"description": "W&B's word for weights.", "deprecated": True, "type": "array"},
            "parameters": {"description": "W&B's nesting: write dotted names.", "deprecated": True, "type": "object"},
        },
        "additionalProperties": False,
    }
    return {"description": "A bare value is a constant.", "anyOf": [_SCALAR, form]}


def _plugin_section(folder: str, section: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """One schema per plugin, told apart by `name`, so that an editor offers the options of the one that is named."""
    own = section.model_json_schema(by_alias=True)["properties"]
    own.pop("options")
    names = plugins.names(folder)
    default = section.model_fields["name"].default
    words = [*names, *(word for word in _OTHER_WORDS["search"] if folder == "searchers" and word not in names)]
    own["name"] = {**own["name"], "enum": words}
    branches = []
    for name in names:
        options = plugins.find(folder, name).Options.model_json_schema(by_alias=True)
        definitions.update(options.get("$defs", {}))
        named = {"properties": {"name": {"const": name}}, "required": ["name"]}
        condition = {"anyOf": [named, {"not": {"required": ["name"]}}]} if name == default else named
        properties = {**options.get("properties", {}), **own}
        branches.append({"if": condition, "then": {"properties": properties, "additionalProperties": False}})
    return {"description": section.__doc__, "type": "object", "properties": own, "allOf": branches}


def _aliases() -> dict[str, Any]:
    texts = {**{word: ".".join(map(str, steps)) for word, steps in RENAMED.items()}, **SECTIONS}
    return {
        word: {"description": f"Another tool's word: write {text}.", "deprecated": True} for word, text in texts.items()
    }
