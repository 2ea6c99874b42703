"""Write the files that are made from the code, or with `--check` name those that are not current.

Run by `make schemas` and `make docs`. What a file holds is said by the code that it is made from.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from reconciler.rollout import reference
from reconciler.spec import json_schema

ROOT = Path(__file__).resolve().parent.parent


def generated() -> Mapping[str, str]:
    """Every generated file: its path from the root, and its text."""
    schemas = {f"schemas/{name}.schema.json": json_schema.render(name) for name in json_schema.schemas()}
    return {**schemas, "docs/reference/operation-states.md": reference.render()}


def stale(root: Path = ROOT) -> list[str]:
    """Paths whose file is missing or says something else, and schemas that nothing makes any more."""
    files = generated()
    different = [path for path, text in files.items() if _read(root / path) != text]
    left_over = {str(path.relative_to(root)) for path in (root / "schemas").glob("*.json")} - set(files)
    return sorted({*different, *left_over})


def write(root: Path = ROOT) -> list[str]:
    """Write what is stale, remove what is left over, and give the paths."""
    files = generated()
    touched = stale(root)
    for path in touched:
        if path not in files:
            (root / path).unlink()
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(files[path], encoding="utf-8")
    return touched


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main(arguments: list[str]) -> int:
    """Run with the arguments of the command line; 1 says that files are stale."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m tools.generate [--check]", file=sys.stderr)
        return 2
    if not arguments:
        for path in write():
            print(f"wrote {path}")
        return 0
    found = stale()
    for path in found:
        print(f"{path} is not current; run `make schemas`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
