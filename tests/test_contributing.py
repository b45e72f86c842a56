"""What GitHub and contributors read: valid by the schemas of GitHub, and true."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
CONTRIBUTING = (GITHUB / "CONTRIBUTING.md").read_text(encoding="utf-8")
TESTS = (GITHUB / "workflows" / "tests.yml").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def check(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-workflows", sorted(GITHUB.glob("workflows/*.yml"))),
        ("github-issue-forms", FORMS),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_files_are_what_their_schema_says(schema, paths):
    assert paths
    result = check(f"vendor.{schema}", *paths)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_workflow_with_a_wrong_key_is_told(tmp_path):
    wrong = tmp_path / "tests.yml"
    wrong.write_text(TESTS.replace("runs-on", "run-on"), encoding="utf-8")
    assert check("vendor.github-workflows", wrong).returncode == 1


def test_workflow_runs_every_python_that_the_package_names():
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", PYPROJECT)
    (listed,) = re.findall(r"python: \[(.*)\]", TESTS)
    assert re.findall(r"[\d.]+", listed) == named
    assert re.findall(r"system: \[(.*)\]", TESTS) == ["ubuntu-latest, macos-latest, windows-latest"]


def test_set_up_and_check_are_the_same_everywhere():
    setup = re.search(r"^(python -m pip install .*) && pre-commit install$", CONTRIBUTING, re.M)
    assert setup is not None
    assert f"run: {setup[1]}" in TESTS
    assert setup[1] in (ROOT / "README.md").read_text(encoding="utf-8")
    tests = re.search(r'python -m pytest -m "[^"]+"', CONTRIBUTING)
    assert tests is not None
    assert f"run: {tests[0]}" in TESTS


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(GITHUB.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    missing = [link for link in files if link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.slow
def test_hooks_find_nothing_to_do(tmp_path, monkeypatch):
    pytest.importorskip("pre_commit")
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / ".git" / "pre-commit"))
    # Of a copy: hooks mend what they find.
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, tmp_path / name)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
