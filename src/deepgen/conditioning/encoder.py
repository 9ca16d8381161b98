"""The conditioner: from prompts and reference images to conditions of the DiT."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepgen.conditioning.bridge import Bridge
from deepgen.conditioning.prompts import PromptTemplate, PromptTokenizer, TokenRow
from deepgen.conditioning.vlm import VisionLanguageModel
from deepgen.config.model import Padding
from deepgen.nn.autocast import product_dtype
from deepgen.nn.checksum import checksum
from deepgen.types import Condition, Pixels, Prompt

# One entry of the released model is 2 to 10 MB. 16 hold the negatives and the prompts that a user
# tries seeds and settings with, and are small compared with the weights.
CACHED_CONDITIONS = 16

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")

PromptKey = tuple[str, tuple[bytes, ...]]
"""A prompt's identity: its text and the digests of its references."""


class Conditioner(nn.Module):
    """VLM and bridge together, from prompts to conditions.

    Only real tokens are run through the VLM, and only once per distinct prompt. Conditions are
    cached for later calls as long as the weights do not change; with gradients enabled, nothing is
    cached.

    Args:
        vlm: The VLM.
        bridge: Think tokens and connector.
        tokenizer: The VLM's tokenizer.
        template: The strings around the user's text.
        compat: Read special tokens in the user's text as the public implementation does.
    """

    def __init__(
        self,
        vlm: VisionLanguageModel,
        bridge: Bridge,
        tokenizer: Any,
        template: PromptTemplate | None = None,
        *,
        compat: bool = False,
    ) -> None:
        super().__init__()
        if bridge.config.llm_hidden_size != vlm.width:
            raise ValueError(
                f"the bridge reads states of width {bridge.config.llm_hidden_size}, "
                f"but those of the VLM have {vlm.width}"
            )
        self.vlm = vlm
        self.bridge = bridge
        self.tokenize = PromptTokenizer(tokenizer, template, compat=compat)
        self._cache = ConditionCache()

    @property
    def device(self) -> torch.device:
        """Where the computation happens."""
        return self.vlm.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """What the conditions are computed in."""
        return self.bridge.projector_1.weight.dtype

    def clear_cache(self) -> None:
        """Drop all cached conditions, to free their memory; changed weights drop them anyway."""
        self._cache.clear()

    def train(self, mode: bool = True) -> Conditioner:
        """Switch between training and inference, and drop all cached conditions."""
        self.clear_cache()
        super().train(mode)
        return self

    def encode(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        padding: Padding,
        guided: bool,
    ) -> tuple[list[Condition], list[Condition] | None]:
        """Conditions of a batch of samples.

        Args:
            positive: What each sample should show.
            negative: What each should not; may be empty where ``guided`` is false.
            padding: To what length rows are padded: ``batch`` to the longest of all rows (the
                public implementation), ``pair`` to the longer of a sample's two rows, ``none``.
            guided: Compute the negative conditions. Without guidance they still set the padding.

        Returns:
            Conditions of the positive and of the negative prompts, the latter None if unguided.

        Raises:
            ValueError: A prompt is too long, or a reference's size is not a multiple of 32.
        """
        # Through __call__, so that hooks (offloading, FSDP) run.
        conditions: tuple[list[Condition], list[Condition] | None] = self(
            positive, negative, padding, guided
        )
        return conditions

    def forward(
        self,
        positive: Sequence[Prompt],
        negative: Sequence[Prompt],
        padding: Padding,
        guided: bool,
    ) -> tuple[list[Condition], list[Condition] | None]:
        """See :meth:`encode`."""
        if (guided or negative) and len(positive) != len(negative):
            raise ValueError(
                f"every prompt needs one negative prompt, got {len(positive)} and {len(negative)}"
            )
        digests: dict[int, bytes] = {}
        prompts = [*positive, *negative]
        keys = [
            (each.text, tuple(_digest(r, digests) for r in each.references)) for each in prompts
        ]
        rows = {}
        for key, prompt in zip(keys, prompts, strict=True):
            if key not in rows:
                rows[key] = self.tokenize(prompt)
        counts = padding_counts([len(rows[key]) for key in keys], len(positive), padding)
        wanted = list(zip(keys, counts, strict=True))[: None if guided else len(positive)]
        pixels = {
            digest: reference
            for key, prompt in zip(keys, prompts, strict=True)
            for digest, reference in zip(key[1], prompt.references, strict=True)
        }
        conditions = self._conditions(wanted, rows, pixels)
        found = [conditions[each] for each in wanted]
        count = len(positive)
        return found[:count], found[count:] if guided else None

    def _conditions(
        self,
        wanted: Sequence[tuple[PromptKey, int]],
        rows: dict[PromptKey, TokenRow],
        pixels: dict[bytes, Pixels],
    ) -> dict[tuple[PromptKey, int], Condition]:
        """Conditions of all wanted (prompt, padding), each computed at most once."""
        caching = not torch.is_grad_enabled()
        if caching:
            self._cache.validate(self)
        conditions = {each: self._cache.get(each) for each in wanted} if caching else {}
        missing = [each for each in dict.fromkeys(wanted) if conditions.get(each) is None]
        found = {each: value for each, value in conditions.items() if value is not None}
        if not missing:
            return found

        def run(compute: Callable[[list[Key]], Sequence[T]], keys: Iterable[Key]) -> dict[Key, T]:
            """Each key once. Cached values are computed one by one: in a batch, rounding depends on
            the other rows, and an image would depend on earlier calls.
            """
            distinct = list(dict.fromkeys(keys))
            batches = [[key] for key in distinct] if caching else [distinct] if distinct else []
            return {
                key: value
                for batch in batches
                for key, value in zip(batch, compute(batch), strict=True)
            }

        prompts = [key for key, _ in missing]
        image_features = run(
            lambda digests: self.vlm.encode_references([pixels[each] for each in digests]),
            (digest for _, images in prompts for digest in images),
        )
        features = run(lambda keys: self._read(keys, rows, image_features), prompts)
        pad = self._pad_feature(caching) if any(count for _, count in missing) else None
        computed = run(
            lambda padded: self.bridge(
                [features[key] for key, _ in padded],
                [count for _, count in padded],
                pad if any(count for _, count in padded) else None,
            ),
            missing,
        )
        if caching:
            for each, condition in computed.items():
                self._cache.put(each, condition)
        return {**found, **computed}

    def _read(
        self,
        prompts: Sequence[PromptKey],
        rows: dict[PromptKey, TokenRow],
        image_features: dict[bytes, Float[Tensor, "_ width"]],
    ) -> list[Float[Tensor, "_ features"]]:
        """VLM features of each prompt."""
        features: list[Tensor] = self.vlm(
            [rows[key] for key in prompts],
            [[image_features[digest] for digest in images] for _, images in prompts],
            self.bridge.meta_queries,
        )
        return features

    def _pad_feature(self, caching: bool) -> Float[Tensor, " features"]:
        if not caching:
            return self.vlm.pad_feature(self.tokenize.padding_id)
        if self._cache.pad_feature is None:
            self._cache.pad_feature = self.vlm.pad_feature(self.tokenize.padding_id)
        return self._cache.pad_feature


