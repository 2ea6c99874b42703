"""Put the deployments of a list into the document that refers to it, and problems in their place."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.spec import text_rules
from reconciler.spec.deployment_list import Listed, read_list
from reconciler.spec.environment import DEPLOYMENTS_MAX, DeploymentsFromSpec
from reconciler.spec.problems import Finding
from reconciler.spec.words import Path

KEY = "deploymentsFrom"
_TEMPLATE: Path = ("spec", KEY)


class Unread(NamedTuple):
    """A file that is there and was left out: why, and what to do about it."""

    why: str
    hint: str


ReadFile = Callable[[str], bytes | Unread | None]
"""Gives a file of the source by its path; None where there is none."""


@frozen
class Listing:
    """A document with the deployments of its list, which are those from `start` on.

    `problems` are of the file, `findings` of what the document says of it.
    """

    data: Any
    start: int = 0
    file: str = ""
    rows: tuple[Listed, ...] = ()
    problems: tuple[Problem, ...] = ()
    findings: tuple[Finding, ...] = field(default=())

    def placed(self, findings: Iterable[Finding]) -> tuple[list[Finding], list[Problem]]:
        """Tell what the list says from what its deployments have in common, and what is no business of it.

        What they have in common is told once, with the first of them.
        """
        here: dict[object, Finding] = {}
        there: list[Problem] = []
        for number, finding in enumerate(findings):
            path = finding.path
            position = path[2] if len(path) > 2 and path[:2] == ("spec", "deployments") else None
            if not self.rows or not isinstance(position, int) or position < self.start:
                here[number] = finding
                continue
            row, rest = self.rows[position - self.start], path[3:]
            column = str(rest[-1]) if rest else "name"
            if column in row.marks and (len(rest) < 2 or rest[0] == "variables"):
                there.append(self._problem(row, column, finding))
            else:
                here.setdefault(
                    (rest, finding.at_key), replace(finding, path=(*_TEMPLATE, *rest), about=None)
                )
        return list(here.values()), there

    def _problem(self, row: Listed, column: str, finding: Finding) -> Problem:
        mark = row.marks[column]
        return Problem(
            file=self.file,
            line=mark.line,
            column=mark.column,
            message=f"deployment '{row.name}', '{column}': {finding.message}",
            hint=finding.hint,
        )


def listing(data: Any, read_file: ReadFile | None) -> Listing:
    """Read the list that a document refers to, and put its deployments behind those of the document."""
    body = data.get("spec") if isinstance(data, dict) else None
    template = body.get(KEY) if isinstance(body, dict) else None
    if not isinstance(body, dict) or KEY not in body:
        return Listing(data=data)
    written = body.get("deployments", [])
    if not isinstance(template, dict):
        hint = "write it as in {file: tenants.csv, postgres: {dsn: {env: TENANTS_DSN}}}"
        finding = Finding(_TEMPLATE, "must be a mapping with the file and what all in it share", hint)
        return Listing(data=_without(data), findings=() if template is None else (finding,))
    try:
        DeploymentsFromSpec.model_validate(template)
    except ValidationError:
        # The document's own validation tells it, once; nothing is made from it.
        return Listing(data=data)
    file = template["file"].removesuffix("/")
    content = read_file(file) if read_file is not None else None
    if isinstance(content, Unread):
        finding = Finding((*_TEMPLATE, "file"), content.why, content.hint)
        return Listing(data=data, findings=(finding,))
    if content is None:
        return Listing(data=data, findings=(_missing(file),))
    found = read_list(file, content)
    if not isinstance(written, list) or len(written) + len(found.rows) > DEPLOYMENTS_MAX:
        return Listing(data=data, problems=found.problems, findings=_too_many(written, len(found.rows)))
    rows = [_deployment(template, row) for row in found.rows]
    expanded = {**data, "spec": {**body, "deployments": [*written, *rows]}} if rows else data
    return Listing(data=expanded, start=len(written), file=file, rows=found.rows, problems=found.problems)


def _missing(file: str) -> Finding:
    if "${" in file or text_rules.path(file) is not None:
        return Finding((*_TEMPLATE, "file"), "must be the path of a file, without variables")
    hint = "paths are relative to the root of the source; has the file been added?"
    return Finding((*_TEMPLATE, "file"), f"there is no file '{file}'", hint)


def _too_many(written: object, listed: int) -> tuple[Finding, ...]:
    if not isinstance(written, list):
        return ()
    count = len(written) + listed
    message = f"with those of the list there are {count} deployments, at most {DEPLOYMENTS_MAX} may be"
    return (Finding((*_TEMPLATE, "file"), message, "split the environment into several"),)


def _deployment(template: Mapping[str, Any], row: Listed) -> dict[str, Any]:
    wave = row.wave if row.wave is not None else template.get("wave")
    return {
        "name": row.name,
        "postgres": template["postgres"],
        "variables": {**template.get("variables", {}), **row.variables},
        **({"wave": wave} if wave is not None else {}),
    }


def _without(data: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what is no mapping there: that is told in better words."""
    return {**data, "spec": {key: value for key, value in data["spec"].items() if key != KEY}}
