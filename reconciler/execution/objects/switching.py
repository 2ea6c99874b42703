"""Switches to a generation, and back: one short transaction of renames that readers do not notice.

Everything that the switch takes for granted is looked at again inside of it, under a lock that keeps other
switches away. What is found is refused by type: overtaken by another generation, or surprised by what
somebody made. No relation is locked but what stands outside and is bound anew.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import psycopg

from reconciler.catalog.identifier import quote_identifier
from reconciler.errors import Conflict, LockNotAcquired, NotFound, ReconcilerError, Refused
from reconciler.execution.objects.dropping import Dropped, Surprised, drop_parked, listed
from reconciler.execution.objects.sending import QUERIES, Manner, repeatedly, send, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import Connection
from reconciler.tracking import deferred, generation_records, generations
from reconciler.tracking.deferred import DeferredState
from reconciler.tracking.generations import (
    Dependent,
    Finding,
    GenerationState,
    Told,
    TrackedGeneration,
    translated,
)

RETAIN = timedelta(hours=1)
"""For how long what is displaced is kept, where nobody says."""


_NOT_IN_PLACE = frozenset({"42P16", "42P13"})
"""Columns of a view, or the result of a routine, that replacing it would change."""
_ONLY_ADDED = (
    "nothing was changed: what a view or routine of a stable schema has gained is not taken back in place; "
    "push a commit that has it still, and has the rest as it was"
)


class HandMade(StrEnum):
    """What becomes of grants and owners that were given by hand to what is displaced."""

    REFUSE = "refuse"
    CARRY = "carry"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a switch may do without asking.

    `adopt` binds views and functions outside, which depend on displaced objects, to those that take their
    place. `altered` displaces live objects that somebody altered. Without `checked` it need not be ready.
    """

    adopt: bool = False
    hand_made: HandMade = HandMade.REFUSE
    altered: bool = False
    checked: bool = True

    @classmethod
    def said(cls, *, dependents: str, hand_made: str, altered: str) -> "Policy":
        """Return what a component says, in the words of its spec."""
        return cls(adopt=dependents == "adopt", hand_made=HandMade(hand_made), altered=altered == "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a switch did; `already` where it was done before."""

    generation: TrackedGeneration
    already: bool = False
    carried: tuple[str, ...] = ()
    rebound: tuple[str, ...] = ()


class Overtaken(Conflict):
    """Another generation is live where this one was built upon; `findings` name it for each schema."""

    def __init__(self, message: str, findings: tuple[Finding, ...], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


async def promote(
    session: DatabaseSession,
    key: str,
    *,
    policy: Policy | None = None,
    retain: timedelta = RETAIN,
    manner: Manner | None = None,
) -> Switched:
    """Make a generation live; again, does nothing.

    Raises Overtaken, Surprised, or Conflict for a generation that is not ready; nothing is changed then.
    """
    policy, manner = policy or Policy(), manner or Manner()

    async def attempt() -> Switched:
        async with _switching(session, manner, f"promoting generation {key}") as writer:
            found = await generations.find(writer, key=key)
            if found.state is GenerationState.LIVE:
                return Switched(generation=found, already=True)
            _must_be_ready(found, policy)
            switch = _Switch(
                session=session, found=found, back=False, policy=policy, manner=manner, retain=retain
            )
            done = await switch.run(writer)
        manner.interference.at("switched")
        return done

    return await _ended(session, await repeatedly(attempt, manner))


async def revert(
    session: DatabaseSession,
    key: str,
    *,
    policy: Policy | None = None,
    in_window: bool = True,
    manner: Manner | None = None,
) -> Switched:
    """Take the switch to a generation back, while what it displaced is kept; again, does nothing.

    Without `in_window` also later, where what it displaced is still there.
    """
    policy, manner = policy or Policy(), manner or Manner()

    async def attempt() -> Switched:
        async with _switching(session, manner, f"reverting generation {key}") as writer:
            found = await generations.find(writer, key=key)
            if found.state is GenerationState.REVERTED:
                return Switched(generation=found, already=True)
            _must_be_revertible(found, in_window=in_window)
            switch = _Switch(session=session, found=found, back=True, policy=policy, manner=manner)
            done = await switch.run(writer)
        manner.interference.at("switched")
        return done

    return await _ended(session, await repeatedly(attempt, manner))


async def live_until(session: DatabaseSession, key: str) -> datetime | None:
    """Tell until when what a generation displaced is kept; None where it is not live."""
    try:
        found = await generations.find(session.writer, key=key)
    except NotFound:
        return None
    except psycopg.Error as error:
        raise translated(error, f"looking at generation {key}") from error
    return found.retained_until if found.state is GenerationState.LIVE else None


async def is_open(session: DatabaseSession, key: str) -> bool:
    """Tell whether a generation may still go live."""
    try:
        found = await generations.find(session.writer, key=key)
    except psycopg.Error as error:
        raise translated(error, f"looking at generation {key}") from error
    return found.state in generations.BEFORE_SWITCH


async def retire(
    session: DatabaseSession, key: str, *, now: bool = False, manner: Manner | None = None
) -> Dropped:
    """Drop what the switch to a generation displaced, or the generation itself where that was taken back.

    Raises Conflict while it is kept for a revert, unless `now`, or while something deferred is pending.
    """
    doing = f"retiring what generation {key} displaced"
    try:
        found = await generations.find(session.writer, key=key)
        actions = await deferred.of_generation(session.writer, found.number)
    except psycopg.Error as error:
        raise translated(error, doing) from error
    if found.state in (*generations.BEFORE_SWITCH, GenerationState.FAILED):
        raise Conflict(f"{doing}: it is {found.state.value}", hint="cancel it instead")
    if found.state is GenerationState.LIVE and found.in_window and not now:
        raise Conflict(
            f"{doing}: it is kept until {found.retained_until:%Y-%m-%d %H:%M:%S %Z}, to be reverted to",
            hint="wait until then, or give the right to revert up",
        )
    waits = next((one for one in actions if one.state is DeferredState.PENDING), None)
    if waits is not None:
        raise Conflict(
            f"{doing}: deferred action '{waits.name}' of it is still pending" + _because(waits.error),
            hint="what is displaced stays until it is done: mend the cause and retry the operation",
        )
    return await drop_parked(session, found.number, manner or Manner(lock_timeout_s=0.2))


def _because(error: str | None) -> str:
    return f": {error}" if error else ""


@asynccontextmanager
async def _switching(session: DatabaseSession, manner: Manner, doing: str) -> AsyncIterator[Connection]:
    """Hold a transaction in which nobody else switches."""
    async with transaction(session, manner, doing, durable=True) as writer:
        if not await generation_records.try_switch_lock(writer):
            raise LockNotAcquired(f"{doing}: another switch is under way", hint="it is short; try again")
        yield writer


async def _ended(session: DatabaseSession, done: Switched) -> Switched:
    try:
        found = await generations.find(session.writer, number=done.generation.number)
    except psycopg.Error as error:
        raise translated(error, f"looking at generation {done.generation.key}") from error
    return replace(done, generation=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Switch:
    """One try of a switch in its transaction."""

    session: DatabaseSession
    found: TrackedGeneration
    back: bool
    policy: Policy
    manner: Manner
    retain: timedelta = RETAIN

    async def run(self, writer: Connection) -> Switched:
        """Look and refuse, or record, rename and bind anew."""
        number, back = self.found.number, self.back
        seen = await generations.before_switch(
            writer, number, back=back, checked=self.policy.checked and not back
        )
        error = refusal(self._doing, seen.findings, seen.dependents, self.policy, back=back)
        if error is not None:
            raise error
        carried = await self._carry(writer, seen.findings)
        # Recorded first: what others could meet is held for the shorter then.
        await self._record(writer)
        rename = QUERIES["rename_schema"].as_string()
        texts = [
            rename.format(schema=quote_identifier(before), target=quote_identifier(after))
            for before, after in seen.renames
        ]
        # Read before the renames: they name what they read as it is called once all is taken back.
        kept = await self._texts_in_place(writer) if seen.in_place and not back else ()
        self.manner.interference.at("before switch")
        if texts:
            await send(writer, texts)
        if seen.in_place:
            await self._in_place(writer, seen.told, kept)
        else:
            await self._tell(writer, seen.told)
        await self._rebind(writer, seen.dependents)
        self.manner.interference.at("inside switch")
        return Switched(
            generation=self.found,
            carried=carried,
            rebound=tuple(one.identity for one in seen.dependents),
        )

    async def _record(self, writer: Connection) -> None:
        fence, number = self.session.fence, self.found.number
        if self.back:
            await generation_records.settle_revert(writer, fence, number)
        else:
            await generation_records.settle_switch(writer, fence, number, self.retain)

    @property
    def _doing(self) -> str:
        return f"{'reverting' if self.back else 'promoting'} generation {self.found.key}"

    async def _carry(self, writer: Connection, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Give what becomes live the grants that were given by hand, before anybody reads it."""
        if self.policy.hand_made is not HandMade.CARRY or not any(one.kind == "grant" for one in findings):
            return ()
        statements = await generations.hand_made_grants(writer, self.found.number, back=self.back)
        for statement in statements:
            await writer.execute(statement.encode())
        return statements

    async def _texts_in_place(self, writer: Connection) -> Sequence[dict[str, Any]]:
        try:
            return await generation_records.texts_in_place(writer, self.found.number)
        except psycopg.Error as error:
            raise translated(error, f"{self._doing}: reading what a stable schema has") from error

    async def _in_place(
        self, writer: Connection, told: Sequence[Told], kept: Sequence[dict[str, Any]]
    ) -> None:
        """Change stable schemas: move, run their texts, and drop what was tried; or take that back."""
        fence, number = self.session.fence, self.found.number
        doing = f"{self._doing}: changing a stable schema"
        try:
            if self.back:
                await generation_records.revert_in_place(writer, fence, number)
                return
            await generation_records.move_in_place(writer, fence, number, kept)
        except psycopg.Error as error:
            if self.back and error.sqlstate in _NOT_IN_PLACE:
                raise Refused(f"{doing}: {error.diag.message_primary}", hint=_ONLY_ADDED) from error
            raise translated(error, doing) from error
        await self._tell(writer, told)
        await generation_records.settle_in_place(writer, fence, number)

    async def _tell(self, writer: Connection, told: Sequence[Told]) -> None:
        """Run the texts that name what was renamed just now, and record how the objects stand since."""
        for one in told:
            for text in one.texts:
                try:
                    await writer.execute(text.encode())
                except psycopg.Error as error:
                    doing = (
                        f"{self._doing}: telling {one.sort.value} {one.name.schema}.{one.name.name} its names"
                    )
                    raise translated(error, doing) from error
        if told:
            await generation_records.record_details(writer, self.found.number, [one.name for one in told])

    async def _rebind(self, writer: Connection, dependents: Sequence[Dependent]) -> None:
        for one in dependents:
            assert one.statement is not None
            try:
                await writer.execute(one.statement.encode())
            except psycopg.Error as error:
                raise translated(error, f"{self._doing}: binding {one.identity} anew") from error
            await generation_records.record_dependent(writer, self.found.number, one, back=self.back)
        if dependents:
            await generation_records.record_rebound(writer, [one.oid for one in dependents])


def refusal(
    doing: str,
    findings: Sequence[Finding],
    dependents: Sequence[Dependent],
    policy: Policy,
    *,
    back: bool = False,
) -> ReconcilerError | None:
    """Say why a switch must not be made; None where it may. On the way `back` what was altered comes back."""
    overtaken = tuple(one for one in findings if one.kind in ("base", "read"))
    if overtaken:
        schemas = "; ".join(f"schema '{one.subject}' has {one.detail}" for one in overtaken)
        return Overtaken(
            f"{doing}: overtaken: live now: {schemas}",
            overtaken,
            hint="cancel it, and build it anew upon what is live now",
        )
    allowed = set[str]()
    if policy.hand_made is not HandMade.REFUSE:
        allowed.add("grant")
    if policy.altered:
        allowed.add("live object")
    in_the_way = [
        one
        for one in findings
        if one.kind not in allowed and not (back and policy.altered and _came_altered(one))
    ]
    in_the_way += [
        Finding(
            kind="dependent",
            subject=one.identity,
            detail="it depends on what is displaced"
            + ("" if one.statement is not None else ", and cannot be bound anew in place"),
        )
        for one in dependents
        if one.statement is None or not policy.adopt
    ]
    if not in_the_way:
        return None
    return Surprised(
        f"{doing}: found in the way: {listed(tuple(in_the_way))}",
        tuple(in_the_way),
        hint=f"nothing was changed: {'; '.join(_ways_out(in_the_way, dependents, policy, back=back))}",
    )


def _came_altered(one: Finding) -> bool:
    """Whether somebody altered what goes live: on the way back, maybe before it was displaced."""
    return (one.kind, one.detail) == ("staged object", "it was altered")


def _ways_out(
    found: Sequence[Finding], dependents: Sequence[Dependent], policy: Policy, *, back: bool
) -> Iterator[str]:
    """Say what to do about each kind of thing in the way, with the key of the component that allows it."""
    kinds = {one.kind for one in found}
    if not policy.adopt and any(one.statement is not None for one in dependents):
        yield "bring what depends on it into the folder of the objects, or allow it with `dependents: adopt`"
    if any(one.statement is None for one in dependents):
        yield "drop what cannot be bound anew, or bring it into the folder of the objects"
    if "grant" in kinds:
        yield "take grants back, or allow them with `handMadeGrants: carry` or `leave`"
    if any(one.kind == "live object" or (back and _came_altered(one)) for one in found):
        yield "take back what was altered by hand, or allow it with `altered: replace`"
    if kinds & {"unknown", "unknown staged"}:
        yield "move what was not built from objects to another schema, or drop it"
    if kinds - {"dependent", "grant", "live object", "unknown", "unknown staged"}:
        yield "undo what else was done by hand; a retry builds anew what is missing"


def _must_be_ready(found: TrackedGeneration, policy: Policy) -> None:
    wanted = (GenerationState.READY,) if policy.checked else (GenerationState.READY, GenerationState.STAGED)
    if found.state not in wanted:
        raise Conflict(
            f"promoting generation {found.key}: it is {found.state.value}",
            hint="make it ready first"
            if found.state in generations.BEFORE_SWITCH
            else "it is over; build a new one",
        )


def _must_be_revertible(found: TrackedGeneration, *, in_window: bool) -> None:
    doing = f"reverting generation {found.key}"
    if found.state is not GenerationState.LIVE:
        raise Conflict(f"{doing}: it is {found.state.value}", hint="what is live can be reverted")
    if in_window and not found.in_window:
        raise Conflict(
            f"{doing}: what it displaced was kept until {found.retained_until:%Y-%m-%d %H:%M:%S %Z}",
            hint="revert the commit instead",
        )
