"""Every notebook runs from its first cell to its last; its asserts are its claims."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fresh folder, no settings of whoever runs this, and this copy of recurrax.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows figures inline
    monkeypatch.setenv("XLA_FLAGS", "")  # compiled as a reader has it
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    cells = _execute(nbformat.read(path, as_version=4), tmp_path)

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        figures = sum("image/png" in output.get("data", {}) for output in cell.outputs)
        assert figures == cell.source.count("plt.show()")


def _execute(notebook: Any, folder: Path) -> list[Any]:
    """Run all cells, stopping at the first error; the code cells with their outputs."""
    # Without folders to search, python3 is the interpreter that runs this test.
    specs = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    client = NotebookClient(notebook, km=kernel, timeout=3600)
    client.execute(cwd=str(folder), cleanup_kc=True)  # else the kernel outlives the test
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_notebook_is_small_and_executed(path: Path) -> None:
    assert path.stat().st_size < 150_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("assert" in cell.source for cell in code)
    for cell in code:
        assert cell.execution_count
        assert not cell.metadata  # no times of a run
        assert all(output.output_type != "error" for output in cell.outputs)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
