"""The chat request that the stand-in takes: every documented field, and a conversation that holds together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tests.emulators.provider.wire import Name, Options, Url, Wire

Effort = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
ROUTING_NULLS = """
    allow_fallbacks data_collection enforce_distillable_text ignore only order preferred_max_latency
    preferred_min_throughput quantizations require_parameters sort zdr
"""
CHAT_NULLS = """
    frequency_penalty logit_bias logprobs max_completion_tokens max_tokens min_p parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_options provider reasoning_effort repetition_penalty seed
    service_tier stop stream_options temperature top_a top_k top_logprobs top_p
"""
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Wire):
    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None


class DetailedUrl(Url):
    detail: Literal["auto", "low", "high", "original"] | None = None


class PicturePart(Wire):
    type: Literal["image_url"]
    image_url: DetailedUrl


class SoundData(Wire):
    data: Name
    format: Literal["wav", "mp3", "aiff", "aac", "ogg", "flac", "m4a", "pcm16", "pcm24"]


class SoundPart(Wire):
    type: Literal["input_audio"]
    input_audio: SoundData


class FileData(Wire):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Wire):
    type: Literal["file"]
    file: FileData


class VideoUrl(Url):
    processing: dict[str, Any] | None = None


class VideoPart(Wire):
    type: Literal["video_url"]
    video_url: VideoUrl


Part = Annotated[TextPart | PicturePart | SoundPart | FilePart | VideoPart, Field(discriminator="type")]
Parts = Annotated[list[Part], Field(min_length=1)]


class SystemMessage(Wire):
    role: Literal["system", "developer"]
    content: str | list[TextPart]
    name: str | None = None


class UserMessage(Wire):
    role: Literal["user"]
    content: str | Parts
    name: str | None = None


class CalledFunction(Wire):
    name: ToolName
    arguments: str


class ToolCall(Wire):
    id: Name
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Wire):
    nullable = frozenset({"content", "reasoning", "refusal"})

    role: Literal["assistant"]
    content: str | Parts | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    images: list[PicturePart] | None = None
    audio: dict[str, Any] | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None


class ToolMessage(Wire):
    role: Literal["tool"]
    tool_call_id: Name
    content: str | Parts


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Wire):
    nullable = frozenset({"strict"})

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Wire):
    type: Literal["function"]
    function: Function
    cache_control: dict[str, Any] | None = None
    defer_loading: bool | None = None


class ServerTool(Wire):
    type: Annotated[str, Field(pattern=r"^openrouter:")]
    parameters: dict[str, Any] | None = None


class ChosenFunction(Wire):
    name: ToolName


class ChosenTool(Wire):
    type: Literal["function"]
    function: ChosenFunction


class Schema(Wire):
    nullable = frozenset({"strict"})

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: str | None = None
    strict: bool | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class PlainFormat(Wire):
    type: Literal["text", "json_object", "python"]


class GrammarFormat(Wire):
    type: Literal["grammar"]
    grammar: str


class SchemaFormat(Wire):
    type: Literal["json_schema"]
    json_schema: Schema


class Voice(Wire):
    voice: Name | None = None
    format: Literal["wav", "mp3", "flac", "opus", "pcm16"]


class Reasoning(Wire):
    nullable = frozenset({"effort", "summary"})

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class MaxPrice(Wire):
    prompt: str | None = None
    completion: str | None = None
    image: str | None = None
    audio: str | None = None
    request: str | None = None


class Routing(Wire):
    nullable = frozenset(ROUTING_NULLS.split())

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["deny", "allow"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: list[str] | None = None
    sort: Literal["price", "throughput", "latency", "exacto"] | dict[str, str] | None = None
    max_price: MaxPrice | None = None
    preferred_max_latency: float | dict[str, float] | None = None
    preferred_min_throughput: float | dict[str, float] | None = None
    options: Options | None = None


class StreamOptions(Wire):
    include_usage: bool | None = None


class ChatRequest(Wire):
    """POST /chat/completions."""

    nullable = frozenset(CHAT_NULLS.split())

    messages: Annotated[list[Message], Field(min_length=1)]
    model: Name = "openai/gpt-5.4-mini"
    models: Annotated[list[Name], Field(min_length=1)] | None = None
    modalities: list[Literal["text", "image", "audio"]] | None = None
    audio: Voice | None = None
    image_config: dict[str, str | float | list[Any]] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Share | None = None
    top_a: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    response_format: Annotated[PlainFormat | GrammarFormat | SchemaFormat, Field(discriminator="type")] | None = None
    tools: list[FunctionTool | ServerTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: Effort | None = None
    provider: Routing | None = None
    service_tier: Literal["auto", "default", "fast", "flex", "priority", "scale", "ultrafast"] | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None
    plugins: list[dict[str, Any]] | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None
    user: str | None = None
    trace: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    debug: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    include_reasoning: bool | None = None

    @model_validator(mode="after")
    def every_tool_call_is_answered_once(self) -> ChatRequest:
        """Results follow the calls that they belong to, and nobody speaks before all of them are there."""
        waiting: set[str] = set()
        for message in self.messages:
            if isinstance(message, ToolMessage):
                if message.tool_call_id not in waiting:
                    raise ValueError("a tool message must answer a tool call of the assistant message before it")
                waiting.remove(message.tool_call_id)
            elif waiting:
                raise ValueError("every tool call needs its tool message before anything else is said")
            elif isinstance(message, AssistantMessage):
                waiting = {call.id for call in message.tool_calls or ()}
        if waiting:
            raise ValueError("the last tool calls have no tool messages")
        return self

    @model_validator(mode="after")
    def sound_is_streamed(self) -> ChatRequest:
        """Audio out is asked for by modality and the audio object together, and only as a stream."""
        wanted = "audio" in (self.modalities or ())
        if wanted != (self.audio is not None):
            raise ValueError("modalities with audio and the audio object belong together")
        if wanted and not self.stream:
            raise ValueError("Audio output requires stream: true")
        return self

    @property
    def parts(self) -> list[TextPart | PicturePart | SoundPart | FilePart | VideoPart]:
        """Every content part of the conversation."""
        contents = (message.content for message in self.messages)
        return [part for content in contents if isinstance(content, list) for part in content]
