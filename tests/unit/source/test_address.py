"""URLs, names and prefixes are judged before Git sees them."""

import pytest

from reconciler.errors import Refused
from reconciler.source import address
from reconciler.source.address import Protocol


@pytest.mark.parametrize(
    ("url", "protocol", "given", "shown"),
    [
        (
            "https://h.example/a/b.git",
            Protocol.HTTPS,
            "https://h.example/a/b.git",
            "https://h.example/a/b.git",
        ),
        ("HTTPS://h.example:8443/a", Protocol.HTTPS, "https://h.example:8443/a", "https://h.example:8443/a"),
        ("https://u:p@h.example/a", Protocol.HTTPS, "https://h.example/a", "https://h.example/a"),
        ("http://127.0.0.1:80/a", Protocol.HTTP, "http://127.0.0.1:80/a", "http://127.0.0.1:80/a"),
        ("http://[::1]/a", Protocol.HTTP, "http://[::1]/a", "http://[::1]/a"),
        ("ssh://git@h.example:22/a", Protocol.SSH, "ssh://git@h.example:22/a", "ssh://h.example:22/a"),
        ("git@h.example:team/a.git", Protocol.SSH, "git@h.example:team/a.git", "h.example:team/a.git"),
        ("file:///srv/a%20b.git", Protocol.FILE, "/srv/a b.git", "/srv/a b.git"),
        ("/srv/x/../a.git/", Protocol.FILE, "/srv/a.git", "/srv/a.git"),
        ("sub/a.git", Protocol.FILE, "/here/sub/a.git", "/here/sub/a.git"),
    ],
)
def test_addresses_are_read(url: str, protocol: Protocol, given: str, shown: str) -> None:
    """Every form of address is understood, and what is shown never holds a user."""
    place = address.parse(url, relative_to="/here")
    assert (place.protocol, place.url, place.shown) == (protocol, given, shown)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-oProxyCommand=touch x",
        "--upload-pack=touch x",
        "ext::sh -c 'touch x'",
        "EXT::sh -c x",
        "fd::17",
        "http://h.example/a",
        "http://localhost.evil.example/a",
        "git://h.example/a",
        "ftp://h.example/a",
        "https://h.example",
        "https://h.example/a?token=x",
        "https://h.example/a#x",
        "https://-h.example/a",
        "https://h.example:99999/a",
        "https://h.example/a b",
        "https:///a",
        "ssh://-oProxyCommand=x/a",
        "ssh://-l@h.example/a",
        "ssh://git:secret@h.example/a",
        "-oProxyCommand=x:a",
        "git@-oProxyCommand=x:a",
        "h.example:-a",
        "file://elsewhere/a",
        "https://h.example/a\nb",
        "https://h.example/" + "a" * 2048,
        "/srv/a\0b",
    ],
)
def test_hostile_addresses_are_refused(url: str) -> None:
    """Nothing that Git could take for an option, a helper or a plain-text remote gets through."""
    with pytest.raises(Refused) as refused:
        address.parse(url, relative_to="/here")
    assert "secret" not in str(refused.value)
    assert "token" not in refused.value.message


def test_userinfo_is_taken_out_of_the_url() -> None:
    """A user and a token in a URL become credentials and show nowhere."""
    place = address.parse("https://me:s%40cret@h.example/a")
    assert (place.username, place.password) == ("me", "s@cret")
    assert "cret" not in repr(place)
    assert "cret" not in place.url


@pytest.mark.parametrize(
    "name", ["main", "feature/x", "v1.2.0", "ünïcode", "a-b_c", "dependabot/npm/x-1.2", "HEAD"]
)
def test_usual_names_are_taken(name: str) -> None:
    """Branch and tag names people use are allowed."""
    assert address.is_ref_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "-x", "--upload-pack=x", "/a", "a/", "a//b", "a..b", "a.lock", "x/.y", "a b", "a\nb", "a~1"),
        *("a^", "a:b", "a?", "a*", "a[", "a\\b", "@", "a@{1}", "a.", "a\x7f", "x" * 256),
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    """Names that are options, expressions or escapes are not names."""
    assert not address.is_ref_name(name)
    with pytest.raises(Refused):
        address.check_ref_name(name, "branch")


@pytest.mark.parametrize(
    ("prefix", "plain"), [("", ""), (".", ""), ("a/b/", "a/b"), ("environments", "environments")]
)
def test_prefixes_become_plain(prefix: str, plain: str) -> None:
    """A folder of the source has one form."""
    assert address.check_prefix(prefix) == plain


@pytest.mark.parametrize("prefix", ["/etc", "..", "a/../b", "a//b", "./a", "a\0b"])
def test_prefixes_never_lead_outside(prefix: str) -> None:
    """A folder that leads up or begins at the root is refused."""
    with pytest.raises(Refused):
        address.check_prefix(prefix)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "-x", "a b", "x" * 64, "a.lock"])
def test_source_names_are_one_path_segment(name: str) -> None:
    """The name of a source cannot lead out of the state directory."""
    with pytest.raises(Refused):
        address.check_source_name(name)
