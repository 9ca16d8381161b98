"""The loader: for every update, the micro-batches of one rank, decoded ahead on threads.

Threads and not processes, because Pillow decodes without holding Python's lock; and because what
they return is fixed by the plan before any of them starts, none of them can change an order.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from deepgen.config.model import MAX_PROMPT_TOKENS, SIZE_UNIT
from deepgen.data.collate import Example, MicroBatch, draw_text
from deepgen.data.dataset import BucketKey, DataSet
from deepgen.data.latents import MomentsCache, read_pixels
from deepgen.data.order import MicroBatchPlan, Stream, Visit, Visits, plan_of
from deepgen.data.randomness import key_of, permuted
from deepgen.data.records import ImageRef, Record, Split, Task
from deepgen.errors import DataError, ImageError
from deepgen.types import Pixels, Prompt

READ_TRIES = 3
"""Network disks stumble; one that fails three times over a second is gone."""

FIRST_PAUSE_SECONDS = 0.2
"""Before the second try; each further pause is four times as long."""

TOLERATED = 2
"""Samples that may be bad in any data set: of twenty images a single one is 5 % already."""

NAMED = 5
"""Samples that a message names; the rest is counted."""

SUBSTITUTES = 8
"""How many stand-ins of the same size, and then of others, are tried for a sample."""

WORDS = 64
"""Tokens that references have to leave: a template has about 20, an instruction about 30."""

TOO_LONG = "prompt_too_long"
"""Why a sample is replaced whose references leave no room for words."""

MAX_REFERENCE_TOKENS = MAX_PROMPT_TOKENS - WORDS
"""Of all references of a sample together, one for every 32 x 32 pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPlan:
    """How much of a task goes into one update."""

    microbatch_size: int
    """Samples per forward pass."""
    microbatches: int
    """Forward passes per update, on all ranks together; the number of ranks changes nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderOptions:
    """What is loaded, and how it is prepared."""

    tasks: dict[Task, TaskPlan]
    seed: int
    side: int = 512
    """Images are brought to about ``side * side`` pixels in their own shape."""
    split: Split = "train"
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Threads."""
    prefetch: int = 2
    """Updates that are decoded ahead."""
    max_bad_share: float = 0.01
    """Of the samples that may turn out damaged; beyond it the run stops. Two always may."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("a loader needs at least one task")
        if self.workers < 1 or self.prefetch < 0:
            raise ValueError(
                f"a loader needs a thread and cannot prefetch less than nothing, "
                f"got {self.workers} and {self.prefetch}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Substitution:
    """A line of the journal: whom another sample stood in for, and why."""

    step: int
    sample_id: str
    substitute_id: str
    substitute_row: int
    reason: str
    message: str

    @property
    def is_damage(self) -> bool:
        """Whether the sample is not what it was; that references are too large was known."""
        return self.reason != TOO_LONG


_Pending = tuple[MicroBatchPlan, list[Future[tuple[Example, Substitution | None]]]]


class Loader:
    """Gives each rank the micro-batches of an update; :meth:`batches` is a function of the step.

    A sample that cannot be decoded, or whose references alone fill a prompt, is replaced by one of
    its own bucket (of another if that has none), chosen by seed and sample, and noted in
    ``journal``. Substitutes of an earlier run can be handed in, so that a file mended in the
    meantime does not change the order of a resumed one.

    Args:
        data: Where samples come from.
        options: What is loaded.
        journal: Substitutions of the run so far.
        moments: Cached moments, which then stand in the place of targets.

    Raises:
        DataError: The data set has no sample of a task that is asked for, or none that fits.
    """

    def __init__(
        self,
        data: DataSet,
        options: LoaderOptions,
        *,
        journal: Sequence[Substitution] = (),
        moments: MomentsCache | None = None,
    ) -> None:
        if moments is not None and moments.side != options.side:
            raise ValueError(f"moments for side {moments.side}, but side is {options.side}")
        self.data = data
        self.moments = moments
        self.options = options
        self.journal: list[Substitution] = []
        self._recent: list[Substitution] = []
        self._known: dict[tuple[int, str], Substitution] = {}
        self.replay(journal)
        keys, self._buckets = data.bucket_keys(options.side)
        self._reference_tokens = np.array([_reference_tokens(key) for key in keys])
        self._fits = self._reference_tokens <= MAX_REFERENCE_TOKENS
        self._rows = {
            task: data.rows(task=task, split=options.split) for task in sorted(options.tasks)
        }
        for task, rows in self._rows.items():
            if len(rows) == 0:
                raise DataError(
                    f"{data.folder} has no {options.split} samples of task {task}; "
                    "import some, or leave that task out"
                )
            if not self._fits[self._buckets[rows]].any():
                raise DataError(
                    f"the references of every {task} sample of split {options.split} in "
                    f"{data.folder} have more than {MAX_REFERENCE_TOKENS} tokens at side "
                    f"{options.side}; train at a smaller side"
                )
        # Edits before drawings, on all ranks.
        self.streams = [
            Stream(
                Visits(self._rows[task], seed=options.seed, name=task),
                self._buckets,
                microbatch_size=plan.microbatch_size,
                microbatches=plan.microbatches,
            )
            for task, plan in sorted(options.tasks.items())
        ]

    def replay(self, journal: Sequence[Substitution]) -> None:
        """Make the substitutions of an earlier start of the run again, whatever can be read now."""
        self.journal = list(journal)
        self._known = {(each.step, each.sample_id): each for each in journal}
        self._bad = {each.sample_id: each.message for each in journal if each.is_damage}
        # Those were judged by the start that found them; by now they may have been mended.
        self._has_new_bad = False

    def take_substitutions(self) -> list[Substitution]:
        """Those in the micro-batches handed out since this was last asked."""
        recent, self._recent = self._recent, []
        return recent

    def count_substitutions(self, found: Sequence[Substitution]) -> None:
        """Let those of all ranks count among what is damaged, so that all stop at the same update.

        Args:
            found: Of an update, on all ranks together; one's own are known already.
        """
        for each in found:
            if each not in self.journal:
                self.journal.append(each)
                if each.is_damage:
                    self._bad[each.sample_id] = each.message
                    self._has_new_bad = True

    def plan(self, step: int, *, rank: int = 0, world_size: int = 1) -> list[MicroBatchPlan]:
        """Which samples a rank visits in an update, without reading any."""
        return plan_of(self.streams, step, rank=rank, world_size=world_size)

    def batches(self, step: int, *, rank: int = 0, world_size: int = 1) -> list[MicroBatch]:
        """The micro-batches of one rank for one update.

        Raises:
            DataError: A shard cannot be read, a sample and all its substitutes cannot be decoded,
                or too many samples could not in earlier updates.
        """
        return next(self._stream(step, rank=rank, world_size=world_size, prefetch=0))

    def stream(
        self, first_step: int = 0, *, rank: int = 0, world_size: int = 1
    ) -> Generator[list[MicroBatch], None, None]:
        """As :meth:`batches`, for ``first_step`` and all updates after it, decoded ahead."""
        ahead = self.options.prefetch
        return self._stream(first_step, rank=rank, world_size=world_size, prefetch=ahead)

    def _stream(
        self, first_step: int, *, rank: int, world_size: int, prefetch: int
    ) -> Generator[list[MicroBatch], None, None]:
        with ThreadPoolExecutor(self.options.workers) as pool:
            ahead: deque[list[_Pending]] = deque()
            step = first_step
            try:
                while True:
                    self._judge()
                    while len(ahead) <= prefetch:
                        plans = self.plan(step, rank=rank, world_size=world_size)
                        ahead.append([self._submit(pool, plan) for plan in plans])
                        step += 1
                    yield [self._collect(pending) for pending in ahead.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, plan: MicroBatchPlan) -> _Pending:
        return plan, [pool.submit(self._example, plan.step, visit) for visit in plan.visits]

    def _collect(self, pending: _Pending) -> MicroBatch:
        """Wait for a micro-batch; the journal is written here, in the order of the plan."""
        plan, futures = pending
        examples = []
        for future in futures:
            example, substitution = future.result()
            examples.append(example)
            if substitution is not None:
                self._recent.append(substitution)
                self.count_substitutions([substitution])
        return MicroBatch(
            step=plan.step,
            task=examples[0].record.task,
            examples=examples,
            update_samples=plan.update_samples,
        )

    def _judge(self) -> None:
        """Stop a run whose data are going bad, before it has learned from what is left of them.

        Between updates, when whoever keeps the journal has been told of the last one.
        """
        samples = sum(len(rows) for rows in self._rows.values())
        allowed = max(TOLERATED, int(self.options.max_bad_share * samples))
        if self._has_new_bad and len(self._bad) > allowed:
            more = len(self._bad) - NAMED
            names = ", ".join(islice(self._bad, NAMED)) + (f" and {more} more" if more > 0 else "")
            raise DataError(
                f"{len(self._bad)} of {samples} samples cannot be read, at most {allowed} may: "
                f"{names}; one because {next(iter(self._bad.values()))}. deepgen data check "
                f"{self.data.folder} lists what is damaged; mend it, or raise --max-bad-share"
            )

    def _example(self, step: int, visit: Visit) -> tuple[Example, Substitution | None]:
        """A sample or who stands in for it; runs in a worker thread."""
        record = self.data.record(visit.row)
        known = self._known.get((step, record.sample_id))
        if known is not None:
            return self._read(replace(visit, row=known.substitute_row)), known
        reason: str
        if self._fits[self._buckets[visit.row]]:
            try:
                return self._read(visit), None
            except ImageError as error:
                reason, message = error.reason, str(error)
        else:
            tokens = self._reference_tokens[self._buckets[visit.row]]
            reason = TOO_LONG
            message = (
                f"the references of {record.sample_id} have {tokens} tokens at side "
                f"{self.options.side}, at most {MAX_REFERENCE_TOKENS} leave room for words"
            )
        for row in self._substitutes(visit, record):
            try:
                example = self._read(replace(visit, row=row))
            except ImageError:
                continue
            return example, Substitution(
                step=step,
                sample_id=record.sample_id,
                substitute_id=example.record.sample_id,
                substitute_row=row,
                reason=reason,
                message=message,
            )
        raise DataError(
            f"{message}, and no other sample can be read in its place; deepgen data check "
            f"{self.data.folder} lists what is damaged"
        )

    def _substitutes(self, visit: Visit, record: Record) -> list[int]:
        """Rows of the same task, first those of the same bucket, in an order of the sample."""
        rows = self._rows[record.task]
        rows = rows[self._fits[self._buckets[rows]] & (rows != visit.row)]
        alike = self._buckets[rows] == self._buckets[visit.row]
        key = key_of(self.options.seed, "substitute", record.sid)
        chosen: list[int] = []
        for group in (rows[alike], rows[~alike]):
            places = permuted(np.arange(min(SUBSTITUTES, len(group))), len(group), key)
            chosen += group[places].tolist()
        return chosen

    def _read(self, visit: Visit) -> Example:
        """Read and decode a sample.

        Raises:
            ImageError: One of its images is not what it was at the import.
        """
        record = self.data.record(visit.row)
        options = self.options
        text = draw_text(record, visit, seed=options.seed)
        references = tuple(self._pixels(record, each) for each in record.references)
        cache = self.moments
        return Example(
            visit=visit,
            record=record,
            prompt=Prompt(text=text, references=references),
            target=self._pixels(record, record.target) if cache is None else None,
            moments=None
            if cache is None
            else tuple(cache.moments(visit.row, each) for each in range(len(record.images))),
        )

    def _pixels(self, record: Record, image: ImageRef) -> Pixels:
        return _patiently(lambda: read_pixels(self.data, record, image, self.options.side))


def _reference_tokens(key: BucketKey) -> int:
    """Image tokens of the references of a bucket's samples."""
    return sum(height * width for height, width in key[1]) // SIZE_UNIT**2


def _patiently(read: Callable[[], Pixels]) -> Pixels:
    """Read, and again after a pause where the disk does not answer.

    Raises:
        DataError: It never did.
    """
    pause = FIRST_PAUSE_SECONDS
    for remaining in reversed(range(READ_TRIES)):
        try:
            return read()
        except OSError as error:
            if remaining == 0:
                raise DataError(
                    f"{error.filename or 'a shard'} cannot be read ({error.strerror}); "
                    "is its disk still there?"
                ) from None
        time.sleep(pause)
        pause *= 4
    raise AssertionError("the last try returns or raises")
