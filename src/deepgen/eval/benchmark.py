"""What a benchmark is, on one page: items -> images -> records -> scores.

A benchmark declares its prompts, how images are generated and laid out, what kind of scorer they
need, and what one item adds to each metric. Everything after the records is arithmetic, which
``aggregation.py`` does for all benchmarks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

from deepgen.config.checks import check_within
from deepgen.config.model import MAX_GUIDANCE, MAX_STEPS
from deepgen.eval.judge.official_prompts import PromptSources
from deepgen.eval.published import PublishedTable, published_tables

Json: TypeAlias = Any
"""What ``json.loads`` returns."""

Values: TypeAlias = Mapping[str, Json]
"""What a scorer measured on one image; each benchmark's file lists the keys."""

Number: TypeAlias = int | float

Status = Literal["scored", "missing", "refused", "unreadable", "error"]
"""``refused``: by the provider's content filter; ``unreadable``: a reply that no parser understood;
``error``: transport, memory or a damaged file. All but ``scored`` count as failed."""
STATUSES: tuple[Status, ...] = ("scored", "missing", "refused", "unreadable", "error")

Rule = Literal["strict", "official", "pessimistic"]
"""What failed images do to a score. ``strict``: they lower the coverage, and below 99 % there is
no overall score; ``official``: what the benchmark's own code does; ``pessimistic``: the lowest
score."""

Task = Literal["text-to-image", "editing", "both"]
ScorerKind = Literal["detector", "vqa", "judge", "ocr", "scenes"]
"""``scenes``: a reader of the mini's own world, which comes with the package."""
Preset = Literal["paper", "default"]

COMPLETE_COVERAGE = 0.99
"""A score over fewer of its images is incomplete."""

PROMPT_STRIDE = 1000
"""Seeds of neighbouring prompts lie this far apart, so that no two images share one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One prompt of a benchmark."""

    id: str
    """Unique inside the benchmark."""
    number: int
    """Position in the complete list, from 0; enters the seed, so subsets get the same images."""
    prompt: str
    """What the model reads."""
    category: str
    """The group inside which prompts are resampled for intervals."""
    sources: tuple[PurePosixPath, ...] = ()
    """Images to edit, relative to the folder of the prompts."""
    fields: Mapping[str, Json] = field(default_factory=dict)
    """What the scorer and the aggregate need besides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemList:
    """What a prompt folder holds of a benchmark."""

    items: tuple[Item, ...]
    absent: tuple[str, ...] = ()
    """Files that belong to the benchmark and are not there."""
    notes: tuple[str, ...] = ()
    """What was repaired or collapsed while reading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptFile:
    """A file of prompts and where its authors publish it."""

    path: str
    """Relative to the benchmark's own prompt folder."""
    repo_path: str | None
    """Its path in the repository; None where it is in none, and the user has to name a folder. One
    that ends in a slash is a folder of texts, kept as one file of lines with ``prompt`` and
    ``key``."""
    sha256: str | None = None
    """None where nobody has verified the file yet: its hash is then recorded when first fetched."""
    by_hand: str | None = None
    """Where people find the file, if it is not in the repository."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a benchmark comes from."""

    repository: str
    """The benchmark's own, on GitHub; its scorer is the official one."""
    commit: str
    licence: str
    """Licence of the prompts; "none stated" where the authors say nothing."""
    files: tuple[PromptFile, ...]
    prompts_from: tuple[str, str] | None = None
    """Repository and commit of the files, where they are not the benchmark's own."""


