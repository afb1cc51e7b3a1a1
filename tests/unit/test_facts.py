"""What a sweep notes of versions, code and data."""

from __future__ import annotations

import subprocess
from pathlib import Path

from service.sweeps.facts import data_fingerprint, gather, git_facts


def test_versions_and_fingerprint_are_noted(tmp_path: Path) -> None:
    facts = gather({"data": {"class_path": "a.B"}}, tmp_path)
    assert facts["torch"].startswith("2.")
    assert {"python", "platform", "ray", "mlflow", "data_fingerprint"} <= set(facts)
    assert all(isinstance(value, str) for value in facts.values())


def test_the_fingerprint_follows_the_data_section_and_the_files_it_names(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    data = {"init_args": {"path": "train.csv", "sizes": [1, {"deep": "train.csv"}]}}
    before = data_fingerprint(data, tmp_path)
    assert data_fingerprint(data, tmp_path) == before
    assert data_fingerprint({**data, "batch_size": 2}, tmp_path) != before
    (tmp_path / "train.csv").write_text("a,b\n1,3\n")
    assert data_fingerprint(data, tmp_path) != before


def test_git_facts_are_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert git_facts(tmp_path) == {}

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments],  # noqa: S607  # any git
            cwd=tmp_path, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    git("init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git("add", "code.py")
    git("commit", "-m", "first")
    assert git_facts(tmp_path) == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    (tmp_path / "code.py").write_text("a = 2\n")
    assert git_facts(tmp_path)["git_dirty"] == "true"
