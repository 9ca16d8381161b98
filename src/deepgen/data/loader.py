"""The loader: for every step, the micro-batches of one rank, decoded ahead on threads.

Threads and not processes, because Pillow releases Python's lock while it decodes. What they return
is fixed by the plan before any of them starts, so their timing never changes an order.
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

from deepgen.config.checks import check_at_least
from deepgen.config.model import MAX_PROMPT_TOKENS, SIZE_UNIT
from deepgen.data.collate import LoadedSample, MicroBatch, draw_text
from deepgen.data.dataset import BucketKey, DataSet
from deepgen.data.latents import LatentCache, read_pixels
from deepgen.data.order import EpochOrder, MicroBatchPlan, Occurrence, Stream, plan_of
from deepgen.data.randomness import key_of, permuted
from deepgen.data.records import ImageRef, Record, Split, Task
from deepgen.errors import DataError, ImageError
from deepgen.types import Pixels, Prompt

READ_TRIES = 3
"""Network disks fail now and then; one that fails three times over a second is gone."""

FIRST_PAUSE_SECONDS = 0.2
"""Before the second try; each further pause is four times as long."""

TOLERATED = 2
"""Damaged samples accepted in any data set: of twenty images a single one is 5 % already."""

NAMED = 5
"""Samples named in a message; the rest is counted."""

SUBSTITUTES = 8
"""How many replacements of the same size, and then of others, are tried for a sample."""

TEXT_TOKENS = 64
"""Tokens reserved for text: a template has about 20, an instruction about 30."""

TOO_LONG = "prompt_too_long"
"""Why a sample is replaced whose references leave no room for text."""

MAX_REFERENCE_TOKENS = MAX_PROMPT_TOKENS - TEXT_TOKENS
"""Tokens of all references of a sample together, one for every 32 x 32 pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPlan:
    """How much of a task goes into one step."""

    microbatch_size: int
    """Samples per micro-batch."""
    microbatches: int
    """Per step, on all ranks together; the number of ranks changes nothing."""

    @property
    def samples(self) -> int:
        """Per step, on all ranks together."""
        return self.microbatch_size * self.microbatches


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderOptions:
    """What is loaded, and how it is prepared."""

    tasks: dict[Task, TaskPlan]
    seed: int
    side: int = 512
    """Images are resized to about ``side * side`` pixels in their own shape."""
    split: Split = "train"
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Threads."""
    prefetch: int = 2
    """Steps decoded ahead."""
    max_bad_fraction: float = 0.01
    """Fraction of samples that may turn out damaged; beyond it the run stops. Two always may."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("a loader needs at least one task")
        check_at_least("workers", self.workers, 1)
        check_at_least("prefetch", self.prefetch, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """A line of the log: which sample was replaced by which, and why."""

    step: int
    sample_id: str
    replacement_id: str
    replacement_row: int
    reason: str
    message: str

    @property
    def is_damage(self) -> bool:
        """Whether the sample changed since its import; too large references were known."""
        return self.reason != TOO_LONG


_Pending = tuple[MicroBatchPlan, list[Future[tuple[LoadedSample, Replacement | None]]]]


class Loader:
    """Gives each rank the micro-batches of a step, which are a function of its number.

    A sample that cannot be decoded, or whose references alone fill a prompt, is replaced by one of
    its own bucket (of another if that has none), chosen by seed and sample, and recorded in
    ``replacements``. Replacements of an earlier run can be passed in, so that a file repaired in
    the meantime does not change the order of a resumed run.

    Args:
        latent_cache: Cached posteriors, which then replace the pixels of targets.

    Raises:
        DataError: The data set has no sample of a requested task, or none that fits.
    """

    def __init__(
        self,
        data: DataSet,
        options: LoaderOptions,
        *,
        replacements: Sequence[Replacement] = (),
        latent_cache: LatentCache | None = None,
    ) -> None:
        if latent_cache is not None and latent_cache.side != options.side:
            raise ValueError(f"latents for side {latent_cache.side}, but side is {options.side}")
        self.data = data
        self.latent_cache = latent_cache
        self.options = options
        self.replacements: list[Replacement] = []
        self._recent: list[Replacement] = []
        self._known: dict[tuple[int, str], Replacement] = {}
        self.replay(replacements)
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
        # Edits before text-to-image, on all ranks.
        self.streams = [
            Stream(
                # Held-out samples once each, whatever the weights of their sources.
                data.order(self._rows[task], seed=options.seed, task=task)
                if options.split == "train"
                else EpochOrder(self._rows[task], seed=options.seed, name=task),
                self._buckets,
                microbatch_size=plan.microbatch_size,
                microbatches=plan.microbatches,
            )
            for task, plan in sorted(options.tasks.items())
        ]

    def replay(self, replacements: Sequence[Replacement]) -> None:
        """Repeat the replacements of an interrupted run, whatever can be read now."""
        self.replacements = list(replacements)
        self._known = {(each.step, each.sample_id): each for each in replacements}
        self._bad = {each.sample_id: each.message for each in replacements if each.is_damage}
        # The run that found them decided about them; by now they may have been repaired.
        self._has_new_bad = False

    def take_replacements(self) -> list[Replacement]:
        """Those in the micro-batches returned since the last call."""
        recent, self._recent = self._recent, []
        return recent

    def count_replacements(self, found: Sequence[Replacement]) -> None:
        """Count the damage found by all ranks in a step, so that all stop at the same one."""
        for each in found:
            if each not in self.replacements:
                self.replacements.append(each)
                if each.is_damage:
                    self._bad[each.sample_id] = each.message
                    self._has_new_bad = True

    def plan(self, step: int, *, rank: int = 0, world_size: int = 1) -> list[MicroBatchPlan]:
        """Which samples a rank computes in a step, without reading any."""
        return plan_of(self.streams, step, rank=rank, world_size=world_size)

    def stream(
        self, first_step: int = 0, *, rank: int = 0, world_size: int = 1
    ) -> Generator[list[MicroBatch], None, None]:
        """The micro-batches of one rank, for ``first_step`` and all steps after it, decoded ahead.

        Raises:
            DataError: A shard cannot be read, a sample and all its replacements cannot be decoded,
                or too many samples could not in earlier steps.
        """
        with ThreadPoolExecutor(self.options.workers) as pool:
            ahead: deque[list[_Pending]] = deque()
            step = first_step
            try:
                while True:
                    self._stop_if_too_damaged()
                    while len(ahead) <= self.options.prefetch:
                        plans = self.plan(step, rank=rank, world_size=world_size)
                        ahead.append([self._submit(pool, plan) for plan in plans])
                        step += 1
                    yield [self._collect(pending) for pending in ahead.popleft()]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, plan: MicroBatchPlan) -> _Pending:
        return plan, [pool.submit(self._load, plan.step, each) for each in plan.occurrences]

    def _collect(self, pending: _Pending) -> MicroBatch:
        """Wait for a micro-batch; the log is written here, in the order of the plan."""
        plan, futures = pending
        samples = []
        for future in futures:
            sample, replacement = future.result()
            samples.append(sample)
            if replacement is not None:
                self._recent.append(replacement)
                self.count_replacements([replacement])
        return MicroBatch(step=plan.step, task=samples[0].record.task, samples=samples)

    def _stop_if_too_damaged(self) -> None:
        """Stop a run whose data are damaged, before it trains on what is left of them.

        Called between steps, when those of the last one are in the log.
        """
        samples = sum(len(rows) for rows in self._rows.values())
        allowed = max(TOLERATED, int(self.options.max_bad_fraction * samples))
        if self._has_new_bad and len(self._bad) > allowed:
            more = len(self._bad) - NAMED
            names = ", ".join(islice(self._bad, NAMED)) + (f" and {more} more" if more > 0 else "")
            raise DataError(
                f"{len(self._bad)} of {samples} samples cannot be read, at most {allowed} may: "
                f"{names}; one because {next(iter(self._bad.values()))}. deepgen data check "
                f"{self.data.folder} lists what is damaged; repair it, or raise --max-bad-fraction"
            )

    def _load(self, step: int, occurrence: Occurrence) -> tuple[LoadedSample, Replacement | None]:
        """A sample or its replacement; runs in a worker thread."""
        record = self.data.record(occurrence.row)
        known = self._known.get((step, record.sample_id))
        if known is not None:
            return self._read(replace(occurrence, row=known.replacement_row)), known
        reason: str
        if self._fits[self._buckets[occurrence.row]]:
            try:
                return self._read(occurrence), None
            except ImageError as error:
                reason, message = error.reason, str(error)
        else:
            tokens = self._reference_tokens[self._buckets[occurrence.row]]
            reason = TOO_LONG
            message = (
                f"the references of {record.sample_id} have {tokens} tokens at side "
                f"{self.options.side}, at most {MAX_REFERENCE_TOKENS} leave room for text"
            )
        for row in self._candidates(occurrence, record):
            try:
                sample = self._read(replace(occurrence, row=row))
            except ImageError:
                continue
            return sample, Replacement(
                step=step,
                sample_id=record.sample_id,
                replacement_id=sample.record.sample_id,
                replacement_row=row,
                reason=reason,
                message=message,
            )
        raise DataError(
            f"{message}, and no other sample can be read instead; deepgen data check "
            f"{self.data.folder} lists what is damaged"
        )

    def _candidates(self, occurrence: Occurrence, record: Record) -> list[int]:
        """Rows of the same task, first those of the same bucket, in an order of the sample."""
        rows = self._rows[record.task]
        rows = rows[self._fits[self._buckets[rows]] & (rows != occurrence.row)]
        alike = self._buckets[rows] == self._buckets[occurrence.row]
        key = key_of(self.options.seed, "substitute", record.sid)
        chosen: list[int] = []
        for group in (rows[alike], rows[~alike]):
            places = permuted(np.arange(min(SUBSTITUTES, len(group))), len(group), key)
            chosen += group[places].tolist()
        return chosen

    def _read(self, occurrence: Occurrence) -> LoadedSample:
        """Read and decode a sample.

        Raises:
            ImageError: One of its images changed since the import.
        """
        record = self.data.record(occurrence.row)
        options = self.options
        text = draw_text(record, occurrence.epoch, seed=options.seed)
        references = tuple(self._pixels(record, each) for each in record.references)
        cache = self.latent_cache
        return LoadedSample(
            occurrence=occurrence,
            record=record,
            prompt=Prompt(text=text, references=references),
            target=self._pixels(record, record.target) if cache is None else None,
            posteriors=None
            if cache is None
            else tuple(
                cache.posterior_parameters(occurrence.row, each)
                for each in range(len(record.images))
            ),
        )

    def _pixels(self, record: Record, image: ImageRef) -> Pixels:
        return _read_with_retries(lambda: read_pixels(self.data, record, image, self.options.side))


def _reference_tokens(key: BucketKey) -> int:
    """Image tokens of the references of a bucket's samples."""
    return sum(height * width for height, width in key[1]) // SIZE_UNIT**2


def _read_with_retries(read: Callable[[], Pixels]) -> Pixels:
    """Read, and again after a pause where the disk fails.

    Raises:
        DataError: Every try failed.
    """
    pause = FIRST_PAUSE_SECONDS
    for remaining in reversed(range(READ_TRIES)):
        try:
            return read()
        except OSError as error:
            if remaining == 0:
                raise DataError(
                    f"{error.filename or 'a shard'} cannot be read ({error.strerror}); "
                    "check that its disk is mounted"
                ) from None
        time.sleep(pause)
        pause *= 4
    raise AssertionError("the last try returns or raises")
