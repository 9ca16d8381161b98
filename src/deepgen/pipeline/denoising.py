"""The DiT with guidance as the velocity field that the flow integrates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from deepgen.config.model import ScheduleConfig
from deepgen.dit.model import DiT
from deepgen.flow.guidance import guide
from deepgen.flow.ode import Velocity
from deepgen.flow.schedule import sampling_sigmas
from deepgen.types import Condition, Latents


def guided_velocity(
    dit: DiT,
    sizes: Sequence[tuple[int, int]],
    positive: Sequence[Condition],
    negative: Sequence[Condition],
    references: Sequence[Sequence[Latents]],
    sigmas: Float[Tensor, " steps_and_end"],
    guidance_scale: float,
) -> Velocity:
    """Compute everything that is the same for all steps, and return the velocity of all images.

    Args:
        dit: The denoiser.
        sizes: (height, width) of each image's latents.
        positive: What each image should show.
        negative: What it should not show; empty for no negative branch.
        references: Clean latents of each image's references.
        sigmas: The noise levels of all steps, which are addressed by index.
        guidance_scale: See :func:`deepgen.flow.guidance.guide`.
    """
    branches = 2 if negative else 1
    prepared = dit.prepare(
        [*negative, *positive],
        list(sizes) * branches,
        1000 * sigmas[:-1],
        [list(row) for row in references] * branches,
    )

    def velocity(latents: Sequence[Latents], step: int) -> Sequence[Latents]:
        rows = dit.velocity(list(latents) * branches, step, prepared)
        if not negative:
            return rows
        count = len(latents)
        return [
            guide(away, towards, guidance_scale)
            for away, towards in zip(rows[:count], rows[count:], strict=True)
        ]

    return velocity


def schedules(
    noise: Sequence[Latents], steps: int, config: ScheduleConfig, patch_size: int
) -> Iterator[tuple[list[int], Float[Tensor, " steps_and_end"]]]:
    """Split images by schedule: (their indices, the sigmas they share).

    A static schedule is one for all. A dynamic one depends on the number of image tokens.
    """
    groups: dict[int, list[int]] = {}
    for index, image in enumerate(noise):
        tokens = image.shape[1] * image.shape[2] // patch_size**2
        groups.setdefault(tokens if config.use_dynamic_shifting else 0, []).append(index)
    for tokens, members in groups.items():
        yield members, sampling_sigmas(steps, config, tokens=tokens)
