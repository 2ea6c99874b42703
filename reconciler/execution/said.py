"""What scripts say with `\\echo`, for the log of their operation; the server never hears of it."""

from collections.abc import Iterable, Iterator

from reconciler.changes.expansion import Message
from reconciler.changes.script import Script
from reconciler.errors import StepFailed
from reconciler.execution.scripts import ScriptFault, fault_of
from reconciler.state.program import Purpose, compile_script

BYTES_MAX = 8 * 1024
"""Of what is kept of one change; what is cut off is told."""
_CUT = "… (cut)"

Scripts = Iterable[tuple[Script | None, Purpose]]


def said_by(scripts: Scripts) -> str:
    """The lines that scripts of a change say, in their order; empty where they say nothing."""
    return _text(message for script, purpose in scripts for message in _messages(script, purpose))


def said_before(scripts: Scripts, error: BaseException) -> str:
    """What they had said when one of them failed, as psql has; empty where nobody knows how far they were."""
    fault = fault_of(error)
    if fault is not None:
        return _text(_until(scripts, fault))
    # At the end of the transaction all of them were through.
    return said_by(scripts) if isinstance(error, StepFailed) else ""


def _until(scripts: Scripts, fault: ScriptFault) -> Iterator[Message]:
    broken = fault.program.statements[fault.statement]
    end = broken.offset + len(broken.text)
    for script, purpose in scripts:
        failed = purpose is fault.program.purpose
        yield from (one for one in _messages(script, purpose) if not failed or one.offset <= end)
        if failed:
            return


def _messages(script: Script | None, purpose: Purpose) -> tuple[Message, ...]:
    if script is None or ("\\" not in script.text and script.expansion is None):
        return ()
    return compile_script(script, purpose=purpose).messages


def _text(messages: Iterable[Message]) -> str:
    text = "\n".join(message.text for message in messages).replace("\x00", "")
    if len(text.encode()) <= BYTES_MAX:
        return text
    return text.encode()[: BYTES_MAX - len(_CUT.encode())].decode(errors="ignore") + _CUT
