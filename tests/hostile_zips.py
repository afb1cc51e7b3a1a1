"""Packages that somebody might send who means harm."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator


def hostile_zips() -> Iterator[tuple[str, bytes]]:
    """Packages that must not be unpacked."""
    for name in ("../evil.py", "/etc/evil.py", "a/../../evil.py", "C:\\evil.py", "..\\evil.py", "service/__init__.py",
                 "trainables.py", "cluster/__init__.py", "a/./b.py", "a//b.py", "con .py ", "e\u0301.py"):  # fmt: skip
        yield f"a file called {name!r}", _zip([(zipfile.ZipInfo(name), b"x")])
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    yield "a link", _zip([(link, b"/etc/passwd")])
    device = zipfile.ZipInfo("device")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    yield "a device", _zip([(device, b"")])
    yield "a bomb", _zip([(zipfile.ZipInfo("zeros.py"), b"\0" * 20_000_000)])
    yield "names that differ by case alone", _zip([(zipfile.ZipInfo(n), b"x") for n in ("A.py", "a.py")])
    yield "a file that is a folder, too", _zip([(zipfile.ZipInfo(n), b"x") for n in ("a", "a/b.py")])
    yield "10,001 files", _zip([(zipfile.ZipInfo(f"{i}.py"), b"") for i in range(10_001)])
    whole = _zip([(zipfile.ZipInfo("a.py"), b"x" * 1000)])
    yield "half a zip", whole[: len(whole) // 2]
    yield "no zip", b"#!/bin/sh\ntouch x\n"


def _zip(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as package:
        for info, data in members:
            info.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(info, data)
    return content.getvalue()
