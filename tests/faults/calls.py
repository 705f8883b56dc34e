"""One `latentdc` command in a process of its own, and whether it ends in an orderly way.

Processes are forked from one that has imported everything and computed nothing, so that a call
costs what it computes and not seconds of imports.
"""

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentdc import cli, heartbeat

LIMIT = 60.0  # seconds after which a call counts as hanging
MEMORY = 6 << 30  # bytes that a call may map beyond those that are mapped when it starts
SOON = 0.005  # seconds between two looks at a process
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
STOPPED = 128 + signal.SIGINT  # the exit code of a command that Ctrl-C has stopped
ERROR = "latentdc: error: "

Fault = Callable[[], None]


@dataclass(frozen=True)
class End:
    """How a call ended: its exit code, minus a signal's number, or None where it did not end."""

    code: int | None
    text: str
    seconds: float

    def complaint(self) -> str | None:
        """Why this is not an orderly end: neither done, nor refused or broken in one line."""
        last = (self.text.strip().splitlines() or [""])[-1]
        if self.code is None:
            return f"no end after {self.seconds:.0f} s"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        if "Traceback (most recent call last)" in self.text:
            return f"traceback: {last[:160]}"
        errors = [line for line in self.text.splitlines() if line.startswith(ERROR)]
        if self.code in (1, 2, STOPPED) and (len(errors) != 1 or not last.startswith(ERROR)):
            return f"code {self.code}, {len(errors)} error lines, the last line: {last[:160]}"
        return None if self.code in (0, 1, 2, STOPPED) else f"code {self.code}: {last[:160]}"


def warm() -> None:
    """Import what commands import, so that their processes need not."""
    from importlib import import_module

    import datasets
    import diffusers
    import sklearn.datasets
    import torch
    import transformers

    assert datasets and diffusers and sklearn and transformers
    torch.set_num_threads(1)
    for command in cli.COMMANDS.values():
        import_module(f"latentdc.{command.module}")
    for module in ("run", "evaluate.evaluate", "priors.diffusion", "experts.training"):
        import_module(f"latentdc.{module}")


def call(
    arguments: Sequence[str],
    folder: Path,
    *,
    limit: float = LIMIT,
    kill_after: float | None = None,
    before: Fault | None = None,
) -> End:
    """Run `latentdc ARGUMENTS` in `folder`.

    Args:
        arguments: of the command line.
        folder: working directory; caches lie in it too.
        limit: seconds after which it is ended, and counts as hanging.
        kill_after: seconds after which it is sent SIGKILL.
        before: what is done in the new process before the command, such as setting a limit.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _command(list(arguments), folder, writer, before)
    os.setpgid(child, child)  # a group of its own, with whatever it starts
    os.close(writer)
    output, end = b"", began + (limit if kill_after is None else kill_after)
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        output += _written(reader)
        if found:
            code: int | None = os.waitstatus_to_exitcode(status)
            break
        time.sleep(SOON)
    else:
        code = None if kill_after is None else -signal.SIGKILL
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    output += _written(reader)
    os.close(reader)
    return End(code, output.decode(errors="replace"), time.monotonic() - began)


def call_ranks(
    arguments: Sequence[str], folder: Path, count: int, port: int, before: Fault | None = None
) -> list[End]:
    """Run `latentdc ARGUMENTS` on so many processes, as a launcher does.

    Where one of them fails the others are sent SIGTERM, and SIGKILL after a while. All are one
    group. Other arguments as of `call`; `port` is one that they may meet at.
    """
    began, group = time.monotonic(), 0
    texts = [folder / f"rank-{rank}.txt" for rank in range(count)]
    running: dict[int, int] = {}  # ranks by their process
    codes: list[int | None] = [None] * count
    for rank, path in enumerate(texts):
        child = os.fork()
        if child == 0:
            os.setpgid(0, group)
            os.environ |= {
                **{"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": f"{count}"},
                **{"LOCAL_WORLD_SIZE": f"{count}", "MASTER_ADDR": "127.0.0.1"},
                **{"MASTER_PORT": f"{port}", "ACCELERATE_USE_CPU": "true", "LATENTDC_SILENCE": "4"},
            }
            output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            _command(list(arguments), folder, output, before)
        group = group or child
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, group)
        running[child] = rank
    failed: float | None = None  # when
    while running and time.monotonic() < began + LIMIT:
        for child in [*running]:
            found, status = os.waitpid(child, os.WNOHANG)
            if not found:
                continue
            code = codes[running.pop(child)] = os.waitstatus_to_exitcode(status)
            if code and failed is None:
                failed = time.monotonic()
                for other in running:
                    os.kill(other, signal.SIGTERM)
        if failed is not None and time.monotonic() > failed + 20:
            break
        time.sleep(SOON)
    for child in running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    seconds = time.monotonic() - began
    written = [path.read_text(errors="replace") if path.exists() else "" for path in texts]
    return [End(code, text, seconds) for code, text in zip(codes, written, strict=True)]


def _written(reader: int) -> bytes:
    """What lies in a pipe."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(reader, 1 << 16):
            parts.append(part)
    return b"".join(parts)


def _command(arguments: list[str], folder: Path, output: int, before: Fault | None) -> None:
    """The child's whole life."""
    code = 70
    try:
        os.chdir(folder)
        os.environ["HOME"] = str(folder / "home")  # which a recipe may name
        os.environ["LATENTDC_CACHE"] = str(folder / "cache")
        os.environ["HF_HOME"] = str(folder / "hf")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)
        sys.stderr = open(2, "w", buffering=1, closefd=False)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        if before is not None:
            before()
        cli.main(arguments)
        code = 0
        for heart in heartbeat._hearts:
            heart.end()  # at exit, which this process leaves out
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 1
        os._exit(code)


def watch_files(folder: Path, seen: Callable[[int, list[str]], None]) -> Fault:
    """A fault that calls `seen(number, paths)` before each change of a file under `folder`."""

    def start() -> None:
        count = 0

        def hook(event: str, given: tuple[object, ...]) -> None:
            nonlocal count
            if event == "open":
                if not (isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
                    return
                given = given[:1]
            elif event not in CHANGES:
                return
            paths = [os.fsdecode(path) for path in given if isinstance(path, bytes | str)]
            if any(os.path.abspath(path).startswith(f"{folder}{os.sep}") for path in paths):
                count += 1
                seen(count, paths)

        sys.addaudithook(hook)

    return start


def signal_at(folder: Path, number: int, sign: signal.Signals) -> Fault:
    """A signal just before the change of that number, counted from 1."""

    def seen(count: int, paths: list[str]) -> None:
        if count == number:
            os.kill(os.getpid(), sign)

    return watch_files(folder, seen)


def kill_near(folder: Path, name: str, times: int) -> Fault:
    """SIGKILL just before so many changes of paths that contain `name`."""
    met = 0

    def seen(count: int, paths: list[str]) -> None:
        nonlocal met
        met += any(name in path for path in paths)
        if met == times:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch_files(folder, seen)
