"""Who passes over what: the same answer everywhere, and little changes hands."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.reconcile.shares import share

NAMES = st.frozensets(st.text(min_size=1, max_size=8), max_size=40)
DAEMONS = st.lists(st.uuids().map(str), min_size=1, max_size=6, unique=True)


@given(names=NAMES, daemons=DAEMONS)
def test_every_name_is_exactly_one_daemons(names: frozenset[str], daemons: list[str]) -> None:
    """The shares are disjoint and cover everything, in whatever order daemons know each other."""
    shares = [share(names, me, daemons) for me in daemons]
    assert sum(len(each) for each in shares) == len(names)
    assert frozenset().union(*shares) == names
    assert shares == [share(names, me, list(reversed(daemons))) for me in daemons]


@given(names=NAMES, daemons=DAEMONS)
def test_only_what_a_lost_daemon_had_changes_hands(names: frozenset[str], daemons: list[str]) -> None:
    """Who stays keeps what it had."""
    if len(daemons) < 2:
        return
    lost, left = daemons[0], daemons[1:]
    for me in left:
        assert share(names, me, daemons) <= share(names, me, left)
        assert share(names, me, left) - share(names, me, daemons) <= share(names, lost, daemons)


def test_a_thousand_names_are_spread_evenly() -> None:
    """No daemon has much more than its part."""
    names = [f"environment-{number}" for number in range(1000)]
    daemons = ["a", "b", "c"]
    assert all(250 < len(share(names, me, daemons)) < 420 for me in daemons)
