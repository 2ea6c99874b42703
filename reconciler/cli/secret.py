"""`reconciler secret …`: make keys, and encrypt values for specs and settings; nothing is opened here."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.errors import Conflict, InvalidInput, NotFound, Problem, Refused

SECRET_BYTES_MAX = 32 * 1024
"""As base64 with its head, a value has to fit where a spec takes one."""


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Keys, and encrypted values for specs and settings.", no_args_is_help=True)
    register(group, "keygen")(keygen)
    register(group, "encrypt")(encrypt)
    app.add_typer(group, name="secret")


def keygen(
    common: Common,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the key to this new file, 0600.")
    ] = None,
) -> ExitCode:
    """Make a key that opens encrypted values, and tell the recipient to encrypt them for."""
    from reconciler.daemon import age

    key = age.new_key()
    text = f"# public key: {key.recipient}\n{key.secret}\n"
    if out is not None:
        _write(out, text)
    if common.output == "json":
        told = {"recipient": key.recipient}
        common.screen.json({**told, "file": str(out)} if out is not None else {**told, "key": key.secret})
    elif out is not None:
        common.screen.line(key.recipient)
    else:
        common.screen.text(text)
    return ExitCode.OK


def encrypt(
    common: Common,
    *,
    recipient: Annotated[
        list[str] | None,
        typer.Option(
            "--recipient", "-r", metavar="age1…", help="Whose key opens it; may be repeated. "
            "Else the keys of the settings (--config).",
        ),
    ] = None,
) -> ExitCode:  # fmt: skip
    """Encrypt a value, read from standard input or asked for, and print the line for a spec."""
    from reconciler.daemon import age

    recipients = tuple(dict.fromkeys(recipient or _own_recipients(common.config)))
    value = age.encrypted(_secret(), recipients)
    if common.output == "json":
        common.screen.json({"age": value, "recipients": list(recipients)})
    else:
        common.screen.line(f'{{age: "{value}"}}')
    return ExitCode.OK


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner reads, and only where there is none: a lost key opens nothing more."""
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(
            f"there is already a '{path}', and it is left as it is", hint="name another file with --out"
        ) from None
    except FileNotFoundError:
        folder = path.absolute().parent
        raise NotFound(
            f"the key was not written: there is no folder '{folder}'",
            hint=f"make it first: mkdir -p {folder}",
        ) from None
    with os.fdopen(made, "w", encoding="utf-8") as file:
        os.fchmod(made, 0o600)
        file.write(text)


def _own_recipients(config: str | None) -> tuple[str, ...]:
    """The public halves of the keys that the settings name."""
    from reconciler import logs
    from reconciler.cli import settings_file
    from reconciler.daemon import age
    from reconciler.daemon.secrets import Secrets

    keys = settings_file.load(config, os.environ).secrets.age_keys
    if not keys:
        raise Refused(
            "the settings name no key to encrypt for",
            hint="name a recipient with --recipient, or --config FILE",
        )
    return age.recipients_of(age.keys_of(Secrets(os.environ, logs.forbid, keys).key_texts()))


def _secret() -> str:
    """The value to encrypt: all of standard input but the ends of its last line, or what is typed unseen."""
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("value: ")
        if getpass.getpass("again: ") != text:
            raise Refused("the two values differ, and nothing was encrypted")
    else:
        content = sys.stdin.buffer.read(SECRET_BYTES_MAX + 1)
        if len(content) > SECRET_BYTES_MAX:
            raise Refused(f"the value has more than {SECRET_BYTES_MAX} bytes")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput([Problem(message="the value is not UTF-8 text")]) from None
    text = text.strip()
    if not text:
        raise InvalidInput([Problem(message="the value is empty", hint="write it to standard input")])
    return text
