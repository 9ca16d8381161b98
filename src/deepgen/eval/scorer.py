"""What looks at the images of a benchmark: one drawing in, one record out.

Who looks, a judge behind HTTP, a detector or a reader of words, is a matter of ``scorers/``; what
the records add up to is a matter of the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from deepgen.eval.benchmark import ImageRecord, Item


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """An image to be scored."""

    item: Item
    copy: int
    image: Image.Image
    """One copy, also where the official layout has several in one file."""
    path: Path
    """The file it was read from."""
    sources: tuple[Path, ...] = ()
    """The images it was edited from, in the order of the item."""


@runtime_checkable
class Imagescorer(Protocol):
    """Who scores the images of one benchmark; ready to be used by many threads."""

    @property
    def identity(self) -> Mapping[str, str]:
        """Everything that tells two scorers apart: model, hash of the prompts, versions, settings.

        Goes into every report. Two runs whose scorers differ in it are not compared silently.
        """
        ...

    @property
    def concurrency(self) -> int:
        """How many images are worth looking at at once: 1 for what computes here, more for what
        waits for a server."""
        ...

    def check(self) -> None:
        """See, before the first image, that scoring can work.

        Raises:
            ScorerError: Weights are missing, a judge is unreachable or sees no images.
        """
        ...

    def __call__(self, drawing: Drawing) -> ImageRecord:
        """Look at one image.

        What goes wrong with this image alone is the record's status and reason.

        Raises:
            ScorerError: No image can be scored any more, such as after a judge has gone.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringOptions:
    """What the user said about scorers; each takes what it needs and refuses to guess the rest.

    Keys of judges and workers come from environment variables only.
    """

    judge_url: str | None = None
    """Of an OpenAI-compatible server, up to and without ``/chat/completions``."""
    judge_model: str | None = None
    """As that server calls it."""
    judge_concurrency: int = 16
    """Requests in flight at any time."""
    judge_parameters: Mapping[str, Any] = field(default_factory=dict)
    """For the server, beside or instead of temperature 0; None takes one away."""
    judge_timeout_seconds: float = 90.0
    """For one request; judges that think take longer."""
    cache: Path | None = None
    """File of all replies ever given; None keeps them beside the scores of the run."""
    official: Path | None = None
    """Folder with the files of the benchmark's own repository, for its questions."""
    own_words: bool = False
    """Ask judges in our words instead of the authors', which are then not needed; such scores stand
    beside no published ones."""
    worker_url: str | None = None
    """A scorer in a process of its own (``deepgen.scoring.remote``), instead of a local one."""
    detector: str | None = None
    """A model folder or hub id that finds objects, or a file of detections found before."""
    clip: str | None = None
    """A model folder or hub id for colours and CLIPScore."""
    vqa: str | None = None
    """A model folder or hub id that answers questions about images."""
    ocr: str | None = None
    """The engine that reads words, where there are several."""
    device: str = "cpu"
    """Where local scorers compute."""
