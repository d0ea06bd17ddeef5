"""Prompts as a chat: what a tokenizer's own template writes before and after a text."""

from collections.abc import Sequence

from jinja2.exceptions import TemplateError

from effft.errors import InputError
from effft.models.backbone import Backbone

QUESTION = "\ue000"
"""Stands for the text while the template is written out: a character for private use, which no text holds."""


class ChatTemplate:
    """The template of a decoder's tokenizer, run by transformers in its sandbox; it never sees the texts to label.

    Args:
        backbone: whose tokenizer holds the template.
        turns: whether demonstrations are turns of their own, else part of the one message.

    Raises:
        InputError: an encoder, or a tokenizer without a template that answers.
    """

    def __init__(self, backbone: Backbone, turns: bool) -> None:
        self.tokenizer, self.turns, self.name = backbone.tokenizer, turns, backbone.name
        if not backbone.decoder:
            raise InputError(f"chat: {self.name!r} is no decoder, so it answers no messages; leave out --chat.")
        if not self.tokenizer.chat_template:
            raise InputError(
                f"chat: the tokenizer of {self.name!r} has no chat template; leave out --chat, or take an instruct "
                "model with --model."
            )
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self.marks = tuple(dict.fromkeys([*map(str, self.tokenizer.all_special_tokens), *added]))

    def around(self, solved: Sequence[tuple[str, str]], lead: str = "") -> tuple[str, str]:
        """What stands before and after a question in the last message of the user, up to where the answer begins.

        Args:
            solved: questions with their answers, each a turn.
            lead: what stands before the question in its own message.

        Raises:
            InputError: the template does not take these messages.
        """
        pairs = [(("user", self.clean(question)), ("assistant", answer.strip())) for question, answer in solved]
        said = [*(turn for pair in pairs for turn in pair), ("user", self.clean(lead) + QUESTION)]
        messages = [{"role": role, "content": text} for role, text in said]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise InputError(f"chat: the template of {self.name!r} does not take these messages: {reason}.") from None
        before, *after = text.split(QUESTION)
        if len(after) != 1:
            raise InputError(
                f"chat: the template of {self.name!r} writes the user's message {len(after)} times, not once; "
                "leave out --chat."
            )
        return before, after[0]

    def clean(self, text: str) -> str:
        """A text without the tokenizer's special tokens, which would end its message."""
        while any(mark in text for mark in self.marks):
            for mark in self.marks:
                text = text.replace(mark, "")
        return text

    @property
    def remark(self) -> str:
        """A sentence where the template lets the model think and cannot be asked not to; else ''."""
        template = str(self.tokenizer.chat_template)
        if "<think" not in template or "enable_thinking" in template:
            return ""
        return (
            f"the chat template of {self.name} lets it think aloud and knows no enable_thinking: the label words are "
            "read where its thoughts would begin."
        )
