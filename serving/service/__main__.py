"""Answers over HTTP what `serving/scorer.py` answers: `python -m serving.service`.

Needs the extra `serve`. Listens where the machine's own programs alone reach it, unless --host says
otherwise; who may ask, and encryption, are the business of a proxy in front. Every request has its
limits (`serving/service/messages.py`); beyond --limit-concurrency connections the answer is 503.
"""

import argparse
import socket
import sys
from contextlib import suppress
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from pipeline.common.files import InputError
from serving.folder import read_package
from serving.scorer import DEFAULT

CONNECTIONS = 128
GRACE = 30
"""Seconds that requests have to end once the service is told to."""


def main() -> None:
    options = parsed()
    try:
        import uvicorn

        from serving.service.app import application
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {error}: the service needs the extra serve; in the clone type "
            '`pip install -c constraints.txt -e ".[serve]"`'
        )
    try:
        app = application(read_package(options.package.resolve()))
        listener = listening(options.host, options.port)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    torch.set_num_threads(1)  # a request has a core, and each core a request
    threadpool_limits(1)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=options.limit_concurrency,
        timeout_graceful_shutdown=GRACE,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"{options.package} at http://{shown}:{port}", flush=True)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.service", description=__doc__)
    parser.add_argument("--package", type=Path, default=DEFAULT, help=f"({DEFAULT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="(8000); 0 for any that is free")
    parser.add_argument(
        "--limit-concurrency",
        type=connections,
        default=CONNECTIONS,
        metavar="N",
        help=f"connections at a time, beyond which the answer is 503 ({CONNECTIONS})",
    )
    return parser.parse_args()


def port(text: str) -> int:
    return whole(text, 0, 65_535)


def connections(text: str) -> int:
    return whole(text, 1, 100_000)


def whole(text: str, least: int, most: int) -> int:
    if not (text.isdecimal() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a whole number from {least} to {most}"
        )
    return int(text)


def listening(host: str, port: int) -> socket.socket:
    """Raises OSError that names the address.

    A body is sent at once: else it waits 40 ms for the client to acknowledge the headers.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise OSError(f"{host}, port {port}: {reason}; see --host and --port") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    return listener


if __name__ == "__main__":
    main()
