"""Builds and parses the keys of the object store.

Keys are relative to the store's prefix, contain only `A-Z a-z 0-9 . _ - = ~ /`, and sort in the order of their numbers.
"""

import re
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from imgpipeline.errors import ConfigurationError

METADATA = "metadata"
DAY_INDEX = "metadata_days"
BUNDLES = "metadata_bundles"
"""Prefix of the bundles. They may be deleted at any time: readers then use the segments."""
DAMAGED = "metadata_damaged"
"""Prefix of the bytes of damaged segments, which `imgpipeline ledger repair` keeps."""
REPAIR_LIST = "metadata_repair_list"
"""Prefix of the numbered list of repairs; never deleted."""
FOLLOWERS = "metadata_followers"
"""Prefix of the state of ledger followers, with their checkpoints; may be deleted at any time."""
RAW_RECORDS = "metadata_raw_records"
IMAGES = "images"
DELETED_IMAGES = "deleted_images"
REDETECTIONS = "redetections"
REPORTS = "reports"
AUDIT = "audit"
ALERTS = "alerts"
DELIVERED = "alerts_delivered"
"""Prefix of the records of alerts that every target has accepted."""
WATCHED = "alerts_watched"
"""Prefix of the records that say which rules were watched, and since when."""
ACCURACY_PLANS = "accuracy/plans"
ACCURACY_ANSWERS = "accuracy/answers"
ACCURACY_CHANGED = "accuracy/changed"
"""Prefix of one small object a day, which is replaced after each new draw or answer of the day."""
SINKS = "sinks"

IMPORT_TOPICS = "import."
"""Prefix of the topics of imports: `import.<name>`. No followed Kafka topic may have it."""

FAN_OUT_OFFSETS = 100_000
"""Offsets per folder of segments, so that listings stay small."""
OFFSET_LIMIT = 2**63
"""Larger than every Kafka offset."""
BUCKET_OFFSETS = 1_000
"""Offsets per entry of the day index."""
BUNDLE_OFFSETS = 10_000
"""Offsets per bundle."""

_MODEL = "model="
_DERIVED = "derived"
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,255}")
"""A Kafka topic's name or id. Most stores limit a part of a path to 255 characters."""
_CHAIN_NAME = re.compile(r"(?=.{1,255}$)(?!\.{1,2}$)[A-Za-z0-9._-]+(?:~(?!1$)[1-9]\d*)?", re.ASCII)
"""The topic's id in a chain's name, followed by `~2` for the second chain of that id, and so on. Kafka's ids and topics
contain no tilde, so they cannot be mistaken for a later chain."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEGMENT = re.compile(
    rf"{METADATA}/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/\d{{15}}/(?P<start>\d{{20}})\.jsonl\.zst",
    re.ASCII,
)
_BUCKET = re.compile(
    rf"{DAY_INDEX}/(?P<day>\d{{4}}-\d\d-\d\d)/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/(?P<bucket>\d{{15,}})",
    re.ASCII,
)
_BUNDLE = re.compile(r"(?P<number>\d{15,})\.(?P<revision>[0-9a-f]{16})\.bundle", re.ASCII)
_NUMBERED = re.compile(
    r"(?:[a-z_]+/(?:\d{10,}/)?|accuracy/[a-z]+/day=[0-9-]{10}/[0-9a-f]{16}/(?:[^/]+/)?)(?P<number>\d{10,})\.json",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class ChainId:
    """Identifies a chain of segments by its topic partition."""

    topic: str
    topic_id: str
    """Kafka's id of this incarnation of the topic (or `cluster id.topic` if the broker reports none), followed by `~2`
    for the second chain of that id, and so on (`next_chain`)."""
    partition: int

    def __post_init__(self) -> None:
        """Rejects values that would change the shape of keys, such as a topic with a slash."""
        if not (_NAME.fullmatch(self.topic) and _CHAIN_NAME.fullmatch(self.topic_id)) or self.partition < 0:
            raise ConfigurationError(
                f"{self.topic!r}, id {self.topic_id!r}, partition {self.partition} name no topic partition; expected "
                "1 to 255 of the characters A-Z a-z 0-9 . _ - in topic and id, and a partition from 0."
            )

    def __str__(self) -> str:
        return f"{self.topic}/{self.topic_id}/{self.partition}"


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One entry of the day index: segments that may contain outcomes of a day."""

    day: date
    chain: ChainId
    number: int
    """The segments start in `[number * 1000, (number + 1) * 1000)`."""


