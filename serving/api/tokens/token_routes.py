"""Routes of the tokenizer: texts and messages to tokens, and back."""

from __future__ import annotations

from typing import Any

from serving.api.answers.logprob_format import TokenTexts
from serving.api.error_responses import ApiError, check_token
from serving.api.message_fields import check_messages
from serving.api.tokens.token_requests import DetokenizeRequest, TokenizeRequest
from serving.engine.prompt_encoder import PromptEncoder


async def tokenize(
    request: TokenizeRequest, prompts: PromptEncoder, texts: TokenTexts
) -> dict[str, Any]:
    """Tokens of a text or of messages, as many as they are: more than the context holds, too.

    Args:
        request: of its schema.
        prompts: the model's.
        texts: of its tokens.

    Raises:
        ApiError: 400 for both or neither, for fields of messages that are not heard, and for a
            text beyond ``COUNTED_BYTES``; 429 where too many wait.
    """
    if (request.prompt is None) == (request.messages is None):
        raise ApiError(
            400,
            "Expected one of 'prompt' and 'messages'.",
            param="prompt",
            code="missing_required_parameter" if request.prompt is None else "invalid_value",
        )
    if request.messages is not None:
        if request.add_special_tokens:
            raise ApiError(
                400,
                "Invalid 'add_special_tokens': messages have those of the chat template.",
                param="add_special_tokens",
                code="invalid_value",
            )
        check_messages(request.messages, prompts.tokenizer.template.message_fields)
        ids = await prompts.encode_chat(request.messages, counts_alone=True)
    else:
        ids = await prompts.encode_text(request.prompt or "", counts_alone=True)
        ids = ids[1:] if request.add_special_tokens is False else ids
    strings = [texts.spell(token) for token in ids] if request.return_token_strs else None
    return {
        "count": len(ids),
        "max_model_len": prompts.context,
        "tokens": ids,
        "token_strs": strings,
    }


def detokenize(request: DetokenizeRequest, texts: TokenTexts) -> dict[str, Any]:
    """Text of tokens, special ones spelt.

    Raises:
        ApiError: 400 for an id that the model does not have.
    """
    for at, token in enumerate(request.tokens):
        check_token(token, texts.vocabulary, f"tokens[{at}]")
    return {"prompt": texts.decode_spelled(request.tokens)}
