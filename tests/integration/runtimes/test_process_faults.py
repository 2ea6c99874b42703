"""Services as processes when things go wrong: nothing is left running twice, and nothing is left over."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import PermanentError, RuntimeUnavailable
from reconciler.runtimes import instance as files
from reconciler.runtimes import process, processes, transient
from reconciler.runtimes.forked import Forker
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Limits, Logs, Observed, Port, Restart, RestartWhen, ServiceState
from tests.plugins.services import API, FOR_EVER, ProcessBench, bench, shell, until

__all__ = ["bench"]

ONCE = Restart(when=RestartWhen.NEVER)
DEAF = "trap '' TERM; echo $$ >> {place}/pids; while :; do sleep 1000; done"


async def look(bench: ProcessBench, instance: str = "one") -> Observed:
    found = await bench.again().observe("production", "eu", "api")
    return next(each for each in found if each.instance == instance)


async def in_state(bench: ProcessBench, state: ServiceState, instance: str = "one") -> Observed:
    async def condition() -> Observed | None:
        found = await look(bench, instance)
        return found if found.state is state else None

    return await until(condition, f"'{instance}' to be {state}")


async def written(bench: ProcessBench, name: str, lines: int = 1) -> list[str]:
    async def condition() -> list[str] | None:
        found = bench.read(name).splitlines()
        return found if len(found) >= lines else None

    return await until(condition, f"{lines} lines in '{name}'")


def kill_supervisor(bench: ProcessBench, number: int = signal.SIGKILL) -> int:
    pid = files.holder(bench.folder("one"))
    assert pid is not None
    os.kill(pid, number)
    return pid


def is_running(pid: str | int) -> bool:
    found = processes.look(int(pid))
    return found is not None and not found.zombie


def kernel_says(pid: int | None, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def without_supervisor(bench: ProcessBench) -> None:
    kill_supervisor(bench)

    async def condition() -> bool:
        return files.holder(bench.folder("one")) is None

    await until(condition, "the supervisor to be gone")


async def test_supervisor_killed_under_a_deaf_service(bench: ProcessBench) -> None:
    """A service that outlives its supervisor is told of, and ended before it is started anew: never two."""
    spec = shell(DEAF.format(place=bench.place), grace_s=0.2)
    await bench.runtime.apply(spec, "one")
    (pid,) = await written(bench, "pids")
    await without_supervisor(bench)
    found = await look(bench)
    assert found.state is ServiceState.UNHEALTHY
    assert "its supervisor was killed" in found.reason
    assert pid in found.reason
    await bench.again().apply(spec, "one")
    _, other = await written(bench, "pids", 2)
    assert other != pid
    assert not is_running(pid)
    assert (await in_state(bench, ServiceState.HEALTHY)).handle == f"pid {other}"


async def test_supervisor_killed_under_a_polite_service(bench: ProcessBench) -> None:
    """A service that ends when it is asked to does not outlive its supervisor."""
    await bench.runtime.apply(shell(FOR_EVER), "one")
    await without_supervisor(bench)
    found = await in_state(bench, ServiceState.EXITED)
    assert found.reason == "its supervisor was killed, and it ended"
    assert bench.pids() == []


async def test_removed_after_its_supervisor_was_killed(bench: ProcessBench) -> None:
    """What runs without a supervisor goes with its instance, children in sessions of their own too."""
    await bench.runtime.apply(
        shell("setsid sleep 1000 & " + DEAF.format(place=bench.place), grace_s=0.2), "one"
    )
    await written(bench, "pids")
    await without_supervisor(bench)
    assert len(bench.pids()) >= 2
    await bench.again().remove(API, "one")
    assert bench.pids() == []


async def test_frozen_supervisor_is_removed(bench: ProcessBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that does not answer is killed in the end, and its service ended without it."""
    monkeypatch.setattr(process, "_ASKED_S", 0.2)
    await bench.runtime.apply(shell(FOR_EVER, grace_s=0.1), "one")
    bench.pids()
    kill_supervisor(bench, signal.SIGSTOP)
    await bench.runtime.remove(API, "one")
    assert bench.pids() == []
    assert await bench.runtime.observe("production", "eu") == ()


