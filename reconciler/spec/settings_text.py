"""From the text of a settings file to settings, as strictly as specs, with every problem at its place."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from reconciler import settings
from reconciler.errors import Problem, SettingsError
from reconciler.settings import Merged, Settings
from reconciler.spec import yaml_text
from reconciler.spec.problems import Finding, findings_of, hidden, problems_of
from reconciler.spec.words import path_text
from reconciler.spec.yaml_text import Document, MappingNode, Mark

SECRET_KEYS = frozenset({"dsn", "password", "token", "value", "secret", "previous", "age_keys"})
_NOTHING = Document(root=MappingNode(mark=Mark(1, 1), entries={}, keys={}, size=1, height=1), complete=True)


def load(
    file: str,
    content: bytes,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Make settings of a file, the environment and options of the command line; the later win.

    Raises SettingsError with everything that is wrong. An empty file means that nothing is set.
    """
    document = _document(file, content)
    merged = settings.merge(_mapping(file, document), environ)
    options = overrides or {}
    merged = Merged(
        data={**merged.data, **options},
        variables={path: name for path, name in merged.variables.items() if path[0] not in options},
    )
    try:
        return Settings.model_validate(merged.data)
    except ValidationError as error:
        findings = findings_of(error, Settings, merged.data)
    in_file = [finding for finding in findings if _variable(finding, merged) is None]
    elsewhere = [
        Problem(file=f"environment variable {name}", path=path_text(f.path), message=f.message, hint=f.hint)
        for f in findings
        if (name := _variable(f, merged)) is not None
    ]
    raise SettingsError([*problems_of(in_file, document, file, secret_keys=SECRET_KEYS), *elsewhere])


def _document(file: str, content: bytes) -> Document:
    loaded = yaml_text.load(file, content)
    if loaded.problems:
        told = [
            problem
            for document in loaded.documents
            for problem in hidden(document.problems, document.root, SECRET_KEYS)
        ]
        raise SettingsError([*told, *loaded.stray])
    if len(loaded.documents) > 1:
        mark = loaded.documents[1].mark(())
        message = "the settings are one document"
        raise SettingsError([Problem(file=file, line=mark.line, column=mark.column, message=message)])
    return loaded.documents[0] if loaded.documents else _NOTHING


def _mapping(file: str, document: Document) -> dict[str, Any]:
    data = document.plain()
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(
            [
                *problems_of(
                    [Finding((), "the settings must be a mapping")], document, file, secret_keys=SECRET_KEYS
                )
            ]
        )
    return data


def _variable(finding: Finding, merged: Merged) -> str | None:
    """Return the environment variable that gave the value a finding is about."""
    return next((name for path, name in merged.variables.items() if finding.path[: len(path)] == path), None)
