"""Images on their way from noise: the DiT with guidance, integrated step by step.

The pipeline denoises a fixed set of images; the engine (:mod:`deepgen.pipeline.engine`) several
sets, each at a step of its own. Both call :func:`begin` and :func:`advance`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deepgen.config.model import ScheduleConfig
from deepgen.config.solver import DEFAULT_SOLVER, SolverOptions
from deepgen.dit.groups import Group
from deepgen.dit.model import DiT
from deepgen.dit.reuse import BlockReuse
from deepgen.flow.guidance import guide, is_guided, rescale
from deepgen.flow.ode import Step, euler_step, extrapolated_velocity
from deepgen.flow.path import interpolate
from deepgen.flow.schedule import sampling_sigmas
from deepgen.types import Condition, Latents


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What an edit with a mask leaves as it is."""

    cells: Bool[Tensor, "height width"]
    """True where latents stay those of the original."""
    clean_latents: Latents
    noise: Latents
    """That the image began from."""

    def blend(self, latents: Latents, sigma: float) -> Latents:
        """Put the original, at a noise level, back where it is kept."""
        levels = torch.tensor([sigma], device=latents.device)
        noisy, _ = interpolate(self.clean_latents[None], self.noise[None], levels)
        return torch.where(self.cells, noisy[0], latents)


@dataclass(kw_only=True, slots=True)
class Denoising:
    """Images that began together, with one schedule, and how far they are."""

    latents: list[Latents]
    """In float32. Replacing an entry changes what the next step starts from."""
    sigmas: list[float]
    """Falling noise levels, the last of which is 0."""
    guidance_scale: float
    is_guided: bool
    """Whether there are rows of negative prompts."""
    conditions: list[Condition]
    """Those of the negative prompts, if guided, then those of the prompts."""
    references: list[list[Latents]]
    """Clean latents of each image's references."""
    prepared: list[Group] = field(default_factory=list)
    """Rows of the conditions, in their order."""
    kept: list[Kept | None] = field(default_factory=list)
    """Of each image, if any image keeps something."""
    options: SolverOptions = DEFAULT_SOLVER
    unguided: list[Group] = field(default_factory=list)
    """Rows of the prompts alone, for steps outside of the guidance interval, if there are any."""
    previous: list[Latents] = field(default_factory=list)
    """Velocities of the last step, for the solver of second order."""
    computed: list[tuple[int, list[Latents]]] = field(default_factory=list)
    """The last two steps that ran the DiT, with the velocities of all rows, for extrapolation."""
    step: int = 0
    """Index of the next step."""

    @property
    def rows(self) -> int:
        """Rows of a pass through the DiT."""
        return len(self.latents) * (2 if self.guides_now else 1)

    @property
    def guides_now(self) -> bool:
        """Whether the next step has guidance."""
        if not self.unguided:
            return self.is_guided
        return self.options.covers(self.sigmas[self.step])

    @property
    def current(self) -> list[Group]:
        """The prepared rows of the next step."""
        return self.unguided if self.unguided and not self.guides_now else self.prepared

    @property
    def is_done(self) -> bool:
        """Whether the images are there."""
        return self.step == len(self.sigmas) - 1


def begin(
    dit: DiT,
    noise: Sequence[Latents],
    positive: Sequence[Condition],
    negative: Sequence[Condition],
    references: Sequence[Sequence[Latents]],
    sigmas: Float[Tensor, " steps_and_end"],
    guidance_scale: float,
    options: SolverOptions = DEFAULT_SOLVER,
) -> Denoising:
    """Compute everything that is the same in all steps.

    Args:
        dit: The denoiser.
        noise: Start of each image; sizes may differ. Not modified.
        positive: What each image should show.
        negative: What it should not show; empty for no negative branch.
        references: Clean latents of each image's references.
        sigmas: Falling noise levels that end with 0. They are read on the host once, so no step
            waits for the device.
        guidance_scale: See :func:`deepgen.flow.guidance.guide`.
        options: Of the integration.
    """
    images = Denoising(
        latents=[image.to(torch.float32, copy=True) for image in noise],
        sigmas=sigmas.tolist(),
        guidance_scale=guidance_scale,
        is_guided=bool(negative),
        conditions=[*negative, *positive],
        references=[list(row) for row in references],
        options=options,
    )
    prepare(dit, images, images.conditions)
    return images


def prepare(dit: DiT, images: Denoising, conditions: Sequence[Condition]) -> None:
    """Compute what is the same in all steps that have these conditions.

    Args:
        dit: The denoiser.
        images: What they are of; its rows are replaced.
        conditions: Of the negative prompts, if guided, then of the prompts.
    """
    images.conditions = list(conditions)
    positive = images.conditions[-len(images.latents) :]
    sizes = [(each.shape[1], each.shape[2]) for each in images.latents]
    timesteps = 1000 * torch.tensor(images.sigmas[:-1])
    rows, options = images.references, images.options
    branches = 2 if images.is_guided else 1
    images.prepared = dit.prepare(conditions, sizes * branches, timesteps, rows * branches)
    images.unguided = []
    if images.is_guided and not all(options.covers(sigma) for sigma in images.sigmas[:-1]):
        images.unguided = dit.prepare(positive, sizes, timesteps, rows)
    # Velocities of other conditions say nothing of the next.
    images.previous, images.computed = [], []
    if options.cache == "first-block":
        for group in (*images.prepared, *images.unguided):
            group.reuse = BlockReuse(threshold=options.cache_threshold)


