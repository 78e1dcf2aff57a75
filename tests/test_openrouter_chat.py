"""The chat codec: what a conversation looks like on the wire, and what the events of an answer come to."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openrouter import components

from kheish_mcp.conversation import ChatRequest, Reply, Text, ToolCall, ToolSpec, Turn
from kheish_mcp.drivers.openrouter.assembly import UNPRICED, Assembly
from kheish_mcp.drivers.openrouter.chat import EFFORTS, encode_chat, routing
from kheish_mcp.drivers.openrouter.codec import LARGEST_MEDIA
from kheish_mcp.errors import InvalidArgument, Json, Unavailable
from kheish_mcp.formats.wav import unwrap
from kheish_mcp.media import Media, Pcm
from tests.emulators.provider import synthetic
from tests.emulators.provider.chat_wire import ChatRequest as Taken
from tests.emulators.provider.wire import parse

MODEL = "openai/gpt-5.4-mini"
PNG = Media(synthetic.picture(1, (4, 4), "png"), "image/png")
WEBP = Media(synthetic.picture(2, (4, 4), "webp"), "image/webp")
WAV = Media(synthetic.wav(synthetic.tone(1)), "audio/wav")
LOOK = ToolSpec("look", "Looks at a place.", {"type": "object", "properties": {"at": {"type": "string"}}})
SCHEMA: dict[str, Json] = {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def asked(*turns: Turn, **more: Any) -> Any:
    """The body of a conversation, which the provider's own SDK and the strict stand-in both take."""
    body: Any = encode_chat(MODEL, ChatRequest(turns or (user("Name a port."),), **more), {})
    parse(Taken, json.dumps(body).encode())
    assert (
        components.ChatRequest.model_validate(body).model_dump(mode="json", by_alias=True, exclude_unset=True) == body
    )
    return body


