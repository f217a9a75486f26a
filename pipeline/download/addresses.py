"""Which addresses files are fetched from, and how they are shown: https, and no credentials."""

import ipaddress
import re
from urllib.parse import urlsplit

SECRETS = ((re.compile(r"//[^/\s'\"]*@"), "//"), (re.compile(r"\?[^\s'\")]+"), "?..."))
"""Where an address may hold a password or a signature, and what is shown there."""


def without_secrets(text: str) -> str:
    """`text` with the addresses in it less their credentials and queries."""
    for secret, shown in SECRETS:
        text = secret.sub(shown, text)
    return text


def secure(url: str) -> str:
    """`url`, if it is https or stays on this machine, and holds no credentials; else ValueError."""
    parts = urlsplit(url)
    schemes = ("https", "http") if is_here(url) else ("https",)
    if not parts.hostname or parts.scheme not in schemes or "@" in parts.netloc:
        raise ValueError(
            f"expected an https address without user and password, found {without_secrets(url)}"
        )
    return url


def is_here(url: str) -> bool:
    """Whether it leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