def advance(
    dit: DiT, running: Sequence[Denoising], joined: Sequence[Group] | None = None
) -> list[Step]:
    """One step of every set of images, at the step that each is at.

    Args:
        dit: The denoiser.
        running: Sets that are not done.
        joined: Their prepared rows, joined in this order by :meth:`deepgen.dit.model.DiT.join`;
            None for a single set.

    Returns:
        The result of each set's step.
    """
    rows, steps = [], []
    for each in running:
        rows += each.latents * (2 if each.guides_now else 1)
        steps += [each.step] * each.rows
    if joined is None:
        only = running[0]
        joined = only.current
        extrapolated = _extrapolated(only)
        if extrapolated is not None:
            return [_stepped(only, extrapolated)]
    velocities = dit.velocity(rows, steps, joined)
    for each in running:
        if each.options.cache == "taylor":
            each.computed = [*each.computed[-1:], (each.step, velocities)]
    every = iter(velocities)
    return [_stepped(each, [next(every) for _ in range(each.rows)]) for each in running]


def _extrapolated(images: Denoising) -> list[Latents] | None:
    """Velocities of the rows of a step that does without the DiT; None if it has to run."""
    if images.options.cache != "taylor" or len(images.computed) < 2:
        return None
    (before, earlier), (last, velocities) = images.computed
    counts = {len(earlier), len(velocities), images.rows}
    # Where guidance sets in or ends there are other rows.
    if len(counts) > 1 or images.step - last >= images.options.cache_interval:
        return None
    past = images.sigmas[last] - images.sigmas[before]
    ahead = images.sigmas[images.step] - images.sigmas[last]
    # The mean over twice the distance is the value at its middle.
    return [
        extrapolated_velocity(velocity, previous, past, 2 * ahead)
        for velocity, previous in zip(velocities, earlier, strict=True)
    ]


def _stepped(images: Denoising, velocities: Sequence[Latents]) -> Step:
    """The step of one set of images, given the velocities of its rows."""
    sigma, following = images.sigmas[images.step : images.step + 2]
    if images.guides_now:
        count = len(images.latents)
        # At 1 or below, which a callback may set, the prompt alone counts.
        scale = images.guidance_scale if is_guided(images.guidance_scale) else 1.0
        prompted = velocities[count:]
        velocities = [
            guide(negative, positive, scale)
            for negative, positive in zip(velocities[:count], prompted, strict=True)
        ]
        if images.options.guidance_rescale:
            velocities = [
                rescale(guided, towards, images.options.guidance_rescale)
                for guided, towards in zip(velocities, prompted, strict=True)
            ]
    if images.options.solver == "ab2":
        velocities = _of_second_order(images, velocities)
    pairs = zip(images.latents, velocities, strict=True)
    stepped = [euler_step(latents, velocity, sigma, following) for latents, velocity in pairs]
    images.latents = [latents for latents, _ in stepped]
    for index, kept in enumerate(images.kept):
        if kept is not None:
            images.latents[index] = kept.blend(images.latents[index], following)
    step = Step(
        index=images.step,
        sigma=sigma,
        latents=images.latents,
        clean_latents=[clean for _, clean in stepped],
    )
    images.step += 1
    return step


def _of_second_order(images: Denoising, velocities: Sequence[Latents]) -> list[Latents]:
    """Velocities along which the step is one of second order; the first step stays Euler's."""
    previous, images.previous = images.previous, list(velocities)
    if not previous:
        return list(velocities)
    before, sigma, following = images.sigmas[images.step - 1 : images.step + 2]
    return [
        extrapolated_velocity(own, last, sigma - before, following - sigma)
        for own, last in zip(velocities, previous, strict=True)
    ]


def schedules(
    noise: Sequence[Latents],
    steps: int,
    config: ScheduleConfig,
    patch_size: int,
    unshifted: Sequence[float] | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, " steps_and_end"]]]:
    """Split images by schedule: (their indices, the sigmas they share).

    A static schedule is one for all. A dynamic one depends on the number of image tokens.
    """
    groups: dict[int, list[int]] = {}
    for index, image in enumerate(noise):
        tokens = image.shape[1] * image.shape[2] // patch_size**2
        groups.setdefault(tokens if config.use_dynamic_shifting else 0, []).append(index)
    for tokens, members in groups.items():
        yield members, sampling_sigmas(steps, config, tokens=tokens, unshifted=unshifted)
