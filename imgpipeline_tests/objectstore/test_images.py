"""Only allowed locations are read, and a missing image counts as bad input only if the store works."""

from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode, PermanentError, TransientError
from imgpipeline.objectstore import Fetched, ForbiddenError, ImageReader, ObjectStore, open_store
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.objectstore.images import ImageLocation, resolve_image_path
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings

STORE_URL = "s3://lake/some/prefix"
ALLOWED = ("s3://archive/2026", "s3://open", "file:///mnt/frame%20store")


class UntouchableStore(ObjectStore):
    """A store that must not be called."""

    def __init__(self) -> None:
        self.url = STORE_URL

    def __getattribute__(self, name: str) -> object:
        if name in ("url", "__class__"):
            return object.__getattribute__(self, name)
        raise AssertionError(f"the store was asked: {name}")


def settings(**changes: object) -> Settings:
    values = {"_env_file": None, "store_url": STORE_URL, "allowed_image_locations": ALLOWED}
    return Settings(**(values | changes))


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("images/cam/a.jpg", ImageLocation(None, "images/cam/a.jpg")),
        ("a..b/...jpg", ImageLocation(None, "a..b/...jpg")),
        ("100%/😀 a+b.jpg", ImageLocation(None, "100%/😀 a+b.jpg")),
        ("s3://lake/some/prefix/a.jpg", ImageLocation(None, "a.jpg")),
        ("s3://archive/2026/a.jpg", ImageLocation("s3://archive", "2026/a.jpg")),
        ("s3://open/any/where.jpg", ImageLocation("s3://open", "any/where.jpg")),
        ("s3a://open/any/where.jpg", ImageLocation("s3://open", "any/where.jpg")),
        ("s3a://lake/some/prefix/a.jpg", ImageLocation(None, "a.jpg")),
        ("/mnt/frame store/a.jpg", ImageLocation("file:///mnt/frame%20store", "a.jpg")),
        ("file:///mnt/frame%20store/b/a.jpg", ImageLocation("file:///mnt/frame%20store", "b/a.jpg")),
    ],
)
def test_allowed_paths(path, location):
    assert resolve_image_path(path, STORE_URL, ALLOWED) == location


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "../a.jpg", "a/../../b", "a/..", "./a", "a//b", "a/", "%2e%2e/a", "a/%2E%2e/b", "a%2fb",
        "a%00b", "a\\..\\b", "a\x00b", "a\nb", "file:///etc/passwd", "FILE:/etc/passwd",
        "http://169.254.169.254/latest/meta-data", "https://example.invalid/a", "data:image/png;base64,AA", "c:/a",
        "S3://lake/some/prefix/a", "s3://", "s3:///a", "s3://lake", "s3://lake/", "s3://lake/a.jpg",
        "s3://lake/some/prefixes/a", "s3://lake/some/prefix", "s3://lake/some/prefix/../../a", "s3://other/a", "s3a://other/a",
        "s3://archive/2025/a", "s3://archive/20260/a", "s3://archive/2026", "s3://open", "s3://Open/a",
        "s3://user@open/a", "s3://open:80/a", "s3://open/../lake/a", "/mnt/frame store", "/mnt/frame",
        "/mnt/frame store/", "/mnt/frame store/../a", "/mnt/frame stores/a", "/mnt/frame%20store/a",
        "//mnt/frame store/a", "file://mnt/frame",
        "file:///mnt/frame%20store/%2e%2e/a", "file:///mnt/frame%20store/%252e%252e/a", "file:///mnt/frame%20store//a",
    ],
)  # fmt: skip
def test_a_refused_path_makes_no_call(path):
    with pytest.raises(BadInputError) as caught:
        ImageReader(UntouchableStore(), settings()).read(path)
    assert caught.value.code is DeadLetterCode.PATH_NOT_ALLOWED
    assert "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS" in caught.value.message


parts = st.sampled_from(
    [
        "..", ".", "", "a", "%2e%2e", "s3:", "lake", "some", "prefix", "archive", "2026", "open", "\\", "@",
        "file:", "mnt", "frame store", "frame%20store",
    ]
)  # fmt: skip
paths = (
    st.text()
    | st.lists(parts, max_size=8).map("/".join)
    | st.lists(parts | st.text(max_size=3), max_size=8).map("/".join)
)


@pytest.mark.fault(24)
@given(paths)
@example("s3://lake/some/prefix//a")
def test_every_allowed_path_is_below_an_allowed_prefix(path):
    try:
        location = resolve_image_path(path, STORE_URL, ALLOWED)
    except BadInputError:
        return
    key = PurePosixPath(location.key)
    assert ".." not in key.parts
    assert not key.is_absolute()
    assert str(key) == location.key
    assert location.store in (None, *ALLOWED[1:]) or (
        location.store == "s3://archive" and location.key.startswith("2026/")
    )


@pytest.mark.parametrize("store_url", ["file:///srv/store", "s3://lake"])
def test_other_forms_of_the_store_url(store_url):
    assert resolve_image_path("a/b.jpg", store_url, ()) == ImageLocation(None, "a/b.jpg")
    if store_url.startswith("s3"):
        assert resolve_image_path("s3://lake/a.jpg", store_url, ()) == ImageLocation(None, "a.jpg")
    else:
        assert resolve_image_path("/srv/store/a.jpg", store_url, ()) == ImageLocation(None, "a.jpg")
        with pytest.raises(BadInputError):
            resolve_image_path("s3://srv/a.jpg", store_url, ())


def code_of(reader: ImageReader, path: str) -> DeadLetterCode:
    with pytest.raises(BadInputError) as caught:
        reader.read(path)
    return caught.value.code


