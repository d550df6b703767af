"""Stand-ins for the base images, where no registry can be reached: Debian's own packages, from the mirror
that this machine uses. The project's Dockerfile is built on them as it is.

What is this machine's (mirror, package index, authorities) is read here as the tests run, and is in no file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.deploy.engine import ROOT, Engine, say

PYTHON, REDIS = "python:3.11-slim", "redis:7.2-bookworm"
"""As docker/Dockerfile and docker/compose.yaml name them (`test_dockerfile.py` compares)."""
LABEL = "chimera.stand-in"
SUITE = "bookworm"
"""The release of Debian that has Python 3.11."""
PLACE, AUTHORITIES = "/opt/stand-in", "/etc/ssl/machine.pem"
INSTALLER = f"""#!/bin/sh
# Stands in for uv's installer: the variables are the same, and uv lies beside it.
set -eu
mkdir -p "$UV_UNMANAGED_INSTALL"
cp {PLACE}/uv "$UV_UNMANAGED_INSTALL/uv"
"""
WITH_REDIS = f"""FROM {PYTHON}
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends redis-server redis-tools \\
    && rm -rf /var/lib/apt/lists/* \\
    && usermod --uid 999 redis && groupmod --gid 999 redis \\
    && install -d -o 999 -g 999 /data
VOLUME /data
WORKDIR /data
"""


def prepare(engine: Engine) -> list[str]:
    """See that the base images are there.

    Returns:
        The arguments with which `docker build` finds what a public machine finds by itself.
    Raises:
        AssertionError: one cannot be pulled, and the engine is somebody's: a stand-in under its name would
            stay there, and be taken for it.
    """
    for image, make in ((PYTHON, _python), (REDIS, _redis)):
        if refusal := _missing(engine, image):
            assert engine.ours, f"pull failed: {image}: {refusal}"
            say(f"no registry has {image}: a stand-in is made")
            make(engine)
    stands_in = engine("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', PYTHON)
    arguments = {"UV_DEFAULT_INDEX": _index()}
    if stands_in:
        arguments |= {
            "UV_INSTALLER_URL": f"file://{PLACE}/install.sh",
            "UV_INSTALLER_SHA256": hashlib.sha256(INSTALLER.encode()).hexdigest(),
        }
    return [word for name, value in arguments.items() if value for word in ("--build-arg", f"{name}={value}")]


def _missing(engine: Engine, image: str) -> str:
    """Why it is not there; "" if it is, or was pulled."""
    if engine.run("image", "inspect", image, check=False).returncode == 0:
        return ""
    pulled = engine.run("pull", "--quiet", image, check=False, timeout_s=300)
    return "" if pulled.returncode == 0 else pulled.stderr.strip() or f"exit {pulled.returncode}"


def _python(engine: Engine) -> None:
    """python:3.11-slim: Debian's minimum with its Python, and uv for the installer's stand-in."""
    if not shutil.which("debootstrap"):
        say("installing debootstrap")
        for words in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", "debootstrap")):
            subprocess.run(
                ["apt-get", *words],
                check=True,
                timeout=300,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
    with tempfile.TemporaryDirectory(prefix="chimera-root-", dir="/var/tmp") as scratch:
        root, log = Path(scratch) / "root", Path(scratch) / "log"
        with log.open("w", encoding="utf-8") as written:
            done = subprocess.run(
                [
                    *("debootstrap", "--variant=minbase", "--include=ca-certificates,python3.11"),
                    *(SUITE, root, _mirror()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=600,
            )
        assert done.returncode == 0, "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
        _fill(root, Path(scratch))
        environment = [
            word
            for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
            for word in ("--change", f"ENV {name}={AUTHORITIES}")
        ]
        archive = subprocess.Popen(
            ["tar", "--directory", root, "--create", "."], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        with archive:
            subprocess.run(
                [engine.client, "import", "--change", f"LABEL {LABEL}=1", *environment, "-", PYTHON],
                env=engine.environ(),
                stdin=archive.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=300,
            )
        assert archive.returncode == 0


def _fill(root: Path, scratch: Path) -> None:
    """What the root file system has beside Debian's packages."""
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    shutil.copyfile(bundle, root / AUTHORITIES.lstrip("/"))
    shutil.rmtree(root / "var/cache/apt/archives")
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    place = root / PLACE.lstrip("/")
    place.mkdir(parents=True)
    (place / "install.sh").write_text(INSTALLER, encoding="utf-8")
    (version,) = re.findall(
        r"^ARG UV_VERSION=(\S+)$", (ROOT / "docker/Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", scratch / "uv"),
            f"uv=={version}",
        ],
        check=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    shutil.copy(scratch / "uv/bin/uv", place / "uv")


def _redis(engine: Engine) -> None:
    """redis:7.2: Debian's Redis, which is 7.0, under the user that the real image has."""
    engine("build", "--label", f"{LABEL}=1", "--tag", REDIS, "-", given=WITH_REDIS, timeout_s=300)


def _mirror() -> str:
    """Where this machine's apt finds that release."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(RELEASE) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    found = re.findall(rf"^{SUITE} main (\S+)$", listed.stdout, re.MULTILINE)
    assert found, f"apt knows no mirror of Debian {SUITE}: no stand-in can be made of it"
    return str(found[0])


def _index() -> str:
    """The package index that this machine's pip is told to use; "" for the public one."""
    for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        if given := os.environ.get(name):
            return given
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""
