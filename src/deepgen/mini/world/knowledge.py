"""What the mini's world knows about its objects: drawing, names, kinds and colours.

Chinese names follow Unicode's annotations, shortened where those name only a head ("dog face") or
a feature; measure words are the everyday ones. What objects *do* is in ``facts``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from deepgen.mini.world.scene import Tint

Category = Literal[
    "animal",
    "fruit",
    "vegetable",
    "food",
    "plant",
    "vehicle",
    "building",
    "household",
    "tool",
    "instrument",
    "toy",
    "clothing",
    "sky",
    "thing",
]


class Phrase(NamedTuple):
    """The same words in both of the world's languages."""

    en: str
    zh: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Noun:
    """How a kind of thing is called."""

    singular: str
    plural: str
    chinese: str
    measure: str
    """Chinese measure word that stands between a number and the name."""
    synonyms: tuple[Phrase, ...] = ()
    """Other names (singular), that share the measure word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """One kind of object."""

    code: str
    """OpenMoji file name, without ending."""
    category: Category
    noun: Noun
    fills: tuple[str, str] | None = None
    """(main, shade) fills of the part that a tint replaces; None where there is no such part."""
    margin: int = 4
    """Empty units around the drawing on its 72-unit sheet, cut off so that sizes mean drawings."""


CATEGORIES: dict[Category, Phrase] = {
    "animal": Phrase("animal", "动物"),
    "fruit": Phrase("fruit", "水果"),
    "vegetable": Phrase("vegetable", "蔬菜"),
    "food": Phrase("food", "食物"),
    "plant": Phrase("plant", "植物"),
    "vehicle": Phrase("vehicle", "交通工具"),
    "building": Phrase("building", "建筑"),
    "household": Phrase("household item", "家居用品"),
    "tool": Phrase("tool", "工具"),
    "instrument": Phrase("musical instrument", "乐器"),
    "toy": Phrase("toy", "玩具"),
    "clothing": Phrase("thing to wear", "穿戴的东西"),
    "sky": Phrase("thing in the sky", "天上的东西"),
    "thing": Phrase("thing", "东西"),
}

# OpenMoji's own palette: each hue as (light, dark), so that a tinted drawing keeps its shading.
TINTS: dict[Tint, tuple[str, str]] = {
    "red": ("#ea5a47", "#d22f27"),
    "orange": ("#f4aa41", "#e27022"),
    "yellow": ("#fcea2b", "#f1b31c"),
    "green": ("#b1cc33", "#5c9e31"),
    "blue": ("#92d3f5", "#61b2e4"),
    "purple": ("#b399c8", "#8967aa"),
    "pink": ("#ffa7c0", "#e67a94"),
    "brown": ("#a57939", "#6a462f"),
}
_RED, _ORANGE, _YELLOW = TINTS["red"], TINTS["orange"], TINTS["yellow"]
_GREEN, _BLUE, _PURPLE = TINTS["green"], TINTS["blue"], TINTS["purple"]
_GRAY = ("#d0cfce", "#9b9b9a")

# Drawings that are mostly in the dark half: turned round, so that a tint's light half, which is the
# one that names the colour (dark yellow passes for orange), covers most of every tinted drawing.
_DARK_RED = ("#d22f27", "#ea5a47")
_DARK_BLUE = ("#61b2e4", "#92d3f5")


def _object(
    code: str,
    category: Category,
    singular: str,
    chinese: str,
    measure: str,
    *also: tuple[str, str],
    plural: str | None = None,
    fills: tuple[str, str] | None = None,
    margin: int = 4,
) -> ObjectFacts:
    noun = Noun(
        singular=singular,
        plural=plural or f"{singular}s",
        chinese=chinese,
        measure=measure,
        synonyms=tuple(Phrase(en, zh) for en, zh in also),
    )
    return ObjectFacts(code=code, category=category, noun=noun, fills=fills, margin=margin)


OBJECTS: dict[str, ObjectFacts] = {
    "dog": _object("1F436", "animal", "dog", "狗", "只", ("puppy", "小狗")),
    "cat": _object("1F431", "animal", "cat", "猫", "只", ("kitten", "小猫")),
    "pig": _object("1F437", "animal", "pig", "猪", "头", ("piglet", "小猪")),
    "panda": _object("1F43C", "animal", "panda", "熊猫", "只", ("panda bear", "大熊猫")),
    "fox": _object("1F98A", "animal", "fox", "狐狸", "只", plural="foxes"),
    "frog": _object("1F438", "animal", "frog", "青蛙", "只", fills=_GREEN),
    "fish": _object("1F41F", "animal", "fish", "鱼", "条", plural="fish", fills=_BLUE),
    "octopus": _object("1F419", "animal", "octopus", "章鱼", "只", plural="octopuses"),
    "turtle": _object("1F422", "animal", "turtle", "乌龟", "只", ("tortoise", "龟")),
    "penguin": _object("1F427", "animal", "penguin", "企鹅", "只"),
    "apple": _object("1F34E", "fruit", "apple", "苹果", "个", fills=_RED),
    "banana": _object("1F34C", "fruit", "banana", "香蕉", "根"),
    "grapes": _object(
        "1F347", "fruit", "bunch of grapes", "葡萄", "串", plural="bunches of grapes", fills=_PURPLE
    ),
    "strawberry": _object(
        "1F353", "fruit", "strawberry", "草莓", "颗", plural="strawberries", fills=_RED
    ),
    "carrot": _object("1F955", "vegetable", "carrot", "胡萝卜", "根"),
    "mushroom": _object("1F344", "vegetable", "mushroom", "蘑菇", "个", fills=_RED),
    "tree": _object("1F332", "plant", "tree", "树", "棵", ("pine tree", "松树")),
    "cactus": _object("1F335", "plant", "cactus", "仙人掌", "棵", plural="cactuses"),
    "car": _object("1F697", "vehicle", "car", "汽车", "辆", ("automobile", "轿车"), fills=_RED),
    "rocket": _object("1F680", "vehicle", "rocket", "火箭", "枚", fills=_RED),
    "house": _object("1F3E0", "building", "house", "房子", "座"),
    "umbrella": _object(
        "2602", "household", "umbrella", "雨伞", "把", ("parasol", "伞"), fills=_PURPLE
    ),
    "star": _object("2B50", "sky", "star", "星星", "颗", fills=_YELLOW),
    "heart": _object("2764", "thing", "heart", "爱心", "颗", fills=_DARK_RED),
    "cow": _object("1F42E", "animal", "cow", "奶牛", "头"),
    "lion": _object("1F981", "animal", "lion", "狮子", "头", margin=2),
    "monkey": _object("1F435", "animal", "monkey", "猴子", "只"),
    "rabbit": _object("1F430", "animal", "rabbit", "兔子", "只", ("bunny", "小兔")),
    "chicken": _object("1F414", "animal", "chicken", "鸡", "只", ("hen", "母鸡")),
    "owl": _object("1F989", "animal", "owl", "猫头鹰", "只"),
    "butterfly": _object(
        "1F98B", "animal", "butterfly", "蝴蝶", "只", plural="butterflies", fills=_BLUE, margin=2
    ),
    "elephant": _object("1F418", "animal", "elephant", "大象", "头"),
    "bee": _object("1F41D", "animal", "bee", "蜜蜂", "只", ("honeybee", "蜂")),
    "crab": _object("1F980", "animal", "crab", "螃蟹", "只"),
    "duck": _object("1F986", "animal", "duck", "鸭子", "只"),
    "whale": _object("1F433", "animal", "whale", "鲸鱼", "头"),
    "mouse": _object("1F42D", "animal", "mouse", "老鼠", "只", plural="mice", margin=2),
    "giraffe": _object("1F992", "animal", "giraffe", "长颈鹿", "只"),
    "watermelon": _object(
        "1F349", "fruit", "slice of watermelon", "西瓜", "块", plural="slices of watermelon"
    ),
    "cherries": _object(
        "1F352", "fruit", "pair of cherries", "樱桃", "对", plural="pairs of cherries", fills=_RED
    ),
    "pear": _object("1F350", "fruit", "pear", "梨", "个", fills=_GREEN),
    "pineapple": _object("1F34D", "fruit", "pineapple", "菠萝", "个"),
    "eggplant": _object("1F346", "vegetable", "eggplant", "茄子", "个", fills=_PURPLE),
    "bread": _object("1F35E", "food", "loaf of bread", "面包", "块", plural="loaves of bread"),
    "cheese": _object("1F9C0", "food", "piece of cheese", "奶酪", "块", plural="pieces of cheese"),
    "pizza": _object("1F355", "food", "slice of pizza", "披萨", "块", plural="slices of pizza"),
    "hamburger": _object("1F354", "food", "hamburger", "汉堡", "个", ("burger", "汉堡包")),
    "ice cream": _object("1F368", "food", "ice cream", "冰淇淋", "个"),
    "doughnut": _object("1F369", "food", "doughnut", "甜甜圈", "个", ("donut", "多纳圈")),
    "cake": _object("1F382", "food", "cake", "蛋糕", "个", ("birthday cake", "生日蛋糕")),
    "egg": _object("1F95A", "food", "egg", "鸡蛋", "个"),
    "rose": _object("1F339", "plant", "rose", "玫瑰", "朵", fills=_RED),
    "sunflower": _object("1F33B", "plant", "sunflower", "向日葵", "朵"),
    "bicycle": _object("1F6B2", "vehicle", "bicycle", "自行车", "辆", ("bike", "单车"), fills=_RED),
    "airplane": _object("2708", "vehicle", "airplane", "飞机", "架", ("plane", "客机")),
    "canoe": _object("1F6F6", "vehicle", "canoe", "独木舟", "艘", fills=_DARK_BLUE),
    "train": _object(
        "1F682", "vehicle", "train", "火车", "列", ("steam train", "蒸汽火车"), margin=2
    ),
    "helicopter": _object("1F681", "vehicle", "helicopter", "直升机", "架", fills=_RED),
    "castle": _object("1F3F0", "building", "castle", "城堡", "座"),
    "tent": _object("26FA", "building", "tent", "帐篷", "顶", fills=_YELLOW),
    "key": _object("1F511", "household", "key", "钥匙", "把", fills=_ORANGE),
    "light bulb": _object("1F4A1", "household", "light bulb", "灯泡", "个"),
    "chair": _object("1FA91", "household", "chair", "椅子", "把", fills=_YELLOW),
    "bed": _object("1F6CF", "household", "bed", "床", "张"),
    "teapot": _object("1FAD6", "household", "teapot", "茶壶", "把", fills=_GRAY),
    "bucket": _object("1FAA3", "household", "bucket", "水桶", "个", ("pail", "桶"), fills=_BLUE),
    "hammer": _object("1F528", "tool", "hammer", "锤子", "把"),
    "scissors": _object(
        "2702", "tool", "pair of scissors", "剪刀", "把", plural="pairs of scissors"
    ),
    "ladder": _object("1FA9C", "tool", "ladder", "梯子", "架"),
    "magnet": _object("1F9F2", "tool", "magnet", "磁铁", "块", fills=_RED),
    "pencil": _object("270F", "tool", "pencil", "铅笔", "支"),
    "guitar": _object("1F3B8", "instrument", "guitar", "吉他", "把"),
    "drum": _object("1F941", "instrument", "drum", "鼓", "面", fills=_RED),
    "trumpet": _object("1F3BA", "instrument", "trumpet", "小号", "把"),
    "bell": _object("1F514", "instrument", "bell", "铃铛", "个", fills=_YELLOW),
    "soccer ball": _object("26BD", "toy", "soccer ball", "足球", "个"),
    "balloon": _object("1F388", "toy", "balloon", "气球", "个", fills=_RED, margin=2),
    "kite": _object("1FA81", "toy", "kite", "风筝", "只", margin=2),
    "puzzle piece": _object("1F9E9", "toy", "puzzle piece", "拼图", "块", fills=_BLUE),
    "hat": _object("1F3A9", "clothing", "hat", "礼帽", "顶", ("top hat", "高礼帽"), margin=2),
    "crown": _object("1F451", "clothing", "crown", "皇冠", "顶", fills=_YELLOW, margin=2),
    "shirt": _object("1F455", "clothing", "shirt", "衬衫", "件", fills=_DARK_BLUE),
    "shoe": _object("1F45F", "clothing", "shoe", "鞋子", "只", ("sneaker", "运动鞋"), margin=2),
    "dress": _object(
        "1F457", "clothing", "dress", "连衣裙", "条", plural="dresses", fills=_DARK_BLUE, margin=2
    ),
    "backpack": _object("1F392", "clothing", "backpack", "书包", "个", fills=_RED, margin=2),
    "scarf": _object("1F9E3", "clothing", "scarf", "围巾", "条", plural="scarves", fills=_RED),
    "sun": _object("2600", "sky", "sun", "太阳", "轮"),
    "moon": _object("1F319", "sky", "moon", "月亮", "轮", ("crescent moon", "弯月")),
    "cloud": _object("2601", "sky", "cloud", "云", "朵", fills=_GRAY),
    "rainbow": _object("1F308", "sky", "rainbow", "彩虹", "道"),
    "fire": _object("1F525", "thing", "fire", "火", "团", ("flame", "火焰"), margin=2),
    "snowman": _object("2603", "thing", "snowman", "雪人", "个", plural="snowmen"),
    "gem": _object(
        "1F48E", "thing", "gem", "宝石", "颗", ("jewel", "钻石"), fills=_DARK_BLUE, margin=2
    ),
    "gift": _object("1F381", "thing", "gift", "礼物", "份", ("present", "礼品")),
    "camera": _object("1F4F7", "thing", "camera", "相机", "台"),
    "robot": _object("1F916", "thing", "robot", "机器人", "个"),
}

# Kinds so far apart that anybody sorts their members the same way: riddles keep to these.
CLEAR_CATEGORIES: tuple[Category, ...] = ("animal", "fruit", "vehicle", "instrument", "clothing")

TINTABLE = tuple(name for name, facts in OBJECTS.items() if facts.fills is not None)


def members(category: Category) -> tuple[str, ...]:
    """Names of the objects of one kind."""
    return tuple(name for name, facts in OBJECTS.items() if facts.category == category)


def natural_tint(name: str) -> Tint | None:
    """The tint that a tintable object has anyway; None where it has no nameable one."""
    fills = OBJECTS[name].fills
    return next((tint for tint, pair in TINTS.items() if fills and set(pair) == set(fills)), None)