async def test_pid_of_another_program(bench: ProcessBench) -> None:
    """A pid that is somebody else's by now is neither taken for the service nor touched."""
    spec = shell(FOR_EVER)
    await bench.runtime.apply(spec, "one")
    await without_supervisor(bench)
    await in_state(bench, ServiceState.EXITED)
    folder = bench.folder("one")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:  # noqa: ASYNC220 - it returns
        state = files.read_state(folder)
        files.write_state(
            folder, state._replace(pid=bystander.pid, supervisor=bystander.pid, phase=files.RUNNING)
        )
        assert (await look(bench)).state is ServiceState.EXITED
        found = await bench.runtime.apply(spec, "one")
        assert found.handle != f"pid {bystander.pid}"
        await without_supervisor(bench)
        files.write_state(folder, state._replace(pid=bystander.pid, phase=files.RUNNING))
        await bench.runtime.remove(API, "one")
        assert bystander.poll() is None
        bystander.kill()


async def test_daemon_killed_while_its_service_runs(bench: ProcessBench) -> None:
    """A service outlives the process that started it, however that ends."""
    text = f"""
import asyncio, os, signal
from pathlib import Path
from reconciler.runtimes.process import ProcessRuntime
from tests.plugins.services import FOR_EVER, shell
asyncio.run(ProcessRuntime(Path({str(bench.root)!r})).apply(shell(FOR_EVER), "one"))
os.killpg(0, signal.SIGKILL)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", text], timeout=60, check=False, start_new_session=True
    )
    assert done.returncode == -signal.SIGKILL
    found = await in_state(bench, ServiceState.HEALTHY)
    assert found.starts == 1
    assert (await bench.runtime.apply(shell(FOR_EVER), "one")).handle == found.handle


def test_killed_at_points_all_over(tmp_path: Path) -> None:
    """Wherever a daemon is killed while it applies or removes a service, the next one does what is left."""
    step = "1" if "RECONCILER_TEST_LONGER" in os.environ else "4"
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.runtimes.killed_anywhere", str(tmp_path), step],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["wrong"] == {}
    assert min(said["points"].values()) > 10


async def test_machine_was_started_anew(bench: ProcessBench) -> None:
    """What ran before the machine was started anew has ended, and pids of before mean nothing."""
    spec = shell(FOR_EVER)
    await bench.runtime.apply(spec, "one")
    await without_supervisor(bench)
    folder = bench.folder("one")
    await in_state(bench, ServiceState.EXITED)
    me = processes.look(os.getpid())
    assert me is not None
    state = files.read_state(folder)._replace(
        phase=files.RUNNING, boot="before", pid=me.pid, started=me.started
    )
    files.write_state(folder, state)
    found = await look(bench)
    assert (found.state, found.reason) == (ServiceState.EXITED, "the machine was started anew")
    assert (await bench.runtime.apply(spec, "one")).state is ServiceState.HEALTHY


async def test_killed_between_definition_and_start(
    bench: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written and not started is no service yet, and applying it again starts it."""
    with monkeypatch.context() as patch:
        patch.setattr(Forker, "start", lambda *_: "")
        patch.setattr(process, "_run", lambda *_: (1, ""))
        with pytest.raises(RuntimeUnavailable, match="its supervisor did not start"):
            await bench.runtime.apply(shell(FOR_EVER), "one")
    found = await look(bench)
    assert (found.state, found.reason) == (ServiceState.EXITED, "it was never started")
    assert (await bench.again().apply(shell(FOR_EVER), "one")).starts == 1


async def test_killed_while_it_is_removed(bench: ProcessBench) -> None:
    """A removal that was begun is never taken for a service, and is done first when it is applied again."""
    spec = shell(FOR_EVER)
    await bench.runtime.apply(spec, "one")
    files.retire(bench.folder("one"))
    found = await look(bench)
    assert (found.state, found.reason) == (ServiceState.UNHEALTHY, "it is being removed")
    pids = bench.pids()
    assert (await bench.again().apply(spec, "one")).state is ServiceState.HEALTHY
    assert not set(pids) & set(bench.pids())


