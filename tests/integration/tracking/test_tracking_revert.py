"""Taking the record of a change back, and knowing whose a module is."""

import pytest

from reconciler.errors import LeaseLost, ReconcilerError
from reconciler.postgres.connection import Connection
from reconciler.state.tracked import Revertible
from reconciler.tracking.fence import Fence
from reconciler.tracking.read import read_log, read_revertible, read_tracked
from reconciler.tracking.record import (
    Actor,
    ChangeRecord,
    ModuleIdentity,
    TagRecord,
    change_deployed,
    change_reverted,
)


async def test_a_reverted_change_leaves_its_event(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Its row goes with tags and dependencies; its event keeps what it had, and it may be deployed again."""
    change = ChangeRecord(
        change_id="1",
        name="orders",
        requires=(("require", "users", None), ("conflict", "old", None)),
        tags=(TagRecord("t1", "v1"),),
    )
    await change_deployed(connection, fence, module, change, actor)
    await change_reverted(connection, fence, "shop", ("1", "orders"), actor)
    assert (await read_tracked(connection)).modules["shop"].changes == ()
    event = (await read_log(connection))[0]
    assert (event.kind, event.name, event.tags) == ("revert", "orders", ("v1",))
    assert (event.requires, event.conflicts) == (("users",), ("old",))
    await change_deployed(connection, fence, module, change, actor)
    assert [row.kind for row in await read_log(connection)] == ["deploy", "revert", "deploy"]


async def test_only_what_is_deployed_can_be_forgotten(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """A change of another project, and one that is not there, are named and nothing is written."""
    await change_deployed(connection, fence, module, ChangeRecord(change_id="1", name="orders"), actor)
    for project, change_id in (("other", "1"), ("shop", "2")):
        with pytest.raises(ReconcilerError, match="is not deployed"):
            await change_reverted(connection, fence, project, (change_id, "orders"), actor)
    assert len(await read_log(connection)) == 1


async def test_a_revert_checks_the_fence(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Whoever lost the fence forgets nothing."""
    await change_deployed(connection, fence, module, ChangeRecord(change_id="1", name="orders"), actor)
    await fence.release()
    with pytest.raises(LeaseLost):
        await change_reverted(connection, fence, "shop", ("1", "orders"), actor)
    assert len((await read_tracked(connection)).modules["shop"].changes) == 1


async def test_a_module_says_whose_it_is(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor, superuser
) -> None:
    """Environment and deployment are those of the fence; what an older version recorded is nobody's."""
    await change_deployed(connection, fence, module, ChangeRecord(change_id="1", name="orders"), actor)
    found = (await read_tracked(connection)).modules["shop"]
    assert (found.environment, found.deployment) == ("production", "eu")
    superuser.execute("UPDATE reconciler.modules SET environment = NULL, deployment = NULL")
    found = (await read_tracked(connection)).modules["shop"]
    assert (found.environment, found.deployment) == (None, None)
    superuser.execute(
        "ALTER TABLE reconciler.modules DROP COLUMN environment CASCADE, DROP COLUMN deployment CASCADE"
    )
    found = (await read_tracked(connection)).modules["shop"]
    assert (found.environment, found.deployment) == (None, None)


async def test_what_is_needed_to_revert_is_read_back(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Stored scripts and requirements, by change id."""
    first = ChangeRecord(change_id="1", name="users", revert_script="drop table users")
    second = ChangeRecord(change_id="2", name="orders", requires=(("require", "users", "1"),))
    await change_deployed(connection, fence, module, first, actor)
    await change_deployed(connection, fence, module, second, actor)
    assert await read_revertible(connection) == {
        "1": Revertible(script="drop table users"),
        "2": Revertible(script=None, requires=("users",), requires_ids=("1",)),
    }
