"""What a driver can do: one small abstract class per capability, with its request and its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

from .media import Media

ImageFormat = Literal["png", "jpeg", "webp"]
AudioFormat = Literal["mp3", "wav", "pcm", "flac", "opus"]
Quality = Literal["auto", "low", "medium", "high"]
Background = Literal["auto", "transparent", "opaque"]
Timestamps = Literal["none", "segment", "word"]


async def nobody_listens(*_: object) -> None:
    """The default witness of an exchange."""


def nobody_minds() -> None:
    """The default of a hook that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a driver tells while it works: each hook is awaited at that very point, so that a row can be written first.

    `sent()` right before the request's bytes leave; `responded(generation_id)` when an answer's headers are there;
    `again()` when that answer was a refusal that cost nothing and the request will be sent once more;
    `progress(sentence)` now and then; `arrived()`, at once and without waiting, when a whole result is there, which no
    cancellation may tear any more. A driver that talks to nobody calls none of them.
    """

    sent: Callable[[], Awaitable[None]] = nobody_listens
    responded: Callable[[str | None], Awaitable[None]] = nobody_listens
    progress: Callable[[str], Awaitable[None]] = nobody_listens
    again: Callable[[], Awaitable[None]] = nobody_listens
    arrived: Callable[[], None] = nobody_minds


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A picture in words; empty strings and None leave the choice to the model. `count` is at most `images_at_once`."""

    prompt: str
    size: str = ""
    aspect_ratio: str = ""
    count: int = 1
    quality: Quality | None = None
    background: Background | None = None
    output_format: ImageFormat | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class EditRequest(ImageRequest):
    """A change in words, applied to `images` in order (the first is the subject), within `mask` where there is one."""

    images: tuple[Media, ...] = ()
    mask: Media | None = None


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """Text to be spoken exactly; `speed` 1.0 is the voice's own, `format` None the driver's best."""

    text: str
    voice: str = ""
    format: AudioFormat | None = None
    speed: float | None = None
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """Sound to be written down; `language` is ISO 639-1, `prompt` a vocabulary hint."""

    audio: Media
    language: str = ""
    prompt: str = ""
    timestamps: Timestamps = "none"
    diarize: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """What one request brought: media in order, which model answered, what it cost in USD (None: not said).

    `remains` came with them, was paid for and is no medium: to be kept aside; a warning says why of each.
    """

    media: tuple[Media, ...]
    model: str
    cost_usd: float | None = None
    generation_id: str | None = None
    revised_prompt: str | None = None
    transcript: str | None = None
    warnings: tuple[str, ...] = ()
    remains: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech: `start` and `end` in seconds, its text, its speaker where speakers were told apart."""

    start: float
    end: float
    text: str
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard; `segments` and `words` only where they were asked for and given."""

    text: str
    model: str
    language: str | None = None
    duration_s: float | None = None
    segments: tuple[Segment, ...] = ()
    words: tuple[Segment, ...] = ()
    cost_usd: float | None = None
    generation_id: str | None = None
    warnings: tuple[str, ...] = ()


class Capability(ABC):
    """One thing that a driver can do. `flag` is its name in routes.toml and in the runtime view."""

    flag: ClassVar[str]
    phrase: ClassVar[str]


class ImageGeneration(Capability):
    """Words in, pictures out."""

    flag = "image_generation"
    phrase = "generates images"

    @abstractmethod
    async def generate_image(self, model: str, request: ImageRequest, exchange: Exchange) -> Generation:
        """One request's pictures. Refuses what the model cannot do before anything is sent."""

    def images_at_once(self, model: str) -> int:
        """How many pictures one request to `model` may ask for."""
        return 1


class ImageEdit(Capability):
    """Pictures and words in, pictures out."""

    flag = "image_edit"
    phrase = "edits images"

    @abstractmethod
    async def edit_image(self, model: str, request: EditRequest, exchange: Exchange) -> Generation:
        """One request's pictures. Refuses what the model cannot do before anything is sent."""

    def edits_at_once(self, model: str) -> int:
        """How many results one request to `model` may ask for."""
        return 1


class AudioGeneration(Capability):
    """Text in, speech out."""

    flag = "audio_generation"
    phrase = "generates speech"

    @abstractmethod
    async def generate_audio(self, model: str, request: SpeechRequest, exchange: Exchange) -> Generation:
        """One request's sound: exactly one Media, perhaps in another format than asked, with a warning then."""

    def longest_speech(self, model: str) -> int:
        """How many characters one request to `model` may hold."""
        return 4096


