"""The command `recurrax`, also as `python -m recurrax`."""

from __future__ import annotations

import importlib.util
import io
import os
import sys

_STOPPED = 130  # by Ctrl-C


def main() -> None:
    """Run the command line; needs the extras cli and plot."""
    missing = [name for name in ("tyro", "rich", "matplotlib") if not _installed(name)]
    if missing:
        print(
            f"recurrax: the command needs {', '.join(missing)}: pip install 'recurrax[all]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from recurrax.cli.app import run

    for stream in (sys.stdout, sys.stderr):  # what a terminal has no letters for is spelt out
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:  # the reader of a pipe went away, or its disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"recurrax: the output cannot be written ({error.strerror})", file=sys.stderr)
        code = 2
    if code == _STOPPED:
        # JAX that was interrupted while it compiled can crash when Python takes it down.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    main()
