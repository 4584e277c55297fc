"""A package imports from the storeys below its own; packages of one storey do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOREYS = (
    {"errors", "version", "_C"}, {"system"}, {"config"}, {"ops"}, {"data", "networks", "optim"},
    {"iqa", "methods", "runs"}, {"rewards", "inference", "toolchain", "distillation"}, {"training", "demo_page"},
    {"cli", "toolbox"},
)  # fmt: skip
STOREY = {package: storey for storey, packages in enumerate(STOREYS) for package in packages}
STOREY["kernels"] = STOREY["ops"]
ONE_HOUSE = {"ops": "ops", "kernels": "ops"}  # kernels/ is installed as rgsud_fast.kernels, a part of the ops


def imports(file: Path, module: list[str]) -> Iterator[list[str]]:
    """Every module of ours that a file names in an import, also for type checkers and inside functions."""
    package = module if file.name == "__init__.py" else module[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            yield from ([*base, name.name] for name in node.names if base[:1] == ["rgsud_fast"])
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".") for name in node.names if name.name.startswith("rgsud_fast"))


def test_imports_run_down():
    wrong = []
    for folder, prefix in (("rgsud_fast", ["rgsud_fast"]), ("kernels", ["rgsud_fast", "kernels"])):
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = list(file.relative_to(ROOT / folder).with_suffix("").parts)
            module = prefix + (path[:-1] if path[-1] == "__init__" else path)
            if len(module) == 1 or module[1] == "__main__":
                continue  # the face of the package and its start stand above all
            mine = module[1]
            for theirs in (target[1] if len(target) > 1 else "" for target in imports(file, module)):
                same = ONE_HOUSE.get(theirs, theirs) == ONE_HOUSE.get(mine, mine)
                if not same and not STOREY.get(theirs, 99) < STOREY[mine]:
                    wrong.append(f"{'.'.join(module)} imports {theirs or 'the face of the package'}")
    assert not wrong, "\n".join(wrong)
