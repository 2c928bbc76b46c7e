"""The package as a whole: what it imports, and what importing it does."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recurrax as rx

ROOT = Path(__file__).parents[1]
SOURCES = Path(rx.__file__).parents[1]  # the checkout, or where the package is installed


def run(*command: str, **kwargs) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **kwargs
    )


def python(code: str) -> str:
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- layers --------------------------------------------------------------------------------------


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    tool = "from importlinter.cli import lint_imports_command as run; run()"
    return run(sys.executable, "-c", tool, "--config", str(config), "--no-cache", cwd=config.parent)


def test_imports_only_go_down():
    done = lint_imports(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_line_would_be_seen_to_break(tmp_path):
    """The layers upside down are refused, so the test above looks at the real package."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_package = "recurrax"\n'
        '[[tool.importlinter.contracts]]\nname = "upside down"\ntype = "layers"\n'
        'layers = ["recurrax.cell", "recurrax.gated", "recurrax.unrolling", "recurrax.flow"]\n'
    )
    done = lint_imports(tmp_path / "pyproject.toml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout


# --- what importing does ------------------------------------------------------------------------


def test_importing_changes_no_configuration_and_starts_no_backend():
    """Nothing runs on a device, and none is taken, before the user asks for something."""
    report = python(
        "import importlib, jax, os\n"
        "from jax._src import xla_bridge\n"
        "config, environment = dict(jax.config.values), dict(os.environ)\n"
        "for module in ('recurrax', 'recurrax.cures', 'recurrax.tasks'):\n"
        "    importlib.import_module(module)\n"
        "    after = jax.config.values\n"
        "    print([name for name in config if after[name] != config[name]], len(config) > 50)\n"
        "    print(dict(os.environ) == environment, jax.config.jax_enable_x64)\n"
        "    print(xla_bridge.backends_are_initialized())\n"
    )
    assert report == 3 * "[] True\nTrue False\nFalse\n"


def test_importing_brings_nothing_but_jax_and_numpy_and_heavy_parts_when_they_are_named():
    report = python(
        "import sys, jax, jax.numpy, numpy\n"
        "before = set(sys.modules)\n"
        "import recurrax as rx\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'recurrax'}))\n"
        "lazy = ['recurrax.cures', 'recurrax.interop', 'recurrax.plot', 'recurrax.tasks']\n"
        "print([name in sys.modules for name in lazy])\n"
        "rx.interop\n"
        "others = {'equinox', 'flax', 'h5py', 'haiku', 'keras', 'onnx', 'safetensors', 'torch'}\n"
        "others &= set(sys.modules)\n"
        "print('recurrax.interop' in sys.modules, 'interop' in dir(rx), others)\n"
    )
    brought, lazy, named = report.splitlines()
    own = {"jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum"}
    assert set(ast.literal_eval(brought)) <= own
    assert lazy == "[False, False, False, False]"
    assert named == "True True set()"


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"\Amodule 'recurrax' has no attribute 'lstm'\Z"):
        _ = rx.lstm


def test_the_package_is_typed():
    assert (Path(rx.__file__).parent / "py.typed").is_file()
