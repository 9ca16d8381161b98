"""Our own prompts for text rendering, English and Chinese, with the texts that must be legible.

A prompt is a function of its index alone. Surfaces, texts and sentence forms are combined freely;
none comes from any benchmark or data set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deepgen.data.randomness import key_of
from deepgen.rl.prompts import Prompt

CHINESE_FRACTION = 0.4
"""Of the prompts."""

# How many texts a prompt has, and how often.
_TEXTS = ((1, 0.6), (2, 0.3), (3, 0.1))


@dataclass(frozen=True, slots=True)
class _Language:
    one: Sequence[str]
    """Forms with a surface {s} and one text {a}; the others also have {b} and {c}."""
    two: Sequence[str]
    three: Sequence[str]
    surfaces: Sequence[str]
    styles: Sequence[str]
    text: Callable[[random.Random], str]


def text_prompt(index: int) -> Prompt:
    """Prompt ``index``."""
    rng = random.Random(key_of("text prompt", index))
    is_chinese = rng.random() < CHINESE_FRACTION
    language = _CHINESE if is_chinese else _ENGLISH
    (number,) = rng.choices([each for each, _ in _TEXTS], [often for _, often in _TEXTS])
    texts: list[str] = []
    while len(texts) < number:
        text = language.text(rng)
        # A text inside another one could not be told from it.
        if not any(text in other or other in text for other in texts):
            texts.append(text)
    forms = (language.one, language.two, language.three)[number - 1]
    words = dict(zip("abc", texts, strict=False))
    sentence = rng.choice(forms).format(s=rng.choice(language.surfaces), **words)
    return Prompt(
        id=f"text/{index}",
        prompt=f"{sentence}{rng.choice(language.styles)}",
        category="text",
        target_texts=tuple(texts),
        source="deepgen, text templates",
        license="Apache-2.0",
    )


def _english(rng: random.Random) -> str:
    """A word, a short phrase, a price, a time or a year."""
    word = _chooser(rng)
    text = rng.choice(
        (
            word("noun"),
            f"{word('adjective')} {word('noun')}",
            f"THE {word('adjective')} {word('noun')}",
            f"{word('noun')} AND {word('noun')}",
            f"{word('verb')} THE {word('noun')}",
            f"{word('verb')} MORE",
            f"{word('noun')} No. {rng.randint(1, 99)}",
            f"EST. {rng.randint(1850, 2020)}",
            f"{rng.randrange(10, 80, 5)}% OFF",
            f"OPEN {rng.randint(6, 11)} AM TO {rng.randint(5, 10)} PM",
            f"${rng.randint(1, 49)}.{rng.choice((25, 50, 75, 99))}",
            f"{word('place')} {rng.randint(2, 40)} KM",
        )
    )
    return rng.choice((text, text.title(), text.capitalize()))


def _chinese(rng: random.Random) -> str:
    """Likewise."""
    word = _chooser(rng)
    return rng.choice(
        (
            word("语"),
            word("店"),
            f"{word('形容')}{word('店')}",
            f"{word('地')}{word('店')}",
            f"{word('物')}{rng.randint(2, 99)}元",
            f"今日{word('物')}",
            f"{rng.randint(2, 9)}折优惠",
            f"创立于{rng.randint(1890, 2020)}年",
            f"请勿{word('动')}",
            f"欢迎来到{word('地')}",
        )
    )


def _chooser(rng: random.Random) -> Callable[[str], str]:
    return lambda name: rng.choice(_WORDS[name])


_WORDS = {
    name: words.split()
    for name, words in {
        "adjective": "BLUE GOLDEN QUIET WILD SILVER HAPPY SLOW BRIGHT HIDDEN LITTLE ANCIENT FRESH "
        "ROYAL LUCKY GENTLE WINTER SUMMER NORTHERN SUNNY BRAVE HONEST CRIMSON VELVET WANDERING",
        "noun": "HARBOR BAKERY LANTERN ORCHARD GALLERY LIBRARY MARKET GARDEN RIVER COMPASS TEAPOT "
        "FEATHER CASTLE BICYCLE STUDIO MEADOW OBSERVATORY WORKSHOP KITCHEN THEATRE PLANET ROCKET "
        "TURTLE WHALE FALCON COFFEE PUMPKIN CINNAMON VIOLIN UMBRELLA POSTCARD LIGHTHOUSE CARNIVAL "
        "FOUNTAIN MARATHON",
        "verb": "SAVE FOLLOW LOVE DISCOVER TASTE EXPLORE PAINT BUILD MEET READ HEAR REMEMBER",
        "place": "OAKVALE LINDEN EASTBRIDGE STONEHILL CEDARFORD NORTHPIER MIRAMAR WESTWOOD",
        "形容": "老 新 小 大 红 金色 幸福 安静 温暖 古城",
        "物": "豆浆 水饺 咖啡 早餐 牛肉面 糖葫芦 面包 绿茶 苹果 玫瑰 雨伞 门票",
        "店": "书店 茶馆 面包房 花店 图书馆 电影院 灯塔 夜市 音乐会 美术馆 天文台 车站 饭馆",
        "语": "晚安 春天 山水 海风 生日快乐 一路平安 万事如意 好好学习 小心地滑 早睡早起",
        "地": "江南 城北 湖边 山脚 海港 云溪 梅园 石桥 竹里 东岸",
        "动": "吸烟 停车 触摸 喧哗 入内 拍照 奔跑 投喂",
    }.items()
}

_ENGLISH = _Language(
    one=(
        '{s} that says "{a}"',
        '{s} with the words "{a}"',
        '{s}, on which "{a}" is written in large letters',
        '"{a}" written on {s}',
        "a close-up of {s} reading “{a}”",
        "{s}; it reads “{a}”",
    ),
    two=(
        '{s} with "{a}" at the top and "{b}" at the bottom',
        '{s} that says "{a}", and below it in smaller letters "{b}"',
        "{s} whose title is “{a}” and whose subtitle is “{b}”",
    ),
    three=(
        '{s} that lists "{a}", "{b}" and "{c}"',
        '{s} with three lines of text: "{a}", "{b}", "{c}"',
        "{s} with the heading “{a}”, then “{b}”, and at the bottom “{c}”",
    ),
    surfaces=(
        "a neon sign in a rainy street",
        "a wooden sign in front of a farm shop",
        "the cover of a novel on a desk",
        "a chalkboard beside the door of a café",
        "a birthday cake with icing letters",
        "a poster on a brick wall",
        "a paper cup on a table",
        "a cotton T-shirt on a hanger",
        "the side of a delivery van",
        "a road sign in the mountains",
        "a sticky note on a fridge",
        "a banner above a village square",
        "the label of a glass bottle",
        "a train ticket held in a hand",
        "a shop window at dusk",
        "an old film poster",
        "a computer screen in an office",
        "a stone plaque on a monument",
        "a hot-air balloon in the sky",
        "a menu card on a dinner table",
        "a medal on a ribbon",
        "a hand-painted boat at a pier",
        "a cinema marquee",
        "a museum label beside a painting",
    ),
    styles=(
        "",
        "",
        "",
        ", photograph",
        ", watercolor",
        ", flat vector illustration",
        ", in bold red letters",
        ", in elegant handwriting",
        ", at night",
        ", seen from a low angle",
        ", pixel art",
        ", soft morning light",
    ),
    text=_english,
)

_CHINESE = _Language(
    one=(
        "{s}，上面写着“{a}”",
        "{s}，写有“{a}”几个大字",
        "写着“{a}”的{s}",
        "{s}的特写，文字是「{a}」",
        "一张照片：{s}，上面的字是“{a}”",
    ),
    two=(
        "{s}，上方写着“{a}”，下方写着“{b}”",
        "{s}，大字是“{a}”，小字是“{b}”",
        "{s}，左边写着「{a}」，右边写着「{b}」",
    ),
    three=(
        "{s}，依次写着“{a}”“{b}”“{c}”",
        "{s}，三行文字：“{a}”“{b}”“{c}”",
    ),
    surfaces=(
        "雨夜街头的霓虹灯牌",
        "老茶馆门前的木匾",
        "咖啡馆门口的黑板",
        "书桌上的笔记本封面",
        "砖墙上的海报",
        "生日蛋糕上的奶油字",
        "小店的玻璃橱窗",
        "山路边的路牌",
        "节日里挂着的红灯笼",
        "一幅书法卷轴",
        "地铁站的指示牌",
        "餐桌上的菜单",
        "公园入口的石碑",
        "货车的车身",
        "白色马克杯",
        "电影院的招牌",
        "手里的一张门票",
        "校园里的横幅",
    ),
    styles=(
        "",
        "",
        "",
        "，水彩画",
        "，摄影",
        "，扁平插画",
        "，红色粗体字",
        "，手写体",
        "，夜景",
        "，水墨风格",
    ),
    text=_chinese,
)
