"""Recognition: bytes, structure, declared type and name; pictures against Pillow, texts and documents by their rules."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from kheish_mcp.errors import MediaRejected
from kheish_mcp.formats import FORMATS, extension_of, kind_of, parse_media_type, recognise
from kheish_mcp.formats.recognition import ALIASES, UNDECLARED
from kheish_mcp.media import Facts, Kind, Media, Pcm
from kheish_mcp.stores.assets import AssetStore
from kheish_mcp.stores.database import Database
from tests.samples import DXF, PDF, WHOLE, picture, sound

SIGNED = {form.media_type: form for form in FORMATS if form.sniff is not None}
# Two names of one container, which the same bytes may go by.
TWINS = {
    ("audio/mpeg", "audio/mpga"), ("audio/mpga", "audio/mpeg"), ("audio/mp4", "audio/m4a"), ("audio/m4a", "audio/mp4"),
    ("audio/opus", "audio/ogg"),
}  # fmt: skip
DRAWN_AS_TEXT = {"image/svg+xml", "application/dxf"}
SECRETS = b"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI\nDATABASE_URL=postgres://me:hunter2@db/prod\n"


def facts_or_refusal(media: Media) -> Facts | MediaRejected:
    """What is said of any bytes at all; any other exception fails the test."""
    try:
        return recognise(media)
    except MediaRejected as refusal:
        return refusal


def test_every_type_of_the_contract_has_a_whole_sample():
    assert set(WHOLE) == {form.media_type for form in FORMATS}
    assert len(FORMATS) == 24


@pytest.mark.parametrize("media", WHOLE.values(), ids=WHOLE)
def test_a_whole_file_is_what_it_is_declared_to_be(media: Media):
    facts = recognise(media)
    assert facts.media_type == media.media_type
    assert facts.kind is kind_of(media.media_type)
    assert facts.extension == extension_of(media.media_type)
    assert facts.pcm == media.pcm


@pytest.mark.parametrize("declared", sorted(UNDECLARED))
@pytest.mark.parametrize("media_type", SIGNED)
def test_bytes_with_a_signature_need_no_declaration(media_type: str, declared: str):
    facts = recognise(replace(WHOLE[media_type], media_type=declared))
    assert facts.media_type == media_type or (facts.media_type, media_type) in TWINS


@pytest.mark.parametrize("media_type", SIGNED)
def test_bytes_are_refused_under_any_other_name(media_type: str):
    """But containers with two names go by both, and drawings that are text by a text's."""
    texts = {claimed for claimed in WHOLE if kind_of(claimed) is Kind.TEXT and claimed not in SIGNED}
    names = {media_type} | {claimed for claimed in WHOLE if (media_type, claimed) in TWINS}
    taken = {
        claimed
        for claimed in WHOLE
        if isinstance(facts_or_refusal(replace(WHOLE[media_type], media_type=claimed)), Facts)
    }
    assert taken - texts == names
    assert not taken & texts or media_type in DRAWN_AS_TEXT


@pytest.mark.parametrize("media_type", [media_type for media_type in WHOLE if kind_of(media_type) is Kind.TEXT])
def test_a_text_is_no_picture_and_no_sound(media_type: str):
    for claimed in WHOLE:
        told = facts_or_refusal(replace(WHOLE[media_type], media_type=claimed))
        assert isinstance(told, MediaRejected) or told.kind is Kind.TEXT, claimed


@pytest.mark.parametrize(("alias", "media_type"), ALIASES.items())
def test_an_alias_is_its_type_with_any_parameters_and_case(alias: str, media_type: str):
    assert parse_media_type(f" {alias.upper()} ; charset=utf-8")[0] == media_type
    assert recognise(replace(WHOLE[media_type], media_type=alias)).media_type == media_type


@pytest.mark.parametrize(
    ("content_type", "layout"),
    [
        ("audio/pcm;rate=24000;channels=1", Pcm(24_000)),
        ('audio/L16; Rate="44100"; Channels=2', Pcm(44_100, 2)),
        ("audio/l24;rate=96000;channels=8", Pcm(96_000, 8, 24)),
        ("audio/x-pcm;rate=8000", Pcm(8_000)),
        ("audio/pcm", None),
        ("audio/pcm;rate=0", None),
        ("audio/pcm;rate=-1", None),
        ("audio/pcm;rate=24000.5", None),
        ("audio/pcm;rate=٤٤١٠٠", None),
        ("audio/pcm;rate=999999999999999999999", None),
        ("audio/pcm;rate=24000;channels=33", None),
        ("audio/wav;rate=24000;channels=1", None),
        (";;=;", None),
    ],
)
def test_a_content_type_gives_headerless_samples_their_layout(content_type: str, layout: Pcm | None):
    assert parse_media_type(content_type)[1] == layout


