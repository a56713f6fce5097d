"""An export that takes time: a job that the endpoint's request creates, and whose file is downloaded."""

from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    Duration,
    FileModel,
    MethodName,
    SingleValuePath,
    Text,
    refuse_type,
)
from restsource_dagster.connector.models.graphql import GraphQL

__all__ = ["JOB_PLACEHOLDER", "Job", "JobRequest"]

JOB_PLACEHOLDER = "job.id"
"""The placeholder of the job's id in the requests about the job."""


def _check_state(value: Any) -> Any:
    if not isinstance(value, str | int | bool):
        refuse_type("a value of the status, such as `COMPLETED`")
    return value


State = Annotated[
    Any,
    PlainValidator(_check_state),
    WithJsonSchema({"type": ["string", "integer", "boolean"]}),
]
"""A value at `status_path`."""


class JobRequest(FileModel):
    """A request about a job. `{job.id}` is the job's id."""

    path: Text = Field(
        default="",
        description="The path after `base_url`, such as `exports/{job.id}`. If left out, that of the endpoint.",
    )
    method: MethodName | None = Field(
        default=None, description="The HTTP method. If left out, GET; DELETE for `delete`."
    )
    params: dict[str, Any] = Field(default={}, description="Query parameters.")
    json_: dict[str, Any] = Field(
        default={}, alias="json", description="The request's body as JSON."
    )
    graphql: GraphQL | None = Field(
        default=None, description="A GraphQL query as the request, in place of `method` and `json`."
    )

    BRACE_DOUBLINGS: ClassVar[dict[str, int]] = {"path": 1, "params": 1, "json_": 1}

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the request, with its placeholders."""
        return {**self.json_, **(self.graphql.request_body() if self.graphql else {})}

    def method_or(self, default: str) -> str:
        """Return the method; POST for GraphQL, else `default` if the file doesn't say."""
        return "POST" if self.graphql else (self.method or default)


class Job(FileModel):
    """The endpoint's request creates a job. It is asked for until it is done, and its file is loaded."""

    id_path: SingleValuePath = Field(
        description="JSON path of the job's id in the answer to the endpoint's request."
    )
    status: JobRequest = Field(description="The request that asks how far the job is.")
    status_path: SingleValuePath = Field(
        description="JSON path of the status in its answer, such as `status`."
    )
    done: list[State] = Field(
        min_length=1, description="The values of the status that mean that the file is there."
    )
    failed: list[State] = Field(
        default=[],
        description="The values that mean that there will be none. With any other value the job is in progress.",
    )
    every: Duration = Field(default="10s", description="How often the status is asked for.")
    at_most: Duration = Field(
        default="1h",
        description="How long a job may take. A job that an interrupted run has created is waited for up to "
        "this time after its creation; an older one is given up.",
    )
    url_path: SingleValuePath | None = Field(
        default=None,
        description="JSON path of the file's URL in the last answer. A URL of another origin is asked for "
        "without headers and credentials. Either this or `download` is needed.",
    )
    download: JobRequest | None = Field(
        default=None, description="The request for the file, if the answers have no URL."
    )
    delete: JobRequest | None = Field(
        default=None, description="A request to make after the file was read."
    )
