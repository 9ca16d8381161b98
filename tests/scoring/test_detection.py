from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import AnswerStatus, Unreadable
from deepgen.scoring.detection import (
    RemoteDetector,
    TransformersDetector,
    mask_of_runs,
    read_instances,
    reader_of,
)
from deepgen.scoring.remote import Worker, WorkerConfig
from tests.scoring.servers import Heard, Said, serve
from tests.scoring.tiny_models import save_mask2former

LABELS = {0: "cat", 1: "dog"}
SURE = 9.0


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Mask2Former with two classes."""
    pytest.importorskip("scipy", reason="Mask2Former cannot be built without it")
    path = tmp_path_factory.mktemp("mask2former")
    save_mask2former(path, list(LABELS.values()))
    return path


@pytest.fixture(scope="module")
def yolos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random detector without masks."""
    path = tmp_path_factory.mktemp("yolos")
    config = transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        patch_size=16,
        num_detection_tokens=4,
        id2label=LABELS,
    )
    torch.manual_seed(0)
    transformers.YolosForObjectDetection(config).save_pretrained(path)
    processor = transformers.YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64})
    processor.save_pretrained(path)
    return path


def image(width: int = 60, height: int = 40) -> Image.Image:
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(levels.numpy())


def logits(*rows: tuple[int, tuple[int, int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries that are sure of a class (2 is none) and of a box of an 8 x 16 map."""
    classes, masks = torch.full((len(rows), 3), -SURE), torch.full((len(rows), 8, 16), -SURE)
    for index, (label, (left, top, right, bottom)) in enumerate(rows):
        classes[index, label] = SURE
        masks[index, top:bottom, left:right] = SURE
    return classes, masks


def test_a_sure_query_is_an_object_with_its_mask_and_box() -> None:
    classes, masks = logits((1, (2, 1, 6, 5)), (2, (0, 0, 16, 8)))
    (found,) = read_instances(
        classes, masks, LABELS, padded=(32, 64), shown=(32, 64), size=(32, 64)
    )
    assert found.label == "dog"
    assert found.confidence > 0.9
    # A map's edge lies between the middles of its cells, each four pixels wide.
    assert found.box == pytest.approx((8, 4, 24, 20), abs=2)
    assert found.mask is not None
    assert found.mask.shape == (32, 64)
    left, top, right, bottom = (round(edge) for edge in found.box)
    assert found.mask[top:bottom, left:right].mean() > 0.9
    assert found.mask.sum() == found.mask[top:bottom, left:right].sum()


def test_padding_is_no_part_of_the_image() -> None:
    # The image takes the left half of the input, and is itself twice as large as there.
    classes, masks = logits((0, (4, 0, 16, 8)))
    (found,) = read_instances(
        classes, masks, LABELS, padded=(32, 64), shown=(32, 32), size=(64, 64)
    )
    assert found.box == pytest.approx((32, 0, 64, 64), abs=3)


def test_an_unsure_mask_lowers_the_confidence() -> None:
    classes, masks = logits((0, (0, 0, 8, 8)))
    size: dict[str, Any] = {"padded": (8, 16), "shown": (8, 16), "size": (8, 16)}
    (sure,) = read_instances(classes, masks, LABELS, **size)
    (unsure,) = read_instances(classes, masks / SURE * 0.5, LABELS, **size)
    probability = torch.tensor(0.5).sigmoid().item()
    assert unsure.confidence == pytest.approx(sure.confidence * probability, abs=0.01)
    assert not read_instances(classes, masks.clamp(max=-SURE), LABELS, **size)


def test_a_transformers_mask2former_finds_objects(mask2former: Path) -> None:
    detector = TransformersDetector(str(mask2former))
    assert detector.labels == LABELS
    shown = image()
    answer = detector.find(shown)
    assert answer.status is AnswerStatus.SCORED
    again = detector.find(shown)
    assert answer.value is not None
    assert again.value is not None
    assert [each.box for each in answer.value] == [each.box for each in again.value]
    confidences = [each.confidence for each in answer.value]
    assert confidences == sorted(confidences, reverse=True)
    for each in answer.value:
        assert each.label in LABELS.values()
        assert each.mask is not None
        assert each.mask.shape == (40, 60)


def test_other_weights_are_another_detector(mask2former: Path, tmp_path: Path) -> None:
    name = TransformersDetector(str(mask2former)).name
    assert name.startswith(f"{mask2former.name}@")
    model = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(mask2former)
    with torch.no_grad():
        model.class_predictor.bias += 1
    model.save_pretrained(tmp_path)
    shutil.copy(mask2former / "preprocessor_config.json", tmp_path)
    other = TransformersDetector(str(tmp_path)).name
    assert other.partition("@")[2] != name.partition("@")[2]


def test_a_detector_without_masks_finds_boxes(yolos: Path) -> None:
    answer = TransformersDetector(str(yolos)).find(image())
    assert answer.status is AnswerStatus.SCORED
    assert answer.value
    for each in answer.value:
        left, top, right, bottom = each.box
        assert 0 <= left <= right <= 60
        assert 0 <= top <= bottom <= 40
        assert each.mask is None


@pytest.mark.parametrize("named", ["YolosFeatureExtractor", "YolosImageProcessorFast"])
def test_images_are_prepared_without_torchvision_whatever_a_folder_says(
    yolos: Path, tmp_path: Path, named: str
) -> None:
    shutil.copytree(yolos, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "preprocessor_config.json"
    stated = json.loads(path.read_text())
    del stated["image_processor_type"]
    key = "feature_extractor_type" if "Feature" in named else "image_processor_type"
    path.write_text(json.dumps({**stated, key: named}))
    assert TransformersDetector(str(tmp_path)).find(image()).status is AnswerStatus.SCORED
    path.write_text(json.dumps({**stated, key: "OtherImageProcessor"}))
    with pytest.raises(ScorerError, match="prepared by a OtherImageProcessor, which needs"):
        TransformersDetector(str(tmp_path))


def test_what_is_no_detector_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    for source in (str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(ScorerError) as info:
            TransformersDetector(source)
        assert "\n" not in str(info.value)
        assert source in str(info.value)


def test_a_worker_is_a_detector() -> None:
    def answer(heard: Heard) -> Said:
        if heard.path == "/version":
            return Said({"name": "mmdet2", "weights": "abc"})
        value = [
            {"label": "cat", "box": [0, 0, 2, 1], "confidence": 0.4},
            {"label": "dog", "box": [0, 0, 1, 1], "confidence": 0.9, "mask": [0, 1, 5]},
        ]
        return Said({"scores": [{"id": "0", "value": value}]})

    with serve(answer) as server:
        detector = RemoteDetector(Worker(WorkerConfig(base_url=server.url)))
        assert detector.name == "mmdet2 (weights abc)"
        found = detector.find(image(3, 2)).value
    assert found is not None
    dog, cat = found
    assert (dog.label, dog.box, dog.confidence) == ("dog", (0, 0, 1, 1), 0.9)
    assert dog.mask is not None
    assert dog.mask.tolist() == [[True, False, False], [False, False, False]]
    assert (cat.label, cat.mask) == ("cat", None)


@pytest.mark.parametrize(
    "value",
    [
        "cat",
        [{"label": "cat"}],
        [{"label": 3, "box": [0, 0, 1, 1], "confidence": 0.5}],
        [{"label": "cat", "box": [0, 0, 1], "confidence": 0.5}],
        [{"label": "cat", "box": [2, 0, 1, 1], "confidence": 0.5}],
        [{"label": "cat", "box": [0, 0, 1, 1], "confidence": 2}],
        [{"label": "cat", "box": [0, 0, 1, 1], "confidence": 0.5, "mask": [1, 1]}],
        [{"label": "cat", "box": [0, 0, 1, 1], "confidence": 0.5, "mask": [-1, 7]}],
        [["cat"]],
    ],
)
def test_what_is_no_list_of_objects_is_unreadable(value: Any) -> None:
    assert isinstance(reader_of((3, 2))(value), Unreadable)


def test_runs_are_read_row_by_row_from_outside() -> None:
    assert mask_of_runs([1, 2, 3], (3, 2)).tolist() == [[False, True, True], [False] * 3]
    assert mask_of_runs([6], (3, 2)).sum() == 0
    assert np.array_equal(mask_of_runs([0, 6], (3, 2)), np.ones((2, 3), dtype=bool))