@pytest.mark.parametrize("ending", sorted({end for form in SIGNED.values() for end in (form.extension, *form.endings)}))
def test_a_file_of_secrets_is_no_medium_whatever_its_name(ending: str):
    with pytest.raises(MediaRejected, match="no known media type") as refusal:
        recognise(Media(SECRETS, "", f"holiday.{ending.upper()}"))
    assert "hunter2" not in refusal.value.message


@pytest.mark.parametrize("declared", SIGNED)
def test_a_file_of_secrets_is_no_medium_whatever_it_is_declared(declared: str):
    with pytest.raises(MediaRejected, match=r"not .* as declared"):
        recognise(Media(SECRETS, declared))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.md", "text/markdown"),
        ("A.MARKDOWN", "text/markdown"),
        ("a.csv", "text/csv"),
        ("a.json", "application/json"),
        ("a.txt", "text/plain"),
        ("a.py", "text/plain"),
        ("README", "text/plain"),
        ("", "text/plain"),
    ],
)
def test_a_text_goes_by_its_name(name: str, media_type: str):
    assert recognise(Media(b"[1]\n", "", name)).media_type == media_type


def test_one_container_goes_by_its_name():
    opus, mp4 = sound("opus.opus"), sound("aac.m4a")
    assert recognise(Media(opus, "")).media_type == "audio/opus"
    assert recognise(Media(opus, "", "voice.ogg")).media_type == "audio/ogg"
    assert recognise(Media(opus, "audio/ogg", "voice.opus")).media_type == "audio/ogg"
    assert recognise(Media(mp4, "", "voice.m4a")).media_type == "audio/m4a"
    assert recognise(Media(mp4, "", "voice.mp4")).media_type == "audio/mp4"
    assert recognise(Media(mp4, "video/mp4")).media_type == "audio/mp4"
    assert recognise(Media(sound("live.webm"), "video/webm;codecs=opus")).media_type == "audio/webm"


def test_headerless_samples_by_name_alone_are_told_what_is_missing():
    with pytest.raises(MediaRejected, match="need their rate") as refusal:
        recognise(Media(bytes(8), "", "voice.l16"))
    assert refusal.value.hint == "Declare them as audio/l16;rate=24000;channels=1."


@pytest.mark.parametrize("declared", ["", "image/png", "text/plain", "audio/pcm;rate=8000"])
def test_no_bytes_are_nothing(declared: str):
    with pytest.raises(MediaRejected, match="no bytes"):
        recognise(Media(b"", declared))


@pytest.mark.parametrize("declared", ["text/html", "image/tiff", "video/quicktime", "nonsense", "x" * 4000])
def test_a_type_that_is_not_taken_is_refused_briefly(declared: str):
    with pytest.raises(MediaRejected) as refusal:
        recognise(Media(b"words", declared))
    assert len(refusal.value.message) < 200


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([*WHOLE, "", "video/mp4"]),
    st.sampled_from(["", "a.png", "a.l24", "a.json"]),
)
@example(b"\xff\xfb\x90\x64", "audio/pcm", "")
@example(b"GIF89a\x01\x00\x01\x00\xff", "", "")
def test_any_bytes_are_facts_or_a_refusal(data: bytes, declared: str, name: str):
    facts_or_refusal(Media(data, declared, name, Pcm(8000) if declared == "audio/pcm" else None))


@pytest.mark.parametrize("media", WHOLE.values(), ids=WHOLE)
def test_a_file_cut_anywhere_is_facts_or_a_refusal(media: Media):
    taken = [
        end
        for end in range(len(media.data))
        if isinstance(facts_or_refusal(replace(media, data=media.data[:end])), Facts)
    ]
    ends_itself = {"image/png", "image/jpeg", "image/webp", "image/gif", "audio/wav", "audio/flac", "audio/opus", "audio/ogg",
                   "audio/m4a", "application/json"}  # fmt: skip
    if media.media_type in ends_itself:
        assert set(taken) <= {len(media.data) - 1}, "a file that says where it ends is only whole there"


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(WHOLE)))
def test_a_flipped_bit_is_facts_or_a_refusal(data: st.DataObject, media_type: str):
    media = WHOLE[media_type]
    damaged = bytearray(media.data)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    told = facts_or_refusal(replace(media, data=bytes(damaged)))
    if isinstance(told, Facts):
        json.dumps([told.width, told.height, told.duration_s], allow_nan=False)


