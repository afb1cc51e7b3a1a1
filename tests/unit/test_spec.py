"""Sweep files: every case on disk, all faults at once with their places, overrides, the round trip of the ledger."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships no annotations
import pytest
import yaml

from service import plugins
from service.errors import SpecError
from service.spec.document import parse
from service.spec.schema import json_schema
from service.spec.space import Choice, Integer, Real
from service.spec.sweep_spec import SweepSpec, load_sweep, parse_sweep
from service.spec.text import canonical_text

CASES = Path(__file__).parents[1] / "cases"
VALID = sorted((CASES / "valid").glob("*.yaml"))
FAULTY = sorted((CASES / "faulty").glob("*.yaml"))
FIT = "{model: {class_path: m.M, init_args: {lr: 0.5}}, trainer: {max_epochs: 9}}"
LR, WIDTH = "model.init_args.lr", "model.init_args.width"
SMALL = f"""\
name: small
fit: {FIT}
metric: {{name: val_loss, goal: minimize}}
budget: {{max_trials: 4}}
parameters:
  model.init_args.lr: {{min: 0.1, max: 1.0}}
"""


def load(text: str, *overrides: str, root: Path = CASES) -> SweepSpec:
    return parse_sweep(text, file="s.yaml", root=root, overrides=overrides)


def faults(text: str, *overrides: str, root: Path = CASES) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text, *overrides, root=root)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_cases_load_and_survive_the_ledger(path: Path) -> None:
    spec = load_sweep(path)
    data = spec.to_dict()
    again = SweepSpec.from_dict(json.loads(json.dumps(data, allow_nan=False)))
    assert again == spec
    assert again.to_dict() == data
    assert again.objectives == spec.objectives
    assert again.space.names == spec.space.names
    assert spec.base is None
    assert spec.search_options() == again.search_options()
    assert spec.scheduler_options().max_epochs == spec.max_epochs


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_canonical_form_means_the_same_and_is_stable(path: Path) -> None:
    text = canonical_text(path)
    again = path.parent / "canonical.yaml"
    assert parse_sweep(text, file=str(again), root=path.parent) == load_sweep(path)
    tree = parse(text, file=path.name)
    assert all(key in SweepSpec.model_fields for key in tree.mapping)
    assert tree.mapping["kind"].value == "sweep"


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_canonical_form_of_the_canonical_form_is_itself(path: Path, tmp_path: Path) -> None:
    text = canonical_text(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert canonical_text(copy) == text


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_canonical_form_of_a_spec_is_a_sweep_file(path: Path) -> None:
    spec = load_sweep(path)
    assert load(canonical_text(spec)) == spec


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_faulty_cases_get_all_their_faults(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_sweep(path.read_bytes(), file=path.name, root=path.parent)
    got = "\n".join(map(str, caught.value.faults)).replace(f"{path.parent}/", "") + "\n"
    expected = path.with_suffix(".txt").read_text()
    assert got == expected.replace("<schedulers>", ", ".join(plugins.names("schedulers")))


def test_every_yaml_among_the_cases_is_a_test() -> None:
    assert set(CASES.rglob("*.y*ml")) == {*VALID, *FAULTY, CASES / "fit.yaml"}
    assert len(VALID) > 8
    assert len(FAULTY) > 8


def test_a_lightning_config_in_place_of_a_sweep_file_is_one_fault_that_says_what_to_do() -> None:
    (said,) = faults((CASES / "fit.yaml").read_text())
    assert "this is a LightningCLI config, and no sweep file" in said
    assert "`base:`" in said


def test_the_example_of_the_design_is_read_as_it_is_meant() -> None:
    spec = load_sweep(CASES / "valid" / "design.yaml")
    assert spec.parameters["optimizer.init_args.lr"] == Real(1e-4, 1e-1, log=True)
    when = {"optimizer.class_path": ("torch.optim.SGD",)}
    assert spec.parameters["optimizer.init_args.momentum"] == Real(0.5, 0.99, when=when)
    assert spec.parameters["model.init_args.width"] == Choice((8, 16, 32))
    assert (spec.budget.wall_clock_s, spec.failure.report_timeout_s) == (7200.0, 5400.0)
    assert (spec.resources.gpu, spec.resources.memory_bytes) == (0.25, 4 * 2**30)
    assert (spec.scheduler.max_epochs, spec.scheduler.options["reduction_factor"]) == (27, 3)
    assert spec.objectives.objectives[0].reached(0.99)
    assert spec.fit["optimizer"]["init_args"]["lr"] == 1e-2
    assert spec.fit["data"]["init_args"]["shuffle"] is True
    assert spec.fit["trainer"]["gradient_clip_val"] == ".inf"
    assert Path(spec.code.root) == (CASES / "valid").resolve()


def test_the_trainers_epochs_are_the_schedulers_where_it_names_none() -> None:
    assert load(SMALL).max_epochs == 9
    assert load(SMALL + "scheduler: {name: fifo, max_epochs: 3}").max_epochs == 3


def test_what_is_left_out_has_its_documented_default() -> None:
    spec = load(SMALL)
    assert (spec.seed, spec.description, spec.search.name, spec.scheduler.name) == (0, "", "bayes", "adaptive")
    assert (spec.budget.max_failed_trials, spec.failure.max_restarts, spec.failure.report_timeout_s) == (10, 3, None)
    assert (spec.resources.cpu, spec.resources.gpu) == (1, 0)
    assert (spec.checkpoints.save_sweep_best, spec.checkpoints.save_trial_latest) == (1, 1)
    assert spec.search.start_from_defaults is True


def test_a_loaded_spec_does_not_change() -> None:
    spec = load(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]  # that is what is tested
    spec.to_dict()["fit"]["trainer"]["max_epochs"] = 1
    assert spec.fit["trainer"]["max_epochs"] == 9


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("parameters.model.init_args.lr.max=0.5", lambda s: s.parameters[LR], Real(0.1, 0.5)),
        ("parameters.model.init_args.lr={values: [1, 2]}", lambda s: s.parameters[LR], Choice((1, 2))),
        ("parameters.model.init_args.width={min: 1, max: 4}", lambda s: s.parameters[WIDTH], Integer(1, 4)),
        ("run_cap=7", lambda s: s.budget.max_trials, 7),
        ("budget.max_trials=8", lambda s: s.budget.max_trials, 8),
        ("method=random", lambda s: s.search.name, "random"),
        ("search.name=grid", lambda s: s.search.name, "grid"),
        ("fit.trainer.max_epochs=3", lambda s: s.max_epochs, 3),
        ("fit.trainer.limit.deep=1e-3", lambda s: s.fit["trainer"]["limit"], {"deep": 1e-3}),
        ("metric.target=0.5", lambda s: s.metric.target, 0.5),
        ("metric.target=", lambda s: s.metric.target, None),
        ("tracking.tags={a: '1'}", lambda s: s.tracking.tags, {"a": "1"}),
        ("constraints=[x <= 1]", lambda s: s.constraints, ("x <= 1",)),
    ],
)  # fmt: skip
def test_overrides_reach_their_place(override: str, get: Any, value: object) -> None:  # noqa: ANN401  # a lambda
    assert get(load(SMALL, override)) == value


def test_overrides_reach_into_lists_and_the_base() -> None:
    path = CASES / "valid" / "conditions.yaml"
    spec = load_sweep(path, ["fit.trainer.callbacks.0.init_args.patience=5", "seed=1", "seed=2"])
    assert spec.fit["trainer"]["callbacks"][0]["init_args"]["patience"] == 5
    assert spec.seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("nonsense", "is no override"),
        ("=3", "is no override"),
        ("a..b=3", "is no override"),
        ("parameters.model.init_args.lrr.max=1", "did you mean 'model.init_args.lr'?"),
        ("budgett.max_trials=3", "did you mean 'budget'?"),
        ("name.first=a", "is a value, not a section"),
        ("budget.max_trials=[1", "is not YAML"),
        ("budget.max_trials=many", "must be a whole number"),
        ("metrics.0.name=a", "stands beside `metric`"),
    ],
)
def test_faults_of_overrides_name_the_override(override: str, words: str) -> None:
    found = faults(SMALL, override)
    assert [fault.startswith(f"--set {override}") and words in fault for fault in found] == [True]


def test_faults_of_the_base_have_its_lines(tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("model: {}\ntrainer:\n  max_epochs: -1\n")
    found = faults(SMALL.replace(f"fit: {FIT}", "base: fit.yaml"), root=tmp_path)
    assert [fault.split("\n")[0] for fault in found] == [
        f"{tmp_path / 'fit.yaml'}:3: trainer.max_epochs: says nowhere how many epochs a trial trains at most"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"x" * 300_000, "too large"),
        (b"", "is empty"),
        (b"\xff", "UTF-8"),
        (b"- 1", "must be a Lig"),
    ],
)
def test_a_base_that_cannot_be_used_is_one_fault(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "fit.yaml").write_bytes(content)
    found = faults(SMALL.replace(f"fit: {FIT}", "base: fit.yaml"), root=tmp_path)
    assert len(found) == 1
    assert message in found[0]


def test_a_config_of_lightning_clis_fit_subcommand_is_unwrapped(tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("fit:\n  trainer: {max_epochs: 4}\n")
    assert load(SMALL.replace(f"fit: {FIT}", "base: fit.yaml"), root=tmp_path).max_epochs == 4


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "3"])
def test_a_file_that_is_no_mapping_says_so(text: str) -> None:
    assert [fault.split("\n")[0] for fault in faults(text)] == ["s.yaml:1: must be a mapping"]


@pytest.mark.parametrize(
    ("search", "fault"),
    [
        (
            "{name: tpe, start_points: [{model.init_args.lr: 2}]}",
            "search.start_points[0]: model.init_args.lr cannot be 2",
        ),
        ("{name: grid, points: 0}", "search.points: is out of bounds"),
        ("{name: grid, pionts: 3}", "did you mean 'points'?"),
        ("{name: [a]}", "search.name: must be text"),
        ("{start_points: {a: 1}}", "search.start_points: must be a list"),
        ("null", None),
    ],
)
def test_the_search_section(search: str, fault: str | None) -> None:
    text = f"{SMALL}search: {search}\n"
    if fault is None:
        assert load(text).search.name == "bayes"
    else:
        assert fault in "\n".join(faults(text))


def test_a_start_point_takes_what_it_leaves_out_from_the_config() -> None:
    text = SMALL + "  model.init_args.width: {values: [1, 2]}\n  model.init_args.depth: 3\n"
    spec = load(text + "search: {start_points: [{model.init_args.width: 2}]}")
    point = {"model.init_args.lr": 0.5, "model.init_args.width": 2, "model.init_args.depth": 3}
    assert spec.search.start_points == (point,)


def test_a_finite_space_needs_no_other_end() -> None:
    endless = SMALL.replace("budget: {max_trials: 4}\n", "")
    assert "sets no end" in faults(endless)[0]
    assert load(endless.replace("{min: 0.1, max: 1.0}", "{min: 0.1, max: 1.0, step: 0.1}")).budget.max_trials is None
    assert load(endless + "search: {name: grid}").budget.max_trials is None
    assert load(endless + "budget: {wall_clock: 1h}").budget.max_trials is None
    assert load(endless.replace("goal: minimize", "goal: minimize, target: 0.1")).budget.max_trials is None


def test_options_of_any_plugin_file_are_checked_by_their_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import service.tuning.schedulers as package

    (tmp_path / "patient.py").write_text(
        textwrap.dedent('''
            """A scheduler."""
            from service.tuning.strategy import StrictOptions

            class Options(StrictOptions):
                max_epochs: int
                patience_epochs: int = 3

            def rungs(options):
                return (options.patience_epochs, options.max_epochs)
        ''')
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(plugins, "names", plugins.names.__wrapped__)  # which a process asks once only
    assert load(SMALL + "scheduler: {name: patient, patience_epochs: 5}").scheduler_options().patience_epochs == 5
    (found,) = faults(SMALL + "scheduler: {name: patient, patience_epoch: 5}")
    assert found.endswith("did you mean 'patience_epochs'?")
    assert (
        "scheduler.patience_epochs: must be a whole number"
        in faults(SMALL + "scheduler: {name: patient, patience_epochs: x}")[0]
    )
    properties = json_schema()["properties"]["scheduler"]["allOf"]
    assert any("patience_epochs" in branch["then"]["properties"] for branch in properties)


def test_a_ledger_with_an_unknown_word_is_refused() -> None:
    data = load(SMALL).to_dict()
    with pytest.raises(SpecError, match=r"the recorded sweep: budgett: unknown key"):
        SweepSpec.from_dict({**data, "budgett": {}})
    with pytest.raises(SpecError, match="run_cap"):
        SweepSpec.from_dict({**data, "run_cap": 3})


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_the_schema_takes_what_the_reader_takes(path: Path) -> None:
    data = parse(path.read_bytes(), file=path.name).plain()
    assert list(jsonschema.Draft7Validator(json_schema()).iter_errors(data)) == []


@pytest.mark.parametrize("name", ["everything", "parameters", "twice", "missing", "endless", "objectives"])
def test_the_schema_marks_faults_that_an_editor_can_see(name: str) -> None:
    data = parse((CASES / "faulty" / f"{name}.yaml").read_bytes(), file=name).plain()
    assert list(jsonschema.Draft7Validator(json_schema()).iter_errors(data)) != []


def test_the_schema_is_one_and_explains_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    assert set(SweepSpec.model_fields) <= set(schema["properties"])
    bare = [key for key, entry in schema["properties"].items() if "description" not in entry and "$ref" not in entry]
    sections = {name: entry for name, entry in schema["$defs"].items() if name != "Parameter"}
    bare += [
        f"{s}.{k}" for s, entry in sections.items() for k, v in entry["properties"].items() if "description" not in v
    ]
    assert bare == []
    used = set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema)))
    assert used == set(schema["$defs"])


def test_texts_like_numbers_are_quoted_for_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("# kept\n" + SMALL + "  a.b: '1e-4'\n  a.c: 1e-5\n  a.d: 'yes'\n")
    text = canonical_text(path)
    assert text.startswith("# kept\nkind: sweep\nname: small\nfit:\n  model:\n    class_path: m.M\n")
    assert "  a.b: '1e-4'\n  a.c: 1.0e-05\n  a.d: 'yes'\n" in text
    assert yaml.safe_load(text)["parameters"]["a.c"] == 1e-5


def test_the_file_can_be_checked_in_an_instant() -> None:
    code = "import sys; before = set(sys.modules); import service.spec.sweep_spec; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CASES.parents[1]
    )
    heavy = {"numpy", "torch", "ray", "mlflow", "scipy", "optuna", "asyncio", "jsonschema"}
    assert heavy & set(done.stdout.split()) == set()
