"""What a worker makes: each edit by its pixels, previews, sound made ready, and the attacks that files can be."""

from __future__ import annotations

import base64
import io
import itertools
import math
import random
import re
import struct
from array import array
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from kheish_mcp.crafts import CRAFTS, craft
from kheish_mcp.crafts.check_image import check_image
from kheish_mcp.crafts.clear_mask import clear_mask
from kheish_mcp.crafts.edit_image import STEPS, edit_image
from kheish_mcp.crafts.hear import at_rate, mixed, narrowed
from kheish_mcp.crafts.operations import GRAMMAR, parse_operations
from kheish_mcp.crafts.preview_image import preview_image
from kheish_mcp.errors import DeadlineExceeded, InvalidArgument, KheishError, MediaRejected, ResourceExhausted
from kheish_mcp.workers import Workers
from tests.emulators.provider.synthetic import bomb
from tests.samples import WHOLE, picture

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
CLEAR = (0, 0, 0, 0)


def png(image: Image.Image, **options: object) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def quarters(side: int = 10) -> Image.Image:
    """Red and green above blue and white."""
    image = Image.new("RGB", (2 * side, 2 * side), "red")
    for place, color in (((side, 0), "green"), ((0, side), "blue"), ((side, side), "white")):
        image.paste(Image.new("RGB", (side, side), color), place)
    return image


def edited(prompt: str, *images: Image.Image, mask: Image.Image | None = None, form: str | None = None) -> Image.Image:
    """The picture after the operations."""
    blobs = [png(image) for image in images or (quarters(),)] + ([png(mask)] if mask else [])
    facts, made = edit_image({"prompt": prompt, "mask": mask is not None, "output_format": form}, tuple(blobs))
    image = Image.open(io.BytesIO(made[0]))
    image.load()
    assert image.format == (form or "png").upper()
    assert (facts["width"], facts["height"]) == image.size
    return image


def corners(image: Image.Image) -> list[object]:
    """The colours near the four corners, row by row."""
    right, bottom = image.width - 2, image.height - 2
    return [image.getpixel(place) for place in ((1, 1), (right, 1), (1, bottom), (right, bottom))]


# --- operations -----------------------------------------------------------------------------------------------------


def test_every_operation_has_a_grammar_and_a_step_and_its_example_works():
    assert list(GRAMMAR) == list(STEPS)
    for name, grammar in GRAMMAR.items():
        second = Image.new("RGB", (4, 4), "black")
        assert edited(grammar.example.replace("10,10,400,300", "1,1,4,3"), quarters(), second), name


@pytest.mark.parametrize(
    ("prompt", "size", "expected"),
    [
        ("crop 10,0,10,20", (10, 20), [GREEN, GREEN, WHITE, WHITE]),
        ("CROP 0 , 0 , 20 , 10", (20, 10), [RED, GREEN, RED, GREEN]),
        ("resize 40", (40, 40), [RED, GREEN, BLUE, WHITE]),
        ("resize 40x10", (10, 10), [RED, GREEN, BLUE, WHITE]),
        ("resize 40x10 fit", (10, 10), [RED, GREEN, BLUE, WHITE]),
        ("resize 40x20 exact", (40, 20), [RED, GREEN, BLUE, WHITE]),
        ("resize 20x10 fill", (20, 10), [RED, GREEN, BLUE, WHITE]),
        ("rotate 90", (20, 20), [BLUE, RED, WHITE, GREEN]),
        ("rotate -90", (20, 20), [GREEN, WHITE, RED, BLUE]),
        ("rotate 180", (20, 20), [WHITE, BLUE, GREEN, RED]),
        ("flip horizontal", (20, 20), [GREEN, RED, WHITE, BLUE]),
        ("flip vertical", (20, 20), [BLUE, WHITE, RED, GREEN]),
        ("brightness 0", (20, 20), [BLACK] * 4),
        ("saturation 0", (20, 20), [(76,) * 3, (75,) * 3, (29,) * 3, WHITE]),
        ("grayscale", (20, 20), [(76,) * 3, (75,) * 3, (29,) * 3, WHITE]),
        ("contrast 1", (20, 20), [RED, GREEN, BLUE, WHITE]),
        ("sharpen 0", (20, 20), [RED, GREEN, BLUE, WHITE]),
        ("blur 0", (20, 20), [RED, GREEN, BLUE, WHITE]),
        ("pad 5 black", (30, 30), [BLACK] * 4),
        ("pad 5 #ff8800", (30, 30), [(255, 136, 0)] * 4),
        ("background black", (20, 20), [RED, GREEN, BLUE, WHITE]),
        ("crop 0,0,10,10;\n rotate 90 ; ; pad 2 rgb(0, 0, 255)", (14, 14), [BLUE] * 4),
    ],
)
def test_an_operation_does_what_it_says(prompt: str, size: tuple[int, int], expected: list[object]):
    made = edited(prompt)
    assert made.size == size
    assert corners(made) == expected


