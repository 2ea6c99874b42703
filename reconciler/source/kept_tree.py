"""Write down what a commit lists, and the files of it that are always read, so that Git need not be asked.

What a commit has never changes, so nothing of it grows old. It opens no file.
"""

import hashlib
import marshal
import sys
from collections.abc import Mapping

from reconciler.source.tree import Listing, Skipped, blob_id

FORMAT = f"tree 1 {sys.implementation.cache_tag} {marshal.version}"
"""To be changed with what may be read of a commit, or how it is written down."""


def encode(made_by: str, commit: str, prefix: str, listing: Listing, contents: Mapping[str, bytes]) -> bytes:
    """Write down a listing, and some contents by blob id; `made_by` says what program read them."""
    skipped = [(each.path, each.reason) for each in listing.skipped]
    body = marshal.dumps((commit, prefix, dict(listing.blobs), dict(listing.sizes), skipped, dict(contents)))
    return f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def decode(written: bytes, made_by: str, commit: str, prefix: str) -> tuple[Listing, dict[str, bytes]] | None:
    """Read what was written down of this commit; None where it is of another, of another program, or damaged.

    Nothing of it is looked at before the digest is: what is not to be trusted must not be written there.
    """
    end = written.find(b"\n") + 1
    body = memoryview(written)[end:]
    if written[:end] != f"{FORMAT} {made_by} {hashlib.sha256(body).hexdigest()}\n".encode():
        return None
    try:
        known = marshal.loads(body)  # noqa: S302 - by its digest it is what this program wrote
        of, below, blobs, sizes, skipped, contents = known
        listing = Listing(
            blobs=blobs,
            sizes=sizes,
            skipped=tuple(Skipped(path=path, reason=reason) for path, reason in skipped),
        )
        whole = all(blob_id(content, like=blob) == blob for blob, content in contents.items())
    except (ValueError, TypeError, EOFError, AttributeError):
        return None
    return (listing, contents) if whole and (of, below) == (commit, prefix) else None
