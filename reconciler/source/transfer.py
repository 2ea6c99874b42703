"""One piece of work on one mirror: bring refs in from the remote, ask the mirror about its commits.

Every call is bounded by the same deadline. It knows one mirror and one remote, and decides nothing about
history or about what is good.
"""

from datetime import UTC, datetime

from reconciler.errors import NotFound, Refused, SourceUnavailable
from reconciler.frozen import frozen
from reconciler.source import address, failure, local
from reconciler.source.access import Commit
from reconciler.source.address import Address
from reconciler.source.git_command import Finished, Limits
from reconciler.source.mirror import Mirror, MirrorDamaged, last_line

_FETCH = (
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
    "--no-show-forced-updates",
    "--refmap=",
    "--",
)
_LATEST_S = 253_402_300_799  # the end of the year 9999


@frozen
class Transfer:
    """A mirror, the remote it mirrors, the limits of the work, and whether the mirror was just made."""

    name: str
    place: Address
    mirror: Mirror
    limits: Limits
    is_new: bool

    def bring_in(self, wanted: str, into: str) -> None:
        """Fetch one ref or commit with all its history into a ref of the mirror."""
        fetched = self.try_bring_in(wanted, into)
        doing = f"fetching source {self.name!r} from {self.place.shown}"
        if fetched.status == 0:
            # Git calls that a success, and leaves the ref as it was.
            if "shallow roots are not allowed" in fetched.stderr:
                raise Refused(
                    f"{doing}: the repository there is shallow, its history is cut off",
                    hint="run 'git fetch --unshallow' in it, or name the repository it was cloned from",
                )
            return
        self.mirror.clear_temporaries()
        error = failure.of_fetch(fetched.stderr, doing=doing, ref=wanted)
        if isinstance(error, MirrorDamaged) and (self.is_new or self.is_sound()):
            # The same words, said by the other side of the pipe.
            raise SourceUnavailable(error.message, hint="run 'git fsck' on the repository")
        raise error

    def try_bring_in(self, wanted: str, into: str) -> Finished:
        """Fetch as `bring_in` does, and leave judging the outcome to the caller."""
        return self.mirror.fetch([*_FETCH, self.place.url, f"+{wanted}:{into}"], self.limits)

    def read_own_ref(self, ref: str) -> str:
        """Return the id a ref of the mirror stands at."""
        found = local.read_ref(self.mirror.git_dir, ref)
        if found is None:
            raise MirrorDamaged(f"reading {ref!r} in the mirror of source {self.name!r}: it is missing")
        return found

    def describe(self, object_id: str) -> Commit:
        """Find the commit an id stands for (a tag object is followed) and when it was made."""
        said = self._look("log", "-1", "--no-decorate", "--no-color", "--format=%H %ct", object_id, "--")
        commit, _, seconds = said.stdout.decode(errors="replace").strip().partition(" ")
        if said.status == 0 and address.is_commit_id(commit) and seconds.lstrip("-").isdigit():
            return Commit(id=commit, committed_at=_moment(int(seconds)))
        if self.holds(object_id):
            raise NotFound(f"looking for {object_id[:12]} at {self.place.shown}: it does not name a commit")
        raise MirrorDamaged(f"reading commit {object_id[:12]}: {last_line(said.stderr)}")

    def expand(self, short: str) -> Commit:
        """Find the one commit of the mirror whose id begins so."""
        found = self._look("rev-parse", "--verify", "--quiet", f"{short}^{{commit}}")
        commit = found.stdout.decode(errors="replace").strip()
        if found.status != 0 or not address.is_commit_id(commit):
            raise NotFound(
                f"looking for {short!r} at {self.place.shown}: it begins no fetched commit, or several",
                hint="give the whole commit id",
            )
        return self.describe(commit)

    def holds(self, object_id: str) -> bool:
        """Whether the object is in the mirror and can be opened."""
        return self._look("cat-file", "-e", object_id).status == 0

    def descends(self, commit: str, previous: str) -> bool:
        """Whether `previous` is in the history of `commit`."""
        if commit == previous:
            return True
        judged = self._look("merge-base", "--is-ancestor", previous, commit)
        if judged.status in (0, 1):
            return judged.status == 0
        # The whole history of the new head is here, so a commit a new mirror lacks is not part of it.
        if self.is_new and not self.holds(previous):
            return False
        raise MirrorDamaged(f"comparing {previous[:12]} with {commit[:12]}: {last_line(judged.stderr)}")

    def walk(self, commit: str) -> None:
        """Open every tree of a commit: a fetch that brings nothing does not look at what is there."""
        walked = self._look("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        if walked.status != 0:
            raise MirrorDamaged(f"reading commit {commit[:12]}: {last_line(walked.stderr)}")

    def is_sound(self) -> bool:
        """Whether Git finds every commit and tree of the mirror."""
        return self._look("fsck", "--connectivity-only", "--no-dangling", "--no-progress").status == 0

    def _look(self, *arguments: str) -> Finished:
        return self.mirror.look(arguments, self.limits)


def _moment(seconds: int) -> datetime:
    """Return a committer's time; one nobody can have meant becomes the nearest that can be shown."""
    return datetime.fromtimestamp(max(0, min(seconds, _LATEST_S)), UTC)