def test_autocontrast_stretches_and_blur_mixes():
    dull = Image.linear_gradient("L").point(lambda value: 100 + value // 4).convert("RGB")
    assert edited("autocontrast", dull).convert("L").getextrema() == (0, 254)
    mixed = edited("blur 3").getpixel((10, 5))
    assert isinstance(mixed, tuple)
    assert 90 < mixed[0] < 170
    assert edited("sharpen 3", quarters().resize((200, 200))).tobytes() != quarters().resize((200, 200)).tobytes()


def test_an_odd_angle_leaves_clear_corners_and_a_jpeg_white_ones():
    made = edited("rotate 45")
    assert made.mode == "RGBA"
    assert made.getpixel((0, 0))[3] == 0
    assert edited("rotate 45", form="jpeg").getpixel((0, 0)) >= (250, 250, 250)


def test_transparency_stays_unless_a_ground_is_laid():
    clear = Image.new("RGBA", (10, 10), CLEAR)
    clear.paste((255, 0, 0, 255), (0, 0, 5, 10))
    for prompt in ("grayscale", "brightness 1", "saturation 1", "autocontrast", "sharpen 0", "pad 1"):
        assert edited(prompt, clear).getpixel((9, 5))[3] == 0, prompt
    assert corners(edited("background blue", clear)) == [RED, BLUE, RED, BLUE]
    assert edited("resize 10", Image.new("RGBA", (10, 10), "red")).mode == "RGB", "nothing shines through"


def test_blur_lets_no_hidden_colour_bleed_in():
    hidden = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    hidden.paste((255, 255, 255, 255), (0, 0, 10, 20))
    for place in range(20):
        red, _, _, alpha = edited("blur 2", hidden).getpixel((place, 10))
        assert red >= 250 or alpha == 0


def test_text_is_drawn_where_it_is_said():
    made = edited('text "Hi" at 20,40', Image.new("RGB", (100, 100), "white"))
    inked = [(x, y) for x in range(100) for y in range(100) if made.getpixel((x, y)) != WHITE]
    left, top = min(x for x, _ in inked), min(y for _, y in inked)
    right, bottom = max(x for x, _ in inked), max(y for _, y in inked)
    assert 20 <= left <= 24
    assert 40 <= top <= 50
    assert 10 <= right - left <= 40
    assert 15 <= bottom - top <= 32


def test_text_takes_a_size_a_colour_and_escapes():
    def height(prompt: str) -> int:
        bounds = edited(prompt, Image.new("L", (200, 200))).convert("L").getbbox()
        assert bounds
        return bounds[3] - bounds[1]

    assert height('text "H" at 5,5 size 64 color white') > 1.8 * height('text "H" at 5,5 color white')
    assert height(r'text "H\nH" at 5,5 color white') > 2 * height('text "H" at 5,5 color white')
    red = edited(r'text "\"a;b\\" at 5,5 color rgb(255,0,0)', Image.new("RGB", (200, 60), "black"))
    assert {pixel[1:] for _, pixel in red.getcolors(9999)} == {(0, 0)}


def test_a_second_picture_is_laid_over_the_first():
    small = Image.new("RGB", (4, 4), "black")
    made = edited("overlay 2 at 8,8", quarters(), small)
    assert [made.getpixel(place) for place in ((7, 7), (8, 8), (11, 11), (12, 12))] == [RED, BLACK, BLACK, WHITE]
    assert corners(edited("overlay 2 at 0,0 20x10", quarters(), small)) == [BLACK, BLACK, BLUE, WHITE]
    assert corners(edited("overlay 2 at -2,-2", quarters(), small)) == [BLACK, GREEN, BLUE, WHITE]
    with pytest.raises(InvalidArgument, match="no such picture"):
        edited("overlay 3 at 0,0", quarters(), small)


def test_only_what_a_mask_shows_changes():
    light = Image.new("L", (20, 20))
    light.paste(255, (0, 0, 20, 10))
    assert corners(edited("brightness 0", mask=light)) == [BLACK, BLACK, BLUE, WHITE]
    painted = Image.new("RGBA", (20, 20), CLEAR)
    painted.paste((0, 0, 0, 255), (0, 0, 10, 20))
    assert corners(edited("brightness 0", mask=painted)) == [BLACK, GREEN, BLACK, WHITE]
    with pytest.raises(InvalidArgument, match="differ in size"):
        edited("resize 10", mask=light)


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "I;16", "RGBA"])
def test_a_mask_is_turned_into_both_ways_to_read_one(mode: str):
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    wide = Image.frombytes("I;16", (20, 20), (b"\xff\xff" * 10 + bytes(20)) * 20)
    painted = Image.merge("RGBA", [Image.new("L", (20, 20))] * 3 + [mask])
    given = {"I;16": wide, "RGBA": painted}.get(mode) or mask.convert(mode)
    _, made = clear_mask({}, (png(given), png(quarters())))
    image = Image.open(io.BytesIO(made[0]))
    assert corners(image) == [(255, 255, 255, 0), (0, 0, 0, 255)] * 2
    with pytest.raises(InvalidArgument, match="20 x 20 pixels, its picture 9 x 9"):
        clear_mask({}, (png(given), png(Image.new("L", (9, 9)))))


