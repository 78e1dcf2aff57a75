"""The suite's prompts, of which the product has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mcp_types as t

from .questions import Asked, form
from .tools import SEEN, embedded

CONTEXT = {"user_context": form("What context should the prompt use?", context="string")}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with required arguments."""

    name: str
    description: str
    said: Callable[[dict[str, str]], list[t.ContentBlock]]
    arguments: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    def listed(self) -> t.Prompt:
        """Its definition."""
        arguments = [t.PromptArgument(name=name, description=f"The {name}.", required=True) for name in self.arguments]
        return t.Prompt(name=self.name, description=self.description, arguments=arguments)

    def get(self, asked: Asked) -> t.GetPromptResult | t.InputRequiredResult:
        """The messages, or what has to be answered before."""
        missing = asked.missing({name: CONTEXT[name] for name in self.questions})
        blocks = self.said(asked.params.arguments or {})
        return missing or t.GetPromptResult(messages=[t.PromptMessage(role="user", content=block) for block in blocks])


def said(sentence: str) -> t.TextContent:
    """A sentence of a prompt."""
    return t.TextContent(type="text", text=sentence)


PROMPTS = (
    Prompt("test_simple_prompt", "One sentence.", lambda _: [said("This is a simple prompt for testing.")]),
    Prompt(
        "test_prompt_with_arguments",
        "A sentence with two arguments in it.",
        lambda given: [said("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'".format(**given))],
        ("arg1", "arg2"),
    ),
    Prompt(
        "test_prompt_with_embedded_resource",
        "A resource and a sentence about it.",
        lambda given: [
            embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing."),
            said("Please process the embedded resource above."),
        ],
        ("resourceUri",),
    ),
    Prompt(
        "test_prompt_with_image",
        "A picture and a sentence about it.",
        lambda _: [SEEN, said("Please analyze the image above.")],
    ),
    Prompt(
        "test_input_required_result_prompt",
        "A sentence that waits for the user's context.",
        lambda _: [said("The context is known.")],
        questions=("user_context",),
    ),
)
