"""The API under TLS: certificates of files, renewed on disk, and clients that check them."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from typer.testing import CliRunner, Result

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.main import app
from reconciler.daemon.tls import Certificates
from reconciler.errors import PermanentError
from reconciler.events import CertificateRenewed, Event
from reconciler.settings import TlsSettings
from tests.plugins.memory_service import MemoryService, serving

Command = Callable[..., Result]


class Authority:
    """A CA, and the files of certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.made = trustme.CA()
        self.file = folder / "ca.pem"
        self.made.cert_pem.write_to_path(self.file)

    def issue(self, name: str, certificate: Path, key: Path) -> None:
        """A certificate with its chain, and its key; files that are there are replaced at once."""
        found = self.made.issue_cert(name)
        certificate.write_bytes(b"".join(blob.bytes() for blob in found.cert_chain_pems))
        found.private_key_pem.write_to_path(key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> TlsSettings:
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    authority.issue("127.0.0.1", certificate, key)
    return TlsSettings(certificate=str(certificate), key=str(key))


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def certificates(files: TlsSettings, seen: list[Event]) -> Certificates:
    return Certificates(files, seen.append)


@pytest.fixture
def url(certificates: Certificates) -> Iterator[str]:
    with serving(MemoryService(), certificates=certificates) as found:
        yield found


@pytest.fixture
def reconciler(url: str) -> Command:
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--server", url])


def shake(
    url: str, ca: Path, *, most: ssl.TLSVersion | None = None, client: Path | None = None
) -> tuple[bytes, str]:
    """The certificate of the server as DER, and the version that was spoken; asks for health over it."""
    context = ssl.create_default_context(cafile=str(ca))
    if most is not None:
        context.maximum_version = most
    if client is not None:
        context.load_cert_chain(client)
    parts = urlsplit(url)
    with (
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        if not (received := wrapped.recv(65536)):
            raise ConnectionResetError
        assert received.startswith(b"HTTP/1.1 200 ")
        return wrapped.getpeercert(binary_form=True) or b"", wrapped.version() or ""


def test_tls_of_today_is_spoken(url: str, authority: Authority) -> None:
    """TLS 1.3 and 1.2 are spoken, and what is older is not."""
    assert shake(url, authority.file)[1] == "TLSv1.3"
    assert shake(url, authority.file, most=ssl.TLSVersion.TLSv1_2)[1] == "TLSv1.2"


def test_old_tls_is_not_spoken(certificates: Certificates) -> None:
    """The least version is 1.2, whatever the defaults of the machine are."""
    assert certificates.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_taken(
    url: str, authority: Authority, files: TlsSettings, certificates: Certificates, seen: list[Event]
) -> None:
    """New files are what new connections get, without a restart; nothing is told where nothing changed."""
    before, _version = shake(url, authority.file)
    certificates.renew_now()
    assert seen == []
    authority.issue("127.0.0.1", Path(files.certificate), Path(files.key))
    certificates.renew_now()
    assert seen == [CertificateRenewed(file=files.certificate)]
    after, _version = shake(url, authority.file)
    assert after != before


@pytest.mark.parametrize("broken", ["key of another", "half a file", "gone"])
def test_files_that_do_not_fit_are_left(
    url: str,
    authority: Authority,
    files: TlsSettings,
    certificates: Certificates,
    seen: list[Event],
    tmp_path: Path,
    broken: str,
) -> None:
    """While files are being replaced the old certificate serves; it is told once, and mends itself."""
    before, _version = shake(url, authority.file)
    kept = Path(files.certificate).read_bytes()
    match broken:
        case "key of another":
            authority.issue("127.0.0.1", Path(files.certificate), tmp_path / "other.key")
        case "half a file":
            Path(files.certificate).write_bytes(kept[: len(kept) // 3])
        case _:
            Path(files.certificate).unlink()
    for _ in range(3):
        certificates.renew_now()
    told = [event for event in seen if isinstance(event, CertificateRenewed)]
    assert len(told) == 1
    assert told[0].error
    assert shake(url, authority.file)[0] == before
    authority.issue("127.0.0.1", Path(files.certificate), Path(files.key))
    certificates.renew_now()
    assert shake(url, authority.file)[0] != before


def test_clients_show_certificates_where_asked(
    files: TlsSettings, authority: Authority, tmp_path: Path
) -> None:
    """With `client_ca` whoever has no certificate of that CA is not let in, and whoever has one is."""
    clients = Authority(tmp_path / "clients")
    one = tmp_path / "client.pem"
    one.write_bytes(clients.made.issue_cert("ci@example.org").private_key_and_cert_chain_pem.bytes())
    asking = Certificates(files.model_copy(update={"client_ca": str(clients.file)}), lambda _event: None)
    with serving(MemoryService(), certificates=asking) as url:
        assert shake(url, authority.file, client=one)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shake(url, authority.file)
        runner, arguments = CliRunner(), ["status", "--server", url, "--ca", str(authority.file)]
        assert runner.invoke(app, arguments).exit_code == ExitCode.ERROR
        shown = runner.invoke(app, arguments, env={"RECONCILER_CLIENT_CERTIFICATE": str(one)})
        assert shown.exit_code == ExitCode.OK, shown.output


def replaced(files: TlsSettings, name: str, content: bytes | None) -> None:
    path = Path(getattr(files, name))
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("certificate", None, "no such file"),
        ("key", None, "no such file"),
        ("certificate", b"", "not PEM"),
        ("key", b"nothing of a key", "not PEM"),
    ],
)
def test_wrong_files_are_told(files: TlsSettings, name: str, content: bytes | None, why: str) -> None:
    """A file that is missing or holds something else ends the start, with its name and what is wrong."""
    replaced(files, name, content)
    with pytest.raises(PermanentError, match=why) as told:
        Certificates(files, lambda _event: None)
    assert getattr(files, name) in str(told.value)


def test_a_key_of_another_certificate_is_told(
    files: TlsSettings, authority: Authority, tmp_path: Path
) -> None:
    """Key and certificate have to belong together."""
    authority.issue("127.0.0.1", tmp_path / "other.pem", Path(files.key))
    with pytest.raises(PermanentError, match="the key is not that of the certificate"):
        Certificates(files, lambda _event: None)


def test_a_client_ca_without_certificates_is_told(files: TlsSettings, tmp_path: Path) -> None:
    """A file of CAs that holds none would let nobody in."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(PermanentError, match="holds no certificates"):
        Certificates(files.model_copy(update={"client_ca": str(tmp_path / "empty.pem")}), lambda _event: None)


def test_commands_check_whom_they_ask(reconciler: Command, authority: Authority, tmp_path: Path) -> None:
    """A command talks to a server whose CA it was given, and to no other; it never goes on without."""
    assert reconciler("status", "--ca", str(authority.file)).exit_code == ExitCode.OK
    untrusted = reconciler("status")
    assert untrusted.exit_code == ExitCode.ERROR
    assert "is not trusted" in untrusted.output
    stranger = Authority(tmp_path / "stranger")
    assert "is not trusted" in reconciler("status", "--ca", str(stranger.file)).output
    missing = reconciler("status", "--ca", str(tmp_path / "none.pem"))
    assert "none.pem" in missing.output


def test_commands_check_the_name(files: TlsSettings, authority: Authority) -> None:
    """A certificate of the right CA for another name is not enough."""
    authority.issue("elsewhere.example.com", Path(files.certificate), Path(files.key))
    with serving(MemoryService(), certificates=Certificates(files, lambda _event: None)) as url:
        result = CliRunner().invoke(app, ["status", "--server", url, "--ca", str(authority.file)])
    assert result.exit_code == ExitCode.ERROR
    assert "is not trusted" in result.output


def test_commands_without_tls_are_told_how_to_ask(url: str) -> None:
    """Whoever asks a daemon with TLS by http:// is not left to try again for ever."""
    result = CliRunner().invoke(app, ["status", "--server", url.replace("https://", "http://")])
    assert result.exit_code == ExitCode.ERROR
    assert "a daemon with `tls` is asked by https://" in result.output


def test_commands_find_tls_in_the_settings(
    url: str, files: TlsSettings, authority: Authority, tmp_path: Path
) -> None:
    """Where the settings have `tls` a command speaks it by itself; an untrusted daemon is no absent one."""
    config = tmp_path / "reconciler.yaml"
    config.write_text(
        f"listen: {urlsplit(url).netloc}\ntls: {{certificate: {files.certificate}, key: {files.key}}}\n"
    )
    shutil.copy(authority.file, tmp_path / "trusted.pem")
    arguments = ["status", "--config", str(config)]
    shown = CliRunner().invoke(app, arguments, env={"RECONCILER_CA": str(tmp_path / "trusted.pem")})
    assert shown.exit_code == ExitCode.OK, shown.output
    assert "is not trusted" in CliRunner().invoke(app, arguments).output
