"""Words and templates that texts are composed from, in English and Chinese.

A template names categories in braces; a word of a category may be replaced by any other of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh", "mixed"]

TextKind = Literal["word", "sentence", "poster", "poem", "sign"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS: Mapping[str, tuple[str, ...]] = {
    "thing": _words(
        "lamp window garden river bridge mountain letter mirror candle clock ladder basket blanket "
        "kettle pencil camera guitar violin umbrella bicycle suitcase teapot lantern compass "
        "hammer notebook pillow curtain saucer statue fountain staircase balcony chimney orchard "
        "harbour lighthouse meadow valley island forest desert glacier volcano canyon waterfall "
        "market library museum theatre station airport bakery workshop kitchen attic cellar"
    ),
    "animal": _words(
        "fox rabbit heron sparrow tiger otter badger hedgehog dolphin turtle penguin squirrel "
        "falcon panda zebra giraffe beetle butterfly lizard salmon walrus camel donkey magpie "
        "kingfisher leopard octopus swallow raven pelican"
    ),
    "quality": _words(
        "quiet golden narrow gentle hollow ancient bright crooked distant early fearless generous "
        "honest icy jolly kind lazy modest northern open polite quick rusty silver tiny upright "
        "velvet warm yellow zealous brave calm dusty elegant frozen graceful humble silent wooden"
    ),
    "act": _words(
        "waits sings sleeps wanders dances listens returns whispers shines travels laughs floats "
        "stands watches rests hides remembers hurries blooms drifts"
    ),
    "place": _words(
        "Lisbon Oslo Kyoto Cairo Quito Havana Dublin Geneva Vienna Prague Naples Porto Bergen "
        "Seville Lyon Ghent Turin Riga Tallinn Zagreb Nairobi Accra Lima Bogota Hanoi Jakarta"
    ),
    "name": _words(
        "Alice Bruno Clara Diego Elena Felix Greta Hugo Irene Jonas Klara Louis Maria Nora Oscar "
        "Paula Quentin Rosa Simon Theresa Ursula Victor Wanda Xavier Yara Zoe"
    ),
    "food": _words(
        "bread honey coffee cheese apples noodles soup salad pancakes cookies lemonade tea "
        "chocolate pears olives rice waffles cherries pumpkin peaches dumplings oranges"
    ),
    "event": _words(
        "Festival Concert Market Exhibition Workshop Parade Carnival Reading Marathon Opening "
        "Auction Regatta Conference Picnic Premiere Fair"
    ),
    "theme": _words(
        "Jazz Spring Summer Autumn Winter Book Flower Film Science Street Design Coffee Garden "
        "Music Poetry Robot Ocean Harvest Lantern Bicycle Ceramics Photo"
    ),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "month": _words(
        "January February March April May June July August September October November December"
    ),
    "hour": tuple(f"{hour}:{minute:02d}" for hour in range(7, 22) for minute in (0, 15, 30, 45)),
    "date": tuple(str(each) for each in range(1, 29)),
    "number": tuple(str(each) for each in range(2, 100)),
    "price": tuple(f"${whole}.{cents}" for whole in range(1, 40) for cents in ("00", "50", "99")),
    "notice": (
        *("NO PARKING", "PLEASE KNOCK", "MIND THE STEP", "WET PAINT", "KEEP LEFT", "OPEN DAILY"),
        *("STAFF ONLY", "TICKETS HERE", "QUIET PLEASE", "SLOW DOWN", "EXIT ONLY", "RING THE BELL"),
        *("FRESH FISH", "ROOMS TO LET", "LOST AND FOUND", "FREE ENTRY", "BEWARE OF THE DOG"),
        *("PUSH TO OPEN", "NO SWIMMING", "CAR WASH", "BIKE RENTAL", "WAY OUT", "SOLD OUT"),
    ),
    "街道": _words(
        "长安街 和平路 人民路 中山路 解放路 文化街 学院路 朝阳街 滨河路 花园街 建设路 新华街"
    ),
    "事物": _words(
        "月亮 河流 花园 台灯 窗户 书架 钢琴 茶壶 雨伞 自行车 灯塔 山谷 海岛 森林 雪山 瀑布 城墙 "
        "石桥 竹林 稻田 码头 剧院 图书馆 博物馆 车站 厨房 阳台 屋顶 信封 钟表 地图 相机 风筝 灯笼"
    ),
    "动物": _words(
        "狐狸 兔子 白鹭 麻雀 老虎 水獭 刺猬 海豚 乌龟 企鹅 松鼠 熊猫 斑马 长颈鹿 蝴蝶 鲸鱼 骆驼 "
        "喜鹊 猫头鹰 豹子 燕子 锦鲤"
    ),
    "性质": _words(
        "安静 古老 明亮 遥远 温暖 勇敢 慷慨 诚实 银色 金色 冰冷 柔软 狭窄 宽阔 清澈 神秘 整洁 热闹"
    ),
    "动作": _words(
        "等待 歌唱 沉睡 漫步 跳舞 聆听 归来 低语 发光 旅行 微笑 漂流 守望 休息 奔跑 飞翔"
    ),
    "城市": _words(
        "北京 上海 广州 杭州 成都 西安 南京 武汉 苏州 重庆 青岛 大连 昆明 厦门 长沙 哈尔滨"
    ),
    "食物": _words(
        "面包 蜂蜜 咖啡 奶酪 苹果 面条 米饭 饺子 豆腐 绿茶 橙子 樱桃 月饼 包子 火锅 汤圆 烤鸭"
    ),
    "活动": _words(
        "音乐节 书展 画展 电影周 花卉展 美食节 科技展 马拉松 灯会 庙会 读书会 摄影展 运动会"
    ),
    "星期": _words("星期一 星期二 星期三 星期四 星期五 星期六 星期日"),
    "月份": _words("一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月"),
    "日期": tuple(str(each) for each in range(1, 29)),
    "数字": tuple(str(each) for each in range(2, 100)),
    "时刻": tuple(f"{hour}:{minute:02d}" for hour in range(7, 22) for minute in (0, 15, 30, 45)),
    "价格": tuple(f"{whole}元" for whole in range(3, 200)),
    "告示": _words(
        "禁止停车 请勿吸烟 小心台阶 油漆未干 靠左行走 全天营业 员工专用 售票处 请保持安静 减速慢行 "
        "出口 失物招领 免费入场 注意安全 自行车出租 今日售罄 新鲜水果 请按门铃 禁止游泳 欢迎光临"
    ),
    "时节": _words("春风 秋雨 夏夜 冬雪 晨雾 晚霞 明月 寒星 落叶 飞花 细雨 朝阳 白云 清泉"),
    "越过": _words("过 入 照 绕 落 渡 拂 映"),
    "处所": _words("小桥 青山 旧城 长河 竹林 孤舟 石阶 庭院 远村 江南 寒窗 渡口 东篱 西楼"),
    "人事": _words("归人 故人 渔翁 牧童 行者 诗客 琴声 灯影 钟声 书香 茶香 笛声"),
    "情": _words("不知年 未曾眠 共此时 在天边 满人间 自悠然 两三声 又一年 入梦来 似当年"),
}

SENTENCES: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "The {animal} {act} beside the {quality} {thing}.",
        "Every {quality} {thing} has a story to tell.",
        "{name} bought {number} jars of {food} in {place}.",
        "Meet me at the {thing} on {day} at {hour}.",
        "A {quality} {animal} crossed the {thing} last {month}.",
        "Please bring {food} and {food} to the {thing}.",
        "Nothing is as {quality} as the {thing} in {month}.",
        "{name} and {name} {quality} as ever, {number} years later!",
        "Why does the {animal} near the {thing} look so {quality}?",
        "The train to {place} leaves at {hour} from platform {number}.",
        "Be {quality}, stay curious, and never forget the {thing}.",
        "Today's special: {food} with {food}, only {price}.",
    ),
    "zh": (
        "{性质}的{动物}在{事物}旁边{动作}。",
        "每一座{性质}的{事物}都有自己的故事。",
        "我们{星期}在{城市}的{事物}见面。",
        "请带上{食物}和{食物}，{时刻}准时出发。",
        "去年{月份}，一只{动物}来到了{城市}。",
        "开往{城市}的列车{时刻}从{数字}号站台出发。",
        "世界上最{性质}的{事物}，就在你心里！",
        "今日特价：{食物}每份{价格}。",
        "为什么{动物}总是喜欢{性质}的{事物}？",
        "学会{动作}，也要学会{动作}。",
    ),
    "mixed": (
        "欢迎来到{城市} {theme} {event}",
        "{theme} {event}：{月份}{日期}日 {时刻} 开幕",
        "今日推荐 {food}，每份{价格}",
        "{name} 在{城市}等你",
        "{星期} Happy Hour {hour} 开始",
        "扫码下载 {theme} App，立减{价格}",
        "{quality} {thing}，{性质}的{事物}",
    ),
}

TITLES: Mapping[Language, tuple[str, ...]] = {
    "en": ("{theme} {event}", "The {quality} {animal}", "{theme} Night", "{place} {event}"),
    "zh": ("{城市}{活动}", "{性质}的{事物}", "{动物}与{事物}", "{月份}{活动}"),
    "mixed": ("{城市} {theme} {event}", "{theme} {活动}", "{活动} {event}"),
}

DETAILS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "{day}, {month} {date} at {hour}",
        "{place}, {hour} to {hour}",
        "with {name} and {name}",
        "{food}, {food} and {food}",
    ),
    "zh": (
        "{月份}{日期}日 {时刻}",
        "{城市}{街道}{数字}号",
        "{星期}{时刻}开始",
        "{食物}、{食物}和{食物}",
    ),
    "mixed": ("{月份}{日期}日 {hour}", "{城市}{街道} No. {number}", "{day} {星期} {hour}"),
}

CLOSINGS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "Tickets {price}",
        "Free entry",
        "Call 555-01{number}",
        "Bring a friend",
        "Doors {hour}",
    ),
    "zh": ("门票{价格}", "免费入场", "欢迎参加", "名额有限，先到先得", "咨询电话：555-01{数字}"),
    "mixed": ("门票 {price}", "Free WiFi 免费上网", "VIP 票{价格}"),
}

POEM_LINES: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "The {animal} {act} in the rain,",
        "and {quality} is the {thing} tonight.",
        "O {quality} {thing}, remember me",
        "when {month} {act} over {place}.",
        "A {thing}, a {thing}, a {quality} road,",
        "the {quality} {animal} {act} alone.",
        "I carried {food} up the hill",
        "and left the {thing} to the {animal}.",
    ),
    "zh": (
        "{时节}{越过}{处所}，",
        "{人事}{情}。",
        "{处所}{越过}{时节}，",
        "{时节}{情}。",
    ),
    "mixed": (
        "{时节}{越过}{处所}，",
        "the {animal} {act},",
        "{人事}{情}。",
        "and {place} {act}.",
    ),
}

SIGNS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "{notice}",
        "{food} {price}",
        "{theme} {event}",
        "{name}'s {food}",
        "{place} {number} km",
    ),
    "zh": ("{告示}", "{食物} {价格}", "{街道}", "{城市} {数字}公里", "{活动}"),
    "mixed": ("{告示} {notice}", "{街道} {theme} Street", "{食物} {food}"),
}

SYLLABLES = _words(
    "ba be bo ca ce co da de do fa fi fo ga go ka ke ki la le lo ma mi mo na ne no pa pe po ra re "
    "ri ro sa se so ta te to va ve vi za zo tri bra flo gru plen stor"
)


def common_characters() -> str:
    """The 3,755 common Chinese characters of level 1 of GB 2312 (1980)."""
    last_row = 0xD7
    cells = [
        bytes((row, cell))
        for row in range(0xB0, last_row + 1)
        for cell in range(0xA1, 0xFF)
        # The last row ends five characters early.
        if row < last_row or cell <= 0xF9
    ]
    return b"".join(cells).decode("gb2312")