async def test_retired_is_never_started_again(bench: ProcessBench) -> None:
    """A service that crashes while its removal was begun stays down."""
    await bench.runtime.apply(shell(FOR_EVER), "one")
    found = await look(bench)
    files.retire(bench.folder("one"))
    await bench.kill(found)
    assert (await in_state(bench, ServiceState.EXITED)).starts == 1


async def test_rest_of_a_removal_is_no_instance(bench: ProcessBench) -> None:
    """A folder whose removal was cut short is not seen, and does not stand in the way."""
    await bench.runtime.apply(shell(FOR_EVER, restart=ONCE), "one")
    await bench.runtime.remove(API, "one")
    bench.folder("one").mkdir(parents=True)
    (bench.folder("one") / files.LOCK).touch()
    assert await bench.runtime.observe("production", "eu") == ()
    assert (await bench.runtime.apply(shell(FOR_EVER), "one")).state is ServiceState.HEALTHY


async def test_goes_to_the_background(bench: ProcessBench) -> None:
    """A program that leaves its work to a child and ends has ended, and the child goes with it."""
    spec = shell("setsid sleep 1000 & exit 0", restart=ONCE)
    await bench.runtime.apply(spec, "one")
    found = await in_state(bench, ServiceState.EXITED)
    assert found.exit_status == 0
    assert "it left 1 processes behind" in found.reason
    assert bench.pids() == []


async def test_without_its_mark(bench: ProcessBench) -> None:
    """A child with an environment and a session of its own is ended with the service all the same."""
    spec = shell(
        f"env -i setsid sh -c 'echo $$ > {bench.place}/hidden; exec sleep 1000' & {FOR_EVER}", grace_s=0.5
    )
    await bench.runtime.apply(spec, "one")
    (pid,) = await written(bench, "hidden")
    await bench.runtime.remove(API, "one")
    assert not is_running(pid)


async def test_folder_taken_away(bench: ProcessBench) -> None:
    """A service that nobody could find any more does not run on."""
    await bench.runtime.apply(shell(FOR_EVER), "one")
    supervisor = files.holder(bench.folder("one"))
    assert supervisor is not None
    bench.pids()
    bench.root.rename(bench.root.with_name("elsewhere"))
    os.kill(supervisor, signal.SIGCHLD)  # it looks when it has something to do, and every few seconds

    async def condition() -> bool:
        return bench.pids() == []

    await until(condition, "the service to end")


async def test_program_that_went_away(bench: ProcessBench) -> None:
    """A program that is not there, or cannot be run, is told of, and tried no more often than allowed."""
    place = Path(bench.place)
    program = place / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    spec = shell("", argv=(str(program),), restart=Restart(delay_s=0.01, limit=3))
    with pytest.raises(PermanentError, match="cannot be run"):
        await bench.runtime.prepare(spec)
    program.chmod(0o755)
    await bench.runtime.prepare(spec)
    program.unlink()
    await bench.runtime.apply(spec, "one")
    found = await in_state(bench, ServiceState.EXITED)
    assert found.reason == f"running '{program}': no such file or directory; given up after 3 starts in a row"
    assert (found.starts, found.exit_status) == (3, None)


async def test_all_that_prepare_finds(bench: ProcessBench) -> None:
    """Program, folder, user, image and limits are looked at before anything is started, and told at once."""
    spec = shell(
        "",
        argv=("no-such-program",),
        cwd="/nowhere",
        user="nobody-at-all",
        image="shop",
        limits=Limits(memory_bytes=1),
    )
    with pytest.raises(PermanentError) as refused:
        await bench.runtime.prepare(spec)
    for each in (
        "'no-such-program' is not in",
        "'/nowhere' is no directory",
        "no user 'nobody-at-all'",
        "a process has no image",
        "limits only open files",
    ):
        assert each in str(refused.value)


async def test_folder_that_went_away(bench: ProcessBench) -> None:
    """A working directory that is gone when it starts is named."""
    spec = shell(FOR_EVER, cwd=f"{bench.place}/gone", restart=ONCE)
    await bench.runtime.apply(spec, "one")
    found = await in_state(bench, ServiceState.EXITED)
    assert found.reason == f"entering its working directory '{bench.place}/gone': no such file or directory"


