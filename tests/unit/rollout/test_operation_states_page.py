"""The reference page of the operation states is made from the table."""

from pathlib import Path

from reconciler.rollout import reference
from reconciler.rollout.states import OperationEvent, OperationState

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "operation-states.md"


def test_page_is_current() -> None:
    """The committed page is what the table renders to."""
    assert PAGE.read_text() == reference.render()


def test_page_names_every_state_and_event() -> None:
    """No state and no event is missing from the page."""
    text = reference.render()
    for name in (*OperationState, *OperationEvent):
        assert f"| `{name}` |" in text
