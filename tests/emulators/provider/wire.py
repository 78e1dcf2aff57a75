"""The request bodies that the stand-in takes, field by field; anything else is refused."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tests.emulators.provider.answers import Refused

AspectRatio = Literal[
    "1:1", "1:2", "1:4", "1:8", "2:1", "2:3", "2.35:1", "3:2", "3:4", "4:1", "4:3", "4:5", "5:2", "5:4", "5:7", "7:5",
    "8:1", "9:16", "16:9", "9:19.5", "19.5:9", "9:20", "20:9", "9:21", "21:9", "auto",
]  # fmt: skip
Resolution = Literal["512", "768", "1K", "1.5K", "2K", "4K"]
AudioFormat = Literal["wav", "mp3", "flac", "m4a", "ogg", "webm", "aac", "pcm"]
Name = Annotated[str, Field(min_length=1)]
Options = dict[str, dict[str, Any]]


class Wire(BaseModel):
    """A body or a part of one: no unknown field, no type that would need converting, null only where it is known."""

    model_config = ConfigDict(extra="forbid", strict=True)
    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def null_is_a_value_only_where_it_is_known(cls, given: Any) -> Any:
        """The absence of a field is its absence: most fields refuse null."""
        if isinstance(given, dict):
            for name in given.keys() - cls.nullable:
                if given[name] is None:
                    raise ValueError(f"{name}: null is not allowed")
        return given


class ImageProvider(Wire):
    nullable = frozenset({"only", "order", "ignore", "sort", "allow_fallbacks"})

    only: list[str] | None = None
    order: list[str] | None = None
    ignore: list[str] | None = None
    sort: str | dict[str, Any] | None = None
    allow_fallbacks: bool | None = None
    options: Options | None = None


class AudioProvider(Wire):
    nullable = frozenset({"zdr", "data_collection"})

    zdr: bool | None = None
    data_collection: Literal["deny", "allow"] | None = None
    options: Options | None = None


class Traced(Wire):
    """What every inference body may carry beside its own fields."""

    model: Name
    user: str | None = None
    session_id: Annotated[str, Field(max_length=256)] | None = None
    trace: dict[str, Any] | None = None


class Url(Wire):
    url: Annotated[str, Field(pattern=r"^(data:|https?://)")]


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: Url


class ImageRequest(Traced):
    """POST /images."""

    prompt: Name
    n: Annotated[int, Field(ge=1, le=10)] = 1
    aspect_ratio: AspectRatio | None = None
    resolution: Resolution | None = None
    size: Annotated[str, Field(pattern=r"^(512|768|1K|1\.5K|2K|4K|[1-9]\d{1,3}x[1-9]\d{1,3})$")] | None = None
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max"] | None = None
    background: Literal["auto", "transparent", "opaque"] | None = None
    output_format: Literal["png", "jpeg", "webp", "svg"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    seed: int | None = None
    input_references: Annotated[list[ImagePart], Field(max_length=16)] | None = None
    stream: bool = False
    provider: ImageProvider | None = None

    @model_validator(mode="after")
    def one_way_to_say_the_size(self) -> ImageRequest:
        """Pixels are authoritative; a tier is a resolution said twice."""
        pixels = self.size is not None and "x" in self.size
        if pixels and (self.aspect_ratio or self.resolution):
            raise ValueError("size conflicts with aspect_ratio or resolution: send one or the other")
        if self.size and self.resolution and self.size != self.resolution:
            raise ValueError("size conflicts with resolution: send one or the other")
        if self.background == "transparent" and self.output_format == "jpeg":
            raise ValueError("a transparent background needs png or webp")
        return self


class AudioData(Wire):
    data: Name
    format: str | None = None


class VoiceClip(Wire):
    type: Literal["input_audio"]
    input_audio: AudioData | Url


class ClipText(Wire):
    type: Literal["text"]
    text: Annotated[str, Field(min_length=1, max_length=10000)]


class Turn(Wire):
    text: Name
    voice: str | None = None
    instructions: str | None = None


class SpeechRequest(Traced):
    """POST /audio/speech."""

    input: Name | Annotated[list[Turn], Field(min_length=1)]
    voice: str | None = None
    response_format: Literal["mp3", "pcm"] = "pcm"
    speed: Annotated[float, Field(ge=0.25, le=4.0)] | None = None
    instructions: str | None = None
    input_references: list[VoiceClip | ClipText | ImagePart] | None = None
    provider: AudioProvider | None = None

    def turns(self) -> list[tuple[str, str | None]]:
        """Every text with its voice."""
        if isinstance(self.input, str):
            return [(self.input, self.voice)]
        return [(turn.text, turn.voice or self.voice) for turn in self.input]


class InlineAudio(Wire):
    data: Name
    format: AudioFormat


class LinkedAudio(Wire):
    url: Annotated[str, Field(pattern=r"^https?://")]
    format: AudioFormat | None = None


class TranscriptionOptions(Traced):
    """What the JSON and the multipart body share."""

    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    response_format: Literal["json", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["segment", "word"]] | None = None
    diarize: bool | None = None
    keyterms: list[str] | None = None
    provider: AudioProvider | None = None

    @model_validator(mode="after")
    def speakers_need_words(self) -> TranscriptionOptions:
        """Speaker labels live on the words, which plain JSON does not carry."""
        if self.diarize and self.response_format != "verbose_json":
            raise ValueError("diarize needs response_format verbose_json")
        return self


class TranscriptionRequest(TranscriptionOptions):
    """POST /audio/transcriptions as JSON."""

    input_audio: InlineAudio | LinkedAudio


Body = TypeVar("Body", bound=BaseModel)


def parse(kind: type[Body], text: bytes) -> Body:
    """A JSON body as its model; 400 that names the field and never repeats the value."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        deepest = max(found, key=lambda one: len(one["loc"]))  # of alternatives, the one that was nearly met
        where = ".".join(str(part) for part in deepest["loc"])
        raise Refused(400, f"{where}: {deepest['msg']}".removeprefix(": ")) from error
