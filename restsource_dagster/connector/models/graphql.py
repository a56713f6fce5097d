"""A GraphQL query as the request of an endpoint."""

from typing import Any

from pydantic import ConfigDict, Field

from restsource_dagster.connector.models.fields import FileModel, Text

__all__ = ["GraphQL"]


class GraphQL(FileModel):
    """A GraphQL query: it is sent by POST, and its errors are those of GraphQL.

    Either `query` or `query_file` is needed.
    """

    # `with_query_files` reports it, and puts the text of the file in its place
    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["query"]}, {"required": ["query_file"]}]}
    )

    query: Text = Field(
        default="",
        description="The query, as it is: braces are not doubled, and it has no placeholders. What "
        "changes goes into `variables`.",
        min_length=1,
    )
    query_file: Text | None = Field(
        default=None,
        description="A file with the query, beside the connector file or the template that names it, "
        "such as `orders.graphql`; its name ends with `.graphql` or `.gql`. It is read as `query` is.",
    )
    variables: dict[str, Any] = Field(
        default={},
        description="The variables of the query. Values may contain `{resources.parent.field}` and "
        '`{incremental.start_value}`. A `cursor` paginator sets one by `"cursor_body_path": '
        '"variables.after"`.',
    )
    allow_errors: list[Text] = Field(
        default=[],
        description="Where errors beside rows are allowed, as paths below `data` without indices, such "
        "as `orders.nodes.customer`. The rows are loaded, and the log has a line.",
    )

    def request_body(self) -> dict[str, Any]:
        """Return the JSON of the request. The query is written so that it keeps its braces."""
        query = self.query.replace("{", "{{").replace("}", "}}")
        return {"query": query, **({"variables": self.variables} if self.variables else {})}