def user(*parts: str | Media) -> Turn:
    """A user's turn."""
    return Turn("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


# Out


def test_a_bare_conversation_leaves_every_choice_to_the_model():
    message = {"role": "user", "content": "Name a port."}
    assert asked() == {"model": MODEL, "messages": [message], "stream": True}


def test_a_full_request_says_everything_in_the_provider_s_words():
    wishes = {"max_output_tokens": 64, "temperature": 0.0, "effort": "low", "schema": SCHEMA, "tools": (LOOK,)}
    body = asked(Turn("system", (Text("Be brief."),)), user("Name a port."), fallbacks=("a/b", MODEL, "a/b"), **wishes)
    assert body["models"] == ["a/b"]
    assert (body["max_completion_tokens"], body["temperature"], body["reasoning"]) == (64, 0.0, {"effort": "low"})
    assert body["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": SCHEMA}
    told = {"name": "look", "description": "Looks at a place.", "parameters": LOOK.schema}
    assert body["tools"] == [{"type": "function", "function": told}]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_parts_keep_their_order_and_each_is_in_its_own_form():
    [message] = asked(user("First this:", PNG, "then that:", WEBP, WAV))["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "input_audio"]
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    assert [url.partition(",")[0] for url in urls] == ["data:image/png;base64", "data:image/webp;base64"]
    assert base64.b64decode(urls[0].partition(",")[2]) == PNG.data
    assert message["content"][-1]["input_audio"] == {"data": base64.b64encode(WAV.data).decode(), "format": "wav"}


def test_a_picture_alone_needs_no_words():
    assert [part["type"] for part in asked(user(PNG))["messages"][0]["content"]] == ["image_url"]


def test_headerless_samples_go_as_a_file_that_says_their_layout():
    pcm = Pcm(16_000, 2)
    [message] = asked(user(Media(b"\1\2\3\4" * 9, "audio/pcm", pcm=pcm)))["messages"]
    sound = message["content"][0]["input_audio"]
    assert sound["format"] == "wav"
    assert unwrap(base64.b64decode(sound["data"])) == (b"\1\2\3\4" * 9, pcm)


def test_what_was_called_and_answered_is_told_again():
    calls = (ToolCall("call_1", "look", '{"at": "sea"}'), ToolCall("call_2", "look", '{"at": "sky"}'))
    thoughts = ({"type": "reasoning.text", "text": "Hm.", "index": 0},)
    body = asked(
        user("What is there?"),
        Turn("assistant", tool_calls=calls, reasoning=thoughts),
        Turn("tool", (Text("a ship"),), answers="call_1"),
        Turn("tool", (Text("a gull"), PNG), answers="call_2"),
    )
    _, said, ship, gull = body["messages"]
    assert (said["content"], said["reasoning_details"]) == (None, list(thoughts))
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == ['{"at": "sea"}', '{"at": "sky"}']
    assert ship == {"role": "tool", "tool_call_id": "call_1", "content": "a ship"}
    assert [part["type"] for part in gull["content"]] == ["text", "image_url"]


def test_what_the_model_drew_before_is_shown_to_it_again():
    body: Any = encode_chat(MODEL, ChatRequest((Turn("assistant", (Text("Here:"), PNG)), user("Bluer."))), {})
    parse(
        Taken, json.dumps(body).encode()
    )  # the SDK knows pictures of the assistant without the type that they come with
    assert body["messages"][0]["content"] == "Here:"
    assert [image["type"] for image in body["messages"][0]["images"]] == ["image_url"]


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"text"', "null", "[" * 100_000])
def test_arguments_that_are_no_object_do_not_spoil_the_rest_of_the_conversation(arguments: str):
    body = asked(
        user("x"),
        Turn("assistant", tool_calls=(ToolCall("c", "look", arguments),)),
        Turn("tool", (Text("not an object"),), answers="c"),
    )
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("turn", "named"),
    [
        (user(Media(b"<svg/>", "image/svg+xml")), "image/svg"),
        (user(Media(b"%PDF-", "application/pdf")), "application/pdf"),
        (user(Media(b"x", "")), "unknown type"),
        (user(Media(b"\0\0", "audio/pcm")), "rate"),
        (Turn("tool", (Media(b"x", "audio/webm"),), answers="c"), "audio/webm"),
    ],
)
def test_media_that_no_chat_takes_is_refused(turn: Turn, named: str):
    with pytest.raises(InvalidArgument, match=named) as caught:
        encode_chat(MODEL, ChatRequest((turn,)), {})
    assert caught.value.hint


def test_more_than_a_request_may_hold_is_refused():
    half = Media(bytes(LARGEST_MEDIA // 2 + 1), "image/png")
    with pytest.raises(InvalidArgument, match="at most"):
        encode_chat(MODEL, ChatRequest((user(half), user(half))), {})


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_is_the_provider_s(effort: str):
    assert asked(effort=effort)["reasoning"] == {"effort": effort}


def test_an_unknown_effort_is_refused():
    with pytest.raises(InvalidArgument, match="effort"):
        encode_chat(MODEL, ChatRequest((user("x"),), effort="heroic"), {})


def test_preferences_reach_a_chat_with_prices_as_texts():
    given: dict[str, Json] = {
        "order": ["openai"], "only": ["openai"], "ignore": ["x"], "allow_fallbacks": False, "require_parameters": True,
        "data_collection": "deny", "zdr": True, "sort": "price", "quantizations": ["fp8"],
        "max_price": {"prompt": 1, "completion": 0.0000001, "request": "0.5"}, "shoe_size": 42,
    }  # fmt: skip
    kept, told = routing(given)
    prices = {"prompt": "1", "completion": "0.0000001", "request": "0.5"}
    assert kept == {**{key: given[key] for key in given if key != "shoe_size"}, "max_price": prices}
    assert ["shoe_size" in warning for warning in told] == [True]
    parse(Taken, json.dumps(encode_chat(MODEL, ChatRequest((user("x"),)), kept)).encode())


def test_a_schema_goes_to_nobody_who_would_ignore_it_unless_the_route_says_so():
    assert routing({}, SCHEMA) == ({"require_parameters": True}, ())
    assert routing({"require_parameters": False}, SCHEMA)[0] == {"require_parameters": False}
    assert routing({}) == ({}, ())


# Back


def chunk(delta: dict[str, Any] | None = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """One event of a stream."""
    return {
        "id": "gen-1",
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
        **more,
    }


def heard(*events: Any, done: bool = True) -> tuple[Reply, list[str]]:
    """The reply that these events come to, and its text in pieces."""
    assembly = Assembly("asked/for")
    pieces = [assembly.take(event) for event in events]
    pieces.append(assembly.ended(done))
    assert "".join(pieces) == assembly.text
    return assembly.reply((), ()), pieces


def part(
    index: Any = None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """A piece of a tool call, as little of it as is given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry = {"index": index, "id": call_id, "function": function}
    return {key: value for key, value in entry.items() if value is not None}


USAGE = {
    "prompt_tokens": 21, "completion_tokens": 8, "total_tokens": 29, "cost": 0.002, "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 3},
}  # fmt: skip


def test_text_comes_in_pieces_and_the_bill_at_the_end():
    reply, pieces = heard(
        chunk({"role": "assistant", "content": ""}), chunk({"content": "Gd"}), chunk({"content": "ansk"}),
        chunk({"content": ""}, "stop"), {"id": "gen-1", "model": MODEL, "choices": [], "usage": USAGE},
    )  # fmt: skip
    assert [piece for piece in pieces if piece] == ["Gd", "ansk"]
    counts = {
        "prompt_tokens": 21,
        "completion_tokens": 8,
        "total_tokens": 29,
        "cached_tokens": 5,
        "reasoning_tokens": 3,
    }
    assert reply == Reply("Gdansk", MODEL, "stop", counts, cost_usd=0.002, generation_id="gen-1")


def test_a_whole_answer_reads_like_a_stream():
    message = {
        "role": "assistant",
        "content": "Riga.",
        "tool_calls": [part(None, "a", "look", "{}"), part(None, "b", "look", "1")],
    }
    body = {
        "id": "gen-1",
        "model": MODEL,
        "usage": USAGE,
        "choices": [{"message": message, "finish_reason": "tool_calls"}],
    }
    reply, _ = heard(body)
    assert (reply.text, reply.finish_reason, reply.cost_usd) == ("Riga.", "tool_calls", 0.002)
    assert reply.tool_calls == (ToolCall("a", "look", "{}"), ToolCall("b", "look", "1"))


CALLS = (ToolCall("a", "look", '{"at": 1}'), ToolCall("b", "hear", "no JSON"))


@pytest.mark.parametrize(
    "pieces",
    [
        [part(0, "a", "look", '{"at": 1}'), part(1, "b", "hear", "no JSON")],
        [
            *(part(0, "a", "look", ""), part(0, arguments='{"at"'), part(1, "b", "hear")),
            *(part(0, arguments=": 1}"), part(1, arguments="no JSON")),
        ],
        [
            *(part(1, arguments="no "), part(0, arguments='{"at": 1}'), part(0, "a")),
            *(part(1, "b", "hear", "JSON"), part(0, name="look")),
        ],
        [
            *(part(0, "a", "look", '{"at'), part(0, "a", "look", '": 1}')),
            *(part(1, "b", "hear", "no "), part(1, "b", "hear", "JSON")),
        ],
        [
            *(part(None, "a", "look", '{"at": '), part(None, arguments="1}")),
            *(part(None, "b", "hear", "no "), part(None, "b", arguments="JSON")),
        ],
        [part(3, "a", "look", '{"at": 1}'), part(7, "b", "hear", "no JSON")],
        [part(0, "a", "look", {"at": 1}), part(1, "b", "hear", "no JSON")],
    ],
    ids=["whole", "interleaved", "late", "repeated", "no index", "gaps", "an object"],
)  # fmt: skip
def test_tool_calls_are_put_together_however_they_come(pieces: list[dict[str, Any]]):
    reply, _ = heard(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"))
    assert reply.tool_calls == CALLS
    assert heard(chunk({"tool_calls": pieces}), chunk({}, "tool_calls"))[0].tool_calls == CALLS


def test_calls_without_an_id_or_with_the_same_one_can_still_be_answered_each():
    parts = [part(0, None, "look", "{}"), part(1, "x", "look", "{}"), part(2, "x", "look", "{}")]
    reply, _ = heard(chunk({"tool_calls": parts}, "tool_calls"))
    assert [call.call_id for call in reply.tool_calls] == ["call_0", "x", "call_2"]


def test_a_call_without_a_name_is_left_out_and_said():
    reply, _ = heard(
        chunk({"tool_calls": [part(0, "a", None, "{}"), part(1, "b", "look", "{}")]}, "tool_calls", usage=USAGE)
    )
    assert [call.call_id for call in reply.tool_calls] == ["b"]
    assert reply.warnings == ("A tool call without a name was left out.",)


def test_no_more_calls_are_held_than_anybody_would_make():
    flood = [part(None, f"call-{number}", "look", "{}") for number in range(300)]
    reply, _ = heard(chunk({"tool_calls": flood}, "tool_calls", usage=USAGE), chunk({"tool_calls": flood[:1]}))
    assert [call.call_id for call in reply.tool_calls] == [f"call-{number}" for number in range(256)]
    assert reply.warnings == ("Of the tool calls, those after the first 256 were left out.",)


def test_no_more_pictures_and_thoughts_are_held_than_a_model_would_have():
    assembly = Assembly(MODEL)
    for start in (0, 3000):
        thoughts = [{"index": number, "type": "reasoning.text", "text": "Hm."} for number in range(start, start + 3000)]
        assembly.take(chunk({"images": [{}] * 200, "reasoning_details": thoughts}))
    assert len(assembly.pictures()) == 256
    assert len(assembly.reply((), ()).reasoning) == 4096


def test_a_surrogate_pair_in_two_events_is_one_character_and_half_a_pair_is_none():
    reply, pieces = heard(
        chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), chunk({"content": "\ud83d"}, "stop")
    )
    assert (reply.text, pieces) == ("a\U0001f600b\ufffd", ["a", "\U0001f600b", "", "\ufffd"])


def test_reasoning_is_no_text_and_is_kept_to_be_handed_back():
    first = {"type": "reasoning.text", "index": 0, "text": "Hm", "signature": None}
    second = {"type": "reasoning.text", "index": 0, "text": "m.", "signature": "s1"}
    sealed = {"type": "reasoning.encrypted", "index": 1, "data": "AA", "id": "r1"}
    events = (chunk({"reasoning": "Hm", "reasoning_details": [first]}), chunk({"reasoning_details": [second, sealed]}))
    reply, pieces = heard(*events, chunk({"content": "Riga."}, "stop"))
    assert "".join(pieces) == "Riga."
    assert reply.reasoning == ({"type": "reasoning.text", "index": 0, "text": "Hmm.", "signature": "s1"}, sealed)


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"refusal": "I will not."}, "I will not."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "reasoning": "Hm."}, ""),
        ({"content": 7}, ""),
        ({"content": [{"text": [{"text": "a"}]}, {"text": "c"}]}, "c"),
    ],
)
def test_content_in_other_shapes(delta: dict[str, Any], text: str):
    assert heard(chunk(delta, "stop"))[0].text == text


@pytest.mark.parametrize(
    ("events", "warning"),
    [
        ([chunk({}, "stop", usage=USAGE)], "said nothing"),
        ([chunk({"content": "a"}, "stop")], UNPRICED),
    ],
)
def test_what_a_reader_would_take_for_the_model_s_will_is_said(events: list[Any], warning: str):
    [told] = heard(*events)[0].warnings
    assert warning in told


@pytest.mark.parametrize("word", ["length", "content_filter", "tired"])
def test_the_word_for_the_ending_is_passed_on(word: str):
    assert heard(chunk({"content": "a"}, word))[0].finish_reason == word


@pytest.mark.parametrize(
    ("events", "done"),
    [
        ([], True),
        ([], False),
        ([{"id": "gen-1", "choices": []}], True),
        ([chunk({"content": "half"})], False),
        ([["not"], "an", 1, None], True),
    ],
    ids=["nothing", "nothing at all", "no choice", "half", "no tables"],
)
def test_an_answer_that_did_not_end_is_a_failure(events: list[Any], done: bool):
    with pytest.raises(Unavailable) as caught:
        heard(*events, done=done)
    assert caught.value.details["possibly_billed"] is True


def test_an_end_mark_or_a_reason_is_an_end():
    assert heard(chunk({"content": "a"}), done=True)[0].finish_reason is None
    assert heard(chunk({"content": "a"}, "stop"), done=False)[0].finish_reason == "stop"


def test_an_error_as_the_reason_is_a_failure():
    with pytest.raises(Unavailable, match="broke its answer off"):
        heard(chunk({"content": "half"}), chunk({"content": ""}, "error"))


def test_pictures_are_decoded_when_they_are_asked_for_and_a_url_stays_one():
    assembly = Assembly(MODEL)
    url = f"data:image/png;base64,{base64.b64encode(PNG.data).decode()}"
    entries = [{"type": "image_url", "image_url": {"url": one}} for one in (url, "https://here/1.png", "data:,@@", "")]
    assembly.take(chunk({"images": entries[:2]}))
    assembly.take(chunk({"images": entries[2:]}, "stop"))
    drawn, linked, broken, empty = assembly.pictures()
    assert drawn.media == Media(PNG.data, "")
    assert (linked.url, bool(broken.trouble), bool(empty.trouble)) == ("https://here/1.png", True, True)


@pytest.mark.parametrize("size", [4, 5, 7, 1000])
def test_sound_is_read_whether_each_piece_is_base64_or_one_text_was_cut(size: int):
    data = bytes(range(50))
    whole = base64.b64encode(data).decode()
    cut = [whole[at : at + size] for at in range(0, len(whole), size)]
    padded = [base64.b64encode(data[at : at + size]).decode() for at in range(0, len(data), size)]
    for pieces in (cut, padded):
        assembly = Assembly(MODEL)
        for piece in pieces:
            assembly.take(chunk({"audio": {"data": piece}}))
        assert assembly.sound() == (data, ())


@given(st.lists(json_values, max_size=4))
def test_no_json_breaks_it(events: list[Any]):
    assembly = Assembly(MODEL)
    for event in (*events, {"choices": events}, {"choices": [{"delta": event} for event in events[:1]]}):
        assembly.take(event)
    assembly.pictures()
    assembly.sound()


keys = st.sampled_from(["content", "tool_calls", "images", "audio", "reasoning_details", "refusal"])
fields = st.sampled_from(["index", "id", "function", "name", "arguments", "type", "text", "data", "image_url", "url"])
shapes = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(keys, shapes, max_size=3), max_size=4))
def test_no_delta_in_the_wrong_shape_breaks_it(deltas: list[Any]):
    assembly = Assembly(MODEL)
    for delta in deltas:
        assembly.take(chunk(delta))
    assembly.ended(done=True) if deltas else None
    json.dumps([call.arguments for call in assembly.reply((), ()).tool_calls]).encode()
    assembly.pictures()
    assembly.sound()
