"""The sweeps that come with Tuneyard, found on disk: each is a file under `trainables/recipes` that says what it needs.

A recipe's comment holds `# Needs: …; …` and, from there on, what it reaches; its `description` is the line about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import SweepNotFoundError
from service.plugins import nearest
from service.spec.document import read

FOLDER: Final = Path(__file__).resolve().parents[2] / "trainables" / "recipes"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A sweep file ready to run. `name` is its path below the recipes' folder, without its ending."""

    name: str
    path: Path
    about: str
    needs: str

    def files(self) -> dict[str, str]:
        """Its own file and the config that it is based on, by their paths relative to the recipe's own folder."""
        base = read(self.path).plain().get("base")
        names = [self.path.name, *([base] if isinstance(base, str) else [])]
        return {name: (self.path.parent / name).read_text(encoding="utf-8") for name in names}


def recipes(folder: Path = FOLDER) -> list[Recipe]:
    """All recipes, by name; those below a folder, such as `claims/`, after the others."""
    paths = [path for path in folder.rglob("*.yaml") if "fit" not in path.relative_to(folder).parts]
    found = [_recipe(path, folder) for path in paths]
    return sorted(found, key=lambda recipe: (recipe.name.count("/"), recipe.name))


def recipe(name: str, folder: Path = FOLDER) -> Recipe:
    """The recipe of this name. SweepNotFoundError says which there are."""
    found = {one.name: one for one in recipes(folder)}
    if name not in found:
        near = nearest(name, list(found))
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(found)}"
        msg = f"there is no recipe {name!r}; {hint}"
        raise SweepNotFoundError(msg)
    return found[name]


def _recipe(path: Path, folder: Path) -> Recipe:
    text = path.read_text(encoding="utf-8")
    comments = " ".join(_comments(text))
    _, _, needs = comments.partition("Needs:")
    about = str(read(path).plain().get("description", ""))
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Recipe(name, path, about, needs.partition(".")[0].strip())


def _comments(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line.removeprefix("#").strip()
