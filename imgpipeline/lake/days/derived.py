"""The contract of derived objects: day tables, summaries, tracks, reports, redetections and comparisons.

A derived object consists of one or several stored objects that name the versions of their inputs (by content, see
`storage.manifest`) and the recipe that made them. A subclass of `Derived` reads the stored objects, names the inputs
and recipe of a build now, and makes the objects. This module decides whether a build is needed (`State`) and publishes
the result. An object only replaces the one that was read before the inputs, so a slow build never replaces a newer one.

    class Heights(Derived[Manifest]): ...
    build(Heights(store, day))

The caller decides whether `OTHER_RECIPE` is a reason to build: `build` makes the object again; the nightly job skips
it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic

from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.storage.manifest import DamagedObjectError, ManifestT, StoredObject
from imgpipeline.lake.storage.pieces import pieces_of, put_pieces, remove_pieces
from imgpipeline.objectstore import ObjectStore

_ATTEMPTS = 8


class State(StrEnum):
    """How a stored object compares with what a build would make now."""

    CURRENT = "current"
    """Made from the current inputs by the current recipe."""
    STALE = "stale"
    """An input has a newer version, or the stored objects were not made together."""
    OTHER_RECIPE = "other recipe"
    """Made from the current inputs by another release or with other settings."""
    MISSING = "missing"
    """At least one of its objects is not stored."""
    DAMAGED = "damaged"
    """One of its objects cannot be read; a build refuses to replace it."""

    @property
    def is_behind(self) -> bool:
        """Whether a build would update it, whichever release made it."""
        return self in (State.STALE, State.MISSING, State.DAMAGED)


@dataclass(frozen=True, slots=True)
class Origin:
    """The inputs and recipe of a derived object."""

    inputs: Mapping[str, str]
    """Version of each input, by name."""
    recipe: str
    """Hash of everything else that determines the content: code, queries, settings."""


def judge(stored: Iterable[Origin | None], wanted: Origin) -> State:
    """Compares the origin of stored objects with that of a build now.

    Args:
        stored: The origin of each object of one derived object; None if it is not stored.
        wanted: The origin of a build now.
    """
    origins = list(stored)
    found = [origin for origin in origins if origin is not None]
    if len(found) < len(origins):
        return State.MISSING
    if any(dict(origin.inputs) != dict(wanted.inputs) for origin in found):
        return State.STALE
    return State.CURRENT if all(origin.recipe == wanted.recipe for origin in found) else State.OTHER_RECIPE


@dataclass(frozen=True, slots=True)
class Made(Generic[ManifestT]):
    """One new stored object."""

    data: bytes | memoryview
    manifest: ManifestT


@dataclass(frozen=True)
class Built(Generic[ManifestT]):
    """A derived object after a build."""

    state: State
    """Its state before the build."""
    skipped: bool
    """Whether nothing was stored."""
    manifests: Mapping[str, ManifestT]
    """The manifest of each object, by key."""
    sizes: Mapping[str, int]
    """Bytes of each object, by key."""
    before: Mapping[str, StoredObject[ManifestT] | None]
    """The objects before the build, by key."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects."""
        return sum(self.sizes.values())

    @property
    def manifest(self) -> ManifestT:
        """The manifest of a derived object that is one stored object."""
        (manifest,) = self.manifests.values()
        return manifest


@dataclass(frozen=True, slots=True)
class Start(Generic[ManifestT]):
    """The starting point of a build."""

    stored: Mapping[str, StoredObject[ManifestT] | None]
    """The stored version of each object, by key; read before the inputs."""
    state: State
    force: bool


