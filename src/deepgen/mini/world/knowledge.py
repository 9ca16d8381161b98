"""What the mini's world knows about its objects: drawing, names, kinds and colours.

Chinese names follow Unicode's annotations, shortened where those name only a head ("dog face") or
a feature; measure words are the everyday ones. What objects *do* is in ``facts``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deepgen.mini.world.scene import Tint


class Phrase(NamedTuple):
    """The same words in both of the world's languages."""

    en: str
    zh: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object."""

    code: str
    """OpenMoji file name, without ending."""
    category: str
    """Key of ``CATEGORIES``."""
    singular: str
    chinese: str
    measure: str
    """Chinese measure word that stands between a number and the name."""
    synonyms: tuple[Phrase, ...] = ()
    """Other names (singular), that share the measure word."""
    many: str | None = None
    """Plural of names that do not just take an s."""
    fills: tuple[str, str] | None = None
    """(main, shade) fills of the part that a tint replaces; None where there is no such part."""
    margin: int = 4
    """Empty units around the drawing on its 72-unit sheet, cut off so that sizes mean drawings."""

    @property
    def plural(self) -> str:
        """The English plural."""
        return self.many or f"{self.singular}s"


CATEGORIES: dict[str, Phrase] = {
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


def _also(en: str, zh: str) -> tuple[Phrase, ...]:
    return (Phrase(en, zh),)


OBJECTS: dict[str, Kind] = {
    "dog": Kind("1F436", "animal", "dog", "狗", "只", _also("puppy", "小狗")),
    "cat": Kind("1F431", "animal", "cat", "猫", "只", _also("kitten", "小猫")),
    "pig": Kind("1F437", "animal", "pig", "猪", "头", _also("piglet", "小猪")),
    "panda": Kind("1F43C", "animal", "panda", "熊猫", "只", _also("panda bear", "大熊猫")),
    "fox": Kind("1F98A", "animal", "fox", "狐狸", "只", many="foxes"),
    "frog": Kind("1F438", "animal", "frog", "青蛙", "只", fills=_GREEN),
    "fish": Kind("1F41F", "animal", "fish", "鱼", "条", many="fish", fills=_BLUE),
    "octopus": Kind("1F419", "animal", "octopus", "章鱼", "只", many="octopuses"),
    "turtle": Kind("1F422", "animal", "turtle", "乌龟", "只", _also("tortoise", "龟")),
    "penguin": Kind("1F427", "animal", "penguin", "企鹅", "只"),
    "apple": Kind("1F34E", "fruit", "apple", "苹果", "个", fills=_RED),
    "banana": Kind("1F34C", "fruit", "banana", "香蕉", "根"),
    "grapes": Kind(
        "1F347",
        "fruit",
        "bunch of grapes",
        "葡萄",
        "串",
        many="bunches of grapes",
        fills=_PURPLE,
    ),
    "strawberry": Kind(
        "1F353", "fruit", "strawberry", "草莓", "颗", many="strawberries", fills=_RED
    ),
    "carrot": Kind("1F955", "vegetable", "carrot", "胡萝卜", "根"),
    "mushroom": Kind("1F344", "vegetable", "mushroom", "蘑菇", "个", fills=_RED),
    "tree": Kind("1F332", "plant", "tree", "树", "棵", _also("pine tree", "松树")),
    "cactus": Kind("1F335", "plant", "cactus", "仙人掌", "棵", many="cactuses"),
    "car": Kind("1F697", "vehicle", "car", "汽车", "辆", _also("automobile", "轿车"), fills=_RED),
    "rocket": Kind("1F680", "vehicle", "rocket", "火箭", "枚", fills=_RED),
    "house": Kind("1F3E0", "building", "house", "房子", "座"),
    "umbrella": Kind(
        "2602", "household", "umbrella", "雨伞", "把", _also("parasol", "伞"), fills=_PURPLE
    ),
    "star": Kind("2B50", "sky", "star", "星星", "颗", fills=_YELLOW),
    "heart": Kind("2764", "thing", "heart", "爱心", "颗", fills=_DARK_RED),
    "cow": Kind("1F42E", "animal", "cow", "奶牛", "头"),
    "lion": Kind("1F981", "animal", "lion", "狮子", "头", margin=2),
    "monkey": Kind("1F435", "animal", "monkey", "猴子", "只"),
    "rabbit": Kind("1F430", "animal", "rabbit", "兔子", "只", _also("bunny", "小兔")),
    "chicken": Kind("1F414", "animal", "chicken", "鸡", "只", _also("hen", "母鸡")),
    "owl": Kind("1F989", "animal", "owl", "猫头鹰", "只"),
    "butterfly": Kind(
        "1F98B", "animal", "butterfly", "蝴蝶", "只", many="butterflies", fills=_BLUE, margin=2
    ),
    "elephant": Kind("1F418", "animal", "elephant", "大象", "头"),
    "bee": Kind("1F41D", "animal", "bee", "蜜蜂", "只", _also("honeybee", "蜂")),
    "crab": Kind("1F980", "animal", "crab", "螃蟹", "只"),
    "duck": Kind("1F986", "animal", "duck", "鸭子", "只"),
    "whale": Kind("1F433", "animal", "whale", "鲸鱼", "头"),
    "mouse": Kind("1F42D", "animal", "mouse", "老鼠", "只", many="mice", margin=2),
    "giraffe": Kind("1F992", "animal", "giraffe", "长颈鹿", "只"),
    "watermelon": Kind(
        "1F349", "fruit", "slice of watermelon", "西瓜", "块", many="slices of watermelon"
    ),
    "cherries": Kind(
        "1F352",
        "fruit",
        "pair of cherries",
        "樱桃",
        "对",
        many="pairs of cherries",
        fills=_RED,
    ),
    "pear": Kind("1F350", "fruit", "pear", "梨", "个", fills=_GREEN),
    "pineapple": Kind("1F34D", "fruit", "pineapple", "菠萝", "个"),
    "eggplant": Kind("1F346", "vegetable", "eggplant", "茄子", "个", fills=_PURPLE),
    "bread": Kind("1F35E", "food", "loaf of bread", "面包", "块", many="loaves of bread"),
    "cheese": Kind("1F9C0", "food", "piece of cheese", "奶酪", "块", many="pieces of cheese"),
    "pizza": Kind("1F355", "food", "slice of pizza", "披萨", "块", many="slices of pizza"),
    "hamburger": Kind("1F354", "food", "hamburger", "汉堡", "个", _also("burger", "汉堡包")),
    "ice cream": Kind("1F368", "food", "ice cream", "冰淇淋", "个"),
    "doughnut": Kind("1F369", "food", "doughnut", "甜甜圈", "个", _also("donut", "多纳圈")),
    "cake": Kind("1F382", "food", "cake", "蛋糕", "个", _also("birthday cake", "生日蛋糕")),
    "egg": Kind("1F95A", "food", "egg", "鸡蛋", "个"),
    "rose": Kind("1F339", "plant", "rose", "玫瑰", "朵", fills=_RED),
    "sunflower": Kind("1F33B", "plant", "sunflower", "向日葵", "朵"),
    "bicycle": Kind(
        "1F6B2", "vehicle", "bicycle", "自行车", "辆", _also("bike", "单车"), fills=_RED
    ),
    "airplane": Kind("2708", "vehicle", "airplane", "飞机", "架", _also("plane", "客机")),
    "canoe": Kind("1F6F6", "vehicle", "canoe", "独木舟", "艘", fills=_DARK_BLUE),
    "train": Kind(
        "1F682", "vehicle", "train", "火车", "列", _also("steam train", "蒸汽火车"), margin=2
    ),
    "helicopter": Kind("1F681", "vehicle", "helicopter", "直升机", "架", fills=_RED),
    "castle": Kind("1F3F0", "building", "castle", "城堡", "座"),
    "tent": Kind("26FA", "building", "tent", "帐篷", "顶", fills=_YELLOW),
    "key": Kind("1F511", "household", "key", "钥匙", "把", fills=_ORANGE),
    "light bulb": Kind("1F4A1", "household", "light bulb", "灯泡", "个"),
    "chair": Kind("1FA91", "household", "chair", "椅子", "把", fills=_YELLOW),
    "bed": Kind("1F6CF", "household", "bed", "床", "张"),
    "teapot": Kind("1FAD6", "household", "teapot", "茶壶", "把", fills=_GRAY),
    "bucket": Kind("1FAA3", "household", "bucket", "水桶", "个", _also("pail", "桶"), fills=_BLUE),
    "hammer": Kind("1F528", "tool", "hammer", "锤子", "把"),
    "scissors": Kind("2702", "tool", "pair of scissors", "剪刀", "把", many="pairs of scissors"),
    "ladder": Kind("1FA9C", "tool", "ladder", "梯子", "架"),
    "magnet": Kind("1F9F2", "tool", "magnet", "磁铁", "块", fills=_RED),
    "pencil": Kind("270F", "tool", "pencil", "铅笔", "支"),
    "guitar": Kind("1F3B8", "instrument", "guitar", "吉他", "把"),
    "drum": Kind("1F941", "instrument", "drum", "鼓", "面", fills=_RED),
    "trumpet": Kind("1F3BA", "instrument", "trumpet", "小号", "把"),
    "bell": Kind("1F514", "instrument", "bell", "铃铛", "个", fills=_YELLOW),
    "soccer ball": Kind("26BD", "toy", "soccer ball", "足球", "个"),
    "balloon": Kind("1F388", "toy", "balloon", "气球", "个", fills=_RED, margin=2),
    "kite": Kind("1FA81", "toy", "kite", "风筝", "只", margin=2),
    "puzzle piece": Kind("1F9E9", "toy", "puzzle piece", "拼图", "块", fills=_BLUE),
    "hat": Kind("1F3A9", "clothing", "hat", "礼帽", "顶", _also("top hat", "高礼帽"), margin=2),
    "crown": Kind("1F451", "clothing", "crown", "皇冠", "顶", fills=_YELLOW, margin=2),
    "shirt": Kind("1F455", "clothing", "shirt", "衬衫", "件", fills=_DARK_BLUE),
    "shoe": Kind("1F45F", "clothing", "shoe", "鞋子", "只", _also("sneaker", "运动鞋"), margin=2),
    "dress": Kind(
        "1F457",
        "clothing",
        "dress",
        "连衣裙",
        "条",
        many="dresses",
        fills=_DARK_BLUE,
        margin=2,
    ),
    "backpack": Kind("1F392", "clothing", "backpack", "书包", "个", fills=_RED, margin=2),
    "scarf": Kind("1F9E3", "clothing", "scarf", "围巾", "条", many="scarves", fills=_RED),
    "sun": Kind("2600", "sky", "sun", "太阳", "轮"),
    "moon": Kind("1F319", "sky", "moon", "月亮", "轮", _also("crescent moon", "弯月")),
    "cloud": Kind("2601", "sky", "cloud", "云", "朵", fills=_GRAY),
    "rainbow": Kind("1F308", "sky", "rainbow", "彩虹", "道"),
    "fire": Kind("1F525", "thing", "fire", "火", "团", _also("flame", "火焰"), margin=2),
    "snowman": Kind("2603", "thing", "snowman", "雪人", "个", many="snowmen"),
    "gem": Kind(
        "1F48E", "thing", "gem", "宝石", "颗", _also("jewel", "钻石"), fills=_DARK_BLUE, margin=2
    ),
    "gift": Kind("1F381", "thing", "gift", "礼物", "份", _also("present", "礼品")),
    "camera": Kind("1F4F7", "thing", "camera", "相机", "台"),
    "robot": Kind("1F916", "thing", "robot", "机器人", "个"),
}

# Kinds so far apart that anybody sorts their members the same way: riddles keep to these.
CLEAR_CATEGORIES = ("animal", "fruit", "vehicle", "instrument", "clothing")

TINTABLE = tuple(name for name, facts in OBJECTS.items() if facts.fills is not None)


def members(category: str) -> tuple[str, ...]:
    """Names of the objects of one kind."""
    return tuple(name for name, facts in OBJECTS.items() if facts.category == category)


def natural_tint(name: str) -> Tint | None:
    """The tint that a tintable object has anyway; None where it has no nameable one."""
    fills = OBJECTS[name].fills
    return next((tint for tint, pair in TINTS.items() if fills and set(pair) == set(fills)), None)
