"""The contract of derived objects: day tables, summaries, tracks, reports, redetections and comparisons.

A derived object is one or several stored objects that name the versions of their inputs and the recipe that made them.
An entry is a subclass of `Derived`: it reads what is stored, says what would be made now, and makes it. This module
decides whether anything is to be done (`State`), and publishes: an object is put only over the version that was read
before the inputs, so a slow build never replaces a newer one.

    class Heights(Derived[Manifest]): ...
    build(Heights(store, day))

Whether `OTHER_RECIPE` is a reason to build is up to the caller: a build makes it again, the nightly job leaves it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from imgpipeline.errors import TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.storage.manifest import DamagedObjectError, StoredObject
from imgpipeline.lake.storage.pieces import pieces_of, put_pieces, remove_pieces
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

Said = TypeVar("Said")
"""What a stored object says of itself."""
_ATTEMPTS = 8


class State(StrEnum):
    """What a derived object is, next to what would be made of its inputs now."""

    CURRENT = "current"
    """Made of the inputs as they are, by the present recipe."""
    STALE = "stale"
    """An input has another version by now, or the stored objects were not made together."""
    OTHER_RECIPE = "other recipe"
    """Made of the inputs as they are, by another release or with other settings."""
    MISSING = "missing"
    """At least one of its objects is not stored."""
    DAMAGED = "damaged"
    """One of its objects cannot be read; a build refuses to replace it."""

    @property
    def is_behind(self) -> bool:
        """Whether a build brings it forward, whichever release made it."""
        return self in (State.STALE, State.MISSING, State.DAMAGED)


@dataclass(frozen=True, slots=True)
class Origin:
    """The inputs and recipe of a derived object."""

    inputs: Mapping[str, str]
    """Version of each input, by name."""
    recipe: str
    """Hash of all else that changes the content: code, queries, settings."""


def judge(stored: Iterable[Origin | None], wanted: Origin) -> State:
    """Compares what stored objects were made of with what would be made now.

    Args:
        stored: The origin of each object of one derived object; None if it is not stored.
        wanted: What a build would make now.
    """
    origins = list(stored)
    found = [origin for origin in origins if origin is not None]
    if len(found) < len(origins):
        return State.MISSING
    if any(dict(origin.inputs) != dict(wanted.inputs) for origin in found):
        return State.STALE
    return State.CURRENT if all(origin.recipe == wanted.recipe for origin in found) else State.OTHER_RECIPE


@dataclass(frozen=True, slots=True)
class Made(Generic[Said]):
    """One new object of a derived one."""

    data: bytes | memoryview
    """Its content."""
    manifest: Said
    """What it says of itself."""


@dataclass(frozen=True, slots=True)
class Built(Generic[Said]):
    """What is stored of a derived object after a build."""

    state: State
    """What it was before."""
    skipped: bool
    """Whether nothing was put."""
    manifests: Mapping[str, Said]
    """What each object says of itself, by key."""
    size_bytes: int
    """Size of all objects."""
    before: Mapping[str, StoredObject[Said] | None]
    """What was stored before, by key."""


@dataclass(frozen=True, slots=True)
class Start(Generic[Said]):
    """What a build starts from."""

    stored: Mapping[str, StoredObject[Said] | None]
    """What is stored of each object, by key; read before the inputs."""
    state: State
    """What that is."""
    force: bool
    """Whether it is made although it may be current."""


class Derived(ABC, Generic[Said]):
    """One derived object. A subclass is an entry of the contract."""

    store: ObjectStore
    """Where it is."""
    insists = True
    """Whether a forced build that was overtaken is forced again; else the winner's result will do."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it, such as `label_counts of 2026-01-09`."""

    @abstractmethod
    def read(self) -> Mapping[str, StoredObject[Said] | None]:
        """Returns what is stored of each of its objects, by key, in the order in which they are put.

        An object that only some have may be left out while it is not stored; then nothing is missing.

        Raises:
            DamagedObjectError: One of them cannot be read.
        """

    @abstractmethod
    def origin(self, manifest: Said, /) -> Origin:
        """Returns the inputs and recipe of a stored object."""

    @abstractmethod
    def wanted(self, stored: Mapping[str, StoredObject[Said] | None], /) -> Origin:
        """Returns what a build would make now.

        Args:
            stored: What is stored, read before the inputs.

        Raises:
            PermanentError: An input is missing or cannot be read.
        """

    @abstractmethod
    def make(self, start: Start[Said], /) -> Mapping[str, Made[Said]] | None:
        """Makes all of its objects; nothing is put.

        Args:
            start: What is stored, and why it is made.

        Returns:
            The objects by key, in the order in which they are put; None if an input changed meanwhile.
        """

    def belong_together(self, _manifests: list[Said], /) -> bool:
        """Tells whether stored objects of one origin were also put by one build, if that matters."""
        return True