class Derived(ABC, Generic[ManifestT]):
    """One derived object."""

    store: ObjectStore
    insists = True
    """Whether a forced build that lost a race is forced again; otherwise it accepts the winner's result."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in messages, such as `label_counts of 2026-01-09`."""

    @abstractmethod
    def read(self) -> Mapping[str, StoredObject[ManifestT] | None]:
        """Returns the stored version of each of its objects, by key, in the order in which they are stored.

        An optional object may be left out while it is not stored, so that it does not count as missing.

        Raises:
            DamagedObjectError: One of them cannot be read.
        """

    @abstractmethod
    def origin(self, manifest: ManifestT, /) -> Origin:
        """Returns the inputs and recipe of a stored object."""

    @abstractmethod
    def wanted(self, stored: Mapping[str, StoredObject[ManifestT] | None], /) -> Origin:
        """Returns the origin of a build now.

        Args:
            stored: The stored objects, read before the inputs.

        Raises:
            PermanentError: An input is missing or cannot be read.
        """

    @abstractmethod
    def make(self, start: Start[ManifestT], /) -> Mapping[str, Made[ManifestT]] | None:
        """Makes all of its objects without storing them.

        Returns:
            The objects by key, in the order in which to store them; None if an input changed meanwhile.
        """

    def belong_together(self, _manifests: list[ManifestT], /) -> bool:
        """Tells whether stored objects of one origin were stored by one build, if that matters."""
        return True

    def finish(self, done: Built[ManifestT], /) -> Built[ManifestT]:
        """Returns the result of a build, after what remains to be done once all of its objects are stored."""
        return done


def compare(entry: Derived[ManifestT], before: Mapping[str, StoredObject[ManifestT] | None]) -> State:
    """Returns the state of a derived object whose stored objects were read before."""
    wanted = entry.wanted(before)
    state = judge([entry.origin(each.manifest) if each else None for each in before.values()], wanted)
    together = entry.belong_together([each.manifest for each in before.values() if each])
    return state if state is State.MISSING or together else State.STALE


def state_of(entry: Derived[ManifestT]) -> State:
    """Returns the state of a derived object; raises the errors of its inputs."""
    try:
        before = entry.read()
    except DamagedObjectError:
        return State.DAMAGED
    return compare(entry, before)


def build(entry: Derived[ManifestT], *, force: bool = False) -> Built[ManifestT]:
    """Builds a derived object unless it is current.

    Args:
        entry: The derived object.
        force: Build it even if it is current.

    Returns:
        The stored object after this call.

    Raises:
        DamagedObjectError: A stored object cannot be read; it is not replaced.
        PermanentError: An input is missing or cannot be read.
        TransientError: The store does not answer, or the build lost the race against others eight times.
    """
    for _ in range(_ATTEMPTS):
        # The stored object is read first, so the inputs are never older than those it was built from.
        before = entry.read()
        state = compare(entry, before)
        if state is State.CURRENT and not force:
            stored = {key: each for key, each in before.items() if each}
            sizes = {key: each.size_bytes for key, each in stored.items()}
            done = Built(state, True, {key: each.manifest for key, each in stored.items()}, sizes, before)
            return entry.finish(done)
        made = entry.make(Start(before, state, force))
        if made is not None and publish_all(entry.store, made, before):
            sizes = {key: len(each.data) for key, each in made.items()}
            done = Built(state, False, {key: each.manifest for key, each in made.items()}, sizes, before)
            return entry.finish(done)
        force = force and entry.insists
    raise TransientError(
        f"{_ATTEMPTS} builds of {entry.name} lost the race against other builds, whose result is stored."
    )


def publish_all(
    store: ObjectStore, made: Mapping[str, Made[ManifestT]], before: Mapping[str, StoredObject[ManifestT] | None]
) -> bool:
    """Stores objects in order, each over the version that was read; False once a competing build has won."""
    return all(publish(store, key, each.data, before.get(key)) for key, each in made.items())


def publish(store: ObjectStore, key: str, data: bytes | memoryview, before: StoredObject[ManifestT] | None) -> bool:
    """Stores an object, after its pieces, over the version that was read; tells whether it is stored now.

    Args:
        data: Its content.
        before: The version that was read before its inputs; None if nothing was stored.
    """
    pieces, replaced = pieces_of(data), before.pieces if before else None
    if pieces:
        put_pieces(store, key, memoryview(data), pieces)
        data = data[pieces.all_bytes :]
    reach("table put", key)
    is_stored = store.replace_or_own(key, data, before.e_tag if before else None)
    reach("table put done", key)
    if pieces or replaced:
        remove_pieces(store, key, replaced if is_stored else pieces)
    return is_stored
