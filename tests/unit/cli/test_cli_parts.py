"""What commands are made of: addresses, settings, printing, errors, waiting."""

import contextlib
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typing_extensions import override

from reconciler.cli import address, settings_file, waiting
from reconciler.cli.command import guarded
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, ago, clock, printable, short, span
from reconciler.errors import NotFound, Refused, SettingsError
from reconciler.settings import Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:1", "http://localhost:1"),
        ("https://reconciler.example.com", "https://reconciler.example.com:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://x.example.com/below/", "https://x.example.com:443/below"),
    ],
)
def test_server_addresses(given: str, url: str) -> None:
    """A server may be a URL or host:port, and one that was named is marked as such."""
    found = address.find(given, None, {"RECONCILER_LISTEN": "127.0.0.1:9"})
    assert (found.url, found.given) == (url, True)


@pytest.mark.parametrize("given", ["ftp://x", "http://", "http://x:port", "http://u:p@x", "http://x:99999"])
def test_wrong_server_addresses(given: str) -> None:
    """What is no address is refused, without repeating what may hold a password."""
    with pytest.raises(SettingsError) as caught:
        address.find(given, None, {})
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        (":80", "http://127.0.0.1:80"),
        ("10.1.2.3:80", "http://10.1.2.3:80"),
    ],
)
def test_where_to_call_what_is_listened_on(listen: str, url: str) -> None:
    """An address that means every interface is called on the loopback one."""
    assert address.of_listen(listen).url == url


def test_address_is_what_the_settings_say(tmp_path: Path) -> None:
    """The quick look at the settings finds the same `listen` as loading them whole."""
    config = tmp_path / "reconciler.yaml"
    config.write_text("listen: 127.0.0.1:1234\nstate_dir: x\n")
    for environ in ({}, {"RECONCILER_LISTEN": "127.0.0.1:4321"}):
        whole = settings_file.load(str(config), environ).listen
        assert address.find(None, str(config), environ).url == f"http://{whole}"
    default = Settings.model_fields["listen"].default
    assert default == address.DEFAULT_LISTEN


def test_settings_are_read_strictly(tmp_path: Path) -> None:
    """A duplicate key, a second document, a missing file: each is an error that names the file."""
    config = tmp_path / "reconciler.yaml"
    for text in ("listen: a:1\nlisten: b:2\n", "- 1\n", "a: 1\n---\nb: 2\n", "unknown: 1\n", "listen: [\n"):
        config.write_text(text)
        with pytest.raises(SettingsError, match=r"reconciler\.yaml"):
            settings_file.load(str(config), {})
    with pytest.raises(NotFound, match="nowhere"):
        settings_file.load(str(tmp_path / "nowhere.yaml"), {})


def test_settings_order(tmp_path: Path) -> None:
    """Options win over the environment, the environment over the file, the file over the defaults."""
    config = tmp_path / "reconciler.yaml"
    config.write_text("listen: 127.0.0.1:1\nworkers: 7\n")
    environ = {"RECONCILER_LISTEN": "127.0.0.1:2"}
    assert settings_file.load(str(config), {}).listen == "127.0.0.1:1"
    assert settings_file.load(str(config), environ).listen == "127.0.0.1:2"
    over = settings_file.load(str(config), environ, {"listen": "127.0.0.1:3"})
    assert (over.listen, over.workers) == ("127.0.0.1:3", 7)


def test_paths_of_settings_are_meant_from_their_file(tmp_path: Path) -> None:
    """A daemon started elsewhere finds the same repository and state; URLs stay as they are."""
    config = tmp_path / "reconciler.yaml"
    config.write_text(
        "state_dir: state\nsources:\n"
        "- {name: a, url: ./a}\n- {name: b, url: 'https://x/y'}\n- {name: c, url: /c}\n"
    )
    found = settings_file.load(str(config), {})
    assert found.state_dir == str(tmp_path / "state")
    assert [source.url for source in found.sources] == [str(tmp_path / "a"), "https://x/y", "/c"]


def test_default_state_dir_belongs_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's state is the system's; a user's is below the home, where it can be written."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert settings_file.default_state_dir({}) == "/var/lib/reconciler"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert settings_file.default_state_dir({"HOME": "/home/x"}) == "/home/x/.local/state/reconciler"
    assert settings_file.default_state_dir({"XDG_STATE_HOME": "/s"}) == "/s/reconciler"


