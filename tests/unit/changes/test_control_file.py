"""Control files: what modules need of them."""

import pytest

from reconciler.changes import control_file
from reconciler.errors import PlanFileError


def test_a_control_file_is_read() -> None:
    """Values stand quoted or bare, with or without the sign, beside comments."""
    text = (
        "# pets module\r\n"
        "comment = 'it''s a zoo' # really\n"
        "default_version '0.1.0'\n"
        "requires = 'plpgsql,citext , \"My-Ext\", pgpm-verify'\n"
        "relocatable = false\n"
        "module_pathname = '$libdir/pets'\n"
        "\n"
    )
    found = control_file.parse(text, "modules/pets/pets.control")
    assert found.name == "pets"
    assert found.comment == "it's a zoo"
    assert found.default_version == "0.1.0"
    assert found.requires == ("plpgsql", "citext", "My-Ext", "pgpm-verify")


@pytest.mark.parametrize("requires", ["", "requires = ''\n", "requires = '  '\n"])
def test_nothing_may_be_required(requires: str) -> None:
    """A module that requires nothing says so or says nothing."""
    assert control_file.parse(requires, "a.control").requires == ()


def test_escapes_are_those_of_postgresql() -> None:
    """A backslash escapes as in PostgreSQL's configuration files."""
    assert control_file.parse(r"comment = 'a\'b\n\\\101'", "a.control").comment == "a'b\n\\A"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("requires = 'a,,b'\n", "is not a list of names"),
        ("requires = 'a b'\n", "is not a list of names"),
        ("requires = 'a,'\n", "is not a list of names"),
        ("requires = '\"a'\n", "is not a list of names"),
        ("comment = 'open\n", "a.control:1: not a setting"),
        ("= 3\n", "a.control:1: not a setting"),
        ("#" * 70_000, "more than the limit"),
    ],
)
def test_broken_control_files_are_refused(text: str, problem: str) -> None:
    """A control file is read whole or not at all."""
    with pytest.raises(PlanFileError, match=problem):
        control_file.parse(text, "a.control")