@dataclass(frozen=True, slots=True, order=True)
class BundleId:
    """Identifies a bundle: a range of a chain and its revision.

    A repair announces itself before it changes a segment. So after the repair, readers look for another revision than
    that of any bundle with the previous content, whenever that bundle is written.
    """

    chain: ChainId
    number: int
    """Its segments start in `[number * 10000, (number + 1) * 10000)`."""
    revision: str
    """Hash of the repairs that it includes: 16 hexadecimal digits, all 0 for none."""

    @property
    def first(self) -> int:
        """First offset of the range."""
        return self.number * BUNDLE_OFFSETS

    @property
    def behind(self) -> int:
        """First offset after the range."""
        return (self.number + 1) * BUNDLE_OFFSETS


def import_chain(name: str, kind: str) -> ChainId:
    """Returns the chain of an import.

    The name has 1 to 240 of the characters `A-Z a-z 0-9 . _ -`. The kind, `detections` or `metadata`, takes the place
    of the topic's id.

    Raises:
        ConfigurationError: The name is not valid.
    """
    if not _NAME.fullmatch(f"{IMPORT_TOPICS}{name}") or not name or len(name) > 240:
        raise ConfigurationError(
            f"{name!r} is not a valid import name: expected 1 to 240 of the characters A-Z a-z 0-9 . _ -",
            next_step="give one by --name",
        )
    return ChainId(f"{IMPORT_TOPICS}{name}", kind, 0)


def is_import(chain: ChainId) -> bool:
    """Returns whether a chain holds the rows of an import, and so has no Kafka log."""
    return chain.topic.startswith(IMPORT_TOPICS)


def next_chain(chain: ChainId) -> ChainId:
    """Returns the chain in which a partition continues once this one is closed: `id`, `id~2`, `id~3` and so on."""
    topic_id, _, number = chain.topic_id.partition("~")
    return ChainId(chain.topic, f"{topic_id}~{int(number or 1) + 1}", chain.partition)


def chain_prefix(chain: ChainId) -> str:
    """Returns the prefix of all segments of a chain, without a final slash."""
    return f"{METADATA}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def fan_out_prefix(chain: ChainId, start: int) -> str:
    """Returns the folder of the segment that starts at an offset."""
    return f"{chain_prefix(chain)}/{start // FAN_OUT_OFFSETS:015d}"


def segment_key(chain: ChainId, start: int) -> str:
    """Returns the key of the segment that starts at an offset."""
    return f"{fan_out_prefix(chain, start)}/{start:020d}.jsonl.zst"


def parse_segment_key(key: str) -> tuple[ChainId, int] | None:
    """Returns chain and start of a segment's key, or None for any other key."""
    match = _SEGMENT.fullmatch(key)
    chain = _chain_of(match) if match else None
    if match is None or chain is None:
        return None
    start = int(match["start"])
    return (chain, start) if segment_key(chain, start) == key else None


def bucket_key(bucket: Bucket) -> str:
    """Returns the key of an entry of the day index."""
    return f"{bucket_prefix(bucket.day, bucket.chain)}/{bucket.number:015d}"


