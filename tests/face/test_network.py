"""The library that runs the networks keeps to itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_onnxruntime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """Where it does, it keeps an id in the user's home and runs a thread that sends. (There is no control: it would
    send.)"""
    script = (
        "import face.network, os, sys; sys.platform == 'linux' and print(len(os.listdir('/proc/self/task')))"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script]
    threads = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert threads in {"", "1\n"}
