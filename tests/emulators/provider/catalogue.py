"""The models that the stand-in knows: modalities, image parameters, voices, prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.emulators.provider.answers import Refused

OPENAI_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "fable",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)
GEMINI_VOICES = ("Zephyr", "Puck", "Charon", "Kore", "Fenrir", "Leda", "Orus", "Aoede")
ENDPOINTS = {
    "image": "/images",
    "speech": "/audio/speech",
    "transcription": "/audio/transcriptions",
    "text": "/chat/completions",
}
SAMPLING = ("max_tokens", "temperature", "top_p", "stop", "seed", "tools", "tool_choice", "response_format")


def enum(*values: str) -> dict[str, Any]:
    """The descriptor of a parameter with fixed values."""
    return {"type": "enum", "values": list(values)}


def span(low: int, high: int) -> dict[str, Any]:
    """The descriptor of a parameter with bounds."""
    return {"type": "range", "min": low, "max": high}


ASPECTS = enum("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "9:21", "1:2", "2:1", "auto")
COMMON = {"aspect_ratio": ASPECTS, "resolution": enum("512", "1K", "2K", "4K"), "seed": {"type": "boolean"}}
RASTER = enum("png", "jpeg", "webp")
OPENAI_IMAGE = {
    "quality": enum("auto", "low", "medium", "high"),
    "background": enum("auto", "transparent", "opaque"),
    "output_compression": span(0, 100),
    "n": span(1, 10),
    "input_references": span(1, 16),
}


@dataclass(frozen=True, slots=True)
class Model:
    """One row of the catalogue; `parameters` are the image descriptors, `cost` is USD an image, character or second.

    A text model has no price for pictures: its `cost` is USD a token read, `answer_cost` USD a token written. A model
    that `plays` makes music in a chat.
    """

    id: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    cost: float
    answer_cost: float = 0.0
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    voices: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("mp3", "pcm")
    turns: bool = False
    verbose: bool = False
    diarizes: bool = False
    biases: bool = False
    streams: bool = False
    plays: bool = False

    @property
    def makes_pictures(self) -> bool:
        """Whether POST /images answers for it."""
        return "image" in self.outputs

    def row(self) -> dict[str, Any]:
        """The model as GET /models lists it."""
        return {
            "id": self.id,
            "canonical_slug": self.id,
            "name": self.id.rpartition("/")[2],
            "created": 1765000000,
            "description": "A model of the stand-in.",
            "context_length": 4096,
            "hugging_face_id": None,
            "architecture": {
                "modality": f"{'+'.join(self.inputs)}->{'+'.join(self.outputs)}",
                "input_modalities": list(self.inputs),
                "output_modalities": list(self.outputs),
                "tokenizer": "Other",
                "instruct_type": None,
            },
            "pricing": self.pricing(),
            "top_provider": {"context_length": 4096, "max_completion_tokens": None, "is_moderated": False},
            "per_request_limits": None,
            "supported_parameters": list(SAMPLING) if "text" in self.outputs else [],
            "supported_voices": list(self.voices) or None,
            "default_parameters": None,
            "expiration_date": None,
            "knowledge_cutoff": None,
            "links": {"details": f"/api/v1/models/{self.id}/endpoints"},
        }

    def pricing(self) -> dict[str, str]:
        """Prices as decimal texts; a picture's price is given by the token, and what is paid by it otherwise as zero."""
        if not self.makes_pictures:
            return {"prompt": f"{self.cost:.9f}", "completion": f"{self.answer_cost:.9f}", "request": "0"}
        tokens = {"google": 1290, "openai": 6240}.get(self.id.partition("/")[0], 4175)
        return {"prompt": "0", "completion": "0", "image_output": f"{self.cost / tokens:.15f}"}

    def image_row(self) -> dict[str, Any]:
        """The model as GET /images/models lists it."""
        architecture = {"input_modalities": list(self.inputs), "output_modalities": list(self.outputs)}
        return {
            "id": self.id,
            "name": self.id.rpartition("/")[2],
            "description": "An image model of the stand-in.",
            "created": 1692901234,
            "architecture": architecture,
            "supported_parameters": self.parameters,
            "supports_streaming": self.streams,
            "endpoints": f"/api/v1/images/models/{self.id}/endpoints",
        }

    def image_endpoints(self) -> dict[str, Any]:
        """The one provider that serves an image model, with its price."""
        provider = self.id.partition("/")[0]
        endpoint = {
            "provider_name": provider.title(),
            "provider_slug": provider,
            "provider_tag": provider,
            "supported_parameters": self.parameters,
            "allowed_passthrough_parameters": [],
            "supports_streaming": self.streams,
            "pricing": [{"billable": "output_image", "unit": "image", "cost_usd": self.cost}],
        }
        return {"id": self.id, "endpoints": [endpoint]}


