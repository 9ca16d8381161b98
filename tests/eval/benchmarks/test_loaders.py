"""The real prompt files have the counts, categories and fields of the specification."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from deepgen.errors import BenchmarkError
from deepgen.eval.benchmark import Benchmark, image_seed
from deepgen.eval.benchmarks.corebench.benchmark import COREBENCH, COREBENCH_REASONING
from deepgen.eval.benchmarks.cvtg.benchmark import CVTG
from deepgen.eval.benchmarks.dpg.benchmark import DPG, DPG_OFFICIAL
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_CHINESE, GEDIT_ENGLISH
from deepgen.eval.benchmarks.imgedit.benchmark import IMGEDIT
from deepgen.eval.benchmarks.rise.benchmark import RISE_2026
from deepgen.eval.benchmarks.unigenbench.benchmark import UNIGENBENCH
from deepgen.eval.benchmarks.uniredit.benchmark import DIMENSIONS, REAL_WORLD, UNIREDIT
from deepgen.eval.benchmarks.wise.benchmark import WISE_LEGACY, WISE_VERIFIED
from deepgen.eval.registry import BENCHMARKS, find_benchmark
from tests.eval.records import prompt_folder


def categories(benchmark: Benchmark) -> Counter[str]:
    items = benchmark.load(prompt_folder(benchmark.folder)).items
    assert all(item.prompt.strip() for item in items)
    assert len({item.id for item in items}) == len(items)
    paths = {benchmark.image_path(item, image_index) for item in items for image_index in range(4)}
    assert len(paths) == len(items) * benchmark.generation["paper"].images_per_item or (
        benchmark.generation["paper"].images_per_item == 1 and len(paths) == len(items)
    )
    return Counter(item.category for item in items)


def test_dpg() -> None:
    loaded = DPG.load(prompt_folder("dpg_bench"))
    assert loaded.absent == ("dpg_bench.csv",)
    assert categories(DPG) == {
        "partiprompts": 324,
        "plain": 299,
        "COCOval": 100,
        "localized": 22,
    } | dict.fromkeys(
        (
            "countbench",
            "diffusiondb",
            "drawtext",
            "midjourney",
            "posescript",
            "stanford",
            "vrd",
            "whoops",
        ),
        40,
    )
    words = [len(item.prompt.split()) for item in loaded.items]
    assert len(words) == 1065
    assert round(sum(words) / len(words)) == 67
    # As single files they are the same texts.
    by_id = {item.id: item.prompt for item in loaded.items}
    files = list((prompt_folder("dpg_bench") / "prompts").glob("*.txt"))
    assert len(files) == 27
    assert all(by_id[path.stem] == path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("en", (250, 158, 234, 263, 197, 194, 187, 109, 134, 87)),
        ("zh", (250, 158, 234, 263, 197, 194, 187, 109, 134, 87)),
    ],
)
def test_unigenbench_short(name: str, points: tuple[int, ...]) -> None:
    benchmark = UNIGENBENCH[name]
    items = benchmark.load(prompt_folder("unigenbench")).items
    counted = Counter(each for item in items for each in item.fields["dimensions"])
    weights = benchmark.metrics[0].weights
    assert weights is not None
    assert tuple(counted[each] for each in weights) == points
    assert counted.total() == 1813
    assert [item.id for item in items] == [str(number) for number in range(600)]
    assert len(categories(benchmark)) == 5
    secondary = {each for item in items for each in item.fields["testpoints"]}
    assert len(secondary) == 27


def test_the_malformed_row_of_unigenbench_is_repaired_and_named(tmp_path: Path) -> None:
    long = UNIGENBENCH["en-long"]
    loaded = long.load(prompt_folder("unigenbench"))
    assert len(loaded.items) == 600
    (note,) = loaded.notes
    assert "test_prompts_en_long.csv, row 510: put back the comma" in note
    assert loaded.items[509].fields["testpoints"] == [
        "Action - Full-body (Character/Anthropomorphic)",
        "Grammar - Negation",
        "Attribute - Color",
        "Attribute - Material",
        "Attribute - Expression",
    ]
    rest = [item for item in loaded.items if item.id != "509"]
    counted = Counter(each for item in rest for each in item.fields["dimensions"])
    weights = long.metrics[0].weights
    assert weights is not None
    expected = (301, 173, 1308, 621, 464, 343, 196, 102, 315, 92)
    assert tuple(counted[each] for each in weights) == expected
    assert counted.total() == 3915

    # The same fault anywhere else is an error that names file and row.
    text = (prompt_folder("unigenbench") / "test_prompts_en_long.csv").read_text(encoding="utf-8")
    (tmp_path / "test_prompts_en_long.csv").write_text(
        text.replace("\n509,", "\n1509,"), encoding="utf-8"
    )
    with pytest.raises(BenchmarkError, match=r"en_long.csv, row 510: not valid JSON"):
        long.load(tmp_path)


def test_gedit() -> None:
    loaded = GEDIT_ENGLISH.load(prompt_folder("gedit_bench"))
    assert categories(GEDIT_ENGLISH) == {
        "background_change": 40,
        "color_alter": 40,
        "material_alter": 40,
        "motion_change": 40,
        "ps_human": 70,
        "style_change": 60,
        "subject-add": 60,
        # 57 rows, two of which repeat a key.
        "subject-remove": 55,
        "subject-replace": 60,
        "text_change": 99,
        "tone_transfer": 40,
    }
    item = loaded.items[0]
    path = GEDIT_ENGLISH.image_path(item, 0)
    assert str(path) == f"fullset/background_change/en/{item.id}.png"
    assert GEDIT_ENGLISH.sidecar_files(item) == {
        path.with_name(f"{item.id}_SRCIMG.png"): item.sources[0]
    }
    with pytest.raises(BenchmarkError, match=r"has no gedit\.jsonl"):
        GEDIT_CHINESE.load(prompt_folder("gedit_bench"))


def test_gedit_rows_of_the_exported_data_set(tmp_path: Path) -> None:
    row = {
        "task_type": "subject-remove",
        "key": "a",
        "instruction": "Remove the bird.",
        "instruction_language": "en",
        "input_image": "images/a.png",
        "Intersection_exist": True,
    }
    chinese = {**row, "instruction_language": "cn", "instruction": "去掉鸟", "key": "b"}
    lines = [json.dumps(each) for each in (row, row, chinese)]
    (tmp_path / "gedit.jsonl").write_text("\n".join(lines))
    loaded = GEDIT_ENGLISH.load(tmp_path)
    assert [item.prompt for item in loaded.items] == ["Remove the bird."]
    assert loaded.notes == ("1 rows repeat a key and were left out",)
    (item,) = GEDIT_CHINESE.load(tmp_path).items
    assert str(GEDIT_CHINESE.image_path(item, 0)) == "fullset/subject-remove/cn/b.png"


def test_imgedit() -> None:
    assert categories(IMGEDIT) == {
        "extract": 117,
        "style": 100,
        "add": 95,
        "adjust": 94,
        "background": 94,
        "replace": 92,
        "remove": 86,
        "action": 36,
        "compose": 23,
    }
    item = IMGEDIT.load(prompt_folder("imgedit_bench")).items[0]
    assert (item.id, str(item.sources[0])) == ("1082", "singleturn/animal/000342021.jpg")


def test_wise() -> None:
    assert categories(WISE_LEGACY) == {
        "Cultural": 400,
        "Time": 167,
        "Space": 133,
        "Biology": 100,
        "Physics": 100,
        "Chemistry": 100,
    }
    assert categories(WISE_VERIFIED) == {"Cultural": 400} | dict.fromkeys(
        ("Time", "Space", "Biology", "Physics", "Chemistry"), 120
    )
    for benchmark in (WISE_LEGACY, WISE_VERIFIED):
        items = benchmark.load(prompt_folder("wise")).items
        assert [item.number for item in items] == list(range(1000))
        assert [item.id for item in items] == [str(number) for number in range(1, 1001)]
        assert {"Prompt", "Explanation", "Category", "Subcategory", "prompt_id"} <= set(
            items[0].fields
        )


def test_corebench_names_the_files_that_are_missing() -> None:
    loaded = COREBENCH.load(prompt_folder("t2i_corebench"))
    assert len(loaded.items) == 450
    assert set(loaded.absent) == {
        f"{name}.json" for name in ("C-MI", "C-MA", "C-MR", "R-BR", "R-PR", "R-GR", "R-CR")
    }
    questions: Counter[str] = Counter()
    for item in loaded.items:
        questions[item.category] += len(item.fields["questions"])
    assert questions == {"C-TR": 2354, "R-LR": 637, "R-HR": 900, "R-AR": 454, "R-RR": 452}
    assert categories(COREBENCH) == dict.fromkeys(questions, 90)
    reasoning = COREBENCH_REASONING.load(prompt_folder("t2i_corebench")).items
    assert len(reasoning) == 360
    # A prompt keeps its number, and so its seed, in any selection.
    numbers = {item.id: item.number for item in loaded.items}
    assert all(numbers[item.id] == item.number for item in reasoning)
    assert numbers["C-TR-001"] == 3 * 90
    assert numbers["R-RR-090"] == 1079
    assert str(COREBENCH.image_path(loaded.items[0], 2)) == "C-TR/C-TR-001-2.png"


def test_rise_subset_has_no_optional_fields() -> None:
    loaded = RISE_2026.load(prompt_folder("risebench"))
    assert loaded.absent == ("datav2_total_w_subtask.json",)
    names = ("temporal_reasoning", "causal_reasoning", "spatial_reasoning", "logical_reasoning")
    assert categories(RISE_2026) == dict.fromkeys(names, 16)
    kinds = Counter(
        name for item in loaded.items for name in item.fields if name.startswith("reference")
    )
    assert kinds == {"reference": 48, "reference_img": 12, "reference_txt": 4}
    assert not any(item.fields["consistency_free"] for item in loaded.items)
    assert not any("subtask" in item.fields for item in loaded.items)
    path = RISE_2026.image_path(loaded.items[0], 0)
    assert str(path) == "images/temporal_reasoning/temporal_reasoning_1.png"


def test_cvtg() -> None:
    expected = {
        "CVTG/2": (200, 953),
        "CVTG/3": (301, 2099),
        "CVTG/4": (300, 2695),
        "CVTG/5": (201, 2361),
        "CVTG-Style/2": (200, 1016),
        "CVTG-Style/3": (299, 2150),
        "CVTG-Style/4": (302, 2722),
        "CVTG-Style/5": (197, 2210),
    }
    items = CVTG.load(prompt_folder("cvtg_2k")).items
    words: Counter[str] = Counter()
    for item in items:
        words[item.category] += len(item.fields["words"])
    counted = categories(CVTG)
    assert {name: (counted[name], words[name]) for name in counted} == expected
    assert words.total() == 16206
    assert [item.number for item in items] == list(range(2000))
    assert str(CVTG.image_path(items[-1], 0)) == "CVTG-Style/5/196.png"


def test_uniredit_reads_the_form_its_loader_reads(tmp_path: Path) -> None:
    row = {
        "original_image_path": "original_image/Maze/1.png",
        "reference_image_path": "reference_image/Maze/1.png",
        "instruction": " Draw the way out. ",
        "rules": "Walls are black.",
        "name": "Maze",
        "idx": "1",
        "reference_effect": "a way",
    }
    real = {**row, "name": "pose adjustment", "idx": 1}
    del real["rules"]
    (tmp_path / "data.json").write_text(json.dumps([row, real]))
    maze, pose = UNIREDIT.load(tmp_path).items
    assert maze.prompt == "Walls are black. Draw the way out."
    assert maze.fields["judge_instruction"] == "Walls are black.\nDraw the way out."
    assert pose.prompt == "Draw the way out."
    assert (maze.id, str(UNIREDIT.image_path(maze, 0))) == ("Maze/1", "Maze/1.png")
    assert (len(REAL_WORLD), len(DIMENSIONS)) == (9, 8)
    (tmp_path / "data.json").write_text(json.dumps([row, {**row, "name": "Chess"}]))
    with pytest.raises(BenchmarkError, match=r"data.json, entry 2: the name 'Chess'"):
        UNIREDIT.load(tmp_path)


def test_dpg_questions_are_read_with_their_graph(tmp_path: Path) -> None:
    shutil.copy(prompt_folder("dpg_bench") / "prompts_dpgbench.jsonl", tmp_path)
    identifiers = [item.id for item in DPG.load(tmp_path).items]
    header = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,"
    header += "tuple,question_natural_language"
    rows = [
        f'{identifier},t,k,{number},"{parents}",b,d,entity - whole (cat),Is there a cat?'
        for identifier in identifiers
        for number, parents in ((1, "0"), (2, "1"), (3, "1, 2"))
    ]
    path = tmp_path / "dpg_bench.csv"
    path.write_text("\n".join([header, *rows]))
    first = DPG.load(tmp_path).items[0].fields["questions"]
    assert [each["parents"] for each in first] == [[], ["1"], ["1", "2"]]
    assert (first[0]["level 1"], first[0]["level 2"]) == ("entity", "entity - whole")
    official = DPG_OFFICIAL.load(tmp_path).items
    assert [len(item.fields["questions"]) for item in official[:2]] == [2, 3]

    path.write_text("\n".join([header, *rows]).replace('1,"0"', '1,"3"', 1))
    with pytest.raises(BenchmarkError, match=r"item 0: questions .* depend on each other"):
        DPG.load(tmp_path)
    path.write_text("\n".join([header, *rows[3:]]))
    with pytest.raises(BenchmarkError, match="has no question on 0"):
        DPG.load(tmp_path)


def test_what_the_papers_runs_drew_is_declared() -> None:
    images = {name: each.generation["paper"].images_per_item for name, each in BENCHMARKS.items()}
    assert {name for name, number in images.items() if number == 4} == {
        name
        for name, each in BENCHMARKS.items()
        if each.folder in ("geneval", "dpg_bench", "unigenbench", "t2i_corebench")
    }
    guidance = {
        name: each.generation["paper"].guidance_scale
        for name, each in BENCHMARKS.items()
        # The mini's own bench is in no paper, and leaves that to the model.
        if each.render_sources is None
    }
    assert {name for name, scale in guidance.items() if scale != 4.0} == {"dpg", "dpg/official"}
    assert guidance["dpg"] == 7.5
    editing = {name for name, each in BENCHMARKS.items() if each.task == "editing"}
    squashed = {
        name for name, each in BENCHMARKS.items() if each.generation["paper"].resize_sources
    }
    assert editing == squashed


def test_names_without_variant_mean_the_usual_one() -> None:
    assert find_benchmark("wise") is WISE_VERIFIED
    assert find_benchmark("rise") is RISE_2026
    assert find_benchmark("gedit").name == "gedit/en"
    with pytest.raises(BenchmarkError, match="no benchmark wisdom; choose one of geneval"):
        find_benchmark("wisdom")


def test_no_two_images_share_a_seed() -> None:
    items = COREBENCH.load(prompt_folder("t2i_corebench")).items
    seeds = {image_seed(42, item, image_index) for item in items for image_index in range(4)}
    assert len(seeds) == 4 * len(items)
    assert image_seed(42, items[0], 2) == 42 + 1000 * 270 + 2
