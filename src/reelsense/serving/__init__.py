"""Predictions over HTTP: `reelsense serve`. Needs the extra `serve`."""
