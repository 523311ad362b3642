"""Reading of a body of the responses interface, with errors that name its own fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.api.error_responses import ApiError
from serving.api.request_body import check_fields, parse_fields, parse_json_object
from serving.api.responses.responses_request import (
    CHAT_PLACES,
    ResponsesRequest,
    drop_neutral_fields,
)


def parse_responses_request(body: bytes) -> ResponsesRequest:
    """The request that a body holds.

    Raises:
        ApiError: 400, with the first field that is wrong.
    """
    fields = drop_neutral_fields(parse_json_object(body))
    check_fields(fields, ResponsesRequest.model_fields.keys())
    return parse_fields(ResponsesRequest, fields)


@contextmanager
def name_own_fields() -> Iterator[None]:
    """Errors of the chat request name the fields that this interface has for them."""
    try:
        yield
    except ApiError as error:
        detail = error.body["error"]
        for chat, own in CHAT_PLACES.items():
            detail["message"] = detail["message"].replace(f"'{chat}", f"'{own}")
            if detail["param"] is not None and detail["param"].startswith(chat):
                detail["param"] = own + detail["param"].removeprefix(chat)
        raise
