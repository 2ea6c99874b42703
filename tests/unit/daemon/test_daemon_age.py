"""Encrypted values are opened with the keys of the settings, when they are used, and told nowhere."""

import base64
import sys
from pathlib import Path

import pyrage
import pytest

from reconciler.daemon import age
from reconciler.daemon.secrets import Secrets
from reconciler.errors import InvalidInput, NotFound, ReconcilerError, Refused, SettingsError
from reconciler.settings import load_settings
from reconciler.spec.parse import parse_file
from reconciler.spec.values import SecretReference
from reconciler.spec.variables import for_deployment

SECRET = "postgresql://shop:hunter2-is-a-secret@db/postgres"
KEY, OTHER = age.new_key(), age.new_key()
VALUE = age.encrypted(SECRET, [KEY.recipient])
REFERENCE = SecretReference(age=VALUE)


def secrets(*keys: dict[str, str] | str, environ: dict[str, str] | None = None) -> tuple[Secrets, list[str]]:
    settings = load_settings({"secrets": {"age_keys": list(keys)}}, {}, file="r.yaml")
    told: list[str] = []
    return Secrets(environ or {}, told.append, settings.secrets.age_keys), told


def test_a_value_is_opened_with_any_of_the_keys(tmp_path: Path) -> None:
    """Keys stand in files with comments, and in variables; neither is ever logged."""
    file = tmp_path / "keys.txt"
    file.write_text(f"# of last year\n{OTHER.secret}\n\n# public key: {KEY.recipient}\n{KEY.secret}\n")
    for given in ({"file": str(file)}, {"env": "AGE_KEY"}):
        opener, told = secrets(given, environ={"AGE_KEY": KEY.secret})
        assert opener.for_spec(REFERENCE) == SECRET
        assert told[-1] == SECRET
        assert KEY.secret in told[0]


def test_keys_are_read_when_they_are_used(tmp_path: Path) -> None:
    """A key that is replaced counts at once, without a restart; one that is missing is told only on use."""
    file = tmp_path / "keys.txt"
    opener, _told = secrets({"file": str(file)})
    with pytest.raises(NotFound, match=r"keys\.txt' cannot be read"):
        opener.for_spec(REFERENCE)
    file.write_text(OTHER.secret)
    with pytest.raises(Refused, match="for none of the keys"):
        opener.for_spec(REFERENCE)
    file.write_text(f"{OTHER.secret}\n{KEY.secret}")
    assert opener.for_spec(REFERENCE) == SECRET


def test_settings_may_hold_encrypted_values() -> None:
    """A token or a connection string of the settings is opened like one of a spec."""
    opener, _told = secrets(KEY.secret)
    settings = load_settings({"control": {"dsn": {"age": VALUE}}}, {}, file="r.yaml")
    assert settings.control is not None
    assert opener.for_settings(settings.control.dsn) == SECRET
    assert VALUE not in repr(settings)


def damaged(at: int) -> SecretReference:
    content = bytearray(base64.b64decode(VALUE))
    content[at] ^= 1
    return SecretReference(age=base64.b64encode(content).decode())


def of(content: bytes) -> SecretReference:
    recipient = pyrage.x25519.Recipient.from_str(KEY.recipient)
    return SecretReference(age=base64.b64encode(pyrage.encrypt(content, [recipient])).decode())


