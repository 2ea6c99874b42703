"""The documentation names what there is, its links lead somewhere, and nothing of a machine is in the tree.

Pages of commands, exit codes, paths and metrics are held by tests beside what they describe.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from reconciler.plan.hazards import NEEDS_CONSENT, HazardCode
from reconciler.rollout.states import OperationState
from reconciler.settings import Settings, environment_names
from reconciler.spec.environment import EnvironmentSpec
from tools import generate

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
PROMISES = 12
INVARIANTS_MAX = 25


@cache
def tracked() -> tuple[str, ...]:
    """Files of the tree as Git lists them: those that are there and not ignored."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    return tuple(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def pages() -> list[str]:
    return [name for name in tracked() if name.endswith(".md")]


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: str) -> Iterator[tuple[str, str]]:
    """Relative links of a page: the path, and the anchor."""
    for target in re.findall(r"(?<!!)\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    """Each relative link of a page names a file of the tree, and a heading that is in it."""
    broken = []
    for page in pages():
        for path, anchor in links(page):
            target = (ROOT / page).parent / path if path else ROOT / page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{page}: {path}#{anchor}")
    assert not broken


def test_every_page_can_be_found() -> None:
    """Each page below docs is linked from another page."""
    linked = {
        ((ROOT / page).parent / path).resolve() for page in pages() for path, _anchor in links(page) if path
    }
    alone = [
        page for page in pages() if re.match(r"docs/(?!adr/|README)", page) and (ROOT / page) not in linked
    ]
    assert not alone


def test_generated_files_are_current() -> None:
    """Schemas and pages that are made from the code say what the code says."""
    assert generate.stale() == []


def test_a_stale_file_is_told(tmp_path: Path) -> None:
    """The check names a generated file that was edited, one that is missing, and one that is left over."""
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    (tmp_path / "schemas" / "settings.schema.json").write_text("{}")
    (tmp_path / "schemas" / "environment.schema.json").unlink()
    (tmp_path / "schemas" / "gone.schema.json").write_text("{}")
    assert generate.stale(tmp_path) == [
        f"schemas/{name}.schema.json" for name in ("environment", "gone", "settings")
    ]


def keys(model: type[BaseModel], seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """The keys a model and the models in it take, as they are written in YAML."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for below in models(field.annotation):
            if below not in seen:
                yield from keys(below, seen | {below})


def models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def words(page: Path) -> set[str]:
    """Every word that stands in code, inline or in a block."""
    text = page.read_text()
    code = [*re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
    return {word for piece in code for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", piece)}


def test_every_setting_is_documented() -> None:
    """The page of the settings names each key and each variable, and no variable that is not one."""
    page = REFERENCE / "settings.md"
    named = words(page)
    assert not set(keys(Settings)) - named
    variables = {name for name in environment_names() if "__" not in name}
    own = ("CONFIG", "TOKEN", "CA", "CLIENT_CERTIFICATE", "DEBUG")
    by_command_line = {f"RECONCILER_{name}" for name in own}
    in_text = set(re.findall(r"\bRECONCILER_[A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    assert not variables - in_text
    assert {name for name in in_text if name.replace("__", "_") not in variables | by_command_line} <= set(
        re.findall(r"env: (RECONCILER_[A-Z0-9_]+)", page.read_text())
    )


def test_every_key_of_a_spec_is_documented() -> None:
    """The page of the environment spec names each key that one may have."""
    assert not set(keys(EnvironmentSpec)) - words(REFERENCE / "environment-spec.md")


def test_every_hazard_is_documented() -> None:
    """The table of hazards has a row for each code, and says which need consent."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (yes|no) \|", (REFERENCE / "hazards.md").read_text(), re.MULTILINE)
    assert dict(rows) == {code.value: "yes" if code in NEEDS_CONSENT else "no" for code in HazardCode}


def test_every_operation_state_is_documented() -> None:
    """The page of the operation states has a row for each state."""
    rows = set(
        re.findall(r"^\| `([a-z_]+)` \|", (REFERENCE / "operation-states.md").read_text(), re.MULTILINE)
    )
    assert set(OperationState) <= rows


def test_every_word_of_the_glossary_is_there_once() -> None:
    """The glossary explains a word in one row."""
    rows = re.findall(r"^\| (\*\*.+?) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    explained = [word for row in rows for word in re.findall(r"\*\*(.+?)\*\*", row)]
    assert len(explained) > 30
    assert len(explained) == len(set(explained))


def invariants() -> list[list[str]]:
    text = (ROOT / "docs/invariants.md").read_text()
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if re.match(r"\| [A-Z]+-\d+ ", line)
    ]


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def test_the_register_is_whole() -> None:
    """Each promise of the register says what MUST be, why, and by what it is enforced; ids are unique."""
    found = invariants()
    assert PROMISES <= len(found) <= INVARIANTS_MAX
    assert len({row[0] for row in found}) == len(found)
    for identity, statement, reason, enforced in found:
        assert "MUST" in statement, identity
        assert reason, identity
        assert "`" in enforced, identity


def test_what_the_register_names_exists() -> None:
    """Each test, contract, table and file that is said to enforce a promise is there."""
    contracts = set(re.findall(r'^id = "([a-z-]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    sql = "".join(
        (ROOT / name).read_text()
        for name in tracked()
        if name.startswith("reconciler/") and name.endswith(".sql")
    )
    for identity, _statement, _reason, enforced in invariants():
        named = re.findall(r"`([^`]+)`", enforced)
        for name in named:
            kind, _, rest = name.partition(" ")
            match kind:
                case "contract":
                    assert rest in contracts, f"{identity}: {name}"
                case "constraint" | "index" | "trigger" | "function":
                    assert re.search(rf"\b{re.escape(rest)}\b", sql), f"{identity}: {name}"
                case _:
                    path, _, test = name.partition("::")
                    assert (ROOT / path).is_file(), f"{identity}: {name}"
                    assert not test or test in functions_of(ROOT / path), f"{identity}: {name}"


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    """No file names the checkout or the home folder of whoever wrote it."""
    places = [str(place) for place in (ROOT, Path.home(), Path(sys.prefix)) if len(place.parts) > 2]
    pattern = re.compile("|".join(rf"{re.escape(place)}(?![\w-])" for place in places)) if places else None
    found = [
        name
        for name in tracked()
        if pattern is not None and pattern.search((ROOT / name).read_bytes().decode(errors="replace"))
    ]
    assert not found


def test_test_files_have_names_of_their_own() -> None:
    """No two test files share a name, for they are imported by it."""
    names = [Path(name).name for name in tracked() if re.match(r"tests/.*/test_\w+\.py$", name)]
    assert len(names) == len(set(names))
