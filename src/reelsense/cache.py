"""Where downloaded files are kept."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """$REELSENSE_CACHE, or the user's cache folder of the platform. It may not exist yet."""
    if chosen := os.environ.get("REELSENSE_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "reelsense"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "reelsense" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return folder / "reelsense"