def test_an_edit_begins_upright_and_leaves_no_metadata():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    facts, made = edit_image({"prompt": "sharpen 0"}, (png(quarters().crop((0, 0, 20, 10)), exif=exif.tobytes()),))
    assert (facts["width"], facts["height"]) == (10, 20)
    assert b"where I live" not in made[0]
    assert not Image.open(io.BytesIO(made[0])).getexif()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGBA", "CMYK"])
def test_pictures_of_every_depth_are_edited(mode: str):
    form = "JPEG" if mode == "CMYK" else "PNG"
    data = picture(form, (32, 32), mode)
    if mode == "I;16":
        data = png(Image.frombytes("I;16", (32, 32), bytes(1024) + b"\x60\xea" * 512))
    _, made = edit_image({"prompt": "flip vertical"}, (data,))
    light, dark = (Image.open(io.BytesIO(made[0])).convert("L").getpixel((16, row)) for row in (1, 30))
    assert light > dark + 150


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("", "no operation"),
        (" ;\n; ", "no operation"),
        ("Make the sky a little warmer", "cannot follow a description"),
        ("bluur 3", "no 'bluur'"),
        ("blur", "blur is written otherwise"),
        ("blur the background", "blur is written otherwise"),
        ("crop 0,0,0,5", "crop goes beyond"),
        ("crop 10,10,11,5", "crop goes beyond"),
        ("pad 5 nocolour", "no such colour"),
        ("background rgb(1,2,x)", "background is written otherwise"),
        ("background rgb(1,2,3,4)", "no such colour"),
        ('text "Hi at 1,1', "quotation mark is not closed"),
        ('text "' + "a" * 1001 + '" at 1,1', "1001 characters"),
        ("rotate " + "9" * 400, "rotate is written otherwise"),
        ("; ".join(["blur 1"] * 51), "51 operations"),
    ],
)
def test_what_is_no_operation_is_refused_with_the_way_to_write_it(prompt: str, problem: str):
    with pytest.raises(InvalidArgument, match=problem) as refusal:
        edited(prompt)
    assert refusal.value.hint


@pytest.mark.parametrize(
    "prompt", ["resize 9000", "resize 1x9000 exact", "pad 5000", "overlay 2 at 0,0 9999x9999", "pad 4000; pad 4000"]
)
def test_no_operation_makes_a_picture_too_large_to_hold(prompt: str):
    with pytest.raises(ResourceExhausted, match="too many for an edit"):
        edited(prompt, quarters(), quarters())


@pytest.mark.parametrize("prompt", [
    "crop" + " " * 300_000 + '"', 'text "a" at 1,1' + " " * 300_000 + "x", "resize 5" + " x" * 150_000, '"' * 300_001,
    'text "' + "\\a" * 150_000, "a" * 300_000, ";" * 300_000, 'text "' + '\\"' * 150_000 + " at 1,1",
], ids=range(8))  # fmt: skip
def test_a_long_prompt_is_read_once(prompt: str):
    with pytest.raises(InvalidArgument):
        parse_operations(prompt)


