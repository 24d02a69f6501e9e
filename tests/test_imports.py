"""Imports go one way, importing does nothing, and nothing dead is beneath."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import faceprint

PACKAGE = Path(faceprint.__file__).parent

# A module may import from layers below its own, and from its own.
LAYERS = [
    {
        "errors",
        "registry",
        "assignments",
        "distributed",
        "device",
        "config",
        "recipe",
        "memory",
        "files",
        "cores",
        "onnx_extra",
        "plot_extra",
    },
    {"models", "margins", "classifier", "data"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FORBIDDEN = {"torchvision", "timm", "mxnet"}


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.stem[0] != "_"]


def test_every_module_imports_only_from_its_own_layer_or_below() -> None:
    checked = 0
    for path in modules():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports_of(path):
            if name.startswith("faceprint."):
                other = name.split(".")[1]
                assert LEVEL[other] <= LEVEL[own], f"{path} imports {name}"
                checked += 1
    assert checked > 100


def test_no_dead_framework_is_imported() -> None:
    for path in modules():
        assert not {name.split(".")[0] for name in imports_of(path)} & FORBIDDEN, path


def test_nothing_prints_outside_the_command_line() -> None:
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] == "cli":
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"], path


def test_import_and_help_do_not_load_torch() -> None:
    code = "import sys, faceprint, faceprint.cli; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_is_quick() -> None:
    seconds: list[float] = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "faceprint", "--help"], check=True, capture_output=True)
        after = os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        assert used > 0
        seconds.append(used)
    # Of the processor, by one thread: what a user waits on an idle machine, whatever else this one does. The fastest of
    # five, for what shares the processor's caches.
    assert min(seconds) < 0.5, seconds


def test_public_names() -> None:
    for name in faceprint.__all__:
        assert getattr(faceprint, name) is not None
