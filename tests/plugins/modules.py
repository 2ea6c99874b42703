"""Change modules as files, for tests that deploy and revert: tables, tags, requirements, revert scripts."""

from collections.abc import Mapping, Sequence


def tables(
    *names: str,
    project: str = "shop",
    tags: Mapping[str, str] | None = None,
    requires: Mapping[str, str] | None = None,
    without_revert: Sequence[str] = (),
) -> dict[str, str]:
    """Files of a module with a table for each change; `tags` follow the change they are by."""
    lines = []
    for number, name in enumerate(names):
        needs = f" [{requires[name]}]" if requires and name in requires else ""
        date = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
        lines.append(f"{name}{needs} {date} Ada <ada@example.org> # {name}")
        if tags and name in tags:
            lines += [f"@{tags[name]} {date} Ada <ada@example.org> # {tags[name]}", ""]
    plan = f"%syntax-version=1.0.0\n%project={project}\n\n" + "\n".join(lines) + "\n"
    files = {f"modules/{project}/sqitch.plan": plan}
    for name in names:
        files[f"modules/{project}/deploy/{name}.sql"] = (
            f"create table {name} (id bigint primary key, name text not null);\n"
        )
        if name not in without_revert:
            files[f"modules/{project}/revert/{name}.sql"] = f"drop table {name};\n"
    return files
