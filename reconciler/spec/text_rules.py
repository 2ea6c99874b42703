"""What a piece of text in a spec may be: names, PostgreSQL identifiers, paths, references to secrets.

Each rule returns what is wrong, or nothing. None quotes the text: it may be a secret in the wrong place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

NAME_PATTERN = "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_-]{0,62}$"
SCRIPT_VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_]{0,62}$"
HAZARD_PATTERN = "^[A-Z][A-Z0-9_]{0,62}$"
DURATION_PATTERN = "^[0-9]{1,6}(s|m|h|d)$"
DURATION_S_MIN = 10
DURATION_S_MAX = 30 * 86400
IDENTIFIER_BYTES_MAX = 63
"""PostgreSQL cuts longer ones short without an error."""
PATH_CHARACTERS_MAX = 1024
TARGET_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 1024
LONG_TEXT_CHARACTERS_MAX = 32_768
HOST_CHARACTERS_MAX = 253
RELATION_CHARACTERS_MAX = 300
"""Schema and name of 63 bytes each, every character of them quoted."""
SQL_CHARACTERS_MAX = 4000

RESERVED_VARIABLES = frozenset({"environment", "deployment"})
DAEMON_PREFIX = "RECONCILER_"
TRACKING_ROLE = "reconciler_tracking"
"""May read and write the tracking schemas; membership of it is not for a spec to give."""

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")
_VARIABLE = re.compile(VARIABLE_PATTERN.removesuffix("$") + r"\Z")
_HAZARD = re.compile(HAZARD_PATTERN.removesuffix("$") + r"\Z")
_DURATION = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN_PATTERN = "^[0-9]{1,6}(ms|s|m|h|d)$"
SIZE_PATTERN = "^[0-9]{1,15}(Ki|Mi|Gi|Ti)?$"
_SPAN = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)\Z")
_SPAN_SECONDS = {"ms": 0.001, **{unit: float(size) for unit, size in _SECONDS.items()}}
_SIZE = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|Ti)?\Z")
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_OUTPUT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,63})?\Z")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,511}\Z")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")
_ROUTE_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()+,;=:@%/-]*\Z")
_ENVIRONMENT_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_REFERENCE_TEMPLATE = re.compile(r"[A-Za-z0-9_/.${}-]+")
_WEB_ADDRESS = re.compile(r"https?://(?P<place>[^/?#]+)")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold, and what to do."""

    message: str
    hint: str | None = None


Rule = Callable[[str], Broken | None]


def name(text: str) -> Broken | None:
    """Names of environments, stages, deployments and components."""
    if _NAME.match(text):
        return None
    if "${" in text:
        return Broken("variables cannot be used in a name")
    return Broken(
        "is not a valid name",
        "1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first and last",
    )


def variable_name(text: str) -> Broken | None:
    """Names of variables."""
    if text in RESERVED_VARIABLES:
        return Broken(f"variable '{text}' is always there and cannot be set")
    if _VARIABLE.match(text):
        return None
    return Broken(
        "is not a valid variable name", "letters, digits, '_' and '-', with a letter or '_' first, up to 63"
    )


def script_variable_name(text: str) -> Broken | None:
    """Names of variables that scripts use as `:name`."""
    broken = variable_name(text)
    if broken is None and "-" in text:
        return Broken("is not a name that a script can use", "letters, digits and '_', up to 63")
    return broken


def hazard(text: str) -> Broken | None:
    """Codes of hazards; which ones exist is known to the plan."""
    if _HAZARD.match(text):
        return None
    return Broken("is not a hazard code", "codes are upper case, such as DELETES_DATA")


def identifier(text: str) -> Broken | None:
    """PostgreSQL identifiers: anything that fits in one, however strange."""
    if not text:
        return Broken("must not be empty")
    if "\x00" in text:
        return Broken("must not hold a NUL character")
    size = len(text.encode("utf-8", errors="surrogatepass"))
    if size > IDENTIFIER_BYTES_MAX:
        return Broken(f"is {size} bytes long; PostgreSQL takes {IDENTIFIER_BYTES_MAX} at most", "shorten it")
    return None


def role(text: str) -> Broken | None:
    """Names of roles that a spec may declare."""
    if text.startswith("pg_") or text in ("public", "none", "current_user", "session_user", TRACKING_ROLE):
        return Broken("is a name that the server or this program keeps", "name another role")
    return identifier(text)


