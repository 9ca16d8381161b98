from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.aggregation import aggregate
from deepgen.eval.benchmark import ImageRecord
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL, TAGS
from tests.eval.records import make_item, prompt_folder, score


def test_the_real_prompts_have_the_published_counts() -> None:
    items = GENEVAL.load(prompt_folder("geneval")).items
    assert len(items) == GENEVAL.expected_items == 553
    assert Counter(item.category for item in items) == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert {item.category for item in items if "exclude" in item.fields} == {"counting"}
    assert [item.number for item in items] == list(range(553))
    names = (prompt_folder("geneval") / "object_names.txt").read_text().splitlines()
    classes = {clause["class"] for item in items for clause in item.fields["include"]}
    assert len(names) == 80
    assert classes <= set(names)


def test_the_overall_is_the_unweighted_mean_of_six_tags() -> None:
    # IF-XL as published: .97 .74 .66 .81 .13 .35 gives .61. Hundred prompts of one image each.
    fractions = (97, 74, 66, 81, 13, 35)
    found = [
        (make_item(f"{tag}-{n}", tag), [{"correct": n < fraction}] * 4)
        for tag, fraction in zip(TAGS, fractions, strict=True)
        for n in range(100)
    ]
    scores = score(GENEVAL, found)
    assert scores.categories["accuracy"] == {
        tag: fraction / 100 for tag, fraction in zip(TAGS, fractions, strict=True)
    }
    assert scores.overall == pytest.approx(sum(fractions) / 600)
    assert f"{scores.overall:.2f}" == "0.61"


def test_images_and_prompts_are_counted_apart() -> None:
    hit, miss = {"correct": True}, {"correct": False}
    found = [
        (make_item("a", "colors"), [hit, miss, miss, miss]),
        (make_item("b", "counting"), [hit, hit, hit, miss]),
        (make_item("c", "counting"), [miss] * 4),
    ]
    scores = score(GENEVAL, found)
    assert scores.metrics["images"] == pytest.approx(4 / 12)
    assert scores.metrics["prompts"] == pytest.approx(2 / 3)
    # Three of six tags are there: no overall, but the official code would average what exists.
    assert scores.overall is None
    official = score(GENEVAL, found, "official").overall
    assert official == pytest.approx((1 / 4 + 3 / 8) / 2)


def test_a_failed_image_lowers_coverage_and_not_the_score() -> None:
    items = [make_item(tag, tag) for tag in TAGS]
    records = [
        ImageRecord(item=item.id, image_index=image_index, values={"correct": True})
        for item in items
        for image_index in range(4)
    ]
    records[0] = ImageRecord(
        item=items[0].id, image_index=0, status="error", reason="detector died"
    )
    strict = aggregate(GENEVAL, items, records)
    assert strict.metrics["accuracy"] == 1.0
    assert strict.overall is None
    assert strict.incomplete
    assert strict.coverage == pytest.approx(23 / 24)
    assert strict.counts["error"] == 1
    assert aggregate(GENEVAL, items, records, "pessimistic").overall == pytest.approx(
        (3 / 4 + 5) / 6
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"tag": "colors"', "line 2: not valid JSON"),
        ('{"tag": "colors", "prompt": "a"}', "line 2: the field 'include' is missing"),
        ('{"tag": "shapes", "prompt": "a", "include": []}', "line 2: the tag 'shapes'"),
        ('{"tag": "colors", "prompt": 3, "include": []}', "line 2: the field 'prompt'"),
        ('{"tag": "colors", "prompt": "a", "include": [{"count": 1}]}', "line 2: the field 'cl"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    good = '{"tag": "colors", "prompt": "a", "include": []}'
    (tmp_path / "evaluation_metadata.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(BenchmarkError, match=rf"evaluation_metadata.jsonl, {complaint}"):
        GENEVAL.load(tmp_path)


def test_missing_prompts_say_what_to_do_next(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="deepgen eval fetch"):
        GENEVAL.load(tmp_path)


def test_images_lie_where_the_official_scorer_looks() -> None:
    item = GENEVAL.load(prompt_folder("geneval")).items[12]
    assert str(GENEVAL.image_path(item, 3)) == "00012/samples/00003.png"
    (path, text), *_ = GENEVAL.sidecar_files(item).items()
    assert str(path) == "00012/metadata.jsonl"
    lines = (prompt_folder("geneval") / "evaluation_metadata.jsonl").read_text().splitlines()
    assert text == lines[12] + "\n"