def bucket_prefix(day: date, chain: ChainId) -> str:
    """Returns the prefix of a chain's entries of the day index for a day."""
    return f"{DAY_INDEX}/{day.isoformat()}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def bucket_of(day: date, chain: ChainId, start: int) -> Bucket:
    """Returns the entry of the day index for a day and a segment that starts at an offset."""
    return Bucket(day, chain, start // BUCKET_OFFSETS)


def parse_bucket_key(key: str) -> Bucket | None:
    """Returns the entry of the day index for its key, or None for any other key."""
    match = _BUCKET.fullmatch(key)
    chain = _chain_of(match) if match else None
    day = _day_in(match["day"]) if match else None
    if match is None or chain is None or day is None:
        return None
    bucket = Bucket(day, chain, int(match["bucket"]))
    return bucket if bucket_key(bucket) == key else None


def bundle_prefix(chain: ChainId) -> str:
    """Returns the prefix of all bundles of a chain, without a final slash."""
    return f"{BUNDLES}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def bundle_key(bundle: BundleId) -> str:
    """Returns the key of a bundle: `metadata_bundles/{topic}/{id}/{partition}/{number}.{revision}.bundle`."""
    return f"{bundle_range_key(bundle.chain, bundle.number)}.{bundle.revision}.bundle"


def bundle_range_key(chain: ChainId, number: int) -> str:
    """Returns the prefix of the keys of a range's bundles. Prefixes sort in the order of their ranges."""
    return f"{bundle_prefix(chain)}/{number:015d}"


def parse_bundle_key(chain: ChainId, key: str) -> BundleId | None:
    """Returns the bundle of a chain for its key, or None for any other key."""
    match = _BUNDLE.fullmatch(key.rpartition("/")[2])
    bundle = BundleId(chain, int(match["number"]), match["revision"]) if match else None
    return bundle if bundle and bundle_key(bundle) == key else None


def _chain_of(match: re.Match[str]) -> ChainId | None:
    if not (_NAME.fullmatch(match["topic"]) and _CHAIN_NAME.fullmatch(match["topic_id"])):
        return None
    return ChainId(match["topic"], match["topic_id"], int(match["partition"]))


def _day_in(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def day_table_key(table: str, day: date) -> str:
    """Returns the key of a daily table: `frames/day=2026-01-09/frames.parquet`."""
    return f"{table}/day={day.isoformat()}/{table}.parquet"


def piece_prefix(key: str) -> str:
    """Returns the prefix of the pieces of a table that is split into several objects: `table_pieces/frames/day=…`."""
    return f"table_pieces/{key}"


def piece_key(key: str, build: str, number: int) -> str:
    """Returns the key of a piece: `table_pieces/frames/day=2026-01-09/frames.parquet/{build}/0`."""
    return f"{piece_prefix(key)}/{build}/{number}"


def summary_key(name: str, day: date) -> str:
    """Returns the key of a daily summary: `summaries/label_counts/day=2026-01-09/label_counts.parquet`."""
    return f"summaries/{name}/day={day.isoformat()}/{name}.parquet"


def report_key(day: date) -> str:
    """Returns the key of a day's report: `reports/day=2026-01-09/report.html`."""
    return f"{REPORTS}/day={day.isoformat()}/report.html"


def redetection_folder(model: str, day: date) -> str:
    """Returns the prefix of a day's redetection by a model, with or without its threshold (`demo@0.3`).

    Keys contain no at sign, so it becomes a tilde: `redetections/model=demo~0.3/day=2026-01-09`.
    """
    return f"{REDETECTIONS}/{_MODEL}{model.replace('@', '~')}/day={day.isoformat()}"


def redetection_key(model: str, day: date, table: str) -> str:
    """Returns the key of a redetection's table: `redetections/model=demo~0.3/day=2026-01-09/detections.parquet`."""
    return f"{redetection_folder(model, day)}/{table}.parquet"


def redetection_parts_prefix(model: str, day: date) -> str:
    """Returns the prefix of the parts of a redetection that is not complete yet."""
    return f"{redetection_folder(model, day)}/parts"


def redetection_part_key(model: str, day: date, recipe: str, digest: str) -> str:
    """Returns the key of such a part: its recipe, and the hash of its inputs."""
    return f"{redetection_parts_prefix(model, day)}/{recipe}-{digest}.parquet"


def begun_note_key(part: str) -> str:
    """Returns the key of the note that a process has started a part."""
    return f"{part.removesuffix('.parquet')}.begun"


def parse_model_folder(name: str) -> str | None:
    """Returns the model of a folder below `redetections/`, such as `demo@0.3`, or None."""
    model = name.removeprefix(_MODEL).replace("~", "@")
    return model if name.startswith(_MODEL) and model else None


def comparison_examples_prefix(day: date) -> str:
    """Returns the prefix of the example images of a day's model comparison."""
    return f"{summary_key('model_comparison', day).rpartition('/')[0]}/examples"


def comparison_example_key(day: date, model_a: str, model_b: str, frame_id: str) -> str:
    """Returns the key of such an example image: below the prefix, `{model a}/{model b}/{frame id}.jpg`."""
    pair = f"{model_a}/{model_b}".replace("@", "~")
    return f"{comparison_examples_prefix(day)}/{pair}/{safe_name(frame_id)}.jpg"


def follower_key(name: str) -> str:
    """Returns the key of a follower's state: `metadata_followers/days.json.zst`."""
    return f"{FOLLOWERS}/{name}.json.zst"


def damaged_copy_key(chain: ChainId, start: int, digest: str) -> str:
    """Returns the key for the bytes of a damaged segment, named by their hash."""
    return f"{DAMAGED}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}/{start:020d}.{digest}"


def raw_record_key(chain: ChainId, offset: int, digest: str) -> str:
    """Returns the key of the raw record of a dead letter, named by the SHA-256 of its value."""
    return f"{RAW_RECORDS}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}/{offset:020d}.{digest}.json"


def event_image_key(day: date, event_id: str, what: str) -> str:
    """Returns the key of an image made for an event: `event_images/day=2026-01-09/{event id}.difference.jpg`."""
    return f"event_images/day={day.isoformat()}/{safe_name(event_id)}.{safe_name(what)}.jpg"


def rules_key() -> str:
    """Returns the key of the stored rules of events: `rules.toml`."""
    return "rules.toml"


def detection_state_key() -> str:
    """Returns the key of what the sensor saw of detection: `detection/state.json`."""
    return "detection/state.json"


def known_features_key() -> str:
    """Returns the key of the note which objects are built automatically, and since when: `daily/features.json`."""
    return "daily/features.json"


def audit_state_key() -> str:
    """Returns the key of an audit's progress: `audit/state.json`."""
    return "audit/state.json"


def audit_verdict_key(day: date) -> str:
    """Returns the key of the last audit's verdict on a day: `audit/day=2026-01-09/verdict.json`."""
    return f"audit/day={day.isoformat()}/verdict.json"


def parse_day(key: str) -> date | None:
    """Returns the day in the key of a daily table or summary, or None if it has none."""
    match = re.search(r"/day=(\d{4}-\d\d-\d\d)/", key, re.ASCII)
    return _day_in(match[1]) if match else None


def image_key(source: str, day: date, name: str) -> str:
    """Returns the key under which an image is stored: `images/{source}/{day}/{name}`."""
    return f"{IMAGES}/{safe_name(source)}/{day.isoformat()}/{safe_name(name)}"


def deleted_images_key(source: str, day: date) -> str:
    """Returns the key of the record of a source's deleted images: `deleted_images/gate/2026-01-09.json`."""
    return f"{DELETED_IMAGES}/{source}/{day.isoformat()}.json"


def unfinished_ingest_key(source: str) -> str:
    """Returns the key that exists while a source may have stored images that it has not announced."""
    return f"unfinished_ingests/{safe_name(source)}"


def derived_image_key(key: str, derivation: str) -> str:
    """Returns the key of an image derived from another one: `images/yard/2026-01-09/derived/gray/0001.jpg`."""
    *folders, name = key.split("/")
    return "/".join((*folders, _DERIVED, derivation, name))


def original_image_key(key: str) -> str:
    """Returns the key of the image that a derived image was made from; any other key is returned unchanged."""
    parts = key.split("/")
    return "/".join((*parts[:-3], parts[-1])) if len(parts) > 2 and parts[-3] == _DERIVED else key


def numbered_key(prefix: str, number: int) -> str:
    """Returns the key of an entry of a numbered log: `alerts/0000000007.json`."""
    return f"{prefix}/{number:010d}.json"


def parse_number(key: str) -> int | None:
    """Returns the number of the entry in a key, or None for any other key."""
    match = _NUMBERED.fullmatch(key)
    return int(match["number"]) if match else None


def alert_key(number: int) -> str:
    """Returns the key of an alert: `alerts/0000000007.json`."""
    return numbered_key(ALERTS, number)


def attempts_prefix(number: int) -> str:
    """Returns the prefix of the attempts to deliver an alert: `alerts_attempts/0000000007`."""
    return f"alerts_attempts/{number:010d}"


def acknowledgements_prefix(number: int) -> str:
    """Returns the prefix of the acknowledgements of an alert: `alerts_acknowledged/0000000007`."""
    return f"alerts_acknowledged/{number:010d}"


def plan_prefix(day: date, source: str, line: str | None = None) -> str:
    """Returns the prefix of the draws of the plan of a source or line: `accuracy/plans/day=2026-01-09/5f2c…`."""
    return f"{ACCURACY_PLANS}/day={day.isoformat()}/{_hashed(source, line)}"


def answers_prefix(day: date, source: str, line: str | None = None) -> str:
    """Returns the prefix of what people counted for a source or line: `accuracy/answers/day=2026-01-09/5f2c…`."""
    return f"{ACCURACY_ANSWERS}/day={day.isoformat()}/{_hashed(source, line)}"


def _hashed(source: str, line: str | None) -> str:
    named = source if line is None else f"{source}\0{line}"
    return sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def accuracy_changed_key(day: date) -> str:
    """Returns the key of the object that changes with a day's plans and answers."""
    return f"{ACCURACY_CHANGED}/day={day.isoformat()}/changed.json"


def mqtt_key(name: str) -> str:
    """Returns the key of the record of alerts published at an MQTT broker: `alerts_mqtt/5f2c….json`."""
    return f"alerts_mqtt/{name}.json"


def sink_status_key(name: str) -> str:
    """Returns the key of the state of a sink after its last export: `sinks/warehouse.json`."""
    return f"{SINKS}/{name}.json"


def safe_name(name: str) -> str:
    """Returns a name as one part of a key.

    A name of letters, digits, `.`, `_` and `-` is returned unchanged. Otherwise, other characters become `-` and a
    96-bit hash of the whole name is added, so that not even crafted names can collide.
    """
    if _SAFE_NAME.fullmatch(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    stem, dot, ending = kept.rpartition(".")
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    if dot and len(ending) <= 5:
        return f"{stem[:60]}~{digest}.{ending}"
    return f"{kept[:60]}~{digest}"
