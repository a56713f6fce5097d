"""The header `Link`, by https://www.rfc-editor.org/rfc/rfc8288."""

import re

__all__ = ["parse_link_header"]

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PARAM = rf";\s*([\w!#$%&'*+.^`|~-]+)\s*(?:=\s*({_QUOTED}|[^\s;,]*))?\s*"
_LINK = re.compile(rf"<([^<>]*)>\s*((?:{_PARAM})*)")
_PARAMS = re.compile(_PARAM)


def parse_link_header(value: str) -> dict[str, dict[str, str]]:
    """Return each link by each of its relations in lower case, with its `url` and its parameters.

    Of two links of one relation the last counts. Unlike `requests` it reads several relations of one
    link (`rel="next last"`), names in capitals (`REL=`) and semicolons in quotes. A link without a
    relation is left out.
    """
    if "<" not in value:  # some servers leave the brackets out, and `requests` reads it
        url, separator, params = value.partition(";")
        value = f"<{url}>{separator}{params}"
    links = {}
    for url, params in ((found[1].strip(), found[2]) for found in _LINK.finditer(value)):
        link: dict[str, str] = {}
        for name, text in _PARAMS.findall(params):
            # section 3: a parameter that is there twice counts once
            link.setdefault(name.lower(), _unquoted(text))
        for relation in link.get("rel", "").lower().split():
            links[relation] = {**link, "url": url}
    return links


def _unquoted(text: str) -> str:
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text.strip("'")  # no quotes by the standard, and yet written by some servers
