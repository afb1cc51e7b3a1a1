"""The first search space: every rule on the names that people use, and what no rule may touch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.spec.sweep_spec import SweepSpec
from service.sweeps.starting_space import Knob, starting_space


def entry(name: str, kind: str, default: Any = None, choices: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401  # an entry of a sweep file
    path = f"model.init_args.{name}"
    space = starting_space([Knob(path, kind, default, choices)])
    assert (path in space.parameters) != (path in space.left)
    return space.parameters.get(path)


@pytest.mark.parametrize(
    ("name", "kind", "default", "expected"),
    [
        ("lr", "float", 0.01, {"min": 0.0003, "max": 0.3, "distribution": "log_uniform"}),
        ("learning_rate", "float", None, {"min": 0.0001, "max": 0.09, "distribution": "log_uniform"}),
        ("encoder_lr", "float", 1e-3, {"min": 3e-5, "max": 0.03, "distribution": "log_uniform"}),
        ("weight_decay", "float", 0.0, {"min": 1e-6, "max": 0.1, "distribution": "log_uniform"}),
        ("dropout", "float", 0.1, {"min": 0.0, "max": 0.5}),
        ("attention_dropout", "float", 0.6, {"min": 0.0, "max": 0.6}),
        ("momentum", "float", 0.9, {"min": 0.5, "max": 0.98}),
        ("batch_size", "int", 64, {"values": [32, 64, 128, 256]}),
        ("batch_size", "int", None, {"values": [32, 64, 128, 256]}),
        ("hidden_size", "int", 48, {"values": [24, 48, 96, 192]}),
        ("base_channels", "int", 16, {"values": [8, 16, 32, 64]}),
        ("num_layers", "int", 3, {"min": 1, "max": 5}),
        ("depth", "int", 1, {"min": 1, "max": 3}),
        ("heads", "int", 6, {"values": [1, 2]}),
        ("kernel_size", "int", 9, {"values": [3, 5, 7, 9]}),
        ("bidirectional", "bool", False, {"values": [False, True]}),
    ],
)
def test_a_rule_for_each_knob_that_people_have(name: str, kind: str, default: object, expected: object) -> None:
    assert entry(name, kind, default) == expected


def test_a_choice_is_searched_whatever_its_name_but_not_a_long_one() -> None:
    assert entry("cell", "choice", "lstm", ("lstm", "gru")) == {"values": ["lstm", "gru"]}
    assert entry("zone", "choice", None, tuple(f"zone{i}" for i in range(30))) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("channels", "int"), ("num_classes", "int"), ("in_features", "int"), ("input_dim", "int"),
        ("vocab_size", "int"), ("out_channels", "int"), ("fold", "int"), ("seed", "int"), ("max_epochs", "int"),
        ("num_workers", "int"), ("step_size", "int"), ("image_size", "int"), ("validation_share", "float"),
        ("threshold", "float"), ("verbose", "bool"), ("pretrained", "bool"), ("root", "other"),
    ],
)  # fmt: skip
def test_what_data_or_a_person_decides_stays(name: str, kind: str) -> None:
    assert entry(name, kind, None) is None


@given(
    st.lists(
        st.builds(
            Knob,
            path=st.sampled_from(
                ["lr", "wd_decay", "dropout", "batch_size", "width", "depth", "heads", "kernel_size"]
            ).map(lambda name: f"model.init_args.{name}"),
            kind=st.sampled_from(["int", "float"]),
            default=st.none() | st.integers(0, 4096),
        ),
        min_size=1,
        unique_by=lambda knob: knob.path,
    )
)
def test_whatever_the_defaults_are_the_space_is_one_that_a_sweep_takes(knobs: list[Knob]) -> None:
    parameters = starting_space(knobs).parameters
    if not parameters:
        return
    spec = SweepSpec.from_dict({
        "kind": "sweep", "name": "x", "fit": {"model": {"class_path": "net.Net"}},
        "metric": {"name": "val_loss", "goal": "minimize"}, "parameters": dict(parameters),
        "scheduler": {"max_epochs": 3}, "budget": {"max_trials": 3},
    })  # fmt: skip
    assert set(spec.parameters) == set(parameters)
