"""What a job wrote as its outputs, held against what it declares; no message tells a value."""

import json
from collections.abc import Iterable
from typing import Any

from reconciler.errors import PermanentError
from reconciler.execution.register import Made
from reconciler.state.programs import DesiredJob, DesiredOutput, OutputType

NAMED_MAX = 10
_NAME_CHARACTERS_MAX = 64
_MASKED_CHARACTERS_MIN = 3
_LONG_FORM = {"value", "sensitive"}


class _Twice(ValueError):
    """A name stands in an object twice."""


def read_outputs(job: DesiredJob, content: bytes | None) -> tuple[Made, ...]:
    """All outputs of a job, in the order of its declaration; raises PermanentError with all that is wrong.

    The file is one JSON object of names and values; `{"value": …, "sensitive": true}` in place of a value
    hides one that the spec does not call sensitive.
    """
    if not job.outputs:
        return ()
    doing = f"reading the outputs of job '{job.component}'"
    if content is None:
        raise PermanentError(
            f"{doing}: it wrote none", hint="write them as one JSON object to the file that JOB_OUTPUT names"
        )
    found = _parsed(doing, content)
    declared = {output.name for output in job.outputs}
    wrong = _listed("missing", [name for name in declared if name not in found])
    wrong += _listed("not declared", [name for name in found if name not in declared])
    made = []
    for output in job.outputs:
        if output.name in found:
            value, sensitive = _value(found[output.name])
            fault = _fault(output, value)
            wrong += [] if fault is None else [fault]
            made.append(
                Made(name=output.name, type=output.type, sensitive=output.sensitive or sensitive, value=value)
            )
    if wrong:
        raise PermanentError(f"{doing}: {'; '.join(wrong)}", hint="mend the job, or its outputs in the spec")
    return tuple(made)


def without_sensitive(job: DesiredJob, content: bytes | None, text: str) -> str:
    """A text with no value in it that the job wrote as sensitive; none of it where that cannot be read.

    What is not declared may be a sensitive one whose name is misspelt.
    """
    declared = {output.name for output in job.outputs if output.sensitive}
    plain = {output.name for output in job.outputs} - declared
    if content is None:
        return text
    try:
        found = _parsed("", content)
    except PermanentError:
        return "" if declared else text
    hidden = set()
    for name, written in found.items():
        value, sensitive = _value(written)
        if sensitive or name not in plain:
            hidden.add(value if isinstance(value, str) else json.dumps(value))
    for each in sorted(hidden, key=len, reverse=True):
        if len(each) >= _MASKED_CHARACTERS_MIN:
            text = text.replace(each, "<hidden>")
    return text


def _parsed(doing: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_object)
    except _Twice as error:
        raise PermanentError(f"{doing}: {error}") from None
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        # Not chained: the error of the parser holds the text.
        raise PermanentError(f"{doing}: what it wrote is not JSON{where}") from None
    if not isinstance(found, dict):
        raise PermanentError(f"{doing}: what it wrote is JSON, and no object of names and values")
    return found


def _refuse(_text: str) -> None:
    raise ValueError


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice("a name stands in it twice")
    return found


def _value(written: Any) -> tuple[Any, bool]:
    if isinstance(written, dict) and set(written) == _LONG_FORM and isinstance(written["sensitive"], bool):
        return written["value"], written["sensitive"]
    return written, False


def _fault(output: DesiredOutput, value: Any) -> str | None:
    if not _is_a(output.type, value):
        return f"'{output.name}' is no {output.type.value}"
    if isinstance(value, str) and "\0" in value:
        return f"'{output.name}' has a zero byte, which no variable can hold"
    return None


def _is_a(wanted: OutputType, value: Any) -> bool:
    match wanted:
        case OutputType.STRING:
            return isinstance(value, str)
        case OutputType.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case OutputType.BOOLEAN:
            return isinstance(value, bool)
        case OutputType.JSON:
            return True


def _listed(what: str, names: Iterable[str]) -> list[str]:
    every = sorted(names)
    if not every:
        return []
    named = ", ".join(f"'{name[:_NAME_CHARACTERS_MAX]}'" for name in every[:NAMED_MAX])
    more = f" and {len(every) - NAMED_MAX} more" if len(every) > NAMED_MAX else ""
    return [f"{what}: {named}{more}"]
