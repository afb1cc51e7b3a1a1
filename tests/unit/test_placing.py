"""Faults that are found after the reading get the line that their author wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import Fault
from service.spec.placing import placed

SWEEP = """\
name: small
base: fit.yaml
metric: {name: val_loss, goal: minimize}
parameters:
  model.init_args.width: {min: 1, max: 8}
  model.init_args.depht: {min: 1, max: 8}
"""
FIT = """\
model:
  class_path: net.Nett
trainer:
  callbacks:
    - class_path: pytorch_lightning.callbacks.Timer
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "fit.yaml").write_text(FIT)
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


@pytest.mark.parametrize(
    ("path", "file", "line"),
    [
        ("parameters.model.init_args.depht", "sweep.yaml", 6),
        ("fit.model.class_path", "fit.yaml", 2),
        ("fit.trainer.callbacks.0.class_path", "fit.yaml", 5),
        ("parameters.model.init_args.set_from_outside", "sweep.yaml", None),
        ("evaluation.fold_argument", "sweep.yaml", None),
        ("", "sweep.yaml", None),
    ],
)
def test_a_fault_gets_file_and_line(sweep_file: Path, path: str, file: str, line: int | None) -> None:
    (fault,) = placed([Fault("is wrong", path)], sweep_file)
    assert (fault.file, fault.line) == (str(sweep_file.parent / file), line)


def test_a_file_that_has_gone_is_still_named(sweep_file: Path) -> None:
    sweep_file.unlink()
    assert placed([Fault("is wrong", "fit.model")], sweep_file) == [Fault("is wrong", "fit.model", str(sweep_file))]
