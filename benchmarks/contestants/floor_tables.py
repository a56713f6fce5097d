"""The tables of the floors, in DuckDB's SQL: the same that dlt creates for these records."""

__all__ = ["CUSTOMER", "LINE", "PLAIN", "create_tables", "insert", "struct_type"]

PLAIN = {
    "id": "BIGINT",
    "number": "VARCHAR",
    "created_at": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
    "status": "VARCHAR",
    "currency": "VARCHAR",
    "total": "DOUBLE",
    "tax": "DOUBLE",
    "discount": "DOUBLE",
    "paid": "BOOLEAN",
    "items": "BIGINT",
    "weight_grams": "BIGINT",
    "city": "VARCHAR",
    "country": "VARCHAR",
    "channel": "VARCHAR",
    "email": "VARCHAR",
    "note": "VARCHAR",
    "reference": "VARCHAR",
}
CUSTOMER = {"id": "BIGINT", "name": "VARCHAR", "tier": "VARCHAR", "since": "VARCHAR"}
LINE = {"sku": "VARCHAR", "quantity": "BIGINT", "price": "DOUBLE"}


def _columns(columns: dict[str, str], prefix: str = "") -> str:
    return ", ".join(f'"{prefix}{name}" {kind}' for name, kind in columns.items())


def struct_type(*, json: bool) -> str:
    """Return DuckDB's type of a record. With `json`, nested values stay JSON."""
    customer = "JSON" if json else f"STRUCT({_columns(CUSTOMER)})"
    lines = "JSON" if json else f"STRUCT({_columns(LINE)})[]"
    return f"STRUCT({_columns(PLAIN)}, customer {customer}, lines {lines})"


def create_tables(*, json: bool) -> list[str]:
    """Return the statements that create the tables."""
    plain = f"CREATE TABLE shop.orders ({_columns(PLAIN)}, "
    if json:
        return ["CREATE SCHEMA shop", f"{plain} customer JSON, lines JSON)"]
    return [
        "CREATE SCHEMA shop",
        f"{plain} {_columns(CUSTOMER, 'customer__')})",
        f"CREATE TABLE shop.orders__lines (order_id BIGINT, position BIGINT, {_columns(LINE)})",
    ]


def insert(
    source: str, *, json: bool, customer: str = "r.customer", lines: str = "r.lines"
) -> list[str]:
    """Return the statements that insert from `source`, which has one struct column `r`.

    With `json`, `customer` and `lines` are the expressions of these two columns.
    """
    plain = ", ".join(f'r."{name}"' for name in PLAIN)
    if json:
        return [f"INSERT INTO shop.orders SELECT {plain}, {customer}, {lines} FROM {source}"]
    fields = ", ".join(f"r.customer.{name}" for name in CUSTOMER)
    lined = ", ".join(f"line.{name}" for name in LINE)
    unnested = (
        "SELECT r.id AS id, unnest(r.lines) AS line, generate_subscripts(r.lines, 1) AS position "
        f"FROM {source}"
    )
    return [
        f"INSERT INTO shop.orders SELECT {plain}, {fields} FROM {source}",
        f"INSERT INTO shop.orders__lines SELECT id, position, {lined} FROM ({unnested})",
    ]