@pytest.mark.parametrize("media_type", ["image/png", "audio/opus", "audio/ogg"])
def test_what_carries_checksums_shows_every_flipped_bit(media_type: str):
    media = WHOLE[media_type]
    for place in range(0, len(media.data), 7):
        damaged = bytearray(media.data)
        damaged[place] ^= 1 << place % 8
        assert isinstance(facts_or_refusal(replace(media, data=bytes(damaged))), MediaRejected), place


@pytest.mark.parametrize("options", [
    ("PNG", "1"), ("PNG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "RGBA"), ("JPEG", "L"), ("JPEG", "CMYK"),
    ("WEBP", "RGB"), ("WEBP", "RGBA"), ("GIF", "L"), ("GIF", "RGB"),
], ids="-".join)  # fmt: skip
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (257, 16), (1000, 2)], ids=str)
def test_the_size_of_a_picture_is_the_one_that_pillow_sees(options: tuple[str, str], size: tuple[int, int]):
    data = picture(options[0], size, options[1])
    with Image.open(io.BytesIO(data)) as seen:
        assert seen.size == size
    facts = recognise(Media(data, ""))
    assert (facts.media_type, facts.width, facts.height) == (f"image/{options[0].lower()}", *size)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 100, "subsampling": 0, "exif": Image.Exif().tobytes(), "comment": b"\xff\xd9"}),
        ("JPEG", {"restart_marker_blocks": 1}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("GIF", {"save_all": True, "append_images": [Image.new("L", (64, 48), 9)], "loop": 0}),
        ("PNG", {"save_all": True, "append_images": [Image.new("RGB", (64, 48), "red")]}),
        ("WEBP", {"save_all": True, "append_images": [Image.new("RGB", (64, 48), "red")]}),
    ],
)
def test_every_way_to_write_a_picture_is_read(form: str, options: dict[str, object]):
    facts = recognise(Media(picture(form, (64, 48), **options), ""))
    assert (facts.width, facts.height) == (64, 48)


def test_what_pillow_writes_and_we_do_not_take_is_refused():
    for form in ("BMP", "TIFF", "ICO", "PPM", "AVIF"):
        assert isinstance(facts_or_refusal(Media(picture(form, (16, 16)), "")), MediaRejected), form


def test_a_png_with_a_right_frame_and_a_wrong_checksum_is_refused():
    whole = picture("PNG")
    body = whole[8 + 8 : 8 + 8 + 13]
    wrong = whole.replace(struct.pack(">I", zlib.crc32(b"IHDR" + body)), b"\0\0\0\0", 1)
    with pytest.raises(MediaRejected, match="checksum"):
        recognise(Media(wrong, ""))


@pytest.mark.parametrize("data", [
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"GIF89a" + bytes(7) + b";", b"RIFF\x04\0\0\0WEBP",
    b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(20),
])  # fmt: skip
def test_a_frame_without_a_picture_is_none(data: bytes):
    assert isinstance(facts_or_refusal(Media(data, "")), MediaRejected)


@pytest.mark.parametrize(
    ("data", "declared", "problem"),
    [
        (b"caf\xe9", "text/plain", "UTF-8"),
        (b"a\x00b", "text/plain", "control characters"),
        (b"\x1b[31mred", "text/markdown", "control characters"),
        ("\ufeffwords".encode("utf-16"), "text/plain", "UTF-8"),
        (b'a,"b\n', "text/csv", "a row"),
        (b'a,"b"c\n', "text/csv", "a row"),
        (b'"\n",' * 400_000, "text/csv", "longer than a million"),
        (b"{", "application/json", "parsed"),
        (b"NaN", "application/json", "parsed"),
        (b'{"a": -Infinity}', "application/json", "parsed"),
        (b"[" * 100_000, "application/json", "parsed"),
        (b"[" + b"[]," * 3_000_000, "application/json", "neither begins nor ends"),
    ],
)
def test_a_text_that_is_none_is_refused(data: bytes, declared: str, problem: str):
    with pytest.raises(MediaRejected, match=problem):
        recognise(Media(data, declared))


