"""The command line as a person meets it: help, errors as text, exit codes. No sweep is run here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.spec.sweep_spec import parse_sweep
from service.sweeps import folders
from service.tuning.sweep_folder import Job
from tests.integration.synthetic_sweep import LR, Synthetic, records, write_ledger
from tests.integration.synthetic_sweep import SWEEP as SYNTHETIC

COMMANDS = (
    "run", "resume", "watch", "stop", "list", "show", "report", "best", "ui", "sync", "validate", "plan", "schema",
    "fmt", "doctor", "replay", "submit", "login", "context", "logs", "compare", "queue", "pause", "cancel", "extend",
    "fork", "delete", "serve", "prioritize", "audit", "new", "recipes",
)  # fmt: skip
IN_GROUPS = (
    "token create", "token list", "token revoke", "quota show", "quota set", "quota remove",
    "project list", "project create", "webhook list", "webhook add", "webhook remove",
)  # fmt: skip
GROUPS = sorted({command.split()[0] for command in IN_GROUPS})
SWEEP = """
kind: sweep
name: small
fit: {model: {class_path: some.Model, init_args: {width: 4}}, trainer: {max_epochs: 2}}
metric: {name: loss, goal: minimize}
parameters: {model.init_args.width: {values: [4, 8]}}
search: {name: random}
scheduler: {name: fifo}
budget: {max_trials: 3}
"""


def tuneyard(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A whole process: only that shows what reaches the terminal."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS, *IN_GROUPS])
def test_every_command_has_help_with_examples(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Examples:\n    tuneyard " in result.output


def test_delete_says_what_it_leaves() -> None:
    assert "What it has told MLflow stays there" in CliRunner().invoke(app, ["delete", "--help"]).output


def test_there_is_no_command_without_a_test() -> None:
    names = {info.name or (info.callback.__name__ if info.callback else "") for info in app.registered_commands}
    assert {name.replace("list_sweeps", "list") for name in names} == set(COMMANDS)
    assert {group.name for group in app.registered_groups} == set(GROUPS)


def test_a_valid_file_is_valid(sweep_file: Path) -> None:
    done = tuneyard("validate", str(sweep_file), "--no-signatures")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is a valid sweep" in done.stdout


def test_faults_are_clean_text_and_exit_code_2(sweep_file: Path) -> None:
    done = tuneyard("validate", str(sweep_file), "--no-signatures", "--set", "search.name=randon", "--set", "seed=x")
    assert done.returncode == 2
    assert "2 faults" in done.stderr
    assert "did you mean 'random'?" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_faults_as_json(sweep_file: Path) -> None:
    done = tuneyard("validate", str(sweep_file), "--no-signatures", "--json", "--set", "search.name=randon")
    assert done.returncode == 2
    assert [(fault["path"], fault["nearest"]) for fault in json.loads(done.stdout)] == [("search.name", "random")]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = tuneyard("run", str(tmp_path / "no.yaml"))
    assert done.returncode == 2
    assert "no.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_that_is_not_there() -> None:
    done = tuneyard("run", "sweep.yaml", "--fast")
    assert done.returncode == 2
    assert "--fast" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["show", "resume", "report", "best", "watch", "stop", "sync"])
def test_without_sweeps_every_command_says_how_to_start_one(command: str, home: Path) -> None:
    done = tuneyard("--data-dir", str(home), command)
    assert done.returncode == 2
    assert "tuneyard run sweep.yaml" in done.stderr


def test_list_without_sweeps(home: Path) -> None:
    assert "tuneyard run sweep.yaml" in tuneyard("list").stdout
    assert json.loads(tuneyard("--data-dir", str(home), "list", "--json").stdout) == []


def test_plan_for_a_person_and_for_a_program(sweep_file: Path) -> None:
    text = tuneyard("plan", str(sweep_file), "--seconds-per-epoch", "1800").stdout
    assert "trials       2, as many as fit at a time" in text or "trials       3, as many as fit at a time" in text
    assert "CPU hours" in text
    assert json.loads(tuneyard("plan", str(sweep_file), "--json").stdout)["max_epochs"] == 2


def test_schema_goes_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.schema.json"
    assert "yaml-language-server" in tuneyard("schema", "--output", str(path)).stdout
    assert json.loads(path.read_text())["title"] == "Tuneyard sweep"


def test_fmt_is_a_fixed_point(sweep_file: Path) -> None:
    assert tuneyard("fmt", str(sweep_file), "--check").returncode == 1
    assert tuneyard("fmt", str(sweep_file), "--write").returncode == 0
    assert tuneyard("fmt", str(sweep_file), "--check").returncode == 0
    assert tuneyard("fmt", str(sweep_file)).stdout == sweep_file.read_text()


def test_version() -> None:
    assert tuneyard("--version").stdout.startswith("tuneyard 0.")


def test_what_mattered_is_shown_to_a_person_and_to_a_program(home: Path) -> None:
    spec = parse_sweep(SYNTHETIC, file="sweep.yaml", root=Path())
    sweep = folders.create(home, Job("digits-cnn-20261122-abc123", spec.to_dict()), {"folder": "."})
    write_ledger(sweep.folder, records(spec.to_dict(), sweep.id, Synthetic()))
    text = tuneyard("--data-dir", str(home), "show", "--importance").stdout
    assert text.index("importance for val_acc") < text.index("\nlr ") < text.index("\nlabel_noise ")
    assert "together beyond each alone: class_path with lr " in text
    assert "best together: class_path torch.optim." in text
    assert "what early epochs foretold of val_acc" in text
    assert "\ngrace_epochs 1 is late enough: " in text
    found = json.loads(tuneyard("--data-dir", str(home), "show", "--importance", "--json").stdout)
    assert found["insight"]["importance"][0]["name"] == LR
    assert "insight" not in json.loads(tuneyard("--data-dir", str(home), "show", "--json").stdout)


def test_too_few_trials_for_importance_are_said(home: Path) -> None:
    spec = parse_sweep(SYNTHETIC, file="sweep.yaml", root=Path())
    sweep = folders.create(home, Job("digits-cnn-20261122-abc123", spec.to_dict()), {"folder": "."})
    write_ledger(sweep.folder, records(spec.to_dict(), sweep.id, Synthetic(trials=4)))
    text = tuneyard("--data-dir", str(home), "show", "--importance").stdout
    assert "too few trials to tell" in text
    assert "too few trials to advise on early stopping" in text


@pytest.mark.parametrize("command", ["serve --port 0 --cluster http://127.0.0.1:9", "schema --output {}/schema.json"])
def test_a_place_that_cannot_be_written_is_said_without_a_traceback(command: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where a folder has to be")
    result = tuneyard("--data-dir", str(taken / "home"), *command.format(taken).split())
    assert result.returncode == 1
    assert result.stderr.startswith("tuneyard: ")
    assert str(taken) in result.stderr
    assert "Traceback" not in result.stderr
