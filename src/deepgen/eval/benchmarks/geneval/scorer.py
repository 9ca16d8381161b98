"""GenEval's rules over a detector, and CLIP for colours.

The detector is a transformers model, a worker such as the official one, or a file of detections
stored before. Thresholds and geometry are those of ``decision.py`` in every case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from deepgen.errors import BenchmarkError, ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord
from deepgen.eval.benchmarks.geneval.decision import (
    COLORS,
    ColorReader,
    Detection,
    find_faults,
    keep_confident,
    parse_stored_row,
)
from deepgen.eval.models import find_clip, find_worker
from deepgen.eval.prompt_files import read_json_lines
from deepgen.eval.run.folder import hash_file
from deepgen.eval.scorer import (
    GeneratedImage,
    ImageScorer,
    ScoringOptions,
    library_versions,
    require_one,
    status_of,
)
from deepgen.scoring import detection
from deepgen.scoring.answers import AnswerStatus
from deepgen.scoring.colors import ClipColors, cut_out
from deepgen.scoring.detection import (
    DetectedObject,
    Detector,
    RemoteDetector,
    TransformersDetector,
)

CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop"),
    *("computer mouse", "tv remote", "computer keyboard", "cell phone", "microwave", "oven"),
    *("toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""GenEval's names of the 80 classes of COCO."""

OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "doughnut": "donut",
    "hair dryer": "hair drier",
    "keyboard": "computer keyboard",
    "motorbike": "motorcycle",
    "mouse": "computer mouse",
    "pottedplant": "potted plant",
    "remote": "tv remote",
    "sofa": "couch",
    "television": "tv",
    "tvmonitor": "tv",
}
"""What detectors call them too, the names of COCO and of older lists."""


def class_name(label: str) -> str:
    """A detector's name of a class as GenEval calls it."""
    plain = label.strip().lower().replace("_", " ")
    return OTHER_NAMES.get(plain, plain)


def check_classes(labels: Sequence[str], name: str) -> None:
    """See that a detector knows all classes that prompts ask for.

    Raises:
        ScorerError: It does not; with the first that it lacks.
    """
    known = {class_name(label) for label in labels}
    if lacking := [each for each in CLASSES if each not in known]:
        raise ScorerError(
            f"the detector {name} does not know {len(lacking)} of the {len(CLASSES)} classes of "
            f"COCO, {lacking[0]!r} the first; GenEval needs a detector trained on all of them"
        )


def create_scorer(benchmark: Benchmark, options: ScoringOptions) -> ImageScorer:
    """A local detector, a worker, or stored detections; colours by CLIP where none are stored."""
    require_one(benchmark, options, "worker_url", "detector")
    if options.detector and options.detector.endswith(".jsonl"):
        return _stored_detections(Path(options.detector), options)
    detector: Detector
    if options.worker_url:
        detector = RemoteDetector(find_worker(options))
    else:
        local = TransformersDetector(
            options.detector or detection.CHECKPOINT, device=options.device
        )
        check_classes(list(local.labels.values()), local.name)
        detector = local
    model, name = find_clip(options)
    identity = {"detector": detector.name, "clip": name, **library_versions()}
    return GenEvalScorer(detector, ClipColors(model, COLORS), identity)


def _stored_detections(path: Path, options: ScoringOptions) -> ImageScorer:
    rows = read_detections(path)
    identity = {"detections": f"{path.name} {hash_file(path)[:16]}"}
    if all(row.colors is not None for row in rows.values()):
        return RecordedDetections(rows, None, {**identity, "colours": "as recorded"})
    model, name = find_clip(options)
    identity |= {"clip": name, **library_versions()}
    return RecordedDetections(rows, ClipColors(model, COLORS), identity)


