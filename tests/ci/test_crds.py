"""`bin/crds`: only what has the release's checksum is kept, and nothing is fetched twice."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.ci.makefile import ROOT

NAMES = ("rayclusters", "raycronjobs", "rayjobs", "rayservices")


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base)
        """Nothing."""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    return folder


@pytest.fixture
def url(release: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=release)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "bin/crds", folder],
        env={**os.environ, "KUBERAY_CRDS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_that_is_not_the_releases_is_refused_and_not_kept(
    tmp_path: Path, release: Path, url: str
) -> None:
    for name in NAMES:
        (release / f"ray.io_{name}.yaml").write_text("kind: CustomResourceDefinition\n")
    done = run(tmp_path / "crds", url)
    assert done.returncode == 1
    assert "rayclusters.yaml is not that of KubeRay v1.7.0: its checksum differs" in done.stderr
    assert list((tmp_path / "crds").iterdir()) == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path, url: str) -> None:
    done = run(tmp_path / "crds", url)
    assert done.returncode == 1
    assert "ray.io_rayclusters.yaml: HTTP Error 404" in done.stderr
    assert not (tmp_path / "crds/rayclusters.yaml").exists()


@pytest.mark.skipif(
    "KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS names no folder with the real ones"
)
def test_what_is_right_is_kept_and_not_fetched_again(tmp_path: Path, release: Path, url: str) -> None:
    for name in NAMES:
        shutil.copy(Path(os.environ["KUBERAY_CRDS"]) / f"{name}.yaml", release / f"ray.io_{name}.yaml")
    assert run(tmp_path / "crds", url).returncode == 0
    assert {path.stem for path in (tmp_path / "crds").iterdir()} == set(NAMES)
    shutil.rmtree(release)
    assert run(tmp_path / "crds", url).returncode == 0