async def test_port_that_is_taken(bench: ProcessBench) -> None:
    """A port of its own that somebody else listens on keeps it from being started; a chosen one is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        fixed = shell(FOR_EVER, ports=(Port(name="web", number=number),))
        assert not bench.runtime.may_stand_beside(fixed)
        with pytest.raises(PermanentError, match=f"its port {number} is taken"):
            await bench.runtime.apply(fixed, "one")
    assert await bench.runtime.observe("production", "eu") == ()
    spec = shell(f"echo $PORT_WEB > {bench.place}/port; {FOR_EVER}", ports=(Port(name="web"),))
    found = await bench.runtime.apply(spec, "one")
    assert await written(bench, "port") == [str(found.endpoints[0].port)]
    assert found.endpoints == (await look(bench)).endpoints


async def test_log_on_a_full_disk(bench: ProcessBench) -> None:
    """A service goes on where its log takes nothing, and its end is told all the same."""
    spec = shell(f"until test -e {bench.place}/go; do sleep 0.02; done; seq 100000; exit 4", restart=ONCE)
    await bench.runtime.apply(spec, "one")
    folder = bench.folder("one")
    (folder / files.STDOUT).symlink_to("/dev/full")
    (Path(bench.place) / "go").touch()
    assert (await in_state(bench, ServiceState.EXITED)).exit_status == 4
    assert files.read_state(folder).lost == sum(len(f"{each}\n") for each in range(1, 100001))


async def test_definition_on_a_full_disk(bench: ProcessBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a definition cannot be written whole, nothing is there, and it is tried again later."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_definition", full)
        with pytest.raises(RuntimeUnavailable, match="the disk is full"):
            await bench.runtime.apply(shell(FOR_EVER), "one")
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, 1, 0, 0, 1, 0, 0, 0, 0)))
        with pytest.raises(RuntimeUnavailable, match="the disk is full"):
            await bench.runtime.prepare(shell(FOR_EVER))
    assert await bench.runtime.observe("production", "eu") == ()
    assert list((bench.root / ".making").iterdir()) == []


async def test_removed_on_a_full_disk(bench: ProcessBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk keeps nobody from removing a service."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await bench.runtime.apply(shell(FOR_EVER), "one")
    bench.pids()
    with monkeypatch.context() as patch:
        patch.setattr(files, "retire", full)
        patch.setattr(Path, "rename", full)
        await bench.runtime.remove(API, "one")
    assert bench.pids() == []
    assert not bench.folder("one").exists()


async def test_damaged_files(bench: ProcessBench) -> None:
    """An instance whose files are damaged is unknown, which quotes nothing, and can still be removed."""
    await bench.runtime.apply(shell(FOR_EVER, env=(("A", "hunter2"),)), "one")
    pids = bench.pids()
    definition = bench.folder("one") / files.DEFINITION
    text = definition.read_text()
    definition.write_text(text[: len(text) // 2])
    found = await look(bench)
    assert found.state is ServiceState.UNKNOWN
    assert "hunter2" not in found.reason
    with pytest.raises(PermanentError, match="is damaged"):
        await bench.runtime.apply(shell(FOR_EVER), "one")
    await bench.runtime.remove(API, "one")
    assert not any(map(is_running, pids))


async def test_files_are_its_owners_alone(bench: ProcessBench) -> None:
    """Nobody else reads what is kept, and no value of the environment stands on a command line."""
    await bench.runtime.apply(shell(f"echo out; {FOR_EVER}", env=(("PASSWORD", "hunter2"),)), "one")

    async def condition() -> bool:
        return (bench.folder("one") / files.STDOUT).exists()

    await until(condition, "its log")
    for path in [bench.root, *bench.root.rglob("*")]:
        assert path.stat().st_mode & (0o066 if path.is_dir() else 0o077) == 0, path
    supervisor = files.holder(bench.folder("one"))
    for pid in (supervisor, *bench.pids()):
        assert b"hunter2" not in kernel_says(pid, "cmdline")
    assert b"hunter2" not in kernel_says(supervisor, "environ")


async def test_logs_are_bounded(bench: ProcessBench) -> None:
    """Each stream has so many files of so many bytes; the newest words are kept."""
    spec = shell("seq 20000; echo done", restart=ONCE, logs=Logs(bytes_max=1000, files=3))
    await bench.runtime.apply(spec, "one")
    await in_state(bench, ServiceState.EXITED)
    kept = sorted(path.name for path in bench.folder("one").glob("stdout.log*"))
    assert kept == ["stdout.log", "stdout.log.1", "stdout.log.2"]
    assert all((bench.folder("one") / name).stat().st_size <= 1000 for name in kept)
    assert (await bench.runtime.log_end(spec, "one")).endswith("20000\ndone")


async def test_limit_and_surroundings(bench: ProcessBench) -> None:
    """A service has the limit, the folder, the mask and the session of its own, and hears nobody's input."""
    spec = shell(
        "ulimit -n; pwd; umask; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l",
        cwd=bench.place,
        limits=Limits(open_files=64),
        restart=ONCE,
    )
    await bench.runtime.apply(spec, "one")
    await in_state(bench, ServiceState.EXITED)
    said = (await bench.runtime.log_end(spec, "one")).splitlines()
    # The three streams, and the folder that ls reads.
    assert said == ["64", bench.place, "0022", "/dev/null", "4"]


