"""Fetch one source: bring its ref in, judge the history, record the good commit, replace a damaged mirror.

All calls block and are made from a thread. What cannot be fetched never touches what was good before.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from reconciler.errors import NotFound, PermanentError, Refused, SourceUnavailable
from reconciler.source import address, local
from reconciler.source.access import Commit, FetchResult, HistoryPolicy, SourceAccess
from reconciler.source.address import Address
from reconciler.source.git_command import Limits
from reconciler.source.mirror import ASKED_REFS, CANDIDATE_REF, Good, Mirror, MirrorDamaged
from reconciler.source.signatures import Signed, Verifier
from reconciler.source.sparing import Kept, SparingReader
from reconciler.source.transfer import Transfer
from reconciler.source.tree import Listing, SourceTree, TreeReader

_RECLONE_EVERY_S = 3600.0
_T = TypeVar("_T")


def wanted_ref(access: SourceAccess) -> str:
    """Return what of the source is wanted, as Git is asked for it; refuse anything but exactly one thing."""
    given = [name for name in (access.branch, access.tag, access.commit) if name is not None]
    if len(given) != 1:
        raise Refused(f"opening source {access.name!r}: name exactly one of branch, tag and commit")
    if access.branch is not None:
        return f"refs/heads/{address.check_ref_name(access.branch, 'branch')}"
    if access.tag is not None:
        return f"refs/tags/{address.check_ref_name(access.tag, 'tag')}"
    if not address.is_commit_id(given[0]):
        raise Refused(f"opening source {access.name!r}: its commit is not a whole commit id")
    return given[0]


class Fetcher:
    """Fetches and reads one source through its mirror.

    What it remembers between calls is only whether the mirror was looked through, and when it was replaced.
    """

    def __init__(
        self,
        access: SourceAccess,
        *,
        place: Address,
        mirror: Mirror,
        verifier: Verifier | None = None,
        kept: Kept | None = None,
    ) -> None:
        """`kept` is where a command remembers what it read; without, nothing is, and all is read at once."""
        self._name = access.name
        self._policy = access.history
        self._place = place
        self._mirror = mirror
        self._verifier = verifier
        self._ref = wanted_ref(access)
        self._reader = TreeReader()
        self._sparing = SparingReader(self._reader, kept) if kept is not None else None
        self._replaced_at: float | None = None
        self._is_proven = False

    def fetch(self, limits: Limits) -> FetchResult:
        """Bring the wanted ref in and make it the last good commit, if the history policy lets it."""
        with self._mirror.locked(limits):
            good = self._mirror.read_good()
            if good is not None and self._is_unmoved(good):
                return _unchanged(good, recloned=False)
            return self._settled(lambda transfer: self._fetch_once(good, transfer), limits)

    def resolve(self, ref: str, limits: Limits) -> Commit:
        """Find any branch, tag or commit of the source, fetching it where needed; nothing good moves."""
        if address.is_commit_id(ref) and self._mirror.flaw() is None:
            here = self._transfer(self._mirror, limits, is_new=False)
            if here.holds(ref):
                return here.describe(ref)
        with self._mirror.locked(limits):
            return self._settled(lambda transfer: _resolve_once(ref, transfer), limits)

    def verify(self, commit: str, ref: str | None, limits: Limits) -> None:
        """Raise SignatureRefused unless a commit that was resolved may be applied.

        `ref` is the name it was resolved from: where that is an annotated tag, the tag's signature counts.
        """
        verifier = self._verifier
        if verifier is None or self._was_here(commit):
            return
        doing = f"verifying {(ref or commit)[:100]!r} of source {self._name!r}"
        self._reading(
            commit,
            lambda transfer: verifier.judge(
                transfer.mirror, _asked_for(commit, ref, transfer), transfer.limits, doing=doing
            ),
            limits,
        )

    def read(
        self, commit: str, prefix: str, limits: Limits, rest: Callable[[], Mapping[str, bytes]]
    ) -> SourceTree:
        """Read the files of a commit, perhaps most of them later, by `rest`."""
        sparing = self._sparing
        if sparing is None:
            return self.read_whole(commit, prefix, limits)
        return self._reading(
            commit,
            lambda transfer: sparing.read(transfer.mirror, commit, prefix, transfer.limits, rest),
            limits,
        )

    def read_whole(self, commit: str, prefix: str, limits: Limits) -> SourceTree:
        """Read the files of a commit; a damaged mirror is replaced once and read again."""
        return self._reading(
            commit,
            lambda transfer: self._reader.read(transfer.mirror, commit, prefix, transfer.limits),
            limits,
        )

    def descends(self, commit: str, previous: str, limits: Limits) -> bool:
        """Whether a commit that was read before is in the history of another; not where it is gone."""
        return self._reading(
            commit,
            lambda transfer: transfer.holds(previous) and transfer.descends(commit, previous),
            limits,
        )

    def list_tree(self, commit: str, prefix: str, limits: Limits) -> Listing:
        """List the files of a commit, as `read` does."""
        return self._reading(
            commit,
            lambda transfer: self._reader.list(transfer.mirror, commit, prefix, transfer.limits),
            limits,
        )

    def last_good(self) -> Commit | None:
        """Return the last good commit, which outlives restarts and failures."""
        good = self._mirror.read_good()
        return good.commit if good is not None else None

    def _is_unmoved(self, good: Good) -> bool:
        """Whether the source needs no asking: a fixed commit, or a local ref that stands where it stood.

        Whoever asks reads the commit next, and what is damaged is found and replaced there.
        """
        if self._mirror.flaw() is not None:
            return False
        if address.is_commit_id(self._ref):
            return self._is_proven and good.commit.id == self._ref
        if self._place.path is None:
            return False
        folder = local.find(Path(self._place.path))
        return folder is not None and local.read_ref(folder.common, self._ref) == good.ref_id

    def _fetch_once(self, good: Good | None, transfer: Transfer) -> FetchResult:
        transfer.bring_in(self._ref, CANDIDATE_REF)
        ref_id = transfer.read_own_ref(CANDIDATE_REF)
        if good is not None and ref_id == good.ref_id:
            if not self._is_proven:
                transfer.walk(good.commit.id)
            self._accept(good, transfer, only_pin=True)
            return _unchanged(good, recloned=transfer.is_new)
        pinned = transfer.mirror.pinned() if good is None else None
        previous = good.commit if good is not None else transfer.describe(pinned) if pinned else None
        commit = transfer.describe(ref_id)
        self._check_signature(ref_id, commit, transfer)
        rewritten = previous is not None and not transfer.descends(commit.id, previous.id)
        if rewritten and previous is not None and self._policy is HistoryPolicy.REJECT:
            raise self._rewritten(previous, commit)
        self._accept(Good(commit=commit, ref_id=ref_id), transfer)
        return FetchResult(
            commit=commit.id,
            committed_at=commit.committed_at,
            previous=previous.id if previous is not None else None,
            changed=previous is None or previous.id != commit.id,
            rewritten=rewritten,
            recloned=transfer.is_new and previous is not None,
            fetched_at=datetime.now(UTC),
        )

    def _check_signature(self, ref_id: str, commit: Commit, transfer: Transfer) -> None:
        if self._verifier is not None:
            doing = f"fetching source {self._name!r} from {self._place.shown}"
            signed = _signed(self._ref, ref_id, commit.id)
            self._verifier.judge(transfer.mirror, signed, transfer.limits, doing=doing)

    def _accept(self, good: Good, transfer: Transfer, *, only_pin: bool = False) -> None:
        if not only_pin or transfer.is_new:
            transfer.mirror.write_good(good)
            transfer.mirror.tidy(transfer.limits)
        self._is_proven = True

    def _rewritten(self, previous: Commit, commit: Commit) -> Refused:
        return Refused(
            f"fetching source {self._name!r} from {self._place.shown}: its history was rewritten, "
            f"{commit.id[:12]} does not descend from {previous.id[:12]}, and its policy is 'reject'",
            hint="push a commit that descends from the last good one, or let the new history in "
            "with the policy 'accept'",
        )

    def _reading(self, commit: str, attempt: Callable[[Transfer], _T], limits: Limits) -> _T:
        here = self._transfer(self._mirror, limits, is_new=False)
        try:
            return attempt(here)
        except MirrorDamaged as damage:
            if self._mirror.flaw() is None and not self._was_here(commit) and not here.holds(commit):
                raise NotFound(
                    f"reading commit {commit[:12]} of source {self._name!r}: it was not fetched",
                    hint="resolve it first",
                ) from damage
            with self._mirror.locked(limits):
                return self._settled(lambda transfer: _read_again(commit, attempt, transfer), limits)

    def _was_here(self, commit: str) -> bool:
        good = self._mirror.read_good()
        return good is not None and good.commit.id == commit

    def _settled(self, attempt: Callable[[Transfer], _T], limits: Limits) -> _T:
        """Make the attempt; on a mirror that is missing or damaged, make it once more on a new one."""
        if not self._mirror.git_dir.exists():
            return self._in_new_mirror(attempt, limits)
        try:
            self._check_mirror()
            return attempt(self._transfer(self._mirror, limits, is_new=False))
        except MirrorDamaged as damage:
            self._check_may_replace(damage)
            try:
                result = self._in_new_mirror(attempt, limits)
            except PermanentError:
                self._replaced_at = time.monotonic()
                raise
            self._replaced_at = time.monotonic()
            return result

    def _check_mirror(self) -> None:
        flaw = self._mirror.flaw()
        if flaw is not None:
            raise MirrorDamaged(f"opening the mirror of source {self._name!r}: {flaw}")

    def _check_may_replace(self, damage: MirrorDamaged) -> None:
        last = self._replaced_at
        if last is not None and time.monotonic() - last < _RECLONE_EVERY_S:
            raise SourceUnavailable(
                f"{damage.message}; the mirror was already cloned anew within the hour",
                hint="check the disk of the state directory, then restart the daemon",
            ) from damage

    def _in_new_mirror(self, attempt: Callable[[Transfer], _T], limits: Limits) -> _T:
        with self._mirror.replaced(limits) as fresh:
            self._is_proven = False
            transfer = self._transfer(fresh, limits, is_new=True)
            self._bring_back_good(transfer)
            return attempt(transfer)

    def _bring_back_good(self, transfer: Transfer) -> None:
        """Bring the last good commit into a new mirror where the remote still gives it out."""
        good = transfer.mirror.read_good()
        if good is None:
            return
        for wanted in (self._ref, good.commit.id):
            brought = transfer.try_bring_in(wanted, CANDIDATE_REF)
            if brought.status == 0 and transfer.holds(good.commit.id):
                transfer.mirror.write_good(good)
                return

    def _transfer(self, mirror: Mirror, limits: Limits, *, is_new: bool) -> Transfer:
        return Transfer(name=self._name, place=self._place, mirror=mirror, limits=limits, is_new=is_new)


def _resolve_once(ref: str, transfer: Transfer) -> Commit:
    if address.is_commit_id(ref):
        transfer.bring_in(ref, _asked(ref))
        return transfer.describe(ref)
    for name in _full_names(ref):
        try:
            transfer.bring_in(name, _asked(name))
        except NotFound:
            continue
        transfer.mirror.tidy(transfer.limits)
        return transfer.describe(transfer.read_own_ref(_asked(name)))
    if address.is_short_id(ref):
        return transfer.expand(ref)
    raise NotFound(
        f"looking for {ref!r} at {transfer.place.shown}: there is no such branch, tag or commit",
        hint="push it first, or check its name",
    )


def _signed(ref: str, ref_id: str, commit: str) -> Signed:
    """What has to be signed: the annotated tag where the ref is one, else the commit."""
    is_tag = ref_id != commit and ref.startswith("refs/tags/")
    return Signed(
        object_id=ref_id if is_tag else commit,
        commit=commit,
        tag=ref.removeprefix("refs/tags/") if is_tag else None,
    )


def _asked_for(commit: str, ref: str | None, transfer: Transfer) -> Signed:
    """What has to be signed for a commit that a name was resolved to."""
    for name in _full_names(ref) if ref is not None and not address.is_commit_id(ref) else ():
        found = local.read_ref(transfer.mirror.git_dir, _asked(name))
        if found is not None and transfer.describe(found).id == commit:
            return _signed(name, found, commit)
    return Signed(object_id=commit, commit=commit)


def _read_again(commit: str, attempt: Callable[[Transfer], _T], transfer: Transfer) -> _T:
    if transfer.is_new and not transfer.holds(commit):
        transfer.bring_in(commit, _asked(commit))
    return attempt(transfer)


def _full_names(ref: str) -> tuple[str, ...]:
    """Return the refs a name may mean, a branch before a tag."""
    name = address.check_ref_name(ref, "ref")
    if name.startswith(("refs/heads/", "refs/tags/")):
        return (name,)
    return (f"refs/heads/{name}", f"refs/tags/{name}")


def _asked(ref: str) -> str:
    return f"{ASKED_REFS}/{sha256(ref.encode()).hexdigest()[:32]}"


def _unchanged(good: Good, *, recloned: bool) -> FetchResult:
    return FetchResult(
        commit=good.commit.id,
        committed_at=good.commit.committed_at,
        previous=good.commit.id,
        changed=False,
        rewritten=False,
        recloned=recloned,
        fetched_at=datetime.now(UTC),
    )