def group(text: str) -> Broken | None:
    """Names of roles that another may be made a member of."""
    if text in ("public", "none", TRACKING_ROLE):
        return Broken("is no role that a spec can make another a member of", "name another role")
    return identifier(text)


def database(text: str) -> Broken | None:
    """Names of databases."""
    if text in ("template0", "template1"):
        return Broken("is a template of the server and cannot be managed", "name another database")
    return identifier(text)


def path(text: str) -> Broken | None:
    """Folders relative to the root of the source."""
    if not text:
        return Broken("must not be empty")
    if len(text) > PATH_CHARACTERS_MAX:
        return Broken(f"has more than {PATH_CHARACTERS_MAX} characters")
    if _UNPRINTABLE.search(text) or "\\" in text:
        return Broken("must not hold control characters or backslashes", "separate folders with '/'")
    if text.startswith("/"):
        return Broken("must be relative to the root of the source", "leave the first '/' out")
    parts = text.removesuffix("/").split("/")
    if ".." in parts:
        return Broken("must stay below the root of the source", "leave '..' out")
    if "" in parts or "." in parts:
        return Broken("must not hold empty parts or '.'", "write it as in modules/shop")
    return None


def glob(text: str) -> Broken | None:
    """Globs for folders relative to the root of the source."""
    if text.startswith("!"):
        return Broken("a glob cannot be negated", "give a module a component of its own, with `path`")
    return path(text)


def target(text: str) -> Broken | None:
    """A change or tag of a plan file."""
    if not text:
        return Broken("must not be empty", "leave the key out to deploy the whole plan")
    if len(text) > TARGET_CHARACTERS_MAX or _UNPRINTABLE.search(text) or " " in text:
        return Broken("is not the name of a change or tag", 'write it as in orders or "@v1.2.0"')
    return None


def duration(text: str) -> Broken | None:
    """How long something takes, or until it comes again."""
    if _DURATION.match(text) and DURATION_S_MIN <= seconds(text) <= DURATION_S_MAX:
        return None
    return Broken("is not a duration from 10s to 30d", "write it as in 30s, 10m, 1h or 1d")


def seconds(text: str) -> int:
    """The seconds of a duration that follows its rule."""
    return int(text[:-1]) * _SECONDS[text[-1]]


def span_seconds(text: str) -> float | None:
    """The seconds of a duration that may be short; None where it is none."""
    found = _SPAN.match(text)
    return int(found[1]) * _SPAN_SECONDS[found[2]] if found is not None else None


def size_bytes(text: str) -> int | None:
    """The bytes of a size; None where it is none."""
    found = _SIZE.match(text)
    return int(found[1]) * _BYTES[found[2] or ""] if found is not None else None


def short_text(text: str) -> Broken | None:
    """Descriptions and values of variables."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return Broken(f"has more than {TEXT_CHARACTERS_MAX} characters")
    if "\x00" in text:
        return Broken("must not hold a NUL character")
    return None


def retention(text: str) -> Broken | None:
    """How long something is kept: a duration, or not at all."""
    if text == "0s" or duration(text) is None:
        return None
    return Broken("is not 0s or a duration from 10s to 30d", "write it as in 0s, 30m, 1h or 1d")


def sql(text: str) -> Broken | None:
    """A statement in a spec; whether it is SQL, and which, is judged where SQL is."""
    if not text.strip():
        return Broken("must not be empty", "write it as in SELECT count(*) = 0 FROM shop.failed_jobs")
    if len(text) > SQL_CHARACTERS_MAX:
        return Broken(f"has more than {SQL_CHARACTERS_MAX} characters", "make a function or a view of it")
    if "\x00" in text:
        return Broken("must not hold a NUL character")
    return None


def relation(text: str) -> Broken | None:
    """A relation named in full; which names those are is judged where SQL is."""
    if not text.strip():
        return Broken("must not be empty", "write it as in public.orders")
    if len(text) > RELATION_CHARACTERS_MAX or _UNPRINTABLE.search(text):
        return Broken("is not the name of a relation", "write it as in public.orders")
    return None


def web_address(text: str) -> Broken | None:
    """Where a call goes; what stands in a spec is no secret, so nothing may log in with it."""
    hint = "write it as in https://hooks.example.com/published"
    if len(text) > PATH_CHARACTERS_MAX or _UNPRINTABLE.search(text) or " " in text:
        return Broken("is not an address", hint)
    found = _WEB_ADDRESS.match(text)
    if found is None:
        return Broken("is not an address that begins with https:// or http://", hint)
    if "@" in found["place"]:
        return Broken("must not hold a user or password", hint)
    return None


def secret_variable(text: str) -> Broken | None:
    """Environment variables of the daemon that a spec may refer to."""
    if not _ENVIRONMENT_VARIABLE.fullmatch(text):
        return Broken("is not the name of an environment variable", "write it as in {env: SHOP_DSN}")
    if text.upper().startswith(DAEMON_PREFIX):
        return Broken(
            f"environment variables that start with {DAEMON_PREFIX} are the daemon's own",
            "keep the secret under another name",
        )
    return None


def secret_template(text: str) -> Broken | None:
    """A reference to a secret with variables in it; a connection string does not pass for one."""
    if _REFERENCE_TEMPLATE.fullmatch(text):
        return None
    return Broken("is not a reference to a secret", "write it as in {env: SHOP_${deployment}_DSN}")


def secret_file(text: str) -> Broken | None:
    """Files on the daemon's machine that a spec may refer to; one spelling each, so that globs hold."""
    if not text.startswith("/") or len(text) > PATH_CHARACTERS_MAX or _UNPRINTABLE.search(text):
        return Broken("must be an absolute path", "write it as in {file: /run/secrets/shop-dsn}")
    if any(part in ("", ".", "..") for part in text.split("/")[1:]):
        return Broken("must not hold empty parts, '.' or '..'", "write the plain path")
    return None


