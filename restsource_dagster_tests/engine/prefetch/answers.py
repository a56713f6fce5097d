"""Answers that no server has given."""

import json
from typing import Any

from restsource_dagster.engine.http.session import ApiResponse

__all__ = ["answer_of"]


def answer_of(body: Any, status: int = 200) -> ApiResponse:
    """An answer with this JSON."""
    response = ApiResponse()
    response.status_code = status
    response._content = json.dumps(body).encode()
    response.headers["Content-Type"] = "application/json"
    return response