@pytest.mark.parametrize(
    ("data", "declared"),
    [
        (b"\xef\xbb\xbfwords\r\n\tand more\x0c", "text/plain"),
        (b"a;b\r1;2\r", "text/csv"),
        (b"a,b\n" + b"x" * 100_000 + b",1\n", "text/csv"),
        (b"9" * 10_000, "application/json"),
        (b" null ", "application/json"),
        (b"[" + b"[]," * 3_000_000 + b"1]", "application/json"),
        (b"<svg>drawn</svg>", "text/plain"),
        (DXF, "text/plain"),
    ],
)
def test_a_text_that_is_one_is_kept(data: bytes, declared: str):
    assert recognise(Media(data, declared)).media_type == declared


@pytest.mark.parametrize("head", [
    b"", b"\xef\xbb\xbf", b"\n  ", b'<?xml version="1.0"?>\n', b"<!-- made -->" * 3, b"<!---->" * 3000,
    b'<?xml version="1.0"?><!-- a > b --><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/x.dtd">\n',
])  # fmt: skip
def test_a_drawing_is_known_behind_its_prolog(head: bytes):
    assert recognise(Media(head + b"<svg xmlns='x'></svg>", "")).media_type == "image/svg+xml"


@pytest.mark.parametrize(
    "head", [b"<!---->" * 9000, b"<?x?>" * 9000, b"<!-- " * 9000, b"<!DOCTYPE " * 6000, b" " * 60_000]
)
def test_a_prolog_that_leads_nowhere_is_given_up_at_once(head: bytes):
    assert recognise(Media(head + b"<html>", "")).media_type == "text/plain"


@pytest.mark.parametrize("data", [
    PDF, PDF.replace(b"\n", b"\r\n"), PDF.rstrip(), PDF + b"\n\n", PDF.replace(b"1.4", b"2.0"), PDF + PDF[9:],
])  # fmt: skip
def test_a_pdf_is_known_by_its_first_line_and_its_last(data: bytes):
    assert recognise(Media(data, "", "cat.png")).media_type == "application/pdf"


@pytest.mark.parametrize("data", [PDF[:-20], PDF.replace(b"1.4", b"9.4"), b"%PDF-1.4\n%%EOF", PDF + bytes(4096)])
def test_a_pdf_without_its_ends_is_refused(data: bytes):
    with pytest.raises(MediaRejected, match="PDF"):
        recognise(Media(data, ""))


@pytest.mark.parametrize("data", [
    DXF, DXF.replace(b"\r\n", b"\n"), DXF.rstrip(), b"999\r\nmade by hand\r\n" + DXF, DXF + b"\n",
    DXF.replace(b"LINE", "Länge".encode("cp1252")), b"AutoCAD Binary DXF\r\n\x1a\0\0SECTION\0\0EOF\0",
])  # fmt: skip
def test_a_dxf_is_pairs_of_lines_up_to_its_end(data: bytes):
    facts = recognise(Media(data, ""))
    assert (facts.media_type, facts.kind) == ("application/dxf", Kind.DOCUMENT)


@pytest.mark.parametrize("data", [
    DXF[:-5], DXF.replace(b" 10", b"ten"), DXF.replace(b"0.0", b"0.0\0"), b"  0\nSECTION\n" * 50_000,
    b"AutoCAD Binary DXF\r\n\x1a\0\0SECTION\0",
])  # fmt: skip
def test_a_dxf_that_breaks_off_is_refused(data: bytes):
    with pytest.raises(MediaRejected, match="DXF"):
        recognise(Media(data, ""))


@pytest.mark.anyio
async def test_every_type_is_kept_to_the_byte_with_its_facts(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        store = AssetStore(tmp_path, database)
        for media in WHOLE.values():
            asset = await store.keep(media, owner="me")
            assert (await store.read(asset)).data == media.data
            assert (asset.media_type, asset.pcm) == (media.media_type, media.pcm)


@pytest.mark.anyio
async def test_a_microphone_gives_wav_or_webm_and_nothing_else(tmp_path: Path):
    async with Database.open(tmp_path) as database:
        store = AssetStore(tmp_path, database)
        for media_type, media in WHOLE.items():
            if media_type in ("audio/wav", "audio/webm"):
                assert (await store.keep(media, owner="me", kind="microphone_segment")).media_type == media_type
            else:
                with pytest.raises(MediaRejected, match="microphone_segment"):
                    await store.keep(media, owner="me", kind="microphone_segment")