def compare(entry: Derived[Said], before: Mapping[str, StoredObject[Said] | None]) -> State:
    """Returns the state of what was read of a derived object."""
    wanted = entry.wanted(before)
    state = judge([entry.origin(each.manifest) if each else None for each in before.values()], wanted)
    together = entry.belong_together([each.manifest for each in before.values() if each])
    return state if state is State.MISSING or together else State.STALE


def state_of(entry: Derived[Said]) -> State:
    """Returns the state of a derived object; raises what its inputs raise."""
    try:
        before = entry.read()
    except DamagedObjectError:
        return State.DAMAGED
    return compare(entry, before)


def build(entry: Derived[Said], *, force: bool = False) -> Built[Said]:
    """Brings a derived object up to its inputs.

    Args:
        entry: What to build.
        force: Make it again even if it is current.

    Returns:
        What is stored now.

    Raises:
        DamagedObjectError: A stored object cannot be read; it is not replaced.
        PermanentError: An input is missing or cannot be read.
        TransientError: The store does not answer, or others were faster eight times.
    """
    for _ in range(_ATTEMPTS):
        # The stored object is read first, so the inputs read after it are never older than those it was built from.
        before = entry.read()
        state = compare(entry, before)
        if state is State.CURRENT and not force:
            stored = {key: each for key, each in before.items() if each}
            size_bytes = sum(each.size_bytes for each in stored.values())
            return Built(state, True, {key: each.manifest for key, each in stored.items()}, size_bytes, before)
        made = entry.make(Start(before, state, force))
        if made is not None and publish_all(entry.store, made, before):
            size_bytes = sum(len(each.data) for each in made.values())
            return Built(state, False, {key: each.manifest for key, each in made.items()}, size_bytes, before)
        force = force and entry.insists
    raise TransientError(f"{_ATTEMPTS} builds of {entry.name} were overtaken by others; what is stored is theirs.")


def publish_all(
    store: ObjectStore, made: Mapping[str, Made[Said]], before: Mapping[str, StoredObject[Said] | None]
) -> bool:
    """Puts objects in order, each over the version that was read; False once a competing build has won."""
    return all(publish(store, key, each.data, before.get(key)) for key, each in made.items())


def publish(store: ObjectStore, key: str, data: bytes | memoryview, before: StoredObject[Said] | None) -> bool:
    """Puts an object, after its pieces, over the version that was read; tells whether it is stored now.

    A refusal may answer the client's own repeated request, so the stored content decides.

    Args:
        store: The object store.
        key: The object's key.
        data: Its content.
        before: What was read before its inputs; None if nothing was stored.
    """
    pieces, replaced = pieces_of(data), before.pieces if before else None
    if pieces:
        put_pieces(store, key, memoryview(data), pieces)
        data = data[pieces.all_bytes :]
    reach("table put", key)
    is_stored = store.replace(key, data, before.e_tag if before else None) or _holds(store, key, data)
    reach("table put done", key)
    if pieces or replaced:
        remove_pieces(store, key, replaced if is_stored else pieces)
    return is_stored


def _holds(store: ObjectStore, key: str, data: bytes | memoryview) -> bool:
    found = store.head(key)
    if found is None or found.size_bytes != len(data):
        return False
    try:
        return data == store.get(key)
    except ObjectMissingError:
        return False