@given(st.text(alphabet='crop resize"\\;,0123456789-.#x\n\t', max_size=80))
def test_any_prompt_is_operations_or_a_refusal(prompt: str):
    try:
        parse_operations(prompt)
    except InvalidArgument:
        return


# --- looking at pictures --------------------------------------------------------------------------------------------


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """A picture that does not compress."""
    return Image.frombytes(mode, size, random.Random(7).randbytes(size[0] * size[1] * len(mode)))


@pytest.mark.parametrize(("size", "shown"), [((2000, 1000), (1024, 512)), ((10, 10), (10, 10)), ((3, 5000), (1, 1024))])
def test_a_preview_keeps_the_shape_and_never_grows(size: tuple[int, int], shown: tuple[int, int]):
    facts, made = preview_image({}, (picture("PNG", size),))
    with Image.open(io.BytesIO(made[0])) as seen:
        assert seen.size == shown == (facts["preview_width"], facts["preview_height"])
        assert (seen.format, facts["media_type"]) == ("JPEG", "image/jpeg")


@pytest.mark.parametrize("most", [20_000, 4000])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_preview_is_as_small_as_it_has_to_be(mode: str, most: int):
    facts, made = preview_image({"max_px": 200, "max_bytes": most}, (png(noise((300, 200), mode)),))
    assert len(made[0]) <= most
    assert facts["media_type"] == ("image/webp" if mode == "RGBA" else "image/jpeg")


def test_a_preview_is_upright_and_says_nothing_of_the_camera():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 8, "where I live"
    facts, made = preview_image({}, (picture("JPEG", (40, 20), exif=exif.tobytes()),))
    assert (facts["preview_width"], facts["preview_height"]) == (20, 40)
    assert b"where I live" not in made[0]


def test_an_animation_counts_its_frames_up_to_a_bound():
    def animated(count: int) -> bytes:
        frames = [Image.new("L", (8, 8), n % 256) for n in range(count)]
        out = io.BytesIO()
        frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
        return out.getvalue()

    assert check_image({}, (animated(200),))[0]["frames"] == 200
    with pytest.raises(MediaRejected, match="201 frames"):
        check_image({}, (animated(201),))


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(["image/png", "image/jpeg", "image/webp", "image/gif"]))
def test_a_damaged_picture_is_shown_or_refused(data: st.DataObject, media_type: str):
    damaged = bytearray(WHOLE[media_type].data)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(1, len(damaged)))
    for blob in (bytes(damaged), bytes(damaged[:cut])):
        with suppress(MediaRejected, ResourceExhausted):
            check_image({}, (blob,))


@pytest.mark.parametrize("data", [b"", b"%!PS-Adobe-3.0 EPSF-3.0", picture("TIFF"), picture("BMP"), picture("PPM")])
def test_a_format_that_is_not_ours_is_not_even_tried(data: bytes):
    with pytest.raises(MediaRejected, match="no picture that is known"):
        check_image({}, (data,))


# --- sound before it is heard ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50), st.integers(1, 4))
def test_channels_become_one_and_wide_samples_narrow(values: list[int], channels: int):
    samples = array("h", [value for value in values for _ in range(channels)]).tobytes()
    assert list(mixed(samples, channels)) == values
    assert list(mixed(samples + b"\1", channels)) == values, "half a sample is left out"
    for width in (2, 3, 4):
        wide = b"".join((value << 8 * (width - 2)).to_bytes(width, "little", signed=True) for value in values)
        assert narrowed(wide, width) == array("h", values).tobytes()


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_and_length_at_another_rate(rate: int):
    tone = array("h", [round(9000 * math.sin(math.tau * 440 * n / rate)) for n in range(rate)])
    heard = at_rate(tone, rate, 16_000)
    assert len(heard) == pytest.approx(16_000, abs=40)
    rising = sum(before < 0 <= after for before, after in itertools.pairwise(heard))
    assert rising == pytest.approx(440, abs=2)
    assert max(heard) == pytest.approx(9000, rel=0.1)
    assert at_rate(array("h"), rate, 16_000) == array("h")


# --- attacks, in the process where they end -------------------------------------------------------------------------


@pytest.fixture
async def workers() -> AsyncGenerator[Workers]:
    """One worker."""
    running = Workers(1)
    yield running
    await running.close()


def svg(body: str, root: str = 'width="64" height="64"') -> bytes:
    """A drawing."""
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {names} {root}>{body}</svg>".encode()


