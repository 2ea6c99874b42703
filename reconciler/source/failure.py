"""Say why Git could not fetch, in our words and with the right kind of error.

Text in, error out. It reads only redacted text, and tells a damaged mirror from a remote that fails: what the
remote says of itself never counts as damage here.
"""

import re

from reconciler.errors import NotFound, ReconcilerError, Refused, SourceUnavailable
from reconciler.source.mirror import MirrorDamaged, last_line

_DAMAGE = re.compile(
    r"is corrupt|inflate|bad object|bad tree|bad sha1|bad ref|broken|unable to (?:parse|read|open) object"
    r"|bad config|not a git repository|packfile|index file|missing (?:blob|tree|commit)|bad pack"
    r"|loose object|did not send all necessary objects|invalid sha1 pointer|unable to read",
    re.IGNORECASE,
)
_PLACE = re.compile(r"'(?:/|\w+://)[^']*'|\w+://\S+")  # an address says nothing of what went wrong
_NO_SPACE = re.compile(r"no space left|disk quota exceeded|file too large|disk full|signal 25", re.IGNORECASE)

# The first match wins; each is what Git, curl or ssh says, and what to do about it.
_REASONS: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason, hint)
    for pattern, reason, hint in (
        (
            r"could not read (?:user|pass)|prompts disabled|authentication failed|returned error: 401",
            "the remote refused the credentials or asked for some",
            "give the source a user and a token, or renew them",
        ),
        (
            r"url base from redirection|returned error: 30\d",
            "the remote answered with a redirect, which is not followed",
            "write the address it redirects to as the url of the source",
        ),
        (
            r"host identification has changed|host key for .* has changed",
            "the host key of the remote is another than the one in the known hosts file",
            "somebody may stand in between: ask its owner for the fingerprint, then change auth.known_hosts",
        ),
        (
            r"host key verification failed|no .* host key is known",
            "the host key of the remote is not in the known hosts file",
            "read it with ssh-keyscan, ask its owner for the fingerprint, and add it to auth.known_hosts",
        ),
        (
            r"permission denied \(",
            "the remote forbids it: it does not take the key",
            "name the key as auth.ssh_key, and add its public half there as one that may read",
        ),
        (
            r"returned error: 403|access denied",
            "the remote forbids it",
            "check what the token of the source may read",
        ),
        (
            r"cannot run ssh|cannot exec '?ssh",
            "ssh is not installed",
            "install it (Debian: openssh-client)",
        ),
        (
            r"dubious ownership",
            "the repository belongs to another user",
            "make it belong to the user of the daemon",
        ),
        (
            r"transport '[^']*' not allowed",
            "git refused the protocol",
            "use https://, ssh://, file:// or a local path",
        ),
        (
            r"not our ref|unadvertised object",
            "the remote does not give out this commit by its id",
            "name a branch or a tag that holds it",
        ),
        (
            r"mismatched algorithms",
            "the repository uses another hash than the mirror",
            "use a repository with SHA-1 object names",
        ),
        (
            r"fsck error|unpack-objects error|object fsck",
            "the remote sent objects that git's checks refuse",
            "run 'git fsck --strict' on the repository",
        ),
        (
            r"\bssl\b|certificate|\btls\b|gnutls",
            "the secure connection could not be made",
            "check the certificate of the remote; name the file of an authority of your own as auth.ca",
        ),
        (
            r"could not resolve host",
            "the host name of the remote does not resolve",
            "check the url and the name service",
        ),
        (
            r"failed to connect|connection refused|could ?n.t connect|timed out|network is unreachable",
            "the remote cannot be reached",
            "check that it runs and that the network lets this host through",
        ),
        (
            r"not found|does not appear to be a git repository|no such file|returned error: 404",
            "there is no repository at this address, or it is not shown to us",
            "check the url and the credentials",
        ),
        (
            r"early eof|unexpected disconnect|hung up|rpc failed|returned error: 5\d\d|index-pack",
            "the remote broke off",
            "it is tried again at the next pass",
        ),
    )
)


def of_fetch(stderr: str, *, doing: str, ref: str) -> ReconcilerError:
    """Return the error that a failed fetch stands for."""
    ours = "\n".join(line for line in stderr.splitlines() if not line.startswith("remote:"))
    said = last_line(ours)
    if _NO_SPACE.search(ours):
        return SourceUnavailable(
            f"{doing}: the disk of the state directory is full",
            hint="make space; the last good commit is kept",
        )
    if re.search(r"could ?n.t find remote ref|no such ref was fetched", ours):
        return NotFound(
            f"{doing}: {ref!r} does not exist there",
            hint="it was deleted, was never pushed, or the repository is empty",
        )
    words = _PLACE.sub("''", stderr)
    for pattern, reason, hint in _REASONS:
        if pattern.search(words):
            kind = Refused if "sent objects" in reason else SourceUnavailable
            return kind(f"{doing}: {reason}: {said}", hint=hint)
    if _DAMAGE.search(ours):
        return MirrorDamaged(f"{doing}: {said}")
    return SourceUnavailable(f"{doing}: {said}", hint="the last good commit is kept")
