"""The README is short, its examples run, its commands are two, and what it names exists."""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

import pytest

import dualsvd as ds

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOTES = sorted((ROOT / "notes").glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 100


def test_there_are_two_commands() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.M | re.S)
    commands = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(commands) == 2
    assert "-m dualsvd" in commands[0]
    assert "-m pytest" in commands[1]


def test_the_example_runs() -> None:
    failures, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 5
    assert failures == 0


@pytest.mark.parametrize("page", [ROOT / "README.md", *NOTES], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = [
        target
        for target in LINK.findall(page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not dead


def test_every_note_is_reached() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page.resolve())
        for target in LINK.findall(page.read_text()):
            linked = (page.parent / target).resolve()
            if linked.suffix == ".md" and linked.exists() and linked not in reached:
                waiting.append(linked)
    assert {page.name for page in NOTES if page.resolve() not in reached} == set()


def test_the_functions_it_names_exist() -> None:
    table = README.partition("## What it does\n")[2].partition("\n\nRuntime")[0]
    named = [name for name in re.findall(r"`([A-Za-z_]+)[(`]", table) if name not in ("dualsvd", "np")]
    named = [n for n in named if n not in ("diagnose", "jacobian", "bench", "info", "warmup")]
    assert len(named) >= 25
    assert not [name for name in named if not hasattr(ds, name) and not hasattr(ds.linalg, name)]


def test_the_extras_it_names_exist() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    for name in ("cli", "test", "torch", "jax", "autograd", "dask", "cuda12", "cuda13"):
        assert name in extras
        assert f"`{name}`" in README or f".[{name}]" in README
    assert not {"torch", "jax", "numba-cuda"} & {re.split(r"[\[<>=]", dep)[0] for dep in extras["test"]}


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == ds.__version__