@pytest.mark.parametrize(
    ("reference", "keys", "error", "words"),
    [
        (REFERENCE, (), NotFound, "the settings name no key"),
        (REFERENCE, (OTHER.secret,), Refused, f"for none of the keys.*again for {OTHER.recipient}"),
        (damaged(-1), (KEY.secret,), Refused, "it was altered"),
        (damaged(40), (KEY.secret,), Refused, "was altered"),
        (SecretReference(age="hunter2-is-a-secret"), (KEY.secret,), Refused, "is not base64"),
        (of(b"\xff"), (KEY.secret,), Refused, "something else than UTF-8"),
        (of(b" \n"), (KEY.secret,), NotFound, "is empty"),
        (REFERENCE, ("hunter2-is-a-secret",), InvalidInput, r"secrets\.age_keys\[0\] holds no keys"),
        (REFERENCE, (KEY.secret, KEY.secret[:-3]), InvalidInput, r"age_keys\[1\] holds a key that is dam"),
    ],
    ids=["no key", "other key", "tail", "head", "form", "binary", "empty", "no age key", "cut key"],
)  # fmt: skip
def test_what_cannot_be_opened_is_told_without_quoting(
    reference: SecretReference, keys: tuple[str, ...], error: type[ReconcilerError], words: str
) -> None:
    """Each failure has its words and what to do; neither value nor key nor secret is in them."""
    opener, _told = secrets(*keys)
    with pytest.raises(error, match=words) as caught:
        opener.for_spec(reference)
    told = str(caught.value)
    assert not any(part in told for part in ("hunter2", KEY.secret[16:40], VALUE[30:60]))
    assert caught.value.__cause__ is None


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was installed without the extra says so when a value is to be opened."""
    monkeypatch.setitem(sys.modules, "pyrage", None)
    opener, _told = secrets(KEY.secret)
    with pytest.raises(Refused, match=r"pg-reconciler\[age\]"):
        opener.for_spec(REFERENCE)


def test_a_key_of_the_daemon_is_out_of_reach_of_specs() -> None:
    """Where keys stand counts as a secret of the settings, and a key is not encrypted itself."""
    keys = [{"file": "/etc/reconciler/age.txt"}, {"env": "SHOP_AGE"}]
    own = load_settings({"secrets": {"age_keys": keys}}, {}, file="r.yaml").own_secrets()
    assert ("/etc/reconciler/age.txt" in own.files, "SHOP_AGE" in own.variables) == (True, True)
    with pytest.raises(SettingsError, match="a key that is encrypted itself"):
        load_settings({"secrets": {"age_keys": [{"age": VALUE}]}}, {}, file="r.yaml")
    with pytest.raises(SettingsError, match="the encrypted value is not base64"):
        load_settings({"control": {"dsn": {"age": "hunter2-is-a-secret"}}}, {}, file="r.yaml")


SPEC = """\
apiVersion: reconciler/v1
kind: Environment
metadata: {name: shop}
spec:
  deployments:
    - name: eu
      postgres:
        dsn:
          age: VALUE
  components:
    - name: data
      kind: Database
      database: shop
      roles: [{name: app, login: true, password: {age: "VALUE"}}]
"""


@pytest.mark.parametrize("form", ["bare", "armor", "folded"])
def test_a_spec_holds_encrypted_values_wherever_a_secret_stands(form: str) -> None:
    """Connection strings and passwords are taken in every spelling, and validated without any key."""
    armored = pyrage.encrypt(SECRET.encode(), [pyrage.x25519.Recipient.from_str(KEY.recipient)], armored=True)
    written = {
        "bare": VALUE,
        "armor": "|\n" + "".join(f"            {line}\n" for line in armored.decode().splitlines()),
        "folded": ">-\n" + "".join(f"            {VALUE[at : at + 50]}\n" for at in range(0, len(VALUE), 50)),
    }[form]
    text = SPEC.replace("age: VALUE", f"age: {written}").replace("VALUE", VALUE)
    (parsed,) = parse_file("f.yaml", text.encode())
    assert parsed.problems == ()
    assert parsed.spec is not None
    seen = for_deployment(parsed.spec, "eu")
    opener, _told = secrets(KEY.secret)
    assert opener.for_spec(seen.deployments[0].postgres.dsn) == SECRET
    password = seen.databases[0].roles[0].password
    assert password == REFERENCE
    assert str(password) == "an encrypted value"
    assert VALUE not in repr(parsed.spec)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("hunter2-is-a-secret", "the encrypted value is not base64, nor the armor of age"),
        ("hunter2, env: X", "must have exactly one key, env, file or age"),
        ("[hunter2]", "age must be a string"),
        ("'${hunter2}'", "the encrypted value is not base64, nor the armor of age"),
    ],
)
def test_what_is_no_encrypted_value_is_hidden(written: str, message: str) -> None:
    """A secret that was pasted in the place of its encrypted form is not told."""
    text = SPEC.replace("          age: VALUE", f"          {{age: {written}}}").replace("VALUE", VALUE)
    (parsed,) = parse_file("f.yaml", text.encode())
    (problem,) = [each for each in parsed.problems if each.path == "spec.deployments[0].postgres.dsn"]
    assert problem.message == message
    assert "hunter2" not in str(parsed.problems)


def test_new_keys_and_values_are_made() -> None:
    """A value is encrypted for several recipients; what is no recipient is refused without quoting it."""
    value = age.encrypted("x", [KEY.recipient, OTHER.recipient])
    assert age.opened(value, age.keys_of([OTHER.secret])) == "x"
    assert age.recipients_of(age.keys_of([KEY.secret])) == (KEY.recipient,)
    assert KEY.secret not in repr(KEY)
    for wrong in ([KEY.secret], ["age1x"], [], [KEY.recipient] * 21):
        with pytest.raises(InvalidInput) as caught:
            age.encrypted("x", wrong)
        assert KEY.secret not in str(caught.value)
