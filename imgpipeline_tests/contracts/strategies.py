"""Hypothesis strategies for the values of the contracts: whatever a message, a frame or a chain may hold."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import DeadLetter, Frame, FrameStatus, Gap, GapReason, Outcome
from imgpipeline.errors import DeadLetterCode

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
"""Text that can be stored: anything but null characters and lone surrogates."""
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
numbers = st.integers(0, 2**63 - 1)
"""What Kafka and the contract allow as an offset or a count."""
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(texts, json_values, max_size=3)
topic_names = st.from_regex(r"\A[A-Za-z0-9._-]{1,30}\Z").filter(lambda name: name not in {".", ".."})
chains = st.builds(ChainId, topic_names, topic_names, st.integers(0, 99_999))


def _rounded(low: float, high: float, places: int) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda value: round(value, places))


detections = st.builds(
    Detection,
    label=texts,
    class_id=st.none() | st.integers(0, 1000),
    confidence=_rounded(0, 1, 6),
    detector=st.none() | st.integers(0, 3),
    box_xywh=st.none() | st.tuples(*[_rounded(0, 10_000, 2)] * 4),
)
detectors = st.builds(
    DetectorUse,
    texts,
    st.from_regex(r"\A[0-9a-f]{64}\Z"),
    st.none() | texts,
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
)
points = st.tuples(_rounded(0, 10_000, 2), _rounded(0, 10_000, 2))
frames = st.builds(
    Frame,
    frame_id=st.from_regex(r"\A[0-9a-f]{32}\Z"),
    source=texts,
    source_image_path=texts,
    frame_number=st.none() | numbers,
    timestamp=times,
    topic=topic_names,
    partition=st.integers(0, 99_999),
    offset=numbers,
    processing_timestamp=st.none() | times,
    image_width=st.none() | st.integers(1, 30_000),
    image_height=st.none() | st.integers(1, 30_000),
    size_bytes=st.none() | st.integers(1, 2**40),
    brightness=st.none() | _rounded(0, 255, 3),
    sharpness=st.none() | _rounded(0, 1e6, 3),
    model_used=texts,
    model_sha256=st.from_regex(r"\A[0-9a-f]{64}\Z"),
    confidence_threshold=st.none() | st.floats(0, 1),
    nms_threshold=st.none() | st.floats(0, 1),
    orientation=st.none() | st.integers(1, 8),
    status=st.sampled_from(FrameStatus),
    gate_reason=st.none() | texts,
    replay_of=st.none() | texts,
    attributes=attributes,
    detections=st.lists(detections, max_size=2).map(tuple),
    weak_detections=st.lists(detections, max_size=2).map(tuple),
    sha256=st.none() | st.from_regex(r"\A[0-9a-f]{64}\Z"),
    detectors=st.lists(detectors, max_size=2).map(tuple),
    gate_measurements=st.dictionaries(texts, _rounded(-1e6, 1e6, 6), max_size=2),
    clock_source=st.none() | st.sampled_from(ClockSource),
    region_of_interest=st.lists(st.lists(points, min_size=3, max_size=4).map(tuple), max_size=2).map(tuple),
)
accounts = st.builds(
    Account,
    received=numbers,
    announced=numbers,
    gated=numbers,
    dropped=st.dictionaries(texts, numbers, max_size=2),
    failed=numbers,
    observed_s=_rounded(0, 86_400, 6),
    received_from=st.none() | times,
    received_to=st.none() | times,
)
notices = st.builds(
    lambda seconds, start, **fields: Notice(
        interval_start=start,
        interval_end=min(
            start + timedelta(seconds=seconds), start.replace(hour=23, minute=59, second=59, microsecond=999_999)
        ),
        **fields,
    ),
    seconds=st.integers(0, 86_400),
    start=times,
    offset=numbers,
    kind=st.sampled_from(NoticeKind),
    source=texts,
    session=texts,
    reason=st.none() | texts,
    account=st.none() | accounts,
    replay_of=st.none() | texts,
    attributes=attributes,
)
dead_letters = st.builds(
    DeadLetter,
    offset=numbers,
    code=st.sampled_from(DeadLetterCode),
    message=texts,
    timestamp=st.none() | times,
    day=st.none() | st.dates(date(1, 1, 1)),
    source=st.none() | texts,
    image_path=st.none() | texts,
    raw_size_bytes=st.integers(0, 2**31),
    raw_sha256=st.none() | st.just("ab" * 32),
    session=st.none() | st.tuples(texts, st.none() | texts),
    replay_of=st.none() | texts,
)
gaps = st.builds(
    lambda start, length, reason: Gap(start, start + length, reason),
    st.integers(0, 2**62),
    st.integers(1, 2**40),
    st.sampled_from(GapReason),
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(frames, dead_letters, notices, gaps)
