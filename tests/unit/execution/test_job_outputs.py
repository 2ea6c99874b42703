"""What jobs write as their outputs is held against what they declare."""

import pytest

from reconciler.errors import PermanentError
from reconciler.execution.job_outputs import read_outputs, without_sensitive
from reconciler.state.programs import DesiredJob, DesiredOutput, DesiredProgram, OutputType, RuntimeName


def job(**outputs: str) -> DesiredJob:
    """A job with outputs of types; those whose type ends with ! are sensitive."""
    return DesiredJob(
        component="seed",
        stage="jobs",
        program=DesiredProgram(runtime=RuntimeName.PROCESS),
        inputs_hash="h",
        outputs=tuple(
            DesiredOutput(name=name, type=OutputType(type_.rstrip("!")), sensitive=type_.endswith("!"))
            for name, type_ in outputs.items()
        ),
    )


def test_each_type_is_read() -> None:
    """Values come as they were written, in the order of the declaration."""
    wanted = job(a="string", b="number", c="boolean", d="json", e="json")
    found = read_outputs(wanted, b'{"e": null, "d": {"x": [1]}, "c": false, "b": 1.5, "a": ""}')
    assert [made.value for made in found] == ["", 1.5, False, {"x": [1]}, None]
    assert read_outputs(job(), None) == ()


def test_a_job_may_call_more_sensitive_than_its_spec() -> None:
    """The long form hides a value that was not declared so, and shows none that was."""
    found = read_outputs(
        job(a="string", b="string!", c="json"),
        b"""{"a": {"value": "x", "sensitive": true}, "b": {"value": "y", "sensitive": false},
             "c": {"value": 1}}""",
    )
    assert [(made.value, made.sensitive) for made in found] == [
        ("x", True),
        ("y", True),
        ({"value": 1}, False),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it wrote none"),
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"a": NaN, "b": 1}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'["a"]', "no object"),
        (b'{"a": "x", "a": "y", "b": 1}', "a name stands in it twice"),
        (b'{"a": "x"}', "missing: 'b'"),
        (b'{"a": "x", "b": 1, "c": 2, "d": 3}', "not declared: 'c', 'd'"),
        (b'{"a": 1, "b": true}', "'a' is no string; 'b' is no number"),
        (b'{"a": "x\\u0000", "b": 1}', "'a' has a zero byte"),
    ],
)
def test_all_that_is_wrong_is_told(content: bytes | None, why: str) -> None:
    """Whatever a job writes, the error names what is wrong, and no value."""
    with pytest.raises(PermanentError) as told:
        read_outputs(job(a="string", b="number"), content)
    assert why in str(told.value)


def test_what_a_job_says_shows_nothing_sensitive() -> None:
    """Values that it wrote as sensitive are taken out of its log; with an output nobody can read, all is."""
    wanted = job(a="string!", b="json!", c="string")
    content = b'{"a": "correct horse", "b": {"k": 1}, "c": "open"}'
    text = 'correct horse and {"k": 1}, open'
    assert without_sensitive(wanted, content, text) == "<hidden> and <hidden>, open"
    assert without_sensitive(wanted, b"{", text) == ""
    assert without_sensitive(job(c="string"), b"{", text) == text
    assert without_sensitive(wanted, None, text) == text
