"""Take secrets out of text before anybody sees it: pure, and used by everything that writes for people."""

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"
_SCHEME = r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)"
_WITH_PASSWORD = re.compile(_SCHEME + r"[^\s:/@'\"]{0,256}:\S{0,1024}@")
"""Up to the last @ of the word: a password that is not percent-encoded may hold any character."""
_USER_ONLY = re.compile(_SCHEME + r"[^\s/@'\"]{1,1024}@")
_ASSIGNED = re.compile(
    r"(?i)(?P<place>\bspec\.components\[\d{1,6}\](?:\.\w{1,128}|\[\d{1,6}\]){1,6}: )"
    r"|(?P<key>(?:password|passwd|passphrase|passfile|pwd|secret|token|api_?key)[\"']?\s{0,8}[=:]\s{0,8})"
    r"(?:'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|[^\s&;,'\"]+)"
)
"""A place in a spec is followed by what is wrong with it, in our own words."""
_LITERAL = re.compile(r"(?i)(?P<key>\bpassword\s{1,8}E?)'(?:[^'\\]|\\.|'')*'")
"""As in CREATE ROLE … PASSWORD '…'."""
_VERIFIER = re.compile(r"SCRAM-SHA-256\$\d{1,10}:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=:]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask the given secrets in every usual spelling, user information in URLs, and `password=…` pieces."""
    spellings = {
        spelling
        for secret in secrets
        if secret
        for spelling in (secret, quote(secret, safe=""), quote_plus(secret), secret.replace("'", "''"))
    }
    for spelling in sorted(spellings, key=lambda spelling: (-len(spelling), spelling)):
        text = text.replace(spelling, MASK)
    text = _WITH_PASSWORD.sub(rf"\g<scheme>{MASK}@", text)
    text = _USER_ONLY.sub(rf"\g<scheme>{MASK}@", text)
    text = _VERIFIER.sub(MASK, text)
    text = _LITERAL.sub(rf"\g<key>{MASK}", text)
    return _ASSIGNED.sub(lambda found: found["place"] or f"{found['key']}{MASK}", text)
