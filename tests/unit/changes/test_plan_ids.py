"""Ids: the canonical form of project URIs."""

import pytest

from reconciler.changes.plan_ids import canonical_uri


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("http://Example.COM", "http://example.com/"),
        ("https://example.com:443/a/../b", "https://example.com/a/../b"),
        ("https://github.com/a/b c/", "https://github.com/a/b%20c/"),
        ("https://ex.com/%7efoo/%c3%a9?q=é#frag", "https://ex.com/~foo/%C3%A9?q=%C3%A9#frag"),
        ("HTTP://user@Ex.com:80/x", "http://user@ex.com/x"),
        ("https://ex.com:8443/x", "https://ex.com:8443/x"),
        ("ssh://git@Host/x", "ssh://git@host/x"),
        ('https://ex.com/a"b<c>[d]', "https://ex.com/a%22b%3Cc%3E%5Bd%5D"),
        ("http://bücher.de/ü", "http://xn--bcher-kva.de/%C3%BC"),
        ("git@github.com:a/B.git", "git@github.com:a/B.git"),
        ("urn:x:Y", "urn:x:Y"),
        ("mailto:A@B.Com", "mailto:A@B.Com"),
        ("vybez", "vybez"),
    ],
)
def test_uris_are_written_as_perl_writes_them(written: str, canonical: str) -> None:
    """The URI in an id is the one Perl's URI module makes of it, for Sqitch hashes that."""
    assert canonical_uri(written) == canonical
