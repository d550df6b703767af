"""`bin/browser`: silent where the browser is, and plain about how to get it where it is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bin/browser"
ROOTS_ID = "#!/bin/sh\necho 0\n"
FAILING_APT = """#!/bin/sh
echo "E: Failed to fetch https://mirror.example/pool/c.deb 'mirror.example' is gone"
exit 100
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """The only commands that the script finds."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("id", "sed", "grep"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def provide(tools: Path, name: str, script: str) -> None:
    """A command that does what its script says, in place of the machine's own."""
    (tools / name).unlink(missing_ok=True)
    (tools / name).write_text(script, encoding="utf-8")
    (tools / name).chmod(0o755)


def run(tools: Path, browser: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", SCRIPT, browser],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_browser_that_works_is_left_alone(tools: Path, tmp_path: Path) -> None:
    provide(tmp_path, "chromium", "#!/bin/sh\necho Chromium 1\n")
    done = run(tools, tmp_path / "chromium")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_cannot_install_one_is_told_how_and_fails(tools: Path, tmp_path: Path) -> None:
    done = run(tools, tmp_path / "chromium")
    assert done.returncode == 1
    assert "apt-get install chromium" in done.stderr


def test_a_failed_installation_fails_and_names_no_place_that_packages_come_from(
    tools: Path, tmp_path: Path
) -> None:
    provide(tools, "id", ROOTS_ID)
    provide(tools, "apt-get", FAILING_APT)
    done = run(tools, tmp_path / "chromium")
    assert done.returncode == 1
    assert "E: Failed to fetch" in done.stderr
    assert "mirror" not in done.stdout + done.stderr


def test_root_has_it_installed(tools: Path, tmp_path: Path) -> None:
    browser = tmp_path / "chromium"
    provide(tools, "id", ROOTS_ID)
    provide(tools, "chmod", f'#!/bin/sh\nexec {shutil.which("chmod")} "$@"\n')
    installs = f'printf "#!/bin/sh\\necho Chromium 1\\n" > {browser} && chmod 755 {browser}'
    provide(tools, "apt-get", f'#!/bin/sh\ncase "$*" in *install*chromium*) {installs} ;; esac\n')
    done = run(tools, browser)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "browser: done, Chromium 1"