async def test_runs_as_another_user(bench: ProcessBench) -> None:
    """Root can have a service run as another; nobody else can."""
    name = "nobody" if os.geteuid() == 0 else "root"
    spec = shell(f"id -un; id -G; {FOR_EVER}", user=name)
    if os.geteuid() != 0:
        with pytest.raises(PermanentError, match="it cannot run as 'root': only root can choose"):
            await bench.runtime.prepare(spec)
        return
    await bench.runtime.prepare(spec)
    await bench.runtime.apply(spec, "one")

    async def said() -> list[str] | None:
        found = (await bench.runtime.log_end(spec, "one")).splitlines()
        return found if len(found) > 1 else None

    assert (await until(said, "the service to speak"))[0] == "nobody"
    await without_supervisor(bench)
    assert (await in_state(bench, ServiceState.EXITED)).reason == "its supervisor was killed, and it ended"


async def test_given_up_and_applied_again(bench: ProcessBench) -> None:
    """What was given up is tried as often as at first when it is applied again."""
    spec = shell("exit 1", restart=Restart(delay_s=0.01, limit=2))
    for starts in (2, 4):
        await bench.runtime.apply(spec, "one")
        found = await in_state(bench, ServiceState.EXITED)
        assert found.reason == "it exited with 1; given up after 2 starts in a row"
        assert found.starts == starts


async def test_folder_that_cannot_be_read(tmp_path: Path) -> None:
    """Where nothing can be said, that is not the same as nothing being there."""
    (tmp_path / "services").symlink_to("services")
    with pytest.raises(RuntimeUnavailable, match="looking at services of 'production/eu'"):
        await ProcessRuntime(tmp_path / "services").observe("production", "eu")


async def test_unit_that_may_start_no_other(bench: ProcessBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a unit whose manager starts no other, validation says so; outside of one nothing is in the way."""
    assert await bench.runtime.why_not() is None
    unit = transient.Unit(name="reconciler.service", is_of_a_user=False)
    monkeypatch.setattr(transient, "here", lambda: unit)
    monkeypatch.setenv("PATH", bench.place)
    assert await bench.runtime.why_not() == (
        "it runs in the unit 'reconciler.service', whose end would end every service,"
        " and systemd-run is not there to start them elsewhere"
    )
    fake = Path(bench.place) / "systemd-run"
    fake.write_text("#!/bin/sh\necho 'Interactive authentication required.' >&2\nexit 1\n")
    fake.chmod(0o755)
    why = await bench.runtime.why_not()
    assert why is not None
    assert why.endswith("and systemd does not let it start another: Interactive authentication required.")
    fake.write_text("#!/bin/sh\nexit 0\n")
    assert await bench.runtime.why_not() is None
