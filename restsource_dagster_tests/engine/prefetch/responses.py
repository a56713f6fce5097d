"""Responses that no server has sent."""

import json
from typing import Any

from restsource_dagster.engine.http.json_body import ApiResponse

__all__ = ["response_of"]


def response_of(body: Any, status: int = 200) -> ApiResponse:
    """Return a response with this JSON."""
    response = ApiResponse()
    response.status_code = status
    response._content = json.dumps(body).encode()
    response.headers["Content-Type"] = "application/json"
    return response
