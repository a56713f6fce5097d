"""The connectors that a command works with."""

from restsource_dagster.config.files import load_folder
from restsource_dagster.config.loaded import Folder
from restsource_dagster.config.parse_cache import ParseCache
from restsource_dagster.settings import Settings

__all__ = ["read_connectors"]


def read_connectors(settings: Settings) -> Folder:
    """All connectors of the folder; files that are known from before aren't parsed again."""
    return load_folder(settings.configs, ParseCache(settings.state_dir, settings.configs))
