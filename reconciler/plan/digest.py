"""Digests of plans and of the states they were made from: SHA-256 over canonical JSON."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """`sha256:` and the hash of a JSON-able value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
