"""File descriptors: as many as the system lets us have, and a word in the log when they run out.

The event loop drops connections that it has no descriptor for, and says nothing.
"""

import asyncio
import errno
import os
import resource

from restante import log
from restante.config import Config

SPARE = 256  # files, pipes, sockets of the server itself
CHECK_SECONDS = 1.0
REPEAT_SECONDS = 60.0

_log = log.logger(__name__)


def raise_limit(config: Config) -> None:
    """Raise the soft limit to what all connections that the settings allow need; warn when the hard one forbids it."""
    smtp = config.smtp.limits.max_connections
    wanted = 2 * smtp + config.http.max_connections + SPARE  # reception and submission count for themselves
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    given = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given, hard))
    if given < wanted:
        _log.warning("few_file_descriptors", limit=given, wanted=wanted, raise_with="ulimit -Hn, or LimitNOFILE")


def are_left() -> bool:
    """Whether another file could be opened now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


async def watch() -> None:
    """Log when descriptors have run out, at most once a minute; until cancelled."""
    while True:
        if are_left():
            await asyncio.sleep(CHECK_SECONDS)
        else:
            _log.error("out_of_file_descriptors", limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            await asyncio.sleep(REPEAT_SECONDS)
