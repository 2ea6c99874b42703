"""What scripts say with `\\echo`, for the log of their operation; the server never hears of it."""

from collections.abc import Iterable, Iterator

from reconciler.changes.script import Script
from reconciler.state.program import Program, Purpose, compile_script

BYTES_MAX = 8 * 1024
"""Of what is kept of one change; what is cut off is told."""
_CUT = "… (cut)"


def said_by(scripts: Iterable[tuple[Script | None, Purpose]]) -> str:
    """The lines that scripts of a change say, in their order; empty where they say nothing."""
    text = "\n".join(_lines(scripts)).replace("\x00", "")
    if len(text.encode()) <= BYTES_MAX:
        return text
    return text.encode()[: BYTES_MAX - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _lines(scripts: Iterable[tuple[Script | None, Purpose]]) -> Iterator[str]:
    for script, purpose in scripts:
        if script is not None and ("\\" in script.text or script.expansion is not None):
            program: Program = compile_script(script, purpose=purpose)
            yield from (message.text for message in program.messages)