class TestReading:
    def test_an_image_is_read_with_its_version(self, store):
        store.put("images/a.jpg", b"jpeg")
        fetched = ImageReader(store, settings()).read("images/a.jpg")
        assert fetched.data == b"jpeg"
        assert fetched.e_tag

    def test_what_the_object_causes_is_a_dead_letter(self, store):
        reader = ImageReader(store, settings(max_image_bytes=1024))
        store.put("images/empty.jpg", b"")
        store.put("images/large.jpg", b"x" * 1025)
        assert code_of(reader, "images/empty.jpg") is DeadLetterCode.EMPTY_OBJECT
        assert code_of(reader, "images/large.jpg") is DeadLetterCode.TOO_LARGE
        assert code_of(reader, "images/missing.jpg") is DeadLetterCode.OBJECT_NOT_FOUND

    @pytest.mark.parametrize("key", ["x" * 300, "é" * 1000, "a#1", "images/empty.jpg/deeper", "images"])
    def test_a_path_that_no_object_can_have_is_a_missing_object_not_a_broken_store(self, store, key):
        store.put("images/empty.jpg", b"")
        assert code_of(ImageReader(store, settings()), key) is DeadLetterCode.OBJECT_NOT_FOUND

    def test_a_missing_image_is_looked_for_again_for_a_while(self):
        store = open_memory_store()

        def appear_late(read) -> Fetched:
            with pytest.raises(PermanentError):
                read()
            store.put("late.jpg", b"jpeg")
            return read()

        assert ImageReader(store, settings(), retry_missing=appear_late).read("late.jpg").data == b"jpeg"

    def test_a_store_that_is_gone_makes_no_dead_letters(self, bucket, tmp_path):
        for changes, error in [
            ({"store_url": "s3://not-there/lake"}, ConfigurationError),
            ({"s3_access_key_id": "unknown"}, ConfigurationError),
            ({"s3_secret_access_key": "wrong"}, ForbiddenError),
            ({"s3_endpoint": "http://127.0.0.1:9", "store_patience_s": 1}, TransientError),
        ]:
            wrong = s3_settings(bucket, **changes)
            with pytest.raises(error):
                ImageReader(open_store(wrong), wrong).read("images/a.jpg")
        folder = settings(store_url=(tmp_path / "store").as_uri())
        store = open_store(folder)
        (tmp_path / "store").rmdir()
        with pytest.raises(PermanentError, match="is gone"):
            ImageReader(store, folder).read("images/a.jpg")

    def test_a_refused_image_is_a_dead_letter_only_while_the_own_prefix_can_be_read(self, s3, bucket):
        """Fault 16."""
        for refused, expected in [("secret.jpg", BadInputError), ("", ForbiddenError)]:
            with AnswerLosingProxy(
                s3.port, lambda _m, path, _n, part=refused: Fate.ANSWER_403 if part in path else Fate.FORWARD
            ) as proxy:
                own = s3_settings(bucket, s3_endpoint=proxy.endpoint)
                with pytest.raises(expected) as caught:
                    ImageReader(open_store(own), own).read("images/secret.jpg")
                if isinstance(caught.value, BadInputError):
                    assert caught.value.code is DeadLetterCode.OBJECT_FORBIDDEN

    def test_a_folder_on_the_list_is_read_but_no_link_out_of_it(self, store, tmp_path):
        folder, outside = tmp_path / "frame store", tmp_path / "outside.jpg"
        folder.mkdir()
        (folder / "a.jpg").write_bytes(b"jpeg")
        outside.write_bytes(b"secret")
        (folder / "link.jpg").symlink_to(outside)
        (folder / "inner.jpg").symlink_to(folder / "a.jpg")
        reader = ImageReader(store, settings(allowed_image_locations=(folder.as_uri(),)))
        for path in (f"{folder}/a.jpg", f"{folder.as_uri()}/a.jpg", f"{folder}/inner.jpg"):
            assert reader.read(path).data == b"jpeg"
        assert code_of(reader, f"{folder}/b.jpg") is DeadLetterCode.OBJECT_NOT_FOUND
        assert code_of(reader, f"{folder}/link.jpg") is DeadLetterCode.PATH_NOT_ALLOWED
        assert code_of(reader, str(outside)) is DeadLetterCode.PATH_NOT_ALLOWED

    def test_a_folder_on_the_list_that_is_not_mounted_makes_no_dead_letters(self, tmp_path):
        folder = tmp_path / "frame_store"
        folder.mkdir()
        reader = ImageReader(open_memory_store(), settings(allowed_image_locations=(folder.as_uri(),)))
        assert code_of(reader, f"{folder}/a.jpg") is DeadLetterCode.OBJECT_NOT_FOUND
        folder.rmdir()
        again = ImageReader(open_memory_store(), settings(allowed_image_locations=(folder.as_uri(),)))
        for one in (reader, again):
            with pytest.raises(PermanentError, match="is gone"):
                one.read(f"{folder}/a.jpg")

    def test_another_bucket_is_read_only_if_it_is_on_the_list(self, s3, bucket):
        archive = s3.create_bucket(f"{bucket.name}-archive")
        archive.store().put("2026/a.jpg", b"jpeg")
        own = s3_settings(bucket, allowed_image_locations=(f"{archive.url}/2026", "s3://not-there"))
        reader = ImageReader(open_store(own), own)
        assert reader.read(f"{archive.url}/2026/a.jpg").data == b"jpeg"
        assert code_of(reader, f"{archive.url}/2026/b.jpg") is DeadLetterCode.OBJECT_NOT_FOUND
        assert code_of(reader, f"{archive.url}/2025/a.jpg") is DeadLetterCode.PATH_NOT_ALLOWED
        with pytest.raises(ConfigurationError, match="IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS"):
            reader.read("s3://not-there/a.jpg")
