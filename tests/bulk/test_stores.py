"""Object stores and servers: what isn't there, what fails on the way, and what must not be written down."""

from typing import ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dragoman.bulk import places, stores
from dragoman.bulk.places import Folder, find_inputs, look_at, open_file
from dragoman.bulk.stores import Store, find_store
from dragoman.errors import InvalidOption
from tests.bulk.conftest import SENTENCES, outputs


class ClientError(Exception):
    """What a client raises that is no OSError, as botocore's do."""


class Buckets(MemoryFileSystem):
    """A store of objects in buckets, which its client would make, and which can't be reached now and then."""

    protocol = "s3"
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    down: ClassVar[bool] = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("s3://")).lstrip("/")

    def unstrip_protocol(self, name):
        return f"s3://{name}"

    def _key(self, path):
        if self.down:
            raise ClientError("no route to the store")
        return "/" + path.lstrip("/")

    def info(self, path, **options):
        return {**super().info(self._key(path), **options), "name": path}

    def cat_file(self, path, **options):
        return super().cat_file(self._key(path), **options)

    def pipe_file(self, path, value, mode="overwrite", **options):
        super().pipe_file(self._key(path), value, mode, **options)

    def ls(self, path, detail=True, **options):
        return super().ls(self._key(path), detail, **options)

    def rm_file(self, path):
        super().rm_file(self._key(path))

    def open(self, path, mode="rb", **options):
        return Passing(super().open(self._key(path), mode, **options), self)


class Passing:
    """A file whose store is asked with every read."""

    def __init__(self, file, system):
        self.file, self.system = file, system

    def read(self, count):
        self.system._key("")
        return self.file.read(count)

    def seek(self, offset, whence=0):  # says nothing, as paramiko's
        self.file.seek(offset, whence)

    def tell(self):
        return self.file.tell()

    def close(self):
        pass


@pytest.fixture
def buckets(monkeypatch):
    """One bucket, `there`, with a file in it."""
    system = Buckets()
    monkeypatch.setattr(Buckets, "store", {})
    monkeypatch.setattr(Buckets, "pseudo_dirs", ["", "/there"])

    def find(url):
        return Store(system), system._strip_protocol(url)

    for module in (places, stores):
        monkeypatch.setattr(module, "find_store", find)
    system.pipe_file("there/in/a.txt", b"one\ntwo\nthree\n")
    return system


def test_a_bucket_is_never_made_and_one_that_is_missing_is_said_at_once(buckets):
    with pytest.raises(InvalidOption, match="there is no bucket 'their'"):
        Folder("s3://their/out")
    assert Buckets.pseudo_dirs == ["", "/there"]
    folder = Folder("s3://there/out")
    assert folder.names() == set()
    assert folder.read("manifest.json") is None
    folder.write("manifest.json", b"{}")
    assert folder.has("manifest.json")
    assert not folder.has("00000-000000.jsonl")
    assert folder.names() == {"manifest.json"}
    folder.remove(["manifest.json", "manifest.json"])
    assert folder.names() == set()


def test_a_file_of_a_store_is_read_from_any_place(buckets):
    with open_file("s3://there/in/a.txt") as file:
        assert file.seek(4) == 4
        assert file.readline() == b"two\n"
        assert file.read() == b"three\n"


def test_what_a_client_raises_names_the_file_and_is_no_missing_file(buckets, monkeypatch):
    folder, file = Folder("s3://there/out"), open_file("s3://there/in/a.txt")
    monkeypatch.setattr(Buckets, "down", True)
    for asked in (
        lambda: find_inputs(["s3://there/in/a.txt"], None, "s3://there/out"),
        lambda: look_at("s3://there/in/a.txt"),
        lambda: open_file("s3://there/in/a.txt"),
        file.read,
        lambda: Folder("s3://there/more"),
        folder.names,
        lambda: folder.has("manifest.json"),
        lambda: folder.read("manifest.json"),
        lambda: folder.write("manifest.json", b"{}"),
        lambda: folder.remove(["manifest.json"]),
    ):
        with pytest.raises(OSError, match=r"^s3://there.*: ClientError: no route to the store"):
            asked()


def test_a_server_stays_in_the_names_of_its_files_and_a_password_in_no_manifest(monkeypatch):
    class Server(MemoryFileSystem):
        protocol = "sftp"

        @classmethod
        def _get_kwargs_from_urls(cls, url):
            return {"host": "example.org", "username": "me"}

    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (Server(), "/data/a.txt"))
    store, place = find_store("sftp://me@example.org:22/data/a.txt")
    assert store.whole(place) == "sftp://me@example.org:22/data/a.txt"
    assert not store.is_whole
    with pytest.raises(InvalidOption, match="FSSPEC_SFTP_PASSWORD") as caught:
        find_store("sftp://me:secret@example.org/data/a.txt")
    assert "secret" not in str(caught.value)


def test_a_store_that_nobody_can_reach_is_an_option_that_is_wrong(monkeypatch):
    def fails(url):
        raise ClientError("no such host")

    monkeypatch.setattr("fsspec.core.url_to_fs", fails)
    with pytest.raises(InvalidOption, match="sftp://nowhere/a can't be reached: no such host"):
        find_store("sftp://nowhere/a")


@pytest.mark.slow
def test_a_run_on_s3_gives_the_files_of_a_local_one_and_goes_on_where_it_was(run, tmp_path, monkeypatch):
    """Needs `pip install 'moto[s3,server]' s3fs`, which nothing else here does."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    pytest.importorskip("s3fs")
    import boto3

    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "nobody"),
            ("AWS_SECRET_ACCESS_KEY", "nothing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="corpus")
        text = "".join(f"{line}\n" for line in SENTENCES)
        (tmp_path / "in.txt").write_text(text, encoding="utf-8")
        client.put_object(Bucket="corpus", Key="data/in.txt", Body=text.encode())
        common = ("--to", "en", "--block", 2, "--beams", 1, "--output")
        assert run("bulk", tmp_path / "in.txt", *common, tmp_path / "out").code == 0
        command = ("bulk", "s3://corpus/data", *common, "s3://corpus/out")
        assert run(*command).code == 0
        client.delete_object(Bucket="corpus", Key="out/00000-000001.jsonl")
        assert "3 of 4 blocks are done already" in run(*command).err
        assert "is finished" in run(*command).err
        for name, data in outputs(tmp_path / "out").items():
            assert client.get_object(Bucket="corpus", Key=f"out/{name}")["Body"].read() == data
        assert "there is no bucket" in run(*command[:-1], "s3://corpora/out").err
        assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["corpus"]
    finally:
        server.stop()
