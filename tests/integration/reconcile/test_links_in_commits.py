"""Commits that hold symbolic links where files are needed: no link is followed, and each is told as one."""

from pathlib import Path

import pytest

from tests.plugins.site import Site

LINK = "it is a symbolic link, which is never followed"
LISTED = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: tenants}}
spec:
  deploymentsFrom: {{file: lists/tenants.csv, postgres: {{dsn: {{env: SHOP_DSN}}}}}}
  components:
    - {{name: db, kind: Database, database: '{prefix}_tenants_${{deployment}}'}}
"""


def link(path: Path) -> None:
    """Put a link in place of a file, to the same file elsewhere in the repository."""
    moved = path.with_name(f"moved-{path.name}")
    path.rename(moved)
    path.symlink_to(moved.name)


@pytest.mark.parametrize(
    ("path", "name"),
    [("modules/shop/deploy/a.sql", "production"), ("lists/tenants.csv", "tenants")],
    ids=["script", "list"],
)
async def test_a_link_is_told_and_follows_nowhere(site: Site, path: str, name: str) -> None:
    """A script or a list that became a link breaks what needs it, by name, and nothing else."""
    process = site.process()
    files = {
        **site.spec(),
        "environments/tenants.yaml": LISTED.format(prefix=site.prefix),
        "lists/tenants.csv": "name\nacme\n",
    }
    first = site.commit({"a": "create table a ();"}, files)
    await process.look()
    link(site.repository.path / path)
    second = site.repository.commit()
    await process.look()
    for each in ("production", "tenants"):
        environment = await process.environment(each)
        observed = {environment.observed_commit, environment.head_commit}
        if each == name:
            assert environment.error is not None
            assert f"'{path}' was not read: {LINK}" in environment.error
            assert [row.name for row in environment.deployments] == ["acme" if name == "tenants" else "eu"]
        else:
            assert environment.error is None
            assert observed == {second}
    assert first != second