async def drawn(workers: Workers, source: bytes, **parameters: int | str) -> Image.Image:
    """The drawing as a picture."""
    made = await workers.run("render_svg", parameters, source)
    image = Image.open(io.BytesIO(made.blobs[0]))
    assert (made.facts["width"], made.facts["height"]) == image.size
    return image


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("root", "parameters", "size"),
    [
        ('width="64" height="32"', {}, (64, 32)),
        ('width="1in" height="25.4mm"', {}, (96, 96)),
        ('viewBox="0 0 50 20"', {}, (50, 20)),
        ('viewBox="-5,-5,1e2,5e1"', {}, (100, 50)),
        ('width="100%" viewBox="0 0 50 20"', {}, (50, 20)),
        ('width="100" viewBox="0 0 50 20"', {}, (100, 40)),
        ('width="64" height="32"', {"width": 640, "height": 640}, (640, 320)),
        ('width="200000" height="100000"', {"width": 64, "height": 64}, (64, 32)),
    ],
)
async def test_a_drawing_has_its_own_size_or_fills_the_asked_one(
    workers: Workers, root: str, parameters: dict[str, int], size: tuple[int, int]
):
    assert (await drawn(workers, svg("", root), **parameters)).size == size


@pytest.mark.anyio
async def test_a_drawing_is_drawn_with_text_gradients_and_pictures_inside(workers: Workers):
    inside = base64.b64encode(png(Image.new("RGB", (4, 4), "blue"))).decode()
    image = await drawn(workers, svg(
        '<defs><linearGradient id="g"><stop stop-color="red"/></linearGradient></defs>'
        "<rect width='32' height='32' fill=\"url( '#g' )\"/>"
        f'<image x="32" width="32" height="32" xlink:href="data:image/png;base64,{inside}"/>'
        '<text x="2" y="60" font-size="24">Hi</text><use href="#g"/>'
    ))  # fmt: skip
    assert image.getpixel((5, 5)) == (255, 0, 0, 255)
    assert image.getpixel((48, 16)) == (0, 0, 255, 255)
    assert image.crop((0, 36, 40, 64)).getchannel("A").getextrema()[1] == 255
    assert (await drawn(workers, svg(""), background="white")).convert("RGB").getpixel((1, 1)) == WHITE


LAUGHS = '<!DOCTYPE svg [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefghi", "bcdefghij", strict=True)
) + "]>"  # fmt: skip
OUTSIDE = "something outside itself"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (LAUGHS.encode() + svg("<text>&j;</text>"), "DOCTYPE"),
        (b'<!DOCTYPE svg SYSTEM "file:///etc/passwd">' + svg(""), "DOCTYPE"),
        (svg('<image href="file:///etc/passwd" width="9" height="9"/>'), OUTSIDE),
        (svg('<image href="/etc/passwd" width="9" height="9"/>'), OUTSIDE),
        (svg('<image xlink:href="cat.png" width="9" height="9"/>'), OUTSIDE),
        (svg('<image href=" http://127.0.0.1/x.png" width="9" height="9"/>'), OUTSIDE),
        (svg('<image href="data:image/svg+xml;base64,PHN2Zy8+" width="9" height="9"/>'), OUTSIDE),
        (svg('<filter id="f"><feImage href="/etc/hostname"/></filter>'), OUTSIDE),
        (svg('<use href="other.svg#a"/>'), OUTSIDE),
        (svg('<rect fill="url(http://127.0.0.1/x#a)"/>'), OUTSIDE),
        (svg("<rect style=\"fill: URL( 'file:///x#a' )\"/>"), OUTSIDE),
        (svg("<style>@import 'http://127.0.0.1/x.css';</style>"), OUTSIDE),
        (svg("<style>rect { fill: url(/etc/x#a) }</style>"), OUTSIDE),
        (svg("<script>alert(1)</script>"), "may not hold script"),
        (svg("<foreignObject><p>words</p></foreignObject>"), "may not hold foreignObject"),
        (svg("", 'width="200000" height="200000"'), "more than 4096"),
        (svg("", 'width="1e400" height="10"'), "no bounds"),
        (svg("", 'width="64"'), "says no size"),
        (svg("<g/>" * 50_001), "more than 50,000 elements"),
        (svg(" " * 2_000_000), "larger than"),
        (svg("<g>"), "not well-formed"),
        (svg("<g>" * 4 + "&undefined;" + "</g>" * 4), "not well-formed"),
        (b"<html/>", "root is not svg"),
        (svg("").decode().encode("utf-16"), "not UTF-8"),
        (b'<?xml version="1.0" encoding="cp037"?>' + svg("<rect width='&#'/>"), "not well-formed"),
        (b"", "not well-formed"),
    ],
)
async def test_a_drawing_that_reaches_out_or_has_no_bounds_is_refused(workers: Workers, source: bytes, problem: str):
    with pytest.raises(KheishError, match=problem) as refusal:
        await workers.run("render_svg", {}, source)
    assert refusal.value.hint
    assert (await drawn(workers, svg(""))).size == (64, 64), "and the next one is drawn"


