"""Runs a plan: ``python perf/gpu_kit.py run PLAN --out FOLDER``, or the same from a bundle.

Exit codes: 0 all rows are filled, 1 some failed, 2 it could not start or resume, 3 rows are left
for another start of the same command.
"""

from __future__ import annotations

import argparse
import errno
import gc
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from gpu.environment import describe
from gpu.plan import PLANS, RUN_SECONDS, Context, Plan, Row, Task, load_plan
from gpu.record import FILE, Record, State
from gpu.result import described

ALL_DONE, ROWS_FAILED, CANNOT_START, ROWS_LEFT = 0, 1, 2, 3

GRACE_SECONDS = 15.0
"""A task that is still running so long after the deadline is ended with its process."""

LOG = "log.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a plan; the exit code."""
    started = time.monotonic()
    options = _parse(arguments)
    folder: Path = options.out / options.plan
    try:
        plan = load_plan(options.plan)
        device = open_device(options.device or ("cpu" if options.toy else "cuda"))
        folder.mkdir(parents=True, exist_ok=True)
        record = Record(folder / FILE, plan.name, [task.name for task in plan.tasks])
        context = Context(
            device=device,
            toy=options.toy,
            folder=folder,
            golden=_existing(options.golden),
            renders=_existing(options.renders),
            deadline=started + options.seconds,
        )
        record.start(describe(device, toy=options.toy))
        return run_plan(plan, context, record)
    except (ValueError, ImportError) as error:
        return _refuse(_one_line(error))
    except OSError as error:
        return _refuse(_disk_line(error, options.out))


def run_plan(plan: Plan, context: Context, record: Record) -> int:
    """Run what is left of a plan, and say how far it got; the exit code."""
    for task in tasks_left(plan, record):
        if context.left() <= 0 or (not context.toy and task.seconds > context.left()):
            break
        _run_task(task, context, record)
    done, failed = record.count("done"), record.count("failed")
    total = len(plan.tasks)
    print(f"{plan.name}: {done} of {total} rows done, {failed} failed; {record.path}")
    if done + failed < total:
        print(f"{plan.name}: start it again to resume", file=sys.stderr)
        return ROWS_LEFT
    return ROWS_FAILED if failed else ALL_DONE


def tasks_left(plan: Plan, record: Record) -> list[Task]:
    """Tasks whose rows are not done; those that failed come last, in case they fail again."""
    left = [task for task in plan.tasks if record.state_of(task.name) != "done"]
    return sorted(left, key=lambda task: record.state_of(task.name) == "failed")


def open_device(name: str) -> torch.device:
    """The device, after a first computation on it.

    Raises:
        ValueError: It cannot be used: no GPU, a driver that is too old for this torch, or a GPU
            that this torch was not built for.
    """
    device = torch.device(name)
    try:
        torch.ones(1, device=device).add_(1).cpu()
    # Builds without CUDA fail by an assertion.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"torch {torch.__version__} cannot compute on {name}: {_one_line(error)}; a plan needs "
            "an NVIDIA GPU with a driver for this torch (--toy rehearses it on a CPU)"
        ) from error
    return device


def _run_task(task: Task, context: Context, record: Record) -> None:
    print(f"{task.name} ...", flush=True)
    record.begin(task.name)
    started = time.monotonic()

    def finish(state: State, result: Row | None = None, error: str = "") -> None:
        record.finish(task.name, state, time.monotonic() - started, result, error)
        lines = described(result or {}, toy=context.toy)
        print(f"{task.name}: {error or state}", *lines, sep="\n  ", flush=True)

    try:
        with _ended_after(context, lambda: finish("cut off", error="ran past the time limit")):
            _check_memory(task, context)
            result = dict(task.run(context))
        # Before it is written, so that the row fails instead of the record.
        json.dumps(result, allow_nan=False)
    except KeyboardInterrupt:
        finish("cut off", error="interrupted")
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        with (context.folder / LOG).open("a") as log:
            log.write(f"== {task.name}\n{traceback.format_exc()}\n")
        finish("failed", error=_error_of_task(error))
    else:
        is_part = result.pop("state", "") == "part"
        if result.get("ok") is False:
            finish("failed", result, "not within its bounds")
        else:
            finish("part" if is_part else "done", result)
    finally:
        _release(context.device)


@contextmanager
def _ended_after(context: Context, mark: Callable[[], None]) -> Iterator[None]:
    """Mark the row and end the process when a task overruns; nothing else ends a GPU call."""

    def end() -> None:
        mark()
        sys.stdout.flush()
        os._exit(ROWS_LEFT)

    timer = threading.Timer(max(0.0, context.left()) + GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_memory(task: Task, context: Context) -> None:
    if context.device.type != "cuda" or context.toy:
        return
    torch.cuda.reset_peak_memory_stats()
    free, total = (each / 2**30 for each in torch.cuda.mem_get_info())
    if task.gib > free:
        raise MemoryError(
            f"needs {task.gib:g} GiB of GPU memory; {free:.1f} of {total:.1f} are free"
        )


def _release(device: torch.device) -> None:
    """Leave the next task a device as the first one found it."""
    # Importing it takes seconds, and only what compiled something has anything to forget.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _error_of_task(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of GPU memory: {_one_line(error)}"
    return f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _disk_line(error: OSError, out: Path) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left for {out}; rows measured before are kept: make room and start again"
    return _one_line(error)


def _refuse(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return CANNOT_START


def _existing(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    return folder


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--out", type=Path, required=True, help="folder of records and images")
    parser.add_argument("--toy", action="store_true", help="toy sizes, on the CPU")
    parser.add_argument("--device", help="default: cuda, with --toy cpu")
    parser.add_argument("--golden", type=Path, help="folder of reference numbers")
    parser.add_argument("--renders", type=Path, help="folder of drawings rendered beforehand")
    parser.add_argument("--seconds", type=float, default=RUN_SECONDS, help="time for this start")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
