# SPDX-License-Identifier: GPL-2.0-only
"""How a program ends: what it may say, and its exit status."""

import os
import sys
from collections.abc import Callable

from .verdict import EXIT_ERROR, EXIT_INTERRUPTED


def run(
    action: Callable[[], int],
    say: Callable[[str], None],
    errors: tuple[type[Exception], ...],
    wrong: int = EXIT_ERROR,
) -> int:
    """The exit status of `action`. `errors`: those whose text is for the user; they end it with the
    status `wrong`, as the operating system's do."""
    try:
        return action()
    except errors as error:
        say(str(error))
        return wrong
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more; Python would complain of that once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return wrong
    except OSError as error:
        say(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return wrong
