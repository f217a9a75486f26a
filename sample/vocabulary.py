"""The words of the sample: real ones, so that a pretrained text encoder has something to know."""

TOPICS: dict[str, tuple[str, ...]] = {
    # food
    "noodles": ("ramen", "pasta", "broth", "spaghetti", "wok"),
    "baking": ("bread", "cake", "oven", "dough", "cookie"),
    "coffee": ("espresso", "latte", "barista", "roast", "mug"),
    "grill": ("steak", "barbecue", "charcoal", "burger", "sausage"),
    # sport
    "football": ("goal", "striker", "penalty", "stadium", "keeper"),
    "tennis": ("racket", "serve", "court", "umpire", "volley"),
    "cycling": ("bike", "pedal", "saddle", "helmet", "peloton"),
    "swimming": ("pool", "dive", "butterfly", "lane", "goggles"),
    # animals
    "cats": ("kitten", "purr", "whiskers", "paw", "meow"),
    "dogs": ("puppy", "leash", "bark", "fetch", "retriever"),
    "birds": ("parrot", "feather", "nest", "owl", "wings"),
    "fish": ("aquarium", "shark", "coral", "salmon", "fin"),
    # technology
    "phones": ("android", "battery", "selfie", "charger", "screen"),
    "robots": ("drone", "sensor", "circuit", "motor", "android"),
    "gaming": ("console", "boss", "quest", "controller", "speedrun"),
    "coding": ("python", "compiler", "laptop", "debug", "keyboard"),
    # music
    "guitar": ("chord", "riff", "strings", "amp", "solo"),
    "piano": ("sonata", "keys", "pedal", "waltz", "concerto"),
    "dance": ("ballet", "salsa", "tango", "stage", "choreography"),
    "hiphop": ("rapper", "beat", "rhyme", "turntable", "lyrics"),
    # travel
    "beach": ("sand", "waves", "surf", "palm", "sunset"),
    "mountain": ("summit", "climb", "glacier", "trail", "ridge"),
    "city": ("skyline", "subway", "street", "tower", "downtown"),
    "camping": ("tent", "campfire", "forest", "backpack", "lantern"),
}
"""Each topic's name, which covers print, and its title words; four neighbours form a group.

A few words belong to two topics, as in any language."""

TOPIC_NAMES = tuple(TOPICS)

GRADES: tuple[tuple[str, ...], ...] = (
    ("awful", "boring", "blurry"),
    ("weak", "clumsy", "bland"),
    ("plain", "usual", "average"),
    ("good", "lovely", "solid"),
    ("superb", "stunning", "brilliant"),
)
"""The adjectives that tell each grade in a title, worst first."""

COMMON: tuple[str, ...] = (
    "my", "the", "our", "this", "today", "first", "new", "day", "week", "part", "with", "and",
    "for", "how", "why", "when", "watch", "video", "story", "time", "people", "life", "home",
    "friends", "episode", "trip", "morning", "night", "weekend", "secret", "guide", "challenge",
)  # fmt: skip
"""Title words that say nothing."""
