"""Take secrets out of text before anybody sees it."""

import re
from collections.abc import Iterable

MASK = "***"
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@'\"]*@")
_KEYWORD = re.compile(
    r"(?i)(?P<key>\b(?:password|passwd|pwd|passfile|sslpassword|secret|token)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&;]+)"
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask the named secrets, user information in URLs, and `password=…` pieces."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    return _KEYWORD.sub(rf"\g<key>{MASK}", text)