class GenEvalScorer(ImageScorer):
    """Detects objects, classifies colours where the prompt names some, and decides.

    Args:
        detector: Finds objects; knows the classes of COCO.
        colors: Tells colours of objects.
        identity: Names of both.
    """

    def __init__(
        self,
        detector: Detector,
        colors: ClipColors,
        identity: Mapping[str, str],
    ) -> None:
        self.detector = detector
        self.colors = colors
        super().__init__(identity)

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Decide on one image."""
        answer = self.detector.find(generated.image)
        if answer.status is not AnswerStatus.SCORED:
            return generated.failed(status_of(answer), f"detector: {answer.reason}")
        detections = [_detection(each) for each in answer.value or ()]
        return _record(generated, detections, _color_reader(self.colors, generated.image))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRow:
    """What a file of detections says of one image."""

    prompt: str | None
    """That of the image, where the row has it."""
    detections: Sequence[Detection]
    colors: ColorReader | None
    """Reads colours off a stored verdict, where there is one."""


def read_detections(path: Path) -> Mapping[tuple[str, ...], RecordedRow]:
    """A file of detections, one line of JSON an image, by the end of the images' paths.

    Columns as in the official ``results.jsonl``: ``filename``, which ends like the image's place
    in the layout, and ``details``, from class to boxes with confidences. Where a row also has
    ``metadata`` and ``reason``, its colours are those of the verdict, as boxes show none.

    Raises:
        BenchmarkError: A line is of another form, or two are of one image.
    """
    rows: dict[tuple[str, ...], RecordedRow] = {}
    for place, row in read_json_lines(path):
        detections, colors = parse_stored_row(row, place)
        key = _ending(str(row.get("filename")))
        if key in rows:
            raise BenchmarkError(f"{place}: a second row on {'/'.join(key)}; keep one of them")
        rows[key] = RecordedRow(prompt=row.get("prompt"), detections=detections, colors=colors)
    return rows


class RecordedDetections(ImageScorer):
    """Decides on stored detections.

    Args:
        rows: Of :func:`read_detections`.
        colors: Reads colours in boxes of rows without a stored verdict; None where all have one.
        identity: Names of both.
    """

    def __init__(
        self,
        rows: Mapping[tuple[str, ...], RecordedRow],
        colors: ClipColors | None,
        identity: Mapping[str, str],
    ) -> None:
        self.rows = rows
        self.colors = colors
        super().__init__(identity)

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Decide on one image, whose pixels are needed for colours only."""
        row = self.rows.get(_ending(str(generated.path)))
        if row is None:
            reason = f"nothing was recorded of {'/'.join(generated.path.parts[-3:])}"
            return generated.failed("error", reason)
        if row.prompt not in (None, generated.item.prompt):
            reason = f"what was recorded is of another prompt, {row.prompt!r}"
            return generated.failed("error", reason)
        reader = row.colors
        if reader is None and self.colors is not None:
            reader = _color_reader(self.colors, generated.image)
        assert reader is not None, "rows without colours need a CLIP"
        return _record(generated, row.detections, reader)


def _ending(filename: str) -> tuple[str, ...]:
    """Folder of the prompt, ``samples`` and name, with numbers of any length: 12/samples/3.png."""
    parts = Path(filename).parts[-3:]
    return tuple(part.lstrip("0") or "0" for part in (*parts[:-1], Path(parts[-1]).stem))


def _detection(each: DetectedObject) -> Detection:
    return Detection(
        label=class_name(each.label), box=each.box, confidence=each.confidence, mask=each.mask
    )


def _color_reader(colors: ClipColors, image: Image.Image) -> ColorReader:
    def read(label: str, objects: Sequence[Detection]) -> Sequence[str]:
        crops = [cut_out(image, each.box, each.mask) for each in objects]
        return colors.read(label, crops)

    return read


def _record(
    generated: GeneratedImage,
    detections: Sequence[Detection],
    read_colors: ColorReader,
) -> ImageRecord:
    try:
        faults = find_faults(generated.item.fields, detections, read_colors)
    except (RuntimeError, ValueError) as error:  # CLIP on an image that it cannot take.
        return generated.failed("error", f"colours: {type(error).__name__}: {error}")
    kept = keep_confident(detections, tag=generated.item.fields["tag"])
    details = {
        label: [[*each.box, each.confidence] for each in objects]
        for label, objects in sorted(kept.items())
        if objects
    }
    return generated.record({"correct": not faults, "details": details}, "\n".join(faults))
