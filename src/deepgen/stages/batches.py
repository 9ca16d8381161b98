"""From decoded samples to batches of the flow objective: images become latents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import torch

from deepgen.data.collate import MicroBatch
from deepgen.data.loader import Loader, Replacement
from deepgen.devices import send
from deepgen.train.monitor.replacements import Entry
from deepgen.train.monitor.speed import Clock
from deepgen.train.objective import FlowBatch
from deepgen.train.parallel.distributed import SINGLE_PROCESS, Processes
from deepgen.train.sample_rng import SampleKey
from deepgen.types import Pixels, Prompt
from deepgen.vae import LatentCodec, Posterior


class FlowBatches:
    """The micro-batches of a step, by its number; decoded ahead while steps are consecutive.

    Args:
        clock: Times the encoding, which does not count as waiting for data.
        shortened: Truncates prompts that are too long for the model.
    """

    def __init__(
        self,
        loader: Loader,
        codec: LatentCodec,
        processes: Processes = SINGLE_PROCESS,
        clock: Clock | None = None,
        shortened: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    ) -> None:
        self.loader = loader
        self.codec = codec
        self.processes = processes
        self.clock = clock or Clock()
        self.shortened = shortened
        self._has_warned = False
        self._stream: Iterator[list[MicroBatch]] = iter(())
        self._next: int | None = None

    def __call__(self, step: int) -> list[FlowBatch]:
        """The micro-batches of a step that are this process's."""
        if step != self._next:
            mine = self.processes
            self._stream = self.loader.stream(step, rank=mine.rank, world_size=mine.world_size)
        self._next = step + 1
        batches = next(self._stream)
        samples = sum(each.samples_per_step for each in self.loader.streams)
        with self.clock.phase("encode"):
            return [self._encoded(each, 1 / samples) for each in batches]

    def take_replacements(self) -> list[Entry]:
        """Samples that were replaced by others since the last call."""
        return [asdict(each) for each in self.loader.take_replacements()]

    def count_replacements(self, entries: Sequence[Entry]) -> None:
        """Count the samples that all processes replaced in a step, and check their fraction."""
        self.loader.count_replacements([Replacement(**each) for each in entries])

    def replay(self, entries: Sequence[Entry]) -> None:
        """Make the same replacements again."""
        self.loader.replay([Replacement(**each) for each in entries])

    def _encoded(self, batch: MicroBatch, weight: float) -> FlowBatch:
        prompts = [self.shortened(each) for each in batch.prompts]
        cut = [
            name
            for name, before, after in zip(batch.sample_ids, batch.prompts, prompts, strict=True)
            if after.text != before.text
        ]
        self._warn_of(cut)
        posteriors = self._posteriors(batch)
        return FlowBatch(
            latents=[own[0] for own in posteriors],
            prompts=prompts,
            reference_latents=[own[1:] for own in posteriors],
            keys=[
                SampleKey(sample=each.record.sample_id, epoch=each.occurrence.epoch)
                for each in batch.samples
            ],
            weights=torch.full((len(prompts),), weight),
            prompts_truncated=len(cut),
        )

    def _warn_of(self, cut: Sequence[str]) -> None:
        """Name the first truncated prompt; all are counted."""
        if cut and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"the text of {cut[0]} was truncated; prompts_truncated counts such prompts",
                stacklevel=2,
            )

    @torch.no_grad()
    def _posteriors(self, batch: MicroBatch) -> list[list[Posterior]]:
        """Posteriors of each sample's target and references, cached ones if there are any."""
        device = next(self.codec.parameters()).device
        images: list[Pixels] = []
        for each in batch.samples:
            if each.target is not None:
                images += [send(p, device) for p in (each.target, *each.prompt.references)]
        encoded = iter(self.codec.posteriors(images) if images else [])
        return [
            [next(encoded) for _ in (0, *each.prompt.references)]
            if each.posteriors is None
            else [self.codec.posterior(send(own, device)) for own in each.posteriors]
            for each in batch.samples
        ]
