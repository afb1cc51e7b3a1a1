"""Hostile packages: each is refused with its reason before a byte is written, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PackageError
from service.shipping import unpacking
from service.shipping.unpacking import examine, package_file, unpack


def packed(*members: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo("placeholder")
            member.filename = name
            member.external_attr, member.compress_type, member.create_system = mode << 16, kind, 3
            archive.writestr(member, content)
    return out.getvalue()


GOOD = packed(("net.py", b"x = 1\n"), ("pkg/a.py", b""))


def bomb(ratio: int) -> bytes:
    return packed(("zeros", bytes(ratio * 4000)), kind=zipfile.ZIP_DEFLATED)


def lying_size() -> bytes:
    """A member of one megabyte that claims ten bytes."""
    data = bytearray(packed(("a", bytes(10**6)), ("b", bytes(10**6)), kind=zipfile.ZIP_DEFLATED))
    for signature, field in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = data.find(signature)
        data[at + field : at + field + 4] = struct.pack("<L", 10)
        at = data.find(signature, at + 4)
        data[at + field : at + field + 4] = struct.pack("<L", 10)
    return bytes(data)


def second_directory() -> bytes:
    """A directory that ends in what zipfile would follow to another one."""
    data = bytearray(GOOD)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    end, start = len(data) - 22, data.find(b"PK\1\2")
    last = data.rfind(b"PK\1\2")
    data[last + 32 : last + 34] = struct.pack("<H", len(locator))  # the length of the last member's comment
    data[end:end] = locator
    data[-10:-6] = struct.pack("<L", end + len(locator) - start)
    return bytes(data)


def many(count: int) -> bytes:
    return packed(*((f"{i}", b"") for i in range(count)))


def encrypted() -> bytes:
    data = bytearray(GOOD)
    at = data.find(b"PK\1\2")
    data[at + 8] |= 1
    return bytes(data)


HOSTILE: list[tuple[str, Callable[[], bytes] | bytes]] = [
    ("leads out", packed(("../../evil.py", b""))), ("leads out", packed(("a/../../b", b""))),
    ("leads out", packed(("..", b""))), ("leads out", packed(("../folder/", b""))),
    ("absolute", packed(("/etc/passwd", b""))), ("absolute", packed(("C:/windows", b""))),
    ("absolute", packed(("//host/share", b""))), ("character", packed(("a\\b", b""))),
    ("character", packed(("..\\..\\evil", b""))), ("character", packed(("a\nb", b""))),
    ("character", packed(("a\x1b[31m", b""))), ("character", packed(("\u202eexe.py", b""))),
    ("character", packed(("e\u0301.py", b""))), ("empty part", packed(("a//b", b""))),
    ("empty part", packed(("./a", b""))), ("empty part", packed((" a", b""))), ("empty part", packed(("a./b", b""))),
    ("empty part", packed(("", b""))), ("too long", packed(("a" * 256, b""))),
    ("too long", packed(("/".join(["abcdefghi"] * 101), b""))),
    ("is a link", packed(("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777)),
    ("no plain file", packed(("pipe", b""), mode=stat.S_IFIFO | 0o666)),
    ("no plain file", packed(("device", b""), mode=stat.S_IFCHR | 0o666)),
    ("no plain file", packed(("folder", b""), mode=stat.S_IFDIR | 0o777)),
    ("no plain file", packed(("folder/", b""), mode=stat.S_IFREG | 0o777)),
    ("folder with data", packed(("folder/", b"data"), mode=0)), ("encrypted", encrypted),
    ("unknown way", packed(("a", b"x"), kind=zipfile.ZIP_BZIP2)),
    ("unknown way", packed(("a", b"x"), kind=zipfile.ZIP_LZMA)),
    ("too densely", lambda: bomb(1000)), ("too densely", lambda: packed(("a", b"x"), ("b", bytes(10**6)), kind=8)),
    ("damaged", lying_size), ("clashes with 'A'", packed(("A", b""), ("a", b""))),
    ("in case only", packed(("A/x", b""), ("a/y", b""))), ("file and a folder", packed(("a", b""), ("a/b", b""))),
    ("in case only|file and a folder", packed(("a", b""), ("A/b", b""))),
    ("too many", lambda: many(10_001)), ("contradicts itself", second_directory),
    ("name of one of", packed(("service/__init__.py", b""))), ("name of one of", packed(("cluster.py", b""))),
    ("no zip|not a zip", b""), ("not a zip", b"PK\5\6"), ("not a zip", b"not a zip at all, really not one"),
    ("not a zip", GOOD[:-1]), ("one whole", GOOD[1:]), ("one whole", b"x" + GOOD), ("comment", GOOD + b"x"),
    ("one whole", GOOD[:-2] + b"\1\0"), ("contradicts", GOOD[:-14] + b"\xff\xff\xff\xff" + GOOD[-10:]),
    ("damaged", GOOD.replace(b"x = 1\n", b"x = 2\n")), ("damaged", GOOD.replace(b"net.py", b"nex.py", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "content"), HOSTILE)
def test_refused_and_nothing_left(reason: str, content: Callable[[], bytes] | bytes, tmp_path: Path) -> None:
    package = tmp_path / "in.zip"
    package.write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(PackageError, match=reason):
        unpack(package, tmp_path / "code" / "x")
    assert [path for path in tmp_path.rglob("*") if path.name not in ("in.zip", "code")] == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice() -> None:
    with pytest.raises(PackageError, match="stands twice"):
        examine(packed(("a", b"1"), ("a", b"2")))


def test_the_total_counts_before_anything_is_unpacked() -> None:
    """Forty members over the same bytes claim more than the cap; each by itself is dense enough."""
    data = bytearray(packed(*((f"{i}", bytes(range(256)) * 10) for i in range(40))))
    at = -1
    while (at := data.find(b"PK\1\2", at + 1)) >= 0:
        data[at + 20 : at + 28] = struct.pack("<LL", 2**26, 2**26)
    with pytest.raises(PackageError, match=r"unpacks to too much"):
        examine(bytes(data))


def test_all_faults_come_at_once_but_not_endlessly() -> None:
    with pytest.raises(PackageError) as caught:
        examine(packed(("../a", b""), ("/b", b""), ("c\\d", b"")))
    assert len(caught.value.faults) == 3
    with pytest.raises(PackageError) as caught:
        examine(packed(*((f"../{i}", b"") for i in range(500))))
    assert len(caught.value.faults) == unpacking.MAX_FAULTS


def test_a_zip_made_by_other_tools_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packed(("pkg/", b""), ("pkg/net.py", b"x = 1\n"), ("é.txt", b""), mode=0))
    assert examine(tmp_path / "a.zip").files == 2
    folder = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (folder / "pkg" / "net.py").read_text() == "x = 1\n"


def test_setuid_and_write_for_all_do_not_arrive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packed(("run", b""), mode=stat.S_IFREG | 0o6777))
    assert (unpack(tmp_path / "a.zip", tmp_path / "out") / "run").stat().st_mode & 0o7777 == 0o755


def test_another_content_than_the_digest_says(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(GOOD)
    with pytest.raises(PackageError, match="SHA-256 is another one"):
        unpack(tmp_path / "a.zip", tmp_path / "out", digest="0" * 64)
    for text in ("../../etc", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        with pytest.raises(PackageError, match="is no SHA-256"):
            package_file(tmp_path, text)


@given(
    st.binary(max_size=40), st.integers(min_value=0, max_value=len(GOOD) - 1), st.integers(min_value=0, max_value=40)
)
def test_damage_anywhere_is_refused_or_harmless(junk: bytes, at: int, length: int) -> None:
    """Whatever is done to the bytes, the answer is a refusal with a reason or the content of a plain zip."""
    with contextlib.suppress(PackageError):
        assert examine(GOOD[:at] + junk + GOOD[at + length :]).files <= 2


def test_zlib_is_what_the_ratio_is_measured_with() -> None:
    """Plain text of a data file stays below the ratio."""
    rows = "".join(f"{i},{i * i % 977}\n" for i in range(20_000)).encode()
    assert len(rows) / len(zlib.compress(rows)) < unpacking.MAX_RATIO
    assert examine(packed(("rows.csv", rows), kind=zipfile.ZIP_DEFLATED)).total_bytes == len(rows)
