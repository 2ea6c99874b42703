"""Speaking to a manager of systemd over D-Bus: each call has a deadline, and nothing is decided here.

One connection for each piece of work: it costs about a millisecond, and none is ever found to be stale.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import prep_socket

from reconciler.runtimes.systemd_sight import Refused, UnitState

_CALL_S = 25.0
_CONNECT_S = 5.0
_READ_BYTES = 65536
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_UNIT = f"{_NAME}.Unit"
_SERVICE = f"{_NAME}.Service"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_OF_A_SERVICE = (
    "MainPID", "NRestarts", "ExecMainStatus", "ExecMainCode", "Result", "ExecMainStartTimestampMonotonic",
)  # fmt: skip
_OF_A_UNIT = ("StateChangeTimestamp", "NeedDaemonReload", "Job")


def address_of(*, user: bool, environment: Mapping[str, str] | None = None) -> str:
    """Where the bus of the system is, or that of the user that we are."""
    given = os.environ if environment is None else environment
    if not user:
        return given.get("DBUS_SYSTEM_BUS_ADDRESS") or _SYSTEM_BUS
    place = given.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return given.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={place}/bus"


class SystemdBus:
    """A connection to one manager; not for two threads at once."""

    def __init__(self, address: str) -> None:
        try:
            self._socket: socket.socket = prep_socket(get_bus(address), timeout=_CONNECT_S)
        except TimeoutError as error:
            raise TimeoutError(f"the bus at '{address}' does not answer") from error
        except (RuntimeError, ValueError) as error:
            raise OSError(f"the bus at '{address}' is not one of this machine") from error
        self._parser = Parser()
        self._serials = count(1)
        try:
            bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
            self._ask([new_method_call(bus, "Hello")])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection up."""
        self._socket.close()

    def states(self, names: Sequence[str]) -> dict[str, UnitState]:
        """How units are, by name; it changes none, and says `not-found` of those that are not there."""
        if not names:
            return {}
        (rows,) = self._manager("ListUnitsByNames", "as", list(names))
        found = {
            row[0]: UnitState(name=row[0], load=row[2], active=row[3], sub=row[4], path=row[6])
            for row in rows
        }
        return {name: self._in_full(found[name]) for name in names if name in found}

    def _in_full(self, state: UnitState) -> UnitState:
        if state.load != "loaded":
            return state
        wanted = [*((_SERVICE, each) for each in _OF_A_SERVICE), *((_UNIT, each) for each in _OF_A_UNIT)]
        at = DBusAddress(state.path, _NAME, _PROPERTIES)
        answers = self._ask([new_method_call(at, "Get", "ss", each) for each in wanted])
        got: dict[str, Any] = {name: answer[0][1] for (_, name), answer in zip(wanted, answers, strict=True)}
        return UnitState(
            name=state.name,
            load=state.load,
            active=state.active,
            sub=state.sub,
            path=state.path,
            main_pid=got["MainPID"],
            restarts=got["NRestarts"],
            main_status=got["ExecMainStatus"],
            main_code=got["ExecMainCode"],
            result=got["Result"],
            has_run=got["ExecMainStartTimestampMonotonic"] > 0,
            since=got["StateChangeTimestamp"] / 1e6 or None,
            is_outdated=got["NeedDaemonReload"],
            has_job=got["Job"][0] != 0,
        )

    def version(self) -> int:
        """Which systemd it is."""
        at = DBusAddress(_PATH, _NAME, _PROPERTIES)
        ((answer,),) = self._ask([new_method_call(at, "Get", "ss", (_MANAGER, "Version"))])
        digits = "".join(each if each.isdigit() else " " for each in str(answer[1])).split()
        return int(digits[0]) if digits else 0

    def enable(self, path: Path) -> None:
        """Let a unit file be found under its name, and start at boot where it says so."""
        self._manager("EnableUnitFiles", "asbb", [str(path)], False, True)

    def disable(self, name: str) -> None:
        """Take away what `enable` made."""
        self._manager("DisableUnitFiles", "asb", [name], False)

    def may_enable(self) -> None:
        """Raise Refused where unit files may not be enabled; it enables none."""
        self._manager("EnableUnitFiles", "asbb", [], False, False)

    def reload(self) -> None:
        """Have all unit files read anew."""
        self._manager("Reload", "")

    def start(self, name: str) -> None:
        """Ask for a start; it goes on when this returns."""
        self._manager("StartUnit", "ss", name, "replace")

    def stop(self, name: str) -> None:
        """Ask for a stop; it goes on when this returns."""
        self._manager("StopUnit", "ss", name, "replace")

    def reset_failed(self, name: str) -> None:
        """Let it forget that it failed, and how often it was started."""
        self._manager("ResetFailedUnit", "s", name)

    def _manager(self, member: str, signature: str, *arguments: Any) -> tuple[Any, ...]:
        at = DBusAddress(_PATH, _NAME, _MANAGER)
        call = new_method_call(at, member, signature, arguments) if signature else new_method_call(at, member)
        return self._ask([call])[0]

    def _ask(self, calls: Iterable[Message]) -> list[tuple[Any, ...]]:
        """Send calls all at once, and give their answers in order."""
        deadline = time.monotonic() + _CALL_S
        serials = []
        sent = b""
        for call in calls:
            serials.append(next(self._serials))
            sent += call.serialise(serial=serials[-1])
        self._socket.settimeout(_CALL_S)
        try:
            self._socket.sendall(sent)
            answers = self._answers(set(serials), deadline)
        except TimeoutError as error:
            raise TimeoutError(f"systemd did not answer within {_CALL_S:g} s") from error
        return [_body(answers[serial]) for serial in serials]

    def _answers(self, wanted: set[int], deadline: float) -> dict[int, Message]:
        found: dict[int, Message] = {}
        read = 0
        while wanted - set(found):
            message = self._parser.get_next_message()
            if message is None:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = self._socket.recv(_READ_BYTES)
                read += len(chunk)
                if not chunk or read > _ANSWER_BYTES_MAX:
                    raise ConnectionResetError("the bus closed the connection")
                self._parser.add_data(chunk)
            elif (serial := message.header.fields.get(HeaderFields.reply_serial)) in wanted:
                found[serial] = message
        return found


def _body(message: Message) -> tuple[Any, ...]:
    if message.header.message_type is MessageType.error:
        name = str(message.header.fields.get(HeaderFields.error_name, ""))
        raise Refused(name, str(message.body[0]) if message.body else "")
    return tuple(message.body)


@contextmanager
def connected(address: str) -> Iterator[SystemdBus]:
    """A connection for a piece of work."""
    bus = SystemdBus(address)
    try:
        yield bus
    finally:
        bus.close()