class Transcription(Capability):
    """Speech in, text out."""

    flag = "transcription"
    phrase = "transcribes speech"

    @abstractmethod
    async def transcribe(self, model: str, request: TranscriptionRequest, exchange: Exchange) -> Transcript:
        """What was said in `request.audio`."""


class MultimodalInput(Capability):
    """Text models that look at pictures. A flag without a method: TextGeneration.sees tells which models do."""

    flag = "multimodal_input"
    phrase = "takes images into text runs"


class NativeWebSearch(Capability):
    """A provider's own web search."""

    flag = "native_web_search"
    phrase = "searches the web"


CAPABILITIES: tuple[type[Capability], ...] = (
    MultimodalInput,
    NativeWebSearch,
    ImageGeneration,
    ImageEdit,
    AudioGeneration,
    Transcription,
)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of one model of one driver; empty and None where it is not known, which forbids nothing.

    `price` is a sentence and `note` how to use it. `inputs` and `outputs` are modalities (text, image, audio, file,
    speech, transcription ...); only a card that its provider gave has outputs. `prices` are USD by unit: image_out,
    image_out:2k, megapixel_out, image_token_out, image_in, character, second, token_in, token_out, audio_token_in,
    audio_token_out, request. `knobs` are the parameters of pictures with their values, none where any will do;
    `parameters` those of text. `aliases` are other ids of the same model.
    """

    id: str
    capabilities: tuple[str, ...]
    voices: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    price: str | None = None
    note: str | None = None
    name: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict, hash=False)
    context_tokens: int | None = None
    most_references: int | None = None
    knobs: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    parameters: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """What a provider says of a key that it takes: USD spent and left, and when it ends; None where it does not say."""

    spent_usd: float | None = None
    left_usd: float | None = None
    expires_at: str | None = None


class Driver(ABC):
    """The code that speaks one provider's dialect. It declares what it can do by inheriting capabilities.

    `name` stands in routes.toml; `provider` is the backend family shown in results; `needs_key` says whether a route
    of this driver is absent without a secret; `takes_any_model` whether it passes on model ids that it does not know;
    `stands_in` whether a call that failed elsewhere may come to it unasked; `preferred` names per capability flag the
    models to try in order.
    """

    name: ClassVar[str]
    provider: ClassVar[str]
    needs_key: ClassVar[bool]
    takes_any_model: ClassVar[bool] = True
    stands_in: ClassVar[bool] = True
    default_base_url: ClassVar[str | None] = None
    preferred: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    @classmethod
    def knows(cls, base_url: str) -> bool:
        """Whether what stands at an address is known to do all that this driver has a backend for, and to want a key.

        Of a stranger a route has to declare what it does; it may do without a key.
        """
        return True

    def missing(self, capability: type[Capability]) -> tuple[str, str] | None:
        """Why this installation cannot offer a declared capability, and the command that mends it; None if it can."""
        return None

    def models(self) -> tuple[ModelCard, ...]:
        """The models this driver knows of: its own, and those that it has learned."""
        return ()

    def card(self, model: str) -> ModelCard | None:
        """What is known of a model, whatever it is called by; None where nothing is."""
        return next((card for card in self.models() if card.id == model), None)

    def can(self, flag: str, model: str) -> bool | None:
        """Whether a model has the capability of that flag; None where nobody can tell, so that it may be tried."""
        card = self.card(model)
        if card is None or (self.takes_any_model and not card.outputs):
            return None
        return flag in card.capabilities

    async def discover(self, drawing: Collection[str] = ()) -> tuple[ModelCard, ...] | None:
        """What the provider says now of all its models, with all that can be known of those that are used for `drawing`.

        None where it has nothing to say. Refuses as any request does.
        """
        return None

    def learn(self, cards: tuple[ModelCard, ...]) -> None:  # noqa: B027 - what cannot be discovered is not learned
        """Takes over what was discovered, now or earlier, in place of what was learned before."""

    async def check_key(self) -> KeyStanding | None:
        """Asks the provider, at no cost, whether it takes the key; None where nobody is to ask. Refuses as any request does."""
        return None

    async def cost_of(self, generation_id: str) -> float | None:
        """USD that a generation cost by the provider's books; None where it keeps none. NotFound until it is recorded."""
        return None

    async def close(self) -> None:  # noqa: B027 - most drivers hold nothing open
        """Lets go of connections and processes."""
