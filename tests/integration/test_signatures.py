"""Parameter paths against real signatures: all faults at once, each with its place and the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.errors import Fault
from service.spec.distributions import Choice, Constant, Integer, Parameter, Real
from service.spec.sections import Evaluation
from service.sweeps.signatures import check_signatures
from service.tuning.signature_check import check
from service.tuning.signature_faults import explain
from service.tuning.signature_request import request_of
from service.tuning.trial_testable import untestable

FIT: dict[str, Any] = {
    "model": {"class_path": "trainables.vision.conv_net.ConvNet", "init_args": {"dropout": 0.2}},
    "data": {"class_path": "trainables.data.digits.Digits"},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}},
    "trainer": {"max_epochs": 3},
}
KIND: dict[str, Parameter] = {"optimizer.class_path": Choice(values=("torch.optim.SGD", "torch.optim.AdamW"))}


pytestmark = pytest.mark.filterwarnings("ignore:(?s).*(deprecated.*in v4|JsonargparseDeprecationWarning)")


def faults(
    fit: dict[str, Any],
    parameters: dict[str, Parameter],
    **options: Any,  # noqa: ANN401  # any option
) -> dict[str, Fault]:
    return {fault.path: fault for fault in check_signatures(fit, parameters, max_epochs=3, **options).faults}


def faults_here(fit: dict[str, Any], parameters: dict[str, list[Any]]) -> list[str]:
    """The paths that are refused, checked in this process: importing torch once is enough."""
    return [fault.path for fault in check({"fit": fit, "parameters": parameters})[0]]


def test_a_right_sweep_has_no_faults() -> None:
    parameters: dict[str, Parameter] = {
        **KIND,
        "optimizer.init_args.lr": Real(1e-4, 0.1),
        "optimizer.init_args.momentum": Real(0.5, 0.9, when={"optimizer.class_path": ("torch.optim.SGD",)}),
        "model.init_args.width": Choice(values=(8, 16)),
        "data.init_args.batch_size": Integer(16, 64),
        "trainer.gradient_clip_val": Constant(1.0),
    }
    assert faults(FIT, parameters) == {}


def test_defaults_are_the_fits_own_and_those_of_the_signatures() -> None:
    parameters: dict[str, Parameter] = {
        **KIND,
        "optimizer.init_args.lr": Real(1e-4, 0.1),
        "model.init_args.dropout": Real(0.0, 0.5),
        "model.init_args.kernel_size": Choice(values=(3, 5)),
        "trainer.accumulate_grad_batches": Integer(1, 4),
    }
    assert check_signatures(FIT, parameters, max_epochs=3).defaults == {
        "optimizer.class_path": "torch.optim.SGD",
        "optimizer.init_args.lr": 0.05,
        "model.init_args.dropout": 0.2,
        "model.init_args.kernel_size": 3,
        "trainer.accumulate_grad_batches": 1,
    }


def test_all_faults_come_at_once_with_the_nearest_name() -> None:
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patienc": 3}}
    wrong = {
        **FIT,
        "model": {"class_path": "trainables.vision.conv_net.ConvNet", "init_args": {"widht": 3}},
        "trainer": {"callbacks": [stop], "max_epoch": 3},
        "optimzer": {"lr": 1},
    }
    parameters: dict[str, Parameter] = {
        "optimizer.class_path": Choice(values=("torch.optim.SGD", "torch.optim.AdamW", "torch.optim.Foo")),
        "optimizer.init_args.nesterov": Choice(values=(True, False)),
        "model.init_args.kernel": Choice(values=(3, 5)),
        "model.init_args.normalization": Choice(values=("batch", "bacth")),
        "model.init_args.depth": Real(1, 3.5),
        "trainer.gradient_clip_vall": Real(0, 1),
        "trainer.max_epochs": Integer(1, 3),
        "data.init_args.folds": Integer(1, 3),
    }
    found = faults(wrong, parameters)
    assert {path: fault.nearest for path, fault in found.items()} == {
        "fit.model.init_args.widht": "width",
        "fit.trainer.callbacks.0.init_args.patienc": "patience",
        "fit.trainer.max_epoch": "max_epochs",
        "fit.optimzer.lr": "optimizer",
        "parameters.optimizer.class_path": None,
        "parameters.optimizer.init_args.nesterov": None,
        "parameters.model.init_args.kernel": "kernel_size",
        "parameters.model.init_args.normalization": None,
        "parameters.model.init_args.depth": None,
        "parameters.trainer.gradient_clip_vall": "gradient_clip_val",
        "parameters.trainer.max_epochs": None,
    }
    assert found["parameters.optimizer.class_path"].given == '"torch.optim.Foo"'
    assert "add `when: {optimizer.class_path: <those>}`" in found["parameters.optimizer.init_args.nesterov"].message
    assert found["parameters.model.init_args.normalization"].allowed == "batch, layer, weight, none"
    assert found["parameters.model.init_args.depth"].given == "3.5"
    assert "scheduler.max_epochs" in found["parameters.trainer.max_epochs"].message


def test_a_class_that_only_a_parameter_names_is_checked_too() -> None:
    fit = {name: section for name, section in FIT.items() if name != "optimizer"}
    parameters: dict[str, list[Any]] = {
        "optimizer.class_path": ["torch.optim.SGD", "torch.optim.AdamW"],
        "optimizer.init_args.lr": [0.1],
    }
    assert faults_here(fit, parameters) == []
    assert faults_here(fit, {**parameters, "optimizer.init_args.lrr": [1]}) == ["parameters.optimizer.init_args.lrr"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("raise RuntimeError('no data here')", "no data here"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def broken(:", "invalid syntax"),
        ("Net = 3", "their_model_4"),
    ],
)
def test_user_code_that_cannot_be_imported_is_a_fault_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, source: str, cause: str
) -> None:
    name = f"their_model_{request.node.callspec.indices['source']}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    fit = {**FIT, "model": {"class_path": f"{name}.Net"}}
    found, _ = check({"fit": fit, "parameters": {"model.init_args.width": [1, 2]}})
    assert [fault.path for fault in found] == ["fit.model"]
    assert cause in str(found[0])


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import os; os._exit(7)", "ended with code 7"),
        ("print('{\"faults\": []}'); 1 / 0", "division by zero"),
    ],
)
def test_neither_a_crash_nor_printing_hides_a_fault(tmp_path: Path, source: str, cause: str) -> None:
    (tmp_path / "their_model.py").write_text(source)
    found = faults({**FIT, "model": {"class_path": "their_model.Net"}}, {}, code_root=tmp_path)
    assert len(found) == 1
    assert cause in str(next(iter(found.values())))


def test_user_code_that_never_ends_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "their_model.py").write_text("import time; time.sleep(60)")
    found = faults({**FIT, "model": {"class_path": "their_model.Net"}}, {}, code_root=tmp_path, timeout_s=0.5)
    assert "took longer than 0.5 s" in found["fit"].message


def test_a_users_own_cli_brings_its_own_arguments() -> None:
    fit = {**FIT, "cli": "tests.integration.toy_models.LinkingCLI", "size": 3}
    fit |= {"model": {"class_path": "tests.integration.toy_models.Toy"}}
    assert faults_here(fit, {"size": [1, 9]}) == []
    assert faults_here(fit, {"size": [1, 1.5]}) == ["parameters.size"]
    assert faults_here({**fit, "cli": "no.such.CLI"}, {}) == ["fit.cli"]


def test_a_message_without_any_known_form_is_passed_on() -> None:
    assert explain("something else").reason == "something else"
    assert explain("").reason


FOLDS = Evaluation(folds=5)


def test_a_data_module_with_folds_can_be_cross_validated() -> None:
    assert check_signatures(FIT, {}, max_epochs=3, evaluation=FOLDS).faults == ()


@pytest.mark.parametrize(
    ("fit", "evaluation", "path", "word"),
    [
        (
            {**FIT, "data": {"class_path": "tests.integration.toy_models.Rows"}},
            FOLDS,
            "evaluation.fold_argument",
            "fold",
        ),
        (FIT, Evaluation(folds=5, folds_argument="data.init_args.parts"), "evaluation.folds_argument", "parts"),
        ({k: v for k, v in FIT.items() if k != "data"}, FOLDS, "evaluation.fold_argument", "LightningDataModule"),
    ],
)
def test_a_class_that_takes_no_fold_is_told_by_the_key_that_would_set_it(
    fit: dict[str, Any], evaluation: Evaluation, path: str, word: str
) -> None:
    request = request_of(fit, {}, max_epochs=3, code_root=None, evaluation=evaluation)
    found = {fault.path: fault for fault in check(request)[0]}
    assert path in found
    assert word in str(found[path])


def test_a_test_that_was_asked_for_needs_classes_that_can_be_tested() -> None:
    rows = {**FIT, "data": {"class_path": "tests.integration.toy_models.Rows"}}
    request = request_of(rows, {}, max_epochs=3, code_root=None, evaluation=Evaluation(test=True))
    assert [(f.path, f.message) for f in check(request)[0]] == [("evaluation.test", "Rows has no test_dataloader")]
    assert check(request_of(FIT, {}, max_epochs=3, code_root=None, evaluation=Evaluation(test=True)))[0] == []
    assert check(request_of(rows, {}, max_epochs=3, code_root=None, evaluation=Evaluation()))[0] == []
    assert untestable(FIT, {}) == ""
    assert (
        untestable({**FIT, "model": {"class_path": "tests.integration.toy_models.Toy"}}, {}) == "Toy has no test_step"
    )
    kinds = {"model.class_path": ["tests.integration.toy_models.Toy", "trainables.vision.conv_net.ConvNet"]}
    assert untestable(FIT, kinds) == "", "the winner may be one that can be tested"
    assert "no data module" in untestable({"model": FIT["model"]}, {})
    assert untestable({"model": {"class_path": "Net"}, "data": {"class_path": "Rows"}}, {}) == "", (
        "names of the parser's"
    )


def test_a_class_path_that_names_nothing_is_answered_with_what_there_is() -> None:
    typo = {**FIT, "model": {"class_path": "trainables.vision.conv_net.ConvNett"}}
    (class_fault,), _ = check({"fit": typo, "parameters": {}})
    assert (class_fault.path, class_fault.nearest, class_fault.allowed) == ("fit.model", "ConvNet", "ConvNet")
    elsewhere = {**FIT, "model": {"class_path": "no_such_module.Net"}}
    (module_fault,), _ = check({"fit": elsewhere, "parameters": {}})
    assert "`code.root`" in str(module_fault.allowed)
