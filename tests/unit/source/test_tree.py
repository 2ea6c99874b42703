"""Listings are judged entry by entry."""

import pytest

from reconciler.errors import Refused
from reconciler.source import tree

_BLOB = b"1" * 40


def _entry(path: bytes, mode: bytes = b"100644", size: bytes = b"3", kind: bytes = b"blob") -> bytes:
    return mode + b" " + kind + b" " + _BLOB + b" " + size + b"\t" + path + b"\0"


def test_plain_files_are_listed() -> None:
    """Files are listed with blob id and size, whatever characters their names hold."""
    listing = tree.parse_listing(_entry(b"a b\n\xc3\xbc.yaml") + _entry(b"x/y", mode=b"100755"))
    assert set(listing.blobs) == {"a b\nü.yaml", "x/y"}
    assert listing.sizes == {_BLOB.decode(): 3}
    assert listing.skipped == ()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (_entry(b"link", mode=b"120000"), "symbolic link"),
        (_entry(b"sub", mode=b"160000", size=b"-", kind=b"commit"), "submodule"),
        (_entry(b"big", size=b"8388609"), "more than"),
        (_entry(b"\xff\xfe"), "UTF-8"),
        (_entry(b"a/" * 600 + b"x"), "longer"),
        (_entry(b"a/../b"), "plain"),
        (_entry(b"a/.GIT/config"), "plain"),
        (_entry(b"odd", mode=b"100640"), "plain file"),
    ],
)
def test_what_cannot_be_read_is_skipped_with_a_reason(entry: bytes, reason: str) -> None:
    """Links, submodules, huge files and odd names never stop the files beside them."""
    listing = tree.parse_listing(entry + _entry(b"good"))
    assert set(listing.blobs) == {"good"}
    assert [reason in skipped.reason for skipped in listing.skipped] == [True]


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit with more files than the limit is an error, not a long wait."""
    monkeypatch.setattr(tree, "FILES_MAX", 2)
    with pytest.raises(Refused, match="more than the 2 files"):
        tree.parse_listing(_entry(b"a") + _entry(b"b") + _entry(b"c"))


def test_blob_ids_are_those_of_git() -> None:
    """The id of content is computed as Git does."""
    assert tree.blob_id(b"", like="0" * 40) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