@pytest.mark.anyio
async def test_a_drawing_that_would_grow_without_end_is_contained(workers: Workers):
    uses = "".join('<g id="g{}">{}</g>'.format(n, f'<use href="#g{n - 1}"/>' * 10) for n in range(1, 8))
    inside = base64.b64encode(bomb(20_000)).decode()
    for body in (
        f'<g id="g0"><rect/></g>{uses}',
        "<g>" * 20_000 + "</g>" * 20_000,
        f'<image href="data:image/png;base64,{inside}" width="9" height="9"/>',
    ):
        with pytest.raises((InvalidArgument, DeadlineExceeded)):
            await workers.run("render_svg", {}, svg(body))
    assert (await drawn(workers, svg(""))).size == (64, 64)


@pytest.mark.anyio
async def test_a_picture_of_400_megapixels_is_refused_before_it_is_unpacked(workers: Workers):
    for name, parameters in (("check_image", {}), ("preview_image", {}), ("edit_image", {"prompt": "blur 1"})):
        with pytest.raises(ResourceExhausted, match="too many"):
            await workers.run(name, parameters, bomb(20_000))


@pytest.mark.anyio
async def test_a_gif_that_grows_with_every_frame_is_contained(workers: Workers):
    """A screen of 4 Gpx, and one whose frames go beyond it."""
    for size in ((65_535, 65_535), (1, 1)):
        screen = b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0)
        frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\2\1\4\0"
        with pytest.raises((MediaRejected, ResourceExhausted)):
            await workers.run("check_image", {}, screen + frame * 500 + b";")


def test_every_craft_is_listed_and_found():
    files = {path.stem for path in (Path(craft.__code__.co_filename).parent).glob("*.py")}
    assert files - {"__init__", "__main__", "pillow", "operations"} == set(CRAFTS)
    assert all(craft(name).__name__ == name for name in CRAFTS)


SIXEL = re.compile(r'\x1bP0;1;0q"1;1;(\d+);(\d+)((?:#\d+;2;\d+;\d+;\d+)*)(.*)\x1b\\', re.DOTALL)


def seen(drawn: bytes) -> Image.Image:
    """What a terminal would show of sixels, by a reader of our own."""
    match = SIXEL.fullmatch(drawn.decode("ascii"))
    assert match is not None
    width, height = int(match[1]), int(match[2])
    palette = {
        int(number): tuple(round(int(part) * 255 / 100) for part in parts)
        for number, *parts in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", match[3])
    }
    picture = Image.new("RGB", (width, height), "magenta")
    for row, band in enumerate(match[4].removesuffix("-").split("-")):
        for layer in band.split("$"):
            number, body = re.fullmatch(r"#(\d+)(.*)", layer, re.DOTALL).groups()  # type: ignore[union-attr]
            text = re.sub(r"!(\d+)(.)", lambda run: run[2] * int(run[1]), body)
            assert len(text) == width
            for x, sixel in enumerate(text):
                for y in (y for y in range(6) if (ord(sixel) - 63) >> y & 1):
                    picture.putpixel((x, 6 * row + y), palette[int(number)])
    return picture


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "shown"), [((40, 20), (40, 20)), ((7, 13), (7, 13)), ((200, 100), (64, 32))])
async def test_sixels_show_the_picture(workers: Workers, size: tuple[int, int], shown: tuple[int, int]):
    source = Image.linear_gradient("L").resize(size).convert("RGB")
    source.paste((200, 30, 30), (0, 0, size[0] // 2, size[1] // 2))
    out = io.BytesIO()
    source.save(out, "PNG")
    made = await workers.run("draw_sixel", {"max_px": 64}, out.getvalue())
    picture = seen(made.blobs[0])
    assert picture.size == shown == (made.facts["width"], made.facts["height"])
    difference = ImageChops.difference(picture, source.resize(shown, Image.Resampling.LANCZOS))
    assert max(ImageStat.Stat(difference).mean) < 6
