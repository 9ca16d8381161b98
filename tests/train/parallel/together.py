"""Starting several processes that train one model, as torchrun does, without its start-up time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from deepgen.errors import StoppedError
from deepgen.train.parallel.distributed import joined

TIMEOUT_SECONDS = 240
"""Longer than any run of the tests takes, on a busy machine too."""

STOPPED = 75


class Together:
    """Some processes that run the same function.

    Args:
        target: Called with the processes and the arguments.
        world_size: How many there are.
        folder: The target's first argument; where an error is written down.
        arguments: All others.
        timeout_seconds: How long they may take.
    """

    def __init__(
        self,
        target: Callable[..., None],
        world_size: int,
        folder: str,
        *arguments: Any,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        context = multiprocessing.get_context("forkserver")
        # What all tests of training need; only the first list of a session is used.
        context.set_forkserver_preload([__name__, "tests.train.killing"])
        port = _free_port()
        self.processes: list[ForkServerProcess] = []
        for rank in range(world_size):
            process = context.Process(
                target=_run, args=(target, rank, world_size, port, folder, arguments)
            )
            process.start()
            self.processes.append(process)

    def exit_codes(self) -> list[int | None]:
        """Wait for all of them."""
        for process in self.processes:
            process.join(self.timeout_seconds)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def send(self, number: signal.Signals, rank: int) -> None:
        """Send a signal to one of them."""
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def kill(self) -> None:
        """End all of them at once, whatever they do."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def is_alive(self) -> bool:
        """Whether any of them still runs."""
        return any(process.is_alive() for process in self.processes)


def _run(
    target: Callable[..., None],
    rank: int,
    world_size: int,
    port: int,
    folder: str,
    arguments: tuple[Any, ...],
) -> None:
    """One of them, in the environment that torchrun gives."""
    torch.set_num_threads(1)
    names = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    code = 0
    try:
        with joined(torch.device("cpu")) as processes:
            target(processes, folder, *arguments)
    except StoppedError:
        code = STOPPED
    except Exception as error:
        Path(folder, f"error_{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        code = 1
    raise SystemExit(code)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
