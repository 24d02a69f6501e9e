"""The pages of docs/reference are those that the program makes now."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_reference_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "generate_reference.py"))["pages"]()
    committed = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").iterdir()}
    assert committed == made, "run make reference, and commit docs/reference"


def test_every_key_and_option_is_explained() -> None:
    """A key without a docstring, or an option without help, would be a row or an item that ends early."""
    configuration = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    keys = [line for line in configuration.splitlines() if line.count(" | ") >= 3]
    assert len(keys) > 60
    for line in keys:
        assert line.split(" | ")[-1].rstrip("|").strip() or line.startswith("| key"), line
    commands = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    items = [line for line in commands.splitlines() if line.startswith("* `")]
    assert len(items) > 40
    for line in items:
        assert "`: " in line, line


def test_public_names_have_docstrings() -> None:
    python = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    sections = python.split("\n### ")[1:]
    assert len(sections) > 25
    for section in sections:
        prose = section.split("```")[2].strip()
        assert prose, section.splitlines()[0]
