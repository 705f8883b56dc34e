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

from latentdc import cli

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
        import_module(command.module)
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
