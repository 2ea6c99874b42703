"""The program age reads what we encrypt, and we read what it encrypts."""

import base64
import subprocess
from pathlib import Path

import pytest

from reconciler.age_text import canonical, decoded
from reconciler.daemon import age

pytestmark = [pytest.mark.system]

SECRET = "postgresql://shop:hunter2@db/postgres"


def run(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(
        ["age", *arguments], input=given, capture_output=True, check=True, timeout=30
    ).stdout


@pytest.mark.parametrize("armor", [("--armor",), ()], ids=["armor", "binary"])
def test_what_the_program_encrypts_is_opened(armor: tuple[str, ...]) -> None:
    """Its armor is taken as it is, its binary form in base64."""
    key = age.new_key()
    made = run("--encrypt", *armor, "--recipient", key.recipient, given=f"{SECRET}\n".encode())
    text = made.decode() if armor else base64.b64encode(made).decode()
    assert age.opened(canonical(text), age.keys_of([key.secret])) == SECRET


def test_the_program_opens_our_values_with_our_keys(tmp_path: Path) -> None:
    """A file of `secret keygen` is one of its identity files, and its own keys open our values."""
    file = tmp_path / "ours.txt"
    key = age.new_key()
    file.write_text(f"# public key: {key.recipient}\n{key.secret}\n")
    value = decoded(age.encrypted(SECRET, [key.recipient]))
    assert run("--decrypt", "--identity", str(file), given=value).decode() == SECRET
    theirs = tmp_path / "theirs.txt"
    subprocess.run(["age-keygen", "--output", str(theirs)], check=True, timeout=30, capture_output=True)
    keys = age.keys_of([theirs.read_text()])
    value = decoded(age.encrypted(SECRET, age.recipients_of(keys)))
    assert run("--decrypt", "--identity", str(theirs), given=value).decode() == SECRET
