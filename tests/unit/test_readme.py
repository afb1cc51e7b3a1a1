"""What the README shows is there: its sweep files are valid, its commands, paths, pictures and plugins exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from service import plugins
from service.cli.main import app
from service.spec.sweep_spec import load_sweep
from tests.readme import ROOT, Block, blocks, named, section, text

SWEEPS = [block for block in blocks("yaml") if block.name != "fit.yaml"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's files in a folder of their own, with the recipes beside them."""
    (tmp_path / "trainables").symlink_to(ROOT / "trainables")
    for block in [*blocks("yaml"), *blocks("python")]:
        (tmp_path / block.name).write_text(block.code)
    return tmp_path


@pytest.mark.parametrize("block", SWEEPS, ids=lambda block: block.name)
def test_a_sweep_file_is_valid(block: Block, folder: Path) -> None:
    spec = load_sweep(folder / block.name)
    assert spec.parameters
    assert spec.search_options() is not None
    assert spec.scheduler_options().max_epochs == spec.max_epochs


def test_the_whole_example_shows_every_section() -> None:
    keys = set(re.findall(r"^([a-z]+):", named("every-section.yaml").code, re.MULTILINE))
    left_out = {"fit", "metrics"}
    assert keys == {"kind", *load_sweep(ROOT / "trainables/recipes/digits.yaml").__class__.model_fields} - left_out


def test_every_command_exists_with_its_options() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]  # the app is a group of commands
    shown = re.findall(r"\btuneyard ([a-z]+)\b([^`#\n]*)", _code())
    assert {name for name, _ in shown} >= {"run", "resume", "show", "report", "best", "ui", "validate", "plan", "fmt"}
    for name, rest in shown:
        assert name in commands, f"there is no `tuneyard {name}`"
        command, words = commands[name], rest.split()
        while hasattr(command, "commands"):  # a group: `token create`
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"tuneyard {name}{rest}"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"\bmake ([a-z0-9-]+)", _code()))
    assert {"demo", "test", "test-k8s", "check", "bench", "bench-search"} <= shown <= targets


def test_every_path_of_the_tables_exists() -> None:
    found = re.findall(r"`((?:service|trainables|cluster|tests|k8s)/[^`<*]*)`", text())
    assert len(found) > 40
    assert [path for path in found if not (ROOT / path).exists()] == []


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms | {"tests", "k8s"} <= set(re.findall(r"^\| `(\w+)/`", section("The map"), re.MULTILINE))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", text()))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).is_file()


def test_every_recipe_is_listed_with_what_it_reaches() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` (.*)\|$", section("Recipes"), re.MULTILINE))
    found = {path.stem: path.read_text() for path in (ROOT / "trainables" / "recipes").glob("*.yaml")}
    assert rows.keys() == found.keys()
    for name, text_of in found.items():
        learns = re.search(r"^# Learns: test_\w+ ([<>])= ([\d.]+); .+? gives ([\d.]*\d)\.", text_of, re.MULTILINE)
        assert learns, name
        *_, trivial, reached = rows[name].strip().split(" | ")
        assert learns[3] in trivial, name
        assert reached.startswith(f"{learns[2]} or {'better' if learns[1] == '>' else 'less'}"), name


@pytest.mark.parametrize("folder_name", ["searchers", "schedulers"])
def test_every_plugin_is_listed_with_its_options(folder_name: str) -> None:
    table = text().split(f"**{folder_name.capitalize()}**")[1].split("\n\n")[1]
    rows = {
        row[0]: set(re.findall(r"`(\w+)`", row[1]))
        for row in re.findall(r"^\| `(\w+)`.*\|(.*)\|$", table, re.MULTILINE)
    }
    options = {
        name: set(plugins.find(folder_name, name).Options.model_fields) - {"max_epochs"}
        for name in plugins.names(folder_name)
    }
    assert rows == options


def test_decisions_are_dated() -> None:
    entries = re.findall(r"^- (.+)", section("Why"), re.MULTILINE)
    assert len(entries) >= 10
    assert [entry for entry in entries if not re.match(r"\*\*\d{4}-\d\d-\d\d \S", entry)] == []


def _code() -> str:
    """Everything that is set as code: blocks and inline."""
    fenced = "\n".join(block.code for block in blocks("sh"))
    return fenced + "\n" + "\n".join(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text()))
