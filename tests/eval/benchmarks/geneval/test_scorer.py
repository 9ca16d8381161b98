from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepgen.errors import BenchmarkError, ScorerError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import ImageRecord, Item
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL
from deepgen.eval.benchmarks.geneval.scorer import (
    CLASSES,
    GenEvalScorer,
    check_classes,
    class_name,
)
from deepgen.eval.registry import create_scorer
from deepgen.eval.scorer import GeneratedImage, ScoringOptions
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.clip import Clip
from deepgen.scoring.colors import ClipColors
from deepgen.scoring.detection import DetectedObject
from tests.eval.records import prompt_folder

RED, BLUE = (255, 0, 0), (0, 0, 255)


class NearestColor(ClipColors):
    """Red or blue, whichever the crop has more of; remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Image.Image] = []

    def read(self, label: str, crops: Sequence[Image.Image]) -> list[str]:
        self.shown += crops
        means = [np.asarray(crop).mean(axis=(0, 1)) for crop in crops]
        return ["red" if mean[0] > mean[2] else "blue" for mean in means]


class StubDetector:
    """Finds the given objects."""

    name = "stub"

    def __init__(self, *found: DetectedObject, status: AnswerStatus = AnswerStatus.SCORED) -> None:
        self.answer = Answer(status=status, value=list(found), reason="as told")

    def find(self, image: Image.Image) -> Answer[list[DetectedObject]]:
        return self.answer


def found(label: str, confidence: float, *box: float, masked: bool = False) -> DetectedObject:
    edges = box or (0.0, 0.0, 10.0, 10.0)
    mask = None
    if masked:
        mask = np.zeros((32, 32), dtype=bool)
        left, top, right, bottom = (int(edge) for edge in edges)
        mask[top:bottom, left:right] = True
    return DetectedObject(
        label=label,
        box=(float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3])),
        confidence=confidence,
        mask=mask,
    )


def score(
    metadata: dict[str, Any], detector: StubDetector, image: Image.Image | None = None
) -> tuple[ImageRecord, NearestColor]:
    item = Item(id="00001", number=1, prompt="p", category=metadata["tag"], fields=metadata)
    image = image or Image.new("RGB", (32, 32), BLUE)
    colors = NearestColor()
    generated = GeneratedImage(
        item=item, image_index=2, image=image, path=Path("00001/samples/00002.png")
    )
    return GenEvalScorer(detector, colors, {})(generated), colors


def test_objects_are_looked_for_under_genevals_names() -> None:
    metadata = {"tag": "single_object", "include": [{"class": "computer mouse", "count": 1}]}
    record, _ = score(metadata, StubDetector(found("mouse", 0.8), found("cat", 0.2)))
    assert (record.status, record.image_index) == ("scored", 2)
    assert record.values == {
        "correct": True,
        "details": {"computer mouse": [[0.0, 0.0, 10.0, 10.0, 0.8]]},
    }
    record, _ = score(metadata, StubDetector(found("mouse", 0.3)))
    assert record.values["correct"] is False
    assert record.reason == "expected computer mouse>=1, found 0"


def test_counting_needs_a_surer_detector() -> None:
    metadata = {
        "tag": "counting",
        "include": [{"class": "cat", "count": 2}],
        "exclude": [{"class": "cat", "count": 3}],
    }
    sure = [found("cat", 0.95), found("cat", 0.91)]
    assert score(metadata, StubDetector(*sure, found("cat", 0.89)))[0].values["correct"]
    assert not score(metadata, StubDetector(*sure, found("cat", 0.92)))[0].values["correct"]


def test_the_colour_is_that_of_the_object_and_not_of_what_surrounds_it() -> None:
    metadata = {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}]}
    image = Image.new("RGB", (32, 32), BLUE)
    image.paste(RED, (8, 8, 16, 16))
    wide = found("car", 0.9, 4, 4, 24, 24)
    record, colors = score(metadata, StubDetector(wide), image)
    assert not record.values["correct"], "a box alone shows mostly blue"
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 8:16] = True
    masked = DetectedObject(label="car", box=wide.box, confidence=0.9, mask=mask)
    record, colors = score(metadata, StubDetector(masked), image)
    assert record.values["correct"]
    (crop,) = colors.shown
    assert (crop.size, crop.getpixel((0, 0))) == ((20, 20), (0x99,) * 3)


def test_only_objects_whose_colour_is_asked_for_are_looked_at() -> None:
    metadata = {
        "tag": "color_attr",
        "include": [
            {"class": "car", "count": 1, "color": "blue"},
            {"class": "cat", "count": 1},
        ],
    }
    detector = StubDetector(found("car", 0.9), found("car", 0.7), found("cat", 0.9))
    record, colors = score(metadata, detector)
    assert record.values["correct"]
    assert len(colors.shown) == 1, "of the surest car alone"


def test_a_detector_that_fails_is_a_failed_image() -> None:
    metadata = {"tag": "single_object", "include": [{"class": "cat", "count": 1}]}
    record, _ = score(metadata, StubDetector(status=AnswerStatus.ERROR))
    assert (record.status, record.values) == ("error", {})
    assert record.reason == "detector: as told"


def test_detectors_name_classes_differently_and_must_know_all() -> None:
    hub = [
        {"airplane": "aeroplane", "couch": "sofa", "tv remote": "remote", "tv": "TVmonitor"}.get(
            each, each
        )
        for each in CLASSES
    ]
    assert len(set(CLASSES)) == 80
    assert [class_name(each) for each in hub] == list(CLASSES)
    check_classes([*hub, "N/A"], "a detector")
    with pytest.raises(ScorerError, match="does not know 1 of the 80 classes of COCO, 'person'"):
        check_classes(hub[1:], "a detector")


def test_genevals_classes_are_those_of_its_prompts() -> None:
    items = GENEVAL.load(prompt_folder("geneval")).items
    named = {clause["class"] for item in items for clause in item.fields["include"]}
    assert named <= set(CLASSES)
    listed = (prompt_folder("geneval") / "object_names.txt").read_text().splitlines()
    assert tuple(listed) == CLASSES


def recorded_rows() -> list[dict[str, Any]]:
    path = prompt_folder("geneval") / "results_sample.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def drawing_of(row: dict[str, Any], items: Sequence[Item], folder: Path) -> GeneratedImage:
    """As if the image that a row speaks of lay in a run of ours; nobody has to look at it."""
    number, image_index = (int(part) for part in Path(row["filename"]).with_suffix("").parts[-3::2])
    item = items[number]
    path = folder / GENEVAL.image_path(item, image_index)
    return GeneratedImage(
        item=item, image_index=image_index, image=Image.new("RGB", (8, 8)), path=path
    )


def test_recorded_detections_give_the_official_verdicts_and_reasons(tmp_path: Path) -> None:
    rows = recorded_rows()
    items = GENEVAL.load(prompt_folder("geneval")).items
    file = prompt_folder("geneval") / "results_sample.jsonl"
    scorer = create_scorer(GENEVAL, ScoringOptions(detector=str(file)))
    scorer.check()
    assert scorer.identity["colours"] == "as recorded"
    assert len(rows) == 120
    records = []
    for row in rows:
        record = scorer(drawing_of(row, items, tmp_path))
        assert record.status == "scored"
        assert record.values["correct"] is row["correct"], row["filename"]
        # Relations are printed from a set, in any order.
        assert sorted(record.reason.split()) == sorted(row["reason"].split())
        records.append(record)
    scores = aggregate(GENEVAL, items, records)
    assert scores.counts["scored"] == 120
    assert sum(record.values["correct"] for record in records) == 56
    assert scores.overall is None, "the other images are missing"
    # What was kept of the detections is enough to decide again.
    assert all(record.values["details"] or not record.values["correct"] for record in records)


def test_an_image_without_a_row_or_with_that_of_another_prompt_is_an_error(
    tmp_path: Path,
) -> None:
    row, other = recorded_rows()[:2]
    items = GENEVAL.load(prompt_folder("geneval")).items
    file = tmp_path / "found.jsonl"
    file.write_text(json.dumps({**row, "prompt": "something else"}) + "\n")
    scorer = create_scorer(GENEVAL, ScoringOptions(detector=str(file)))
    record = scorer(drawing_of(row, items, tmp_path))
    assert (record.status, record.values) == ("error", {})
    assert "of another prompt, 'something else'" in record.reason
    record = scorer(drawing_of(other, items, tmp_path))
    assert (record.status, record.values) == ("error", {})
    assert "nothing was recorded of 00126/samples/00003.png" in record.reason


def test_rows_without_a_verdict_have_their_colours_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = GENEVAL.load(prompt_folder("geneval")).items
    item = next(each for each in items if each.fields["include"][0].get("color") == "blue")
    (clause,) = item.fields["include"][:1]
    only = replace(item, fields={**item.fields, "include": [clause]})
    details = {clause["class"]: [[0, 0, 8, 8, 0.9]]}
    file = tmp_path / "found.jsonl"
    name = f"{item.number}/samples/0.png"
    file.write_text(json.dumps({"filename": name, "details": details}) + "\n")
    opened: list[str] = []

    class Anyone(Clip):
        def __init__(self) -> None:
            pass

    def find_clip(options: ScoringOptions) -> tuple[Clip, str]:
        opened.append("clip")
        return Anyone(), "some clip"

    monkeypatch.setattr("deepgen.eval.benchmarks.geneval.scorer.find_clip", find_clip)
    monkeypatch.setattr(
        "deepgen.eval.benchmarks.geneval.scorer.ClipColors", lambda clip, colors: NearestColor()
    )
    scorer = create_scorer(GENEVAL, ScoringOptions(detector=str(file)))
    assert scorer.identity["clip"] == "some clip"
    path = tmp_path / GENEVAL.image_path(item, 0)
    for rgb, correct in ((BLUE, True), (RED, False)):
        image = Image.new("RGB", (8, 8), rgb)
        record = scorer(GeneratedImage(item=only, image_index=0, image=image, path=path))
        assert record.values["correct"] is correct
    assert opened == ["clip"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"filename": "1/samples/1.png"}', "no row with the detections"),
        ('{"filename": "1/samples/1.png", "details": {"cat": [[1, 2]]}}', "no row with"),
        ("[1]", "no row with"),
        ("{", "not valid JSON"),
    ],
)
def test_a_damaged_file_of_detections_names_the_line(
    tmp_path: Path, line: str, complaint: str
) -> None:
    file = tmp_path / "found.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(BenchmarkError, match=r"found.jsonl, line 1: ") as info:
        create_scorer(GENEVAL, ScoringOptions(detector=str(file)))
    assert complaint in str(info.value)


def test_two_rows_on_one_image_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    lines = [
        json.dumps({"filename": name, "details": {}})
        for name in ("a/00001/samples/00002.png", "1/samples/2.png")
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(BenchmarkError, match="a second row on 1/samples/2"):
        create_scorer(GENEVAL, ScoringOptions(detector=str(file)))
