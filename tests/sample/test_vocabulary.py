from PIL import Image, ImageDraw, ImageFont

from sample.covers import COLOURS, SHAPES, SIDE
from sample.vocabulary import COMMON, GRADES, TOPIC_NAMES, TOPICS


def test_adjectives_and_common_words_tell_no_topic() -> None:
    topical = {word for words in TOPICS.values() for word in words}
    adjectives = [word for words in GRADES for word in words]
    assert len(set(adjectives)) == len(adjectives)
    assert len(set(COMMON)) == len(COMMON)
    assert not topical & set(adjectives)
    assert not (topical | set(adjectives)) & set(COMMON)


def test_colour_and_shape_together_tell_the_topic() -> None:
    pairs = {(topic % COLOURS, topic % len(SHAPES)) for topic in range(len(TOPICS))}
    assert len(pairs) == len(TOPICS)


def test_every_name_fits_on_a_cover() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (SIDE, SIDE)))
    font = ImageFont.load_default_imagefont()
    widest = max(TOPIC_NAMES, key=lambda name: draw.textlength(name, font=font))
    assert draw.textlength(widest, font=font) <= SIDE - 2, widest
