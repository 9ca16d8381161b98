"""What scores the images of a benchmark: one generated image in, one record out.

How (a judge behind HTTP, a detector, an OCR engine) is the business of ``deepgen.scoring``; what
the records add up to is that of the benchmark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item, Status, Values
from deepgen.scoring.answers import Answer

PARAPHRASED = "paraphrased"
"""Origin of judge prompts that are ours, in a scorer's identity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratedImage:
    """An image to be scored."""

    item: Item
    image_index: int
    image: Image.Image
    """One image, also where the official layout has several in one file."""
    path: Path
    """The file it was read from."""
    sources: tuple[Path, ...] = ()
    """The images it was edited from, in the order of the item."""

    def record(self, values: Values, reason: str = "") -> ImageRecord:
        """The record of a scored image."""
        return ImageRecord(
            item=self.item.id, image_index=self.image_index, values=values, reason=reason
        )

    def failed(self, status: Status, reason: str) -> ImageRecord:
        """The record of an image without a score, and why, in one line."""
        reason = " ".join(reason.split())
        return ImageRecord(
            item=self.item.id, image_index=self.image_index, status=status, reason=reason
        )


class ImageScorer(ABC):
    """Scores the images of one benchmark; ready to be used by many threads.

    Args:
        identity: Everything that tells two scorers apart: model, hash of the judge prompts,
            versions, settings. Goes into every report; runs whose scorers differ in it are compared
            with a warning.
        concurrency: How many images are worth scoring at once: 1 for what computes here, more for
            what waits for a server.
        notes: What a reader of the report has to know besides, such as trust on first use.
    """

    def __init__(
        self, identity: Mapping[str, str], *, concurrency: int = 1, notes: Sequence[str] = ()
    ) -> None:
        self.identity = identity
        self.concurrency = concurrency
        self.notes = notes

    def check(self) -> None:  # noqa: B027
        """See, before the first image, that scoring can work; most see it when created.

        Raises:
            ScorerError: A judge is unreachable or sees no images.
        """

    @abstractmethod
    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Score one image.

        What goes wrong with this image alone is the record's status and reason.

        Raises:
            ScorerError: No image can be scored any more, such as after a judge has gone.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringOptions:
    """The user's options for scorers; each takes what it needs and refuses to guess the rest.

    Keys of judges and workers come from environment variables only.
    """

    judge_url: str | None = None
    """URL of an OpenAI-compatible server, up to and without ``/chat/completions``."""
    judge_model: str | None = None
    """As that server calls it."""
    judge_concurrency: int = 16
    """Requests in flight at any time."""
    judge_parameters: Mapping[str, Any] = field(default_factory=dict)
    """For the server, in addition to or instead of temperature 0; None removes one."""
    judge_timeout_seconds: float = 90.0
    """For one request; judges that reason first take longer."""
    cache: Path | None = None
    """File that keeps all replies; None is one in the user's cache."""
    official: Path | None = None
    """Folder with the files of the benchmark's own repository, for its judge prompts."""
    paraphrased_prompts: bool = False
    """Give judges our paraphrases instead of the official prompts, which are then not needed; such
    scores are not comparable with published ones."""
    worker_url: str | None = None
    """A scorer in a process of its own (``deepgen.scoring.remote``), instead of a local one."""
    detector: str | None = None
    """A model folder or hub id that finds objects, or a file of stored detections."""
    clip: str | None = None
    """A model folder or hub id for colours and CLIPScore."""
    vqa: str | None = None
    """A model folder or hub id that answers questions about images."""
    ocr: str | None = None
    """The OCR engine, where there are several."""
    device: str = "cpu"
    """Where local scorers compute."""


def require_one(benchmark: Benchmark, options: ScoringOptions, *names: str) -> None:
    """See that the user chose one way to score at most.

    Raises:
        ScorerError: Several were named.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if len(given) > 1:
        raise ScorerError(
            f"{benchmark.name} is scored by one of {' and '.join(given)}; omit all but one"
        )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {name: version(name) for name in ("torch", "transformers")}


def status_of(answer: Answer[Any]) -> Status:
    """The status of an image that follows from a scorer's answer about it."""
    # The same words; only "missing" is a status of images alone.
    return answer.status.value
