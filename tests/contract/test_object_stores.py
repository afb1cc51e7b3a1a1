"""What is so of object stores only: trouble, locations, and what a service asks of a store before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import StorageError
from service.tuning import storage_objects
from service.tuning.patience import patiently
from service.tuning.storage_check import check_store
from service.tuning.storage_growing import growing_copy
from service.tuning.storage_objects import ObjectStorage, object_storage, part_bytes
from service.tuning.storage_place import leave_work_folder, own_temporary_folder, place_of, work_folder
from tests.object_store import ObjectStore, free_store
from tests.waiting import until


@pytest.fixture
def objects(s3: ObjectStore, tmp_path: Path) -> ObjectStorage:
    return object_storage(f"{s3.url}/sweeps/{tmp_path.name}")


def test_trouble_is_waited_for_and_over_when_the_server_is_back(
    s3: ObjectStore, objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = object_storage(str(objects).replace(s3.bucket, f"late-{s3.port}"))
    tries: list[OSError] = []

    def write() -> None:
        try:
            gone.create("ledger/1", b"at last")
        except OSError as error:
            tries.append(error)
            if len(tries) == 2:
                s3.make_bucket(f"late-{s3.port}")
            raise

    monkeypatch.setattr("service.tuning.patience.FIRST_WAIT_S", 0.01)
    patiently(write, "writing")
    assert [("NoSuchBucket" in str(error), error.errno) for error in tries] == [(True, 5)] * 2
    assert gone.read("ledger/1") == b"at last"


def test_a_server_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    late = free_store(tmp_path)
    asks = (
        "import logging, sys; logging.basicConfig()\n"
        "from service.tuning.patience import patiently\n"
        "from service.tuning.storage_place import open_storage\n"
        "s = open_storage(sys.argv[1])\n"
        "patiently(lambda: s.create('lease/1', b'mine'), 'taking the lease')\n"
        "print(s.takes(1), s.names('lease'))"
    )
    command = [sys.executable, "-c", asks, f"{late.url}/x"]
    environment = {**os.environ, **late.variables, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        assert asking.stderr is not None
        assert "trying again" in asking.stderr.readline()
        late.start()
        try:
            assert asking.communicate(timeout=120)[0] == "True ['1']\n"
        finally:
            late.stop()


def test_a_server_that_hangs_holds_a_call_up_and_no_longer(s3: ObjectStore, objects: ObjectStorage) -> None:
    objects.replace("a", b"1")
    with ThreadPoolExecutor(1) as pool:
        with s3.away():
            asked = pool.submit(objects.read, "a")
            time.sleep(0.5)
            assert not asked.done()
        assert asked.result(120) == b"1"


def test_a_place_is_cleared_whole_and_no_other(objects: ObjectStorage) -> None:
    beside = object_storage(f"{objects}-2")
    for storage in (objects, beside):
        for name in ("sweep.json", "ledger/1", "checkpoints/0/1-1.ckpt"):
            storage.replace(name, b"x")
    objects.clear()
    assert objects.names("") == []
    assert beside.names("") == ["checkpoints", "ledger", "sweep.json"]
    with pytest.raises(ValueError, match="whole bucket"):
        ObjectStorage(objects.bucket).clear()


def test_a_growing_log_is_seen_before_it_is_over(objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tuning.storage_growing.SEEN_AFTER_S", 0.05)
    with growing_copy(objects, "logs/driver.log") as path:
        path.write_text("begun\n")
        until(lambda: objects.names("logs") == ["driver.log"])
        assert objects.read("logs/driver.log") == b"begun\n"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "s3://",
        "s3:///a",
        "s3://user:secret@bucket/a",
        "s3://bucket/a/../b",
        "s3://bucket/a?b=c",
        "s3://bucket//a/\n",
    ],
)
def test_a_url_that_is_no_location_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="location"):
        object_storage(url)


def test_a_location_is_read_as_it_is_shown() -> None:
    for url in ("s3://bucket", "gs://bucket/a/b", "az://container/a"):
        assert str(place_of(url)) == url
    assert str(object_storage("s3://bucket/a/") / "sweeps" / "x") == "s3://bucket/a/sweeps/x"
    assert (object_storage("s3://b/x") / "y").name == "y"


def test_a_store_that_does_what_is_needed_is_left_as_it_was(objects: ObjectStorage) -> None:
    check_store(objects)
    assert objects.names("") == []


def test_a_bucket_that_is_not_there_is_named(s3: ObjectStore) -> None:
    with pytest.raises(StorageError, match=r"nobody-\d+: creating an object failed: .*NoSuchBucket.* Make the bucket"):
        check_store(object_storage(f"s3://nobody-{s3.port}"))


def test_a_store_without_conditional_writes_is_refused(objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectStorage, "create", ObjectStorage.replace)
    with pytest.raises(StorageError, match="two drivers could take the same sweep"):
        check_store(objects)
    assert objects.names("") == []


def test_rights_that_are_missing_are_told(objects: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> list[str]:
        raise PermissionError(13, "the store denies it: AccessDenied")

    monkeypatch.setattr(ObjectStorage, "names", denied)
    with pytest.raises(StorageError, match=r"listing objects is denied \(.*AccessDenied\). Look at the credentials"):
        check_store(objects)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tuning.storage_objects.find_spec", lambda _: None)
    with pytest.raises(StorageError, match=r"s3://bucket needs the extra `objects`: install tuneyard\[objects\]"):
        object_storage("s3://bucket")


def test_a_driver_says_why_it_cannot_begin(s3: ObjectStore, tmp_path: Path) -> None:
    program = (
        "import sys; from service.tuning import driver; driver.APPEARS_S = 0.0; "
        "sys.exit(driver.main([sys.argv[1], '--home', sys.argv[2]]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for url, variables, said in (
        (f"{s3.url}/nothing", {}, "does not exist"),
        (f"{s3.url}/nothing", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be asked for: Generic S3 error"),
        ("ftp://x", {}, "is no location of an object store"),
    ):
        command = [sys.executable, "-c", program, url, str(tmp_path)]
        done = subprocess.run(
            command, env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_what_a_driver_had_on_this_machine_goes_and_its_logs_stay(
    objects: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = work_folder(objects)
    assert folder.is_relative_to(tmp_path)
    (folder / "logs" / "tracking.log").write_text("MLflow answers again\n")
    (folder / "logs" / "tracker.out").touch()
    (folder / "tracking.lock").touch()
    leave_work_folder(objects)
    assert not folder.exists()
    assert objects.names("logs") == ["tracking.log"]
    leave_work_folder(tmp_path)
    assert tmp_path.exists()


def test_a_temporary_folder_that_others_can_enter_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own_temporary_folder().chmod(0o777)
    with pytest.raises(StorageError, match="is open to others"):
        own_temporary_folder()


def test_one_that_is_gone_already_keeps_no_other_from_being_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 has no word for what is not there; Google's and Azure's stores answer 404, as this one does."""
    from obstore.store import LocalStore

    store = LocalStore(tmp_path)
    monkeypatch.setattr(storage_objects, "_store", lambda *_, **__: store)
    storage = ObjectStorage("gs://bucket", "sweep")
    names = [f"ledger/{number}" for number in range(20)]
    for name in names:
        storage.replace(name, b"?")
    storage.delete_each(["ledger/gone", *names])
    assert storage.names("ledger") == []


def test_a_checkpoint_of_any_size_is_sent_in_as_many_parts_as_a_store_takes() -> None:
    assert part_bytes(0) == part_bytes(50 * 2**30 - 2**30 * 2) == 5 * 2**20
    for size_bytes in (60 * 2**30, 2**40, 5 * 2**40 + 1):
        assert -(-size_bytes // part_bytes(size_bytes)) <= 10_000


def test_a_store_with_real_folders_is_asked_whether_it_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure's hierarchical namespaces and MinIO have no object under the name of a folder."""
    from obstore.store import LocalStore

    store = LocalStore(tmp_path)
    monkeypatch.setattr(storage_objects, "_store", lambda *_, **__: store)
    storage = ObjectStorage("abfs://container")
    check_store(storage)
    assert storage.takes(1)
    check_store(storage)
