"""People who sign commits and tags with keys of their own, made for the test: GPG and SSH."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.plugins.git import GitRepository, git_environment


def run(*command: str, stdin: str = "", **environ: str) -> str:
    """Run a program that has to succeed, and give its output."""
    done = subprocess.run(
        command,
        env={**git_environment(), **environ},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


class Signer:
    """One person: how Git is told to sign, and the files others check it by."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.environ: dict[str, str] = {}
        self.options: list[str] = []

    def git(self, repository: GitRepository, *arguments: str, **environ: str) -> None:
        """Run Git as this person."""
        run("git", "-C", str(repository.path), *self.options, *arguments, **self.environ, **environ)

    def commit(
        self,
        repository: GitRepository,
        files: Mapping[str, str | bytes | None] | None = None,
        **environ: str,
    ) -> str:
        """Commit files with a signature and return the commit's id."""
        repository.write(files or {})
        repository.git("add", "--all")
        self.git(repository, "commit", "--quiet", "--allow-empty", "-S", "-m", f"By {self.name}", **environ)
        return repository.head()

    def tag(self, repository: GitRepository, name: str, at: str = "HEAD") -> None:
        """Make or move a signed tag."""
        self.git(repository, "tag", "--force", "-s", "-m", f"By {self.name}", name, at)


class GpgSigner(Signer):
    """Signs with GPG; the key ring is its own, and its agent ends with the test."""

    def __init__(self, folder: Path, name: str, *, expired: bool) -> None:
        super().__init__(folder, name)
        folder.mkdir(mode=0o700, parents=True)
        if expired:  # it lives in the past, where its key was good for a year
            (folder / "gpg.conf").write_text("faked-system-time 20200101T000000\n")
        expires = "1y" if expired else "never"
        self.environ = {"GNUPGHOME": str(folder)}
        self.gpg(
            "--passphrase", "", "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", expires
        )
        rows = [line.split(":") for line in self.gpg("--with-colons", "--list-keys").splitlines()]
        self.fingerprint = next(row[9] for row in rows if row[0] == "fpr")
        self.options = ["-c", f"user.signingkey={self.fingerprint}"]
        self.key_file = folder / "public.asc"
        self.export()

    def gpg(self, *arguments: str, stdin: str = "") -> str:
        return run(
            "gpg",
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            *arguments,
            stdin=stdin,
            **self.environ,
        )

    def export(self) -> None:
        """Write the public key as it is now."""
        self.key_file.write_text(self.gpg("--armor", "--export", self.fingerprint))

    def revoke(self) -> None:
        """Revoke the key with the certificate that was made with it, and write it anew."""
        made = self.folder / "openpgp-revocs.d" / f"{self.fingerprint}.rev"
        # The certificate is kept from being used by accident by a colon before its first line.
        self.gpg("--import", stdin=made.read_text().replace(":-----BEGIN", "-----BEGIN"))
        self.export()

    def close(self) -> None:
        run("gpgconf", "--kill", "all", **self.environ)


class SshSigner(Signer):
    """Signs with an SSH key."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        folder.mkdir(mode=0o700, parents=True)
        self.private = folder / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.private))
        self.public = (folder / "key.pub").read_text().strip()
        self.options = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.private}"]


MakeGpgSigner = Callable[..., GpgSigner]


@pytest.fixture
def make_gpg_signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeGpgSigner]:
    """Make people who sign with GPG."""
    # Sockets of the agent need a short path.
    folder = Path("/tmp") / f"gpg-{os.getpid()}-{tmp_path_factory.mktemp('gpg').name}"
    folder.mkdir(mode=0o700)
    made: list[GpgSigner] = []

    def make(name: str = "ada", *, expired: bool = False) -> GpgSigner:
        made.append(GpgSigner(folder / name, name, expired=expired))
        return made[-1]

    yield make
    for signer in made:
        signer.close()
    shutil.rmtree(folder, ignore_errors=True)  # an agent may be removing its sockets meanwhile


MakeSshSigner = Callable[[str], SshSigner]


@pytest.fixture
def make_ssh_signer(tmp_path: Path) -> MakeSshSigner:
    """Make people who sign with SSH keys."""
    return lambda name: SshSigner(tmp_path / "ssh" / name, name)
