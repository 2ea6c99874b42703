"""Bring `uv` onto a machine that has only Python, from the wheel that uv.lock names and hashes.

Nothing of the machine is changed: the program is put into `.tools/` of the checkout. Prints its path.
Run by the Makefile; needs the standard library only.
"""

import hashlib
import io
import platform
import shutil
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / ".tools" / "uv"
TIMEOUT_S = 120
SIZE_MAX = 200 * 1024 * 1024


def wheel_tag() -> str:
    """The part of a wheel's file name that says which machines it is for."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    if sys.platform == "darwin":
        return "macosx_11_0_arm64" if machine == "aarch64" else "macosx_10_12_x86_64"
    libc = "musllinux" if not platform.libc_ver()[0] else "manylinux"
    return f"{libc}:{machine}"


def pick(wheels: list[dict[str, str]]) -> dict[str, str]:
    """The wheel for this machine; exits with a message where there is none."""
    parts = wheel_tag().split(":")
    for wheel in wheels:
        name = wheel["url"].rsplit("/", 1)[-1]
        if all(part in name for part in parts):
            return wheel
    sys.exit(f"bootstrap: no wheel of uv for this machine ({wheel_tag()}); install uv by hand and try again")


def main() -> None:
    """Find uv on the path, else in `.tools/`, else fetch it."""
    found = shutil.which("uv")
    if found is not None:
        print(found)
        return
    if not TOOL.exists():
        lock = tomllib.loads((ROOT / "uv.lock").read_text())
        package = next(package for package in lock["package"] if package["name"] == "uv")
        wheel = pick(package["wheels"])
        with urllib.request.urlopen(wheel["url"], timeout=TIMEOUT_S) as response:
            content = response.read(SIZE_MAX)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if digest != wheel["hash"]:
            sys.exit(f"bootstrap: {wheel['url']} has hash {digest}, uv.lock says {wheel['hash']}")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
            TOOL.parent.mkdir(exist_ok=True)
            fresh = TOOL.with_suffix(".new")
            fresh.write_bytes(archive.read(member))
            fresh.chmod(0o755)
            fresh.replace(TOOL)
    print(TOOL)


if __name__ == "__main__":
    main()
