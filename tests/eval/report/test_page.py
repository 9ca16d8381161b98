from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from deepgen.eval.benchmark import ImageRecord, Item, ScoreTerm
from deepgen.eval.benchmarks.dpg.benchmark import DPG
from deepgen.eval.benchmarks.gedit.benchmark import GEDIT_ENGLISH, GROUPS
from deepgen.eval.benchmarks.geneval.benchmark import GENEVAL, TAGS
from deepgen.eval.report import gallery
from deepgen.eval.report.gallery import Embedder, image_score, select_galleries
from deepgen.eval.report.page import pair_page, run_page
from deepgen.eval.report.results import describe, describe_pair, to_markdown
from deepgen.eval.run.scorer_identity import RunScorer
from deepgen.eval.run.stored import StoredRun
from tests.eval.stored_runs import geneval_items, half_right, make_run

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = (
    '<script src="https://evil.example/x.js"></script>'
    "<img src=x onerror='alert(1)'> \"&amp;\" {{ 7*7 }}"
)


class Page(HTMLParser):
    """What a browser would find, checked for being well formed on the way."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Mapping[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.text += " "
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"{tag} is closed and was never opened"
        assert self._open.pop() == tag, f"{tag} is closed inside another element"

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[Mapping[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(run: StoredRun, **more: object) -> str:
    return run_page({**describe(run, "now"), **more}, run)


def path_of(run: StoredRun, item: str) -> Path:
    return run.folder.images / run.images[item, 0].path


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return make_run(tmp_path, geneval_items(), limit=12)


def test_a_page_is_well_formed_and_can_be_used_without_seeing_it(run: StoredRun) -> None:
    page = Page(page_of(run))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert all(image["alt"].startswith("Generated for: a photo of") for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert any(each.get("name") == "viewport" for each in page.all("meta"))


def test_a_page_loads_nothing_and_runs_nothing(run: StoredRun) -> None:
    text = page_of(run)
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object"})
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "data:").startswith("data:"), tag
    assert not re.search(r"https?://|@import|url\(", text)
    (policy,) = (each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:")


def test_texts_of_others_stay_texts(tmp_path: Path) -> None:
    def judge(item: Item, image_index: int) -> ImageRecord:
        return ImageRecord(
            item=item.id,
            image_index=image_index,
            values={"correct": True, HOSTILE: 1},
            reason=HOSTILE,
        )

    run = make_run(tmp_path, geneval_items(HOSTILE, HOSTILE), judge, model=HOSTILE)
    page = Page(page_of(run, scorer={HOSTILE: HOSTILE}))
    assert page.all("script") == []
    assert all(image["src"].startswith("data:image/webp") for image in page.all("img"))
    assert any(image["alt"] == f"Generated for: {HOSTILE}" for image in page.all("img"))
    # Title, headings, prompts, reasons, the judge, and the seven times seven still to be done.
    assert page.text.count(HOSTILE) >= 10


def test_ours_stands_among_the_published_rows_with_its_interval(run: StoredRun) -> None:
    text = page_of(run)
    names = re.findall(r'<th scope="row">([^<]*?) ?<span class="detail">', text)
    first = names[: names.index("Hunyuan-Image-3.0") + 2]
    assert first[0] == "Lumina-DiMOO"
    # Half of the images are right: below all others.
    assert first[-1].strip() == "This run: noise"
    assert "12 prompts" in text
    assert text.count('class="whisker"') >= 1
    words = Page(text).words
    assert "Published in: DeepGen paper, arXiv 2602.12205" in words
    assert "A subset. 12 prompts of 553" in words


def test_images_are_the_lowest_the_highest_and_some_by_chance(tmp_path: Path) -> None:
    def judge(item: Item, image_index: int) -> ImageRecord | None:
        if item.category != "counting":
            return half_right(item, image_index)
        if image_index == 3:
            return None
        if image_index == 2:
            return ImageRecord(
                item=item.id, image_index=image_index, status="refused", reason="not this one"
            )
        return ImageRecord(
            item=item.id, image_index=image_index, values={"correct": image_index == 0}
        )

    run = make_run(tmp_path, geneval_items(per_tag=5), judge)
    galleries = {gallery.category: gallery for gallery in select_galleries(run, Embedder())}
    assert list(galleries) == list(TAGS)
    gallery = galleries["counting"]
    assert gallery.expected == 20
    assert [(each.why, each.score) for each in gallery.images[:4]] == [
        *(("lowest", 0.0), ("lowest", 0.0), ("highest", 1.0), ("highest", 1.0)),
    ]
    assert [each.why for each in gallery.images[4:6]] == ["random", "random"]
    # What failed comes before what nobody has looked at, and never as a zero.
    assert [(each.status, each.score) for each in gallery.images[6:]] == [("refused", None)] * 2
    # Five prompts are there, so the first five images are of five.
    assert len({each.item.id for each in gallery.images[:4]}) == 4
    images = [(each.item.id, each.image_index) for each in gallery.images]
    assert len(set(images)) == len(images)
    words = Page(page_of(run)).words
    assert "8 of 20 images" in words
    assert "refused" in words
    assert "not this one" in words


def test_an_image_that_is_not_there_or_broken_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, geneval_items(), images_per_prompt=1)
    gone, broken = (path_of(run, item) for item in ("00000", "00001"))
    gone.unlink()
    broken.write_bytes(b"no image")
    page = Page(page_of(run))
    assert "the image is missing" in page.words
    assert "the image cannot be read" in page.words
    fewer = {name: path for name, path in run.images.items() if name != ("00000", 0)}
    unjudged = {image: each for image, each in run.records.items() if image != ("00000", 0)}
    page = Page(page_of(replace(run, images=fewer, records=unjudged)))
    assert "missing" in page.words


def test_a_page_has_a_limit(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = Image.effect_noise((700, 500), 120).convert("RGB")
    large = make_run(
        tmp_path / "large", geneval_items(per_tag=1), images_per_prompt=1, image=lambda *_: noise
    )
    embedded = Embedder()(path_of(large, "00000"))
    assert embedded.url is not None
    assert len(embedded.url) < gallery.MAX_BYTES / 40
    one = len(embedded.url)
    monkeypatch.setattr(gallery, "MAX_BYTES", 3 * one)
    text = page_of(large)
    assert text.count("data:image/webp") == 3
    assert "left out: a page holds" in text
    assert len(text) < 3 * one + 100_000


def test_of_a_grid_the_copy_is_shown_that_was_judged(tmp_path: Path) -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    item = Item(id="whoops7", number=0, prompt="a red cup", category="whoops")
    run = make_run(tmp_path, [item], lambda *_: None, benchmark=DPG)
    grid = Image.new("RGB", (64, 64))
    for image_index, colour in enumerate(colours):
        grid.paste(
            colour,
            (32 * (image_index % 2), 32 * (image_index // 2), 32 + 32 * (image_index % 2), 64),
        )
    grid.save(tmp_path / "images" / "whoops7.png")
    whole = {name: replace(line, path="whoops7.png") for name, line in run.images.items()}
    (gallery,) = select_galleries(replace(run, images=whole), Embedder())
    assert len(gallery.images) == 2
    for each in gallery.images:
        assert each.image.url is not None
        content = base64.b64decode(each.image.url.partition(",")[2])
        shown = Image.open(io.BytesIO(content)).convert("RGB")
        assert shown.size == (32, 32)
        assert shown.getcolors() == [(32 * 32, colours[each.image_index])]


def gedit_item(number: int, source: str) -> Item:
    return Item(
        id=f"key{number}",
        number=number,
        prompt=f"{'make it blue and ' * 20}round",
        category=GROUPS[number],
        sources=(PurePosixPath(source),),
        fields={"language": "en", "intersection": True},
    )


def test_an_image_outside_the_main_metric_has_the_score_of_its_own_row() -> None:
    def score_terms(item: Item, images: object) -> list[ScoreTerm]:
        return [ScoreTerm("images", item.category, 3, 4)]

    benchmark = replace(GENEVAL, score_terms=score_terms)
    (item, *_) = geneval_items()
    assert image_score(benchmark, item, ImageRecord(item=item.id)) == 0.75
    failed = ImageRecord(item=item.id, status="error")
    assert image_score(benchmark, item, failed) is None


def test_edits_show_what_was_edited_and_long_instructions_are_folded(tmp_path: Path) -> None:
    items = [gedit_item(0, "there.png"), gedit_item(1, "absent.png")]
    (tmp_path / "prompts").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "prompts" / "there.png")

    def judge(item: Item, image_index: int) -> ImageRecord:
        return ImageRecord(item=item.id, values={"semantics": [4, 9], "quality": [9, 10]})

    run = make_run(tmp_path, items, judge, benchmark=GEDIT_ENGLISH, images_per_prompt=1)
    page = Page(page_of(run))
    alts = [image["alt"] for image in page.all("img")]
    assert sum(alt.startswith("To be edited: make it blue") for alt in alts) == 1
    assert sum(alt.startswith("Generated for: make it blue") for alt in alts) == 2
    assert "the image is missing" in page.words
    assert "6.00" in page.words
    assert "semantics: [4, 9], quality: [9, 10]" in page.words
    # Each prompt is folded, and whole inside.
    assert page.words.count("(whole prompt)") == 2
    assert page.words.count(items[0].prompt) == 2


def test_what_is_no_result_is_not_shown_as_one(run: StoredRun, tmp_path: Path) -> None:
    fewer = replace(run, records=dict(list(run.records.items())[:-1]))
    page = Page(page_of(fewer))
    assert "no result" in page.words
    assert "Not done. 48 of 48 images are generated and 47 are evaluated" in page.words
    assert "no score not done" in page.words
    failed = ImageRecord(item="00000", status="error", reason="out of memory")
    incomplete = replace(run, records={**run.records, (failed.item, failed.image_index): failed})
    page = Page(page_of(incomplete))
    assert "Incomplete. Only 97.9% of the images have a score" in page.words
    assert "no score incomplete" in page.words
    assert "1 of 1 shown" in page.words
    assert "00000 0 error out of memory" in page.words


def test_an_overall_score_with_a_part_missing_is_none_and_says_why(tmp_path: Path) -> None:
    few = [item for item in geneval_items() if item.category != "counting"]
    page = Page(page_of(make_run(tmp_path, few)))
    assert "no result" in page.words
    assert "No overall score. It is a mean over categories" in page.words
    assert "no score a part is missing" in page.words


def test_a_page_names_the_scorer_or_says_that_it_is_unknown(run: StoredRun) -> None:
    assert "Scorer unknown." in page_of(replace(run, scorer=RunScorer()))
    page = Page(page_of(run, scorer={"model": "gpt-9", "prompts": "abc"}))
    assert "Scorer unknown." not in page.words
    assert "Scorer of this run: model gpt-9, prompts abc" in page.words


@pytest.mark.parametrize(
    ("scorer", "why"),
    [
        (
            {"judge": "gpt-4.1", "judge_prompts": "paraphrased"},
            "The judge was given paraphrased prompts, not the official ones.",
        ),
        ({"judge": "gpt-4.1-mini"}, "Scored here by gpt-4.1-mini, and there by another:"),
    ],
)
def test_runs_of_another_judge_stand_apart_from_published_scores(
    tmp_path: Path, scorer: Mapping[str, str], why: str
) -> None:
    items = [gedit_item(number, "absent.png") for number in range(len(GROUPS))]

    def judge(item: Item, image_index: int) -> ImageRecord:
        return ImageRecord(item=item.id, values={"semantics": [4, 9], "quality": [9, 10]})

    def make(name: str, scorer: Mapping[str, str]) -> StoredRun:
        return make_run(
            tmp_path / name,
            items,
            judge,
            benchmark=GEDIT_ENGLISH,
            images_per_prompt=1,
            model=name,
            scorer=scorer,
        )

    apart, beside = make("other", scorer), make("official", {"judge": "openai/gpt-4.1"})
    page = Page(page_of(apart))
    assert f"Not comparable with published scores. {why}" in page.words
    assert f"This run: other is not comparable with these. {why}" in page.words
    # Once, in a chart of its own, and in none of the published ones.
    assert page_of(apart).count('<tr class="ours">') == 1
    assert "OmniGen2" in page.words
    text = to_markdown(describe(apart, "now"))
    assert f"**Not comparable with this run.** {why}" in text
    assert "this run: other" not in text
    tables = len(GEDIT_ENGLISH.published)
    assert page_of(beside).count('<tr class="ours">') == tables
    assert "not comparable with these" not in page_of(beside)
    assert to_markdown(describe(beside, "now")).count("**this run: official**") == tables
    # In a pair, each stands where it may.
    pair = pair_page(describe_pair(apart, beside, "now"), apart, beside)
    assert pair.count("A: other is not comparable with these.") == tables
    assert "B: official is not comparable" not in pair


def test_equal_runs_have_equal_pages_but_for_the_time(tmp_path: Path) -> None:
    texts = []
    for name, written in (("a", "today"), ("b", "tomorrow")):
        run = make_run(tmp_path / name, geneval_items())
        texts.append(run_page(describe(run, written), run))
    first, second = texts
    assert first != second
    assert first.replace("Written today", "Written tomorrow") == second


def all_right(item: Item, image_index: int) -> ImageRecord:
    return ImageRecord(item=item.id, image_index=image_index, values={"correct": True})


def test_a_comparison_shows_what_changed_side_by_side(tmp_path: Path) -> None:
    items = geneval_items()

    def better(item: Item, image_index: int) -> ImageRecord:
        return all_right(item, image_index) if item.number else half_right(item, image_index)

    first = make_run(tmp_path / "a", items, model="before")
    second = make_run(tmp_path / "b", items, better, model="after")
    report = describe_pair(first, second, "now")
    page = Page(pair_page(report, first, second))
    assert "A: before" in page.words
    assert "B: after" in page.words
    assert "11 of 12 prompts differ" in page.words
    alts = [image["alt"] for image in page.all("img")]
    assert [alt.split(" for: ")[0] for alt in alts] == ["A generated", "B generated"] * 6
    # Of a prompt with several images, one whose verdict changed.
    assert page.words.count("A: 0.00") == 6
    assert page.words.count("B: 1.00") == 6
    # What is true of both runs is said once.
    assert page.words.count("A subset.") == 1
    assert "Different scorers." not in page.words
    report["second"]["scorer"] = {"model": "another"}
    assert "Different scorers." in Page(pair_page(report, first, second)).words


def test_runs_that_do_not_differ_say_so(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, geneval_items()) for name in "ab")
    page = Page(pair_page(describe_pair(first, second, "now"), first, second))
    assert "No prompt changed its score." in page.words
    assert "0 of 12 prompts differ" in page.words
    assert GENEVAL.title in page.words