def gemini(name: str) -> Model:
    """A Gemini image model: one picture a call, text beside it."""
    parameters = {**COMMON, "output_format": RASTER, "input_references": span(1, 14)}
    return Model(f"google/{name}", ("text", "image"), ("image", "text"), 0.04, parameters=parameters)


ROWS = (
    gemini("gemini-2.5-flash-image"),
    gemini("gemini-3.1-flash-image-preview"),
    gemini("gemini-3-pro-image-preview"),
    gemini("gemini-3-pro-image"),
    Model(
        "openai/gpt-image-2",
        ("text", "image"),
        ("image",),
        0.04,
        parameters={
            **COMMON,
            **OPENAI_IMAGE,
            "output_format": RASTER,
            "size": {"type": "string"},
        },
        streams=True,
    ),
    Model("openai/gpt-5-image", ("text", "image"), ("image", "text"), 0.04, parameters=OPENAI_IMAGE),
    Model("openai/gpt-5-image-mini", ("text", "image"), ("image", "text"), 0.02, parameters=OPENAI_IMAGE),
    Model(
        "bytedance-seed/seedream-4.5",
        ("text", "image"),
        ("image",),
        0.04,
        parameters={
            **COMMON,
            "output_format": RASTER,
            "size": {"type": "string"},
            "n": span(1, 10),
            "input_references": span(1, 14),
        },
    ),
    Model(
        "black-forest-labs/flux.2-klein",
        ("text",),
        ("image",),
        0.02,
        parameters={**COMMON, "output_format": enum("png", "jpeg"), "size": {"type": "string"}, "n": span(1, 4)},
    ),
    Model(
        "recraft/recraft-v4-vector",
        ("text",),
        ("image",),
        0.08,
        parameters={**COMMON, "output_format": enum("svg")},
    ),
    Model("openai/gpt-4o-mini-tts-2025-12-15", ("text",), ("speech",), 0.000015, voices=OPENAI_VOICES),
    Model(
        "google/gemini-3.1-flash-tts-preview",
        ("text",),
        ("speech",),
        0.00001,
        voices=GEMINI_VOICES,
        formats=("pcm",),
        turns=True,
    ),
    Model("hexgrad/kokoro-82m", ("text",), ("speech",), 0.000001, voices=("af_heart", "af_bella", "am_adam")),
    Model("openai/whisper-1", ("audio",), ("transcription",), 0.0001, verbose=True),
    Model("openai/gpt-4o-mini-transcribe", ("audio",), ("transcription",), 0.00005, verbose=True),
    Model("openai/whisper-large-v3", ("audio",), ("transcription",), 0.00005, verbose=True),
    Model(
        "assemblyai/universal-3-pro", ("audio",), ("transcription",), 0.0001, verbose=True, diarizes=True, biases=True
    ),
    Model("google/chirp-3", ("audio",), ("transcription",), 0.0002),
    Model("openai/gpt-5.4-mini", ("text", "image", "file"), ("text",), 0.00000025, 0.000002),
    Model("google/gemini-2.5-flash", ("text", "image", "audio", "file"), ("text",), 0.0000003, 0.0000025),
    Model("z-ai/glm-5.3-flash", ("text",), ("text",), 0.0000001, 0.0000004),
    Model("openai/gpt-audio", ("text", "audio"), ("text", "audio"), 0.0000025, 0.00001, voices=OPENAI_VOICES),
    Model("google/lyria-3-pro-preview", ("text", "image"), ("text", "audio"), 0.0, 0.08, plays=True),
)
MODELS = {row.id: row for row in ROWS}


def find(name: str, output: str) -> Model:
    """The model for an endpoint; 400 for an unknown one or one that another endpoint serves."""
    model = MODELS.get(name.partition(":")[0])
    if model is None and output == "speech":
        raise Refused(400, f"Model {name} does not exist")
    if model is None:
        raise Refused(400, f"{name} is not a valid model ID")
    if output not in model.outputs:
        right = next(path for kind, path in ENDPOINTS.items() if kind in model.outputs)
        raise Refused(400, f"{name} cannot be used with {ENDPOINTS[output]}", elsewhere(name, right))
    return model


def elsewhere(name: str, right: str) -> dict[str, Any]:
    """What a refusal says when another endpoint serves the model."""
    return {
        "code": "wrong_endpoint",
        "retryable": False,
        "requested_models": [name],
        "constraint": {"field": "model", "detail": f"use /api/v1{right}"},
        "docs_url": "https://openrouter.ai/docs/errors#wrong_endpoint",
    }
