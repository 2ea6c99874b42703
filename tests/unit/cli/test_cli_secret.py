"""`reconciler secret keygen|encrypt`: keys in files of their owner, values as a spec takes them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from reconciler.cli import secret
from reconciler.cli.main import app
from reconciler.daemon import age

KEY = age.new_key()


def run(*arguments: str, given: str | bytes = "", code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["secret", *arguments], input=given)
    assert result.exit_code == code, result.output
    return result


def test_a_key_is_written_for_its_owner_only(tmp_path: Path) -> None:
    """The file has mode 0600 and opens what is encrypted for the recipient; one that is there stays."""
    file = tmp_path / "age.txt"
    recipient = run("keygen", "--out", str(file)).stdout.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert age.recipients_of(age.keys_of([text])) == (recipient,)
    nowhere = run("keygen", "--out", str(file.parent / "none" / "age.txt"), code=1).stderr
    assert f"mkdir -p {file.parent / 'none'}" in nowhere
    told = run("keygen", "--out", str(file), code=1).stderr
    assert "it is left as it is" in told
    assert file.read_text() == text
    assert "AGE-SECRET" not in told


def test_a_key_is_printed_as_a_file_of_keys() -> None:
    """Without a file the key goes to standard output, in the form that it is read in."""
    text = run("keygen").stdout
    assert f"# public key: {age.recipients_of(age.keys_of([text]))[0]}\n" in text
    told = json.loads(run("keygen", "--output", "json").stdout)
    assert age.recipients_of(age.keys_of([told["key"]])) == (told["recipient"],)


def test_a_value_is_encrypted_for_recipients() -> None:
    """The line can be pasted into a spec; the end of the last line is no part of the value."""
    line = run("encrypt", "--recipient", KEY.recipient, given="pass word é\n").stdout
    assert age.opened(yaml.safe_load(line)["age"], age.keys_of([KEY.secret])) == "pass word é"
    other = age.new_key()
    both = ("--recipient", KEY.recipient, "-r", other.recipient)
    told = json.loads(run("encrypt", *both, "-o", "json", given="x").stdout)
    assert told["recipients"] == [KEY.recipient, other.recipient]
    assert age.opened(told["age"], age.keys_of([other.secret])) == "x"


def test_a_value_is_encrypted_for_the_keys_of_the_settings(tmp_path: Path) -> None:
    """Without a recipient, those count whose keys the settings name."""
    (tmp_path / "age.txt").write_text(KEY.secret)
    settings = tmp_path / "reconciler.yaml"
    settings.write_text(f"secrets: {{age_keys: [{{file: {tmp_path / 'age.txt'}}}]}}\n")
    line = run("encrypt", "--config", str(settings), given="x").stdout
    assert age.opened(yaml.safe_load(line)["age"], age.keys_of([KEY.secret])) == "x"
    settings.write_text("workers: 1\n")
    assert "the settings name no key" in run("encrypt", "--config", str(settings), given="x", code=1).stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [(b" \n", "is empty"), (b"\xff", "is not UTF-8"), (b"x" * (secret.SECRET_BYTES_MAX + 1), "more than")],
    ids=["empty", "binary", "long"],
)
def test_what_is_no_secret_is_refused(given: bytes, words: str) -> None:
    """An empty value, one that is no text and one that is too long are told, and nothing is printed."""
    result = run("encrypt", "-r", KEY.recipient, given=given, code=1)
    assert words in result.stderr
    assert result.stdout == ""


def test_the_longest_value_fits_where_a_spec_takes_one() -> None:
    """What may be encrypted can be written into a spec."""
    line = run("encrypt", "-r", KEY.recipient, given="x" * secret.SECRET_BYTES_MAX).stdout
    text = f"""\
apiVersion: reconciler/v1
kind: Environment
metadata: {{name: shop}}
spec: {{deployments: [{{name: eu, postgres: {{dsn: {line.strip()}}}}}], components: []}}
"""
    from reconciler.spec.parse import parse_file

    assert parse_file("f.yaml", text.encode())[0].problems == ()


@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
def test_on_a_terminal_it_is_asked_for_unseen(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """The value is typed twice without echo, and has to be the same."""
    typed = iter(["x", "x" if same else "y"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    monkeypatch.setattr(secret.sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)})())
    if same:
        assert secret._secret() == "x"
    else:
        with pytest.raises(Exception, match="the two values differ"):
            secret._secret()