def test_styles_stay_off_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours appear on a terminal only, and not there either where they are not wanted."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Screen(out=Terminal()).styled("x", "red") == "\x1b[31mx\x1b[0m"
    assert Screen(out=io.StringIO()).styled("x", "red") == "x"
    assert Screen(out=Terminal(), color=False).styled("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen(out=Terminal()).styled("x", "red") == "x"


def test_tables_are_aligned_and_whole() -> None:
    """Columns are as wide as their cells, numbers stand right, and no name can break a line."""
    out = io.StringIO()
    Screen(out=out).table(("NAME", "N"), [("a" * 200, "7"), ("b\nc\x1b[31m", "1234")])
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1] == "a" * 200 + "     7"
    assert lines[2].startswith(r"b\nc\x1b[31m ")
    assert lines[2].endswith("  1234")


def test_a_narrow_encoding_stops_nothing() -> None:
    """What a stream cannot hold is written escaped."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen(out=stream).line("ünï \udcff")
    assert raw.getvalue() == b"\\xfcn\\xef \\udcff\n"


def test_words_for_times() -> None:
    """Durations have one unit, times are to the second in UTC."""
    now = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert ago("2026-03-01T11:59:57.5Z", now) == "2.5 s ago"
    assert ago("2026-03-01T11:00:00Z", now) == "60 min ago"
    assert ago("2026-02-27T12:00:00Z", now) == "2 d ago"
    assert ago("2026-03-01T12:00:09Z", now) == "0.0 s ago"
    assert ago(None, now) == "never"
    assert span(119) == "119 s"
    assert clock("2026-03-01T14:00:00.123+02:00") == "2026-03-01 12:00:00Z"
    assert (short(None), short("0123456789abcdef")) == ("-", "0123456789ab")
    assert printable("a\tb\u202e") == "a\\tb\\u202e"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (Refused("no", hint="yes"), "error: no\nhint: yes\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), "error: no such file or directory 'x'\n"),
        (ValueError("password=hunter2"), "error: internal error: ValueError: password=***\n"),
        (Refused("evil \x1b[2J name\nsecond line"), "error: evil \\x1b[2J name\nsecond line\n"),
    ],
)
def test_errors_become_words(error: Exception, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every error is one of words, without a traceback, a secret or a control character."""
    err = io.StringIO()

    def fail() -> ExitCode:
        raise error

    assert guarded(Screen(out=io.StringIO(), err=err), fail) == 1
    assert err.getvalue().startswith(shown)
    assert "Traceback" not in err.getvalue()
    monkeypatch.setenv("RECONCILER_DEBUG", "1")
    assert guarded(Screen(out=io.StringIO(), err=err), fail) == 1
    assert "Traceback" in err.getvalue()
    assert "hunter2" not in err.getvalue()


def test_ctrl_c_is_no_error() -> None:
    """Ctrl-C ends a command with the code that shells expect."""

    def interrupt() -> ExitCode:
        raise KeyboardInterrupt

    assert guarded(Screen(out=io.StringIO(), err=io.StringIO()), interrupt) == 130
    with pytest.raises(typer.BadParameter):
        guarded(Screen(out=io.StringIO(), err=io.StringIO()), _bad_parameter)


def _bad_parameter() -> ExitCode:
    raise typer.BadParameter("x")


def rollout(state: str, *operations: str) -> dict[str, Any]:
    return {"state": state, "operations": [{"state": each} for each in operations]}


@pytest.mark.parametrize(
    ("seen", "settled", "code"),
    [
        (rollout("pending"), False, ExitCode.CANCELLED),
        (rollout("running", "completed", "running"), False, ExitCode.CANCELLED),
        (rollout("running_degraded", "failed", "retrying"), False, ExitCode.CANCELLED),
        (rollout("running", "completed", "completed"), False, ExitCode.CANCELLED),
        (rollout("completed", "completed", "completed"), True, ExitCode.OK),
        (rollout("failed", "completed", "failed"), True, ExitCode.FAILED),
        (rollout("paused", "failed", "pending"), True, ExitCode.FAILED),
        (rollout("waiting_for_approval", "waiting_for_approval"), True, ExitCode.CANCELLED),
        (rollout("cancelled", "cancelled", "cancelled"), True, ExitCode.CANCELLED),
        (rollout("superseded", "superseded"), True, ExitCode.CANCELLED),
        (rollout("revert_window", "revert_window"), True, ExitCode.OK),
        (rollout("revert_window", "revert_window", "completed"), True, ExitCode.OK),
        (rollout("revert_window", "revert_window", "failed"), True, ExitCode.FAILED),
        (rollout("revert_window", "revert_window", "cancelled"), True, ExitCode.CANCELLED),
        (rollout("waiting_for_promotion", "waiting_for_promotion"), True, ExitCode.CANCELLED),
        (rollout("waiting_for_promotion", "waiting_for_promotion", "failed"), True, ExitCode.FAILED),
        (
            {
                "state": "waiting_for_promotion",
                "operations": [{"state": "waiting_for_promotion", "waits_for_person": False}],
            },
            False,
            ExitCode.CANCELLED,
        ),
        (
            {"state": "completed", "operations": [{"state": "completed", "blocked": ["it lacks x"]}]},
            True,
            ExitCode.FAILED,
        ),
    ],
)
def test_when_a_rollout_has_settled(seen: dict[str, Any], settled: bool, code: ExitCode) -> None:
    """A rollout has settled when nothing more happens by itself; what is left running is not waited out."""
    assert waiting.settled(seen) is settled
    assert waiting.code_of(seen) is code


PARKED, OPEN = "waiting_for_promotion", "revert_window"


def those(state: str, **states: str) -> dict[str, Any]:
    return {
        "state": state,
        "operations": [{"deployment": name, "state": each} for name, each in states.items()],
    }


@pytest.mark.parametrize(
    ("verb", "before", "end", "code"),
    [
        ("revert", those(OPEN, eu=OPEN), those("reverted", eu="reverted"), ExitCode.OK),
        ("revert", those(OPEN, eu=OPEN), those("failed", eu="failed"), ExitCode.FAILED),
        ("revert", those(OPEN, eu=OPEN), those(OPEN, eu=OPEN), ExitCode.FAILED),
        ("revert", those(OPEN, eu=OPEN), those("running", eu="reverting"), ExitCode.CANCELLED),
        (
            "revert",
            those("failed", eu="failed", us=OPEN),
            those("failed", eu="failed", us="reverted"),
            ExitCode.OK,
        ),
        ("promote", those(PARKED, eu=PARKED, us=PARKED), those(PARKED, eu=OPEN, us=PARKED), ExitCode.OK),
        (
            "promote",
            those(PARKED, eu=PARKED, us=PARKED),
            those(PARKED, eu="failed", us=PARKED),
            ExitCode.FAILED,
        ),
        (
            "promote",
            those(PARKED, eu=PARKED, us="pending"),
            those("failed", eu=OPEN, us="failed"),
            ExitCode.FAILED,
        ),
        ("promote", those(PARKED, eu=PARKED), those(PARKED, eu=PARKED), ExitCode.CANCELLED),
    ],
)
def test_who_got_what_was_asked_for_is_told_of_success(
    verb: str, before: dict[str, Any], end: dict[str, Any], code: ExitCode
) -> None:
    """What a promotion or a revert was about counts, and what failed since; nothing else."""
    moved = {"revert": "reverting", "promote": "promoting"}[verb]
    after = {**before, "operations": [dict(one) for one in before["operations"]]}
    first = next(one for one in after["operations"] if one["state"] in {PARKED, OPEN})
    first["state"] = moved
    meant = waiting.meant_by(verb, before, after)
    assert meant is not None
    assert meant.deployments == {first["deployment"]}
    assert waiting.came_of(end, meant) is code
    assert waiting.meant_by(verb, before, before) is None
    assert waiting.meant_by("start", before, after) is None


def test_one_deployment_is_waited_for_alone() -> None:
    """What one deployment came to counts where it was meant, whatever the others wait for."""
    states = {"eu": "completed", "us": "waiting_for_approval"}
    operations = [{"deployment": name, "state": state} for name, state in states.items()]
    whole = {"state": "waiting_for_approval", "operations": operations}
    assert waiting.code_of(waiting.part_of(whole, "eu")) is ExitCode.OK
    assert waiting.code_of(waiting.part_of(whole, "us")) is ExitCode.CANCELLED
    assert waiting.part_of(whole, None) is whole


def test_every_state_settles_or_does_not() -> None:
    """Each state of an operation is one in which something goes on, or one that the waiting knows."""
    from reconciler.rollout.states import IN_FLIGHT, OperationState, RolloutState

    moving = {state.value for state in IN_FLIGHT} | {"pending", "retrying"}
    assert {state.value for state in OperationState} == moving | waiting.SETTLED | waiting.WAITING
    assert {state.value for state in RolloutState} == moving | set(waiting.CODES) | {"running_degraded"}


def test_files_of_keys_are_meant_from_the_settings_file(tmp_path: Path) -> None:
    """Relative names of keys are of the folder of the settings file, absolute ones stay, and the rest too."""
    config = tmp_path / "reconciler.yaml"
    config.write_text(
        "sources:\n  - name: p\n    url: ssh://git@h.example/x\n"
        "    auth: {ssh_key: keys/git, known_hosts: /etc/known_hosts}\n"
        "    signatures: {gpg_keys: [ada.asc, /etc/bob.asc], ssh_allowed_signers: ./signers}\n"
    )
    (source,) = settings_file.load(str(config), {}).sources
    assert source.url == "ssh://git@h.example/x"
    assert source.auth is not None
    assert source.signatures is not None
    assert (source.auth.ssh_key, source.auth.known_hosts, source.auth.ca) == (
        str(tmp_path / "keys/git"),
        "/etc/known_hosts",
        None,
    )
    assert source.signatures.gpg_keys == (str(tmp_path / "ada.asc"), "/etc/bob.asc")
    assert source.signatures.ssh_allowed_signers == str(tmp_path / "signers")


class _Answer:
    """What nobody is to write out: of a long rollout that takes longer than all else."""

    written = 0

    @override
    def __repr__(self) -> str:
        self.written += 1
        return "answer"


class _Looking:
    async def module_status(self, *_names: object, **_more: object) -> Any:
        return {"answer": _Answer()}


def test_no_answer_is_written_out_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a coroutine gives does not pass the runner, which puts it into an error that nobody sees."""
    from reconciler.cli import local_looks

    monkeypatch.setattr(local_looks, "to_json", lambda value: value)
    opening = contextlib.nullcontext(_Looking())
    looks = local_looks.LocalLooks(opening, lambda opened: cast("Any", opened))
    answer = looks.module_status("shop", deployment=None)["answer"]
    looks.close()
    assert answer.written == 0
