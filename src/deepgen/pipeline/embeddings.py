"""Embeddings of prompts as tensors: what ``encode_prompt`` returns, and a call takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from deepgen.config.model import Padding
from deepgen.model import DeepGen
from deepgen.pipeline.keywords import REFUSED_IN_CALLS, check_keywords
from deepgen.pipeline.parts import encode_prompts, reference_pixels
from deepgen.pipeline.request import (
    Prompts,
    References,
    Request,
    parse_count,
    parse_requests,
    parse_sampling,
)
from deepgen.pipeline.turns import turn
from deepgen.types import Condition

T = TypeVar("T")

Embeddings = Tensor | Sequence[Tensor]
"""``[batch, tokens, channels]``, or a list of rows of unequal length."""


def to_tensors(conditions: Sequence[Condition]) -> tuple[Embeddings, Tensor]:
    """Context tokens, padding written out, and pooled vectors; see :class:`Condition`."""
    rows = [each.expanded() for each in conditions]
    same = len({len(each) for each in rows}) == 1
    pooled = torch.stack([each.pooled_prompt_embeds for each in conditions])
    return torch.stack(rows) if same else rows, pooled


def to_conditions(
    name: str, prompt_embeds: object, pooled: object, model: DeepGen
) -> list[Condition]:
    """Conditions of the DiT from a user's tensors.

    Args:
        name: Of the first argument, for messages; that of the second follows from it.
        prompt_embeds: Context tokens of each row.
        pooled: Pooled vector of each row.
        model: Decides widths, dtype and device.

    Raises:
        ValueError: They are no tensors, of other shapes, or not finite.
    """
    config = model.dit.config
    channels, width = config.joint_attention_dim, config.pooled_projection_dim
    second = name.replace("prompt_embeds", "pooled_prompt_embeds")
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or pooled.shape[1] != width:
        raise ValueError(
            f"{name} needs {second}, a tensor [batch, {width}] as encode_prompt gives it, got "
            f"{_shape(pooled)}"
        )
    rows = list(prompt_embeds) if isinstance(prompt_embeds, Tensor | list | tuple) else []
    for row in rows:
        if not isinstance(row, Tensor) or row.ndim != 2 or row.shape[1] != channels or not len(row):
            rows = []
            break
    if not rows:
        raise ValueError(
            f"{name} must be a tensor [batch, tokens, {channels}] or a list of rows, got "
            f"{_shape(prompt_embeds)}"
        )
    if len(rows) != len(pooled):
        raise ValueError(f"{len(rows)} rows of {name} need as many of {second}, got {len(pooled)}")
    if not all(each.isfinite().all() for each in (*rows, pooled)):
        raise ValueError(f"{name} and {second} must be finite, got NaN or infinity among them")
    return [
        Condition(
            prompt_embeds=row.to(model.device, model.dtype),
            pooled_prompt_embeds=vector.to(model.device, model.dtype),
        )
        for row, vector in zip(rows, pooled, strict=True)
    ]


def repeated(items: Sequence[T], count: int) -> list[T]:
    """Each item ``count`` times, adjacent."""
    return [item for item in items for _ in range(count)]


def stand_ins(conditions: Sequence[Condition]) -> Prompts:
    """Texts in place of prompts whose embeddings are given: only their number counts."""
    return ["embeddings"] * len(conditions) if len(conditions) > 1 else "embeddings"


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


class EncodingMethods:
    """Encoding apart from generating."""

    model: DeepGen

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: Prompts,
        image: References = None,
        *,
        negative_prompt: Prompts | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        padding: Padding | None = None,
        **others: Any,
    ) -> tuple[Embeddings, Embeddings | None, Tensor, Tensor | None]:
        """Embeddings that a call takes in place of prompts.

        Args:
            prompt: One text or several.
            image: References, as in a call.
            negative_prompt: As in a call.
            num_images_per_prompt: Each row so often, adjacent.
            do_classifier_free_guidance: False leaves out the negative ones.
            padding: As in a call.
            others: As of other pipelines of diffusers; refused where they would have an effect.

        Returns:
            ``prompt_embeds``, ``negative_prompt_embeds``, ``pooled_prompt_embeds`` and
            ``negative_pooled_prompt_embeds``. The first two are ``[batch, tokens, channels]``, or
            lists where prompts differ in length and ``padding`` is not ``batch``.

        Raises:
            ValueError: An argument cannot be used.
        """
        others.pop("device", None)
        check_keywords("encode_prompt", others, REFUSED_IN_CALLS)
        count = parse_count("num_images_per_prompt", num_images_per_prompt)
        scale = 2.0 if do_classifier_free_guidance else 1.0
        sampling = parse_sampling(None, scale, padding, self.model.defaults)
        requests = self._requests(prompt, image, negative_prompt=negative_prompt)
        pipe: Any = self
        with turn(self.model):
            pixels = [reference_pixels(request, pipe.device) for request in requests]
            with pipe._on_device(self.model.conditioner):
                encoded = encode_prompts(self.model.conditioner, requests, pixels, sampling)
        positive, negative = (repeated(each, count) for each in encoded)
        embeds, pooled = to_tensors(positive)
        if not negative:
            return embeds, None, pooled, None
        negative_embeds, negative_pooled = to_tensors(negative)
        return embeds, negative_embeds, pooled, negative_pooled

    def _requests(self, prompt: object, image: object, **options: Any) -> list[Request]:
        model = self.model
        given = {"negative_prompt": None, "height": None, "width": None, "latents": None}
        return parse_requests(
            prompt,
            image,
            **{**given, **options},
            channels=model.dit.config.in_channels,
            defaults=model.defaults,
            max_side=model.max_side,
        )

    def _embedded(
        self,
        prompt: object,
        negative_prompt: object,
        given: tuple[object, object],
        negative: tuple[object, object],
        guided: bool,
    ) -> tuple[list[Condition], list[Condition]] | None:
        """Conditions of both branches from a call's embeddings; None if it has prompts."""
        if given[0] is None:
            if any(each is not None for each in (given[1], *negative)):
                raise ValueError("embeddings are given, but no prompt_embeds among them")
            if prompt is None:
                raise ValueError("give either prompt or prompt_embeds, got neither")
            return None
        if prompt is not None or negative_prompt is not None:
            raise ValueError("give either prompts or their embeddings, not both")
        positive = to_conditions("prompt_embeds", *given, self.model)
        if not guided:
            return positive, []
        if negative[0] is None:
            raise ValueError(
                "guidance needs negative_prompt_embeds beside prompt_embeds; encode_prompt gives "
                "both, and guidance_scale=1 needs none"
            )
        negatives = to_conditions("negative_prompt_embeds", *negative, self.model)
        if len(negatives) != len(positive):
            raise ValueError(
                f"{len(positive)} prompt_embeds need as many negatives, got {len(negatives)}"
            )
        return positive, negatives
