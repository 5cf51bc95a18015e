"""Proxies between this host and the mirror."""

from __future__ import annotations

import os

_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")


def proxy_environment() -> dict[str, str]:
    """The proxy variables of our own environment, which apt honours too."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}