def output(text: str) -> Broken | None:
    """Names of outputs."""
    if _OUTPUT.match(text):
        return None
    return Broken("is not the name of an output", "letters, digits, '.', '_' and '-', with a letter first")


def program_variable(text: str) -> Broken | None:
    """Names of the variables that a program is given."""
    if not _ENVIRONMENT_VARIABLE.fullmatch(text):
        return Broken("is not the name of an environment variable", "letters, digits and '_', up to 255")
    if text.upper().startswith(DAEMON_PREFIX):
        return Broken(
            f"environment variables that start with {DAEMON_PREFIX} are the daemon's own",
            "name it another way",
        )
    return None


def long_text(text: str) -> Broken | None:
    """Arguments of programs, and values of their variables."""
    if len(text) > LONG_TEXT_CHARACTERS_MAX:
        return Broken(f"has more than {LONG_TEXT_CHARACTERS_MAX} characters", "keep it in a file")
    if "\x00" in text:
        return Broken("must not hold a NUL character")
    return None


def argument(text: str) -> Broken | None:
    """The program that is run, the first of a command."""
    return Broken("must not be empty", "write the program to run") if not text else long_text(text)


def machine_path(text: str) -> Broken | None:
    """Folders of the machine, or of a container."""
    if not text.startswith("/") or len(text) > PATH_CHARACTERS_MAX or _UNPRINTABLE.search(text):
        return Broken("must be an absolute path", "write it as in /srv/shop")
    if any(part in (".", "..") for part in text.split("/")[1:]):
        return Broken("must not hold '.' or '..'", "write the plain path")
    return None


def context(text: str) -> Broken | None:
    """The folder of the source that an image is built from."""
    return None if text == "." else path(text)


def user(text: str) -> Broken | None:
    """Whom a program runs as."""
    if _USER.match(text):
        return None
    return Broken("is not the name of a user", "write it as in shop, 1000 or 1000:1000")


def image(text: str) -> Broken | None:
    """Images of containers."""
    if _IMAGE.match(text) and "//" not in text:
        return None
    return Broken("is not the name of an image", "write it as in registry.example.com/shop/api:1.4.2")


def network(text: str) -> Broken | None:
    """Networks of a container engine."""
    if _NETWORK.match(text):
        return None
    return Broken("is not the name of a network", "letters, digits, '.', '_' and '-'")


def host(text: str) -> Broken | None:
    """Hosts that routes are for."""
    if len(text) <= HOST_CHARACTERS_MAX and _HOST.match(text):
        return None
    return Broken("is not the name of a host", "write it in lower case, as in shop.example.com")


def route_path(text: str) -> Broken | None:
    """Paths below which requests are routed."""
    if len(text) <= PATH_CHARACTERS_MAX and _ROUTE_PATH.match(text) and "//" not in text:
        if any(part in (".", "..") for part in text.split("/")):
            return Broken("must not hold '.' or '..'", "write the plain path")
        return None
    return Broken("is not a path of requests", "write it as in /api")