class ConditionCache:
    """Conditions of the last prompts, valid for the weights they were computed with."""

    def __init__(self) -> None:
        self.pad_feature: Float[Tensor, " features"] | None = None
        self._conditions: OrderedDict[tuple[PromptKey, int], Condition] = OrderedDict()
        self._source: object = None

    def clear(self) -> None:
        """Drop everything."""
        self.pad_feature = None
        self._conditions.clear()

    def validate(self, conditioner: Conditioner) -> None:
        """Drop everything that would come out differently now.

        That is after any write to the weights, on another device, or in another precision. Only
        their values count, not their memory: offloading may move them between calls. This reads all
        weights once: 3 ms for the embedded model, whose shortest call takes 30 ms (one thread).
        """
        precision = product_dtype(conditioner.bridge.meta_queries)
        source = (conditioner.device, precision, checksum(conditioner.parameters()))
        if source != self._source:
            self.clear()
        self._source = source

    def get(self, key: tuple[PromptKey, int]) -> Condition | None:
        """The condition of a padded prompt, or None if it is not cached."""
        if key in self._conditions:
            self._conditions.move_to_end(key)
        return self._conditions.get(key)

    def put(self, key: tuple[PromptKey, int], condition: Condition) -> None:
        """Keep a condition, and drop the least recently used one if there are too many."""
        # Copies, because a condition of a batch is a view that would keep the whole batch alive.
        self._conditions[key] = replace(
            condition,
            prompt_embeds=condition.prompt_embeds.clone(),
            pooled_prompt_embeds=condition.pooled_prompt_embeds.clone(),
        )
        if len(self._conditions) > CACHED_CONDITIONS:
            self._conditions.popitem(last=False)


def padding_counts(lengths: Sequence[int], samples: int, padding: Padding) -> list[int]:
    """How many padding tokens each row gets.

    Args:
        lengths: Tokens of the positive rows, then of the negative ones, if there are any.
        samples: Number of positive rows.
        padding: The mode; see :meth:`Conditioner.encode`.
    """
    if padding == "none":
        return [0] * len(lengths)
    if padding == "batch":
        return [max(lengths) - length for length in lengths]
    targets = [max(lengths[index::samples]) for index in range(samples)]
    return [targets[index % samples] - length for index, length in enumerate(lengths)]


def _digest(pixels: Pixels, known: dict[int, bytes]) -> bytes:
    """Hash of an image's values; ``known`` has those of this call's earlier objects, by id."""
    if id(pixels) not in known:
        values = pixels.detach().cpu().contiguous()
        digest = hashlib.blake2b(values.view(torch.uint8).numpy().data, digest_size=16)
        digest.update(str((tuple(values.shape), values.dtype)).encode())
        known[id(pixels)] = digest.digest()
    return known[id(pixels)]