MAX_IMAGES_PER_ITEM = 10_000
"""Benchmarks have 1 to 10."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRule:
    """How the images of a benchmark are generated; None means the model's own default."""

    images_per_item: int
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    resize_sources: bool = False
    """Whether sources are resized to the output's size whatever their shape."""

    def __post_init__(self) -> None:
        check_within("images_per_item", self.images_per_item, 1, MAX_IMAGES_PER_ITEM)
        ranges = {"height": 1 << 16, "width": 1 << 16, "steps": MAX_STEPS}
        for name, most in ranges.items():
            if getattr(self, name) is not None:
                check_within(name, getattr(self, name), 1, most)
        if self.guidance_scale is not None:
            check_within("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE)


def generation_presets(
    images_per_item: int, *, editing: bool = False, guidance_scale: float = 4.0
) -> Mapping[Preset, GenerationRule]:
    """The published runs' settings (DeepGen paper, arXiv 2602.12205), and the model's own."""
    paper = GenerationRule(
        images_per_item=images_per_item,
        height=512,
        width=512,
        steps=50,
        guidance_scale=guidance_scale,
        resize_sources=editing,
    )
    return {"paper": paper, "default": GenerationRule(images_per_item=images_per_item)}


def image_seed(base_seed: int, item: Item, image_index: int) -> int:
    """Seed of one image; neither batch size, order nor number of processes changes it."""
    return base_seed + PROMPT_STRIDE * item.number + image_index


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """The result of scoring one image."""

    item: str
    image_index: int = 0
    status: Status = "scored"
    values: Values = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """What one item adds to a category of a metric, whose score is sum(amount) / sum(weight)."""

    metric: str
    category: str
    amount: Number
    weight: Number = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A number of the result and how its categories combine."""

    name: str
    weights: Mapping[str, Number] | None = None
    """Weight of each category's score in the whole; None pools all amounts and weights instead."""
    digits: int = 2
    """As many as the benchmark's authors print."""
    bounds: tuple[Number, Number] | None = None
    """The worst and the best value; None where there are none, and there is no sure interval when
    all prompts agree."""
    category_digits: int | None = None
    """Categories are rounded to so many digits before they combine, where official code does."""


def equal_weights(categories: Iterable[str]) -> Mapping[str, Number]:
    """An unweighted mean of categories."""
    return dict.fromkeys(categories, 1)


def path_by_id(item: Item, image_index: int) -> PurePosixPath:
    """``17.png``, for benchmarks with one image an item."""
    return PurePosixPath(f"{item.id}.png")


def leave_out(item: Item, record: ImageRecord) -> Values | None:
    """The official rule of most benchmarks: a failed image is in no denominator."""
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Prompts, generation, scorer and aggregate of one protocol."""

    name: str
    """That of its folder, with the variant after a slash: ``wise/verified``."""
    title: str
    task: Task
    source: Source
    folder: str
    """Name of its sub-folder in a folder that holds the prompts of several benchmarks."""
    scorer: ScorerKind
    judge: str
    """Judge, detector or engine of the official protocol."""
    expected_items: int
    generation: Mapping[Preset, GenerationRule]
    load: Callable[[Path], ItemList]
    """Raises BenchmarkError, with file and row, on what cannot be read."""
    image_path: Callable[[Item, int], PurePosixPath] = path_by_id
    """Place of an image in the layout that the official scorer accepts."""
    metrics: tuple[Metric, ...]
    """The main metric first."""
    other_path: Callable[[Item, int], PurePosixPath] | None = None
    """Where code other than the official one puts an image, which is read there too."""
    score_terms: Callable[[Item, Sequence[Values]], Iterable[ScoreTerm]]
    """What the scored images of one item add; called only with at least one."""
    lowest_values: Callable[[Item], Values]
    """The worst values an image can get."""
    official_failure: Callable[[Item, ImageRecord], Values | None] = leave_out
    """What the official code counts for a failed image; None leaves it out."""
    official_refusal: frozenset[Status] = frozenset()
    """Failures after which the official code prints no overall."""
    sidecar_files: Callable[[Item], Mapping[PurePosixPath, str | PurePosixPath]] = lambda item: {}
    """Files the official scorer wants beside the images: a text, or a source to copy."""
    grid_path: Callable[[Item], PurePosixPath] | None = None
    """Where the official scorer wants all images of an item as one grid of two columns."""
    render_sources: Callable[[Path, Sequence[Item], GenerationRule], None] | None = None
    """Renders the images to edit, in a folder and at the size of a run, where a benchmark is
    computed and not published; such a benchmark has no prompt files."""
    judge_prompts: PromptSources | None = None
    """Needed where a judge scores."""
    published_elsewhere: str = ""
    """Why scores of the same name are not comparable with this variant."""
    notes: tuple[str, ...] = ()
    """Shown in every report."""

    @property
    def family(self) -> str:
        """Name without the variant: that of its folder in ``benchmarks/``."""
        return self.name.partition("/")[0]

    @property
    def published(self) -> tuple[PublishedTable, ...]:
        """Scores under this protocol, the most complete table first."""
        return published_tables(self.name)

    def metric(self, name: str) -> Metric:
        """The metric of a name."""
        return next(each for each in self.metrics if each.name == name)
