"""The command `recurrax`, also as `python -m recurrax`."""

from __future__ import annotations

import importlib.util
import sys


def main() -> None:
    """Run the command line; needs the extras cli and plot."""
    missing = [name for name in ("tyro", "rich", "matplotlib") if not _installed(name)]
    if missing:
        print(
            f"recurrax: the command needs {', '.join(missing)}: pip install 'recurrax[all]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from recurrax.cli import run

    sys.exit(run(sys.argv[1:]))


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    main()
