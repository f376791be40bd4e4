"""The keys of the object store: the only module that builds or parses them.

All keys are relative to the store's prefix, contain only `A-Z a-z 0-9 . _ - = ~ /`, and sort in the order of their
numbers.
"""

import re
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from imgpipeline.errors import ConfigurationError

METADATA = "metadata"
"""Prefix of the ledger's segments."""
DAY_INDEX = "metadata_days"
"""Prefix of the ledger's day index."""
DAMAGED = "metadata_damaged"
"""Prefix of what `imgpipeline ledger repair` keeps: the bytes of damaged segments, and notes of work under way."""
REPAIR_LIST = "metadata_repair_list"
"""Prefix of the numbered list of repairs; never deleted."""
FOLLOWERS = "metadata_followers"
"""Prefix of what followers of the ledger keep with their checkpoints; may be deleted at any time."""
IMAGES = "images"
"""Prefix of the stored images."""
DELETED_IMAGES = "deleted_images"
"""Prefix of the record of deleted images."""
REDETECTIONS = "redetections"
"""Prefix of what other models found."""
REPORTS = "reports"
"""Prefix of the daily reports."""

IMPORT_TOPICS = "import."
"""How the topics of imports begin: `import.<name>`. No topic of Kafka that is followed may begin so."""

FAN_OUT_OFFSETS = 100_000
"""Offsets a folder of segments holds, so that listings stay small."""
OFFSET_LIMIT = 2**63
"""Greater than every offset in Kafka."""
BUCKET_OFFSETS = 1_000
"""Offsets one entry of the day index stands for."""

_MODEL = "model="
_DERIVED = "derived"
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,255}")
"""Names of topics as Kafka allows them, and their ids; 255 is the longest part of a path in most stores."""
_CHAIN_NAME = re.compile(r"(?=.{1,255}$)(?!\.{1,2}$)[A-Za-z0-9._-]+(?:~(?!1$)[1-9]\d*)?", re.ASCII)
"""Second part of a chain's name: the topic's id, for its second chain with `~2` behind it, and so on. No broker's id
and no topic has a tilde, so that none of them can be taken for another's later chain."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEGMENT = re.compile(
    rf"{METADATA}/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/\d{{15}}/(?P<start>\d{{20}})\.jsonl\.zst",
    re.ASCII,
)
_BUCKET = re.compile(
    rf"{DAY_INDEX}/(?P<day>\d{{4}}-\d\d-\d\d)/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/(?P<bucket>\d{{15,}})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, order=True)
class ChainId:
    """Which topic partition a chain of segments belongs to."""

    topic: str
    """Kafka topic."""
    topic_id: str
    """Kafka's id of this incarnation of the topic (or `cluster id.topic` if the broker tells none); with `~2` behind
    it for the second chain under that id, and so on (`next_chain`)."""
    partition: int
    """Kafka partition, from 0."""

    def __post_init__(self) -> None:
        """Refuses what would make keys of another shape, such as a topic with a slash in it."""
        if not (_NAME.fullmatch(self.topic) and _CHAIN_NAME.fullmatch(self.topic_id)) or self.partition < 0:
            raise ConfigurationError(
                f"{self.topic!r}, id {self.topic_id!r}, partition {self.partition} name no topic partition: expected "
                "1 to 255 of the characters A-Z a-z 0-9 . _ - in topic and id, and a partition from 0."
            )

    def __str__(self) -> str:
        return f"{self.topic}/{self.topic_id}/{self.partition}"


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One entry of the day index: segments that may touch a day."""

    day: date
    """The UTC day that is touched."""
    chain: ChainId
    """The chain whose segments touch it."""
    number: int
    """The segments start in `[number * 1000, (number + 1) * 1000)`."""


def import_chain(name: str, kind: str) -> ChainId:
    """Returns the chain of an import.

    Args:
        name: Of the import: 1 to 240 of the characters `A-Z a-z 0-9 . _ -`.
        kind: What its rows are, `detections` or `metadata`: it takes the place of the topic's id.

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
    """Whether a chain holds the rows of an import: then no log belongs to it."""
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
    """Returns chain and start of a segment's key, or None if the key is not one of a segment."""
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
    """Returns the entry of the day index for a segment that starts at an offset and touches a day."""
    return Bucket(day, chain, start // BUCKET_OFFSETS)


def parse_bucket_key(key: str) -> Bucket | None:
    """Returns the entry of the day index that a key stands for, or None if it is none."""
    match = _BUCKET.fullmatch(key)
    chain = _chain_of(match) if match else None
    day = _day_in(match["day"]) if match else None
    if match is None or chain is None or day is None:
        return None
    bucket = Bucket(day, chain, int(match["bucket"]))
    return bucket if bucket_key(bucket) == key else None


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
    """Returns the prefix of the pieces of a table that is larger than one object: `table_pieces/frames/day=…`."""
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
    """Returns the prefix of a day's redetection by a model, or a model with its threshold (`demo@0.3`).

    `redetections/model=demo~0.3/day=2026-01-09`: the at sign, which keys do not hold, becomes a tilde.
    """
    return f"{REDETECTIONS}/{_MODEL}{model.replace('@', '~')}/day={day.isoformat()}"


def redetection_key(model: str, day: date, table: str) -> str:
    """Returns the key of a redetection's table: `redetections/model=demo~0.3/day=2026-01-09/detections.parquet`."""
    return f"{redetection_folder(model, day)}/{table}.parquet"


def redetection_parts_prefix(model: str, day: date) -> str:
    """Returns the prefix of the parts of a redetection that is not whole yet."""
    return f"{redetection_folder(model, day)}/parts"


def redetection_part_key(model: str, day: date, recipe: str, digest: str) -> str:
    """Returns the key of one such part, by its inputs."""
    return f"{redetection_parts_prefix(model, day)}/{recipe}-{digest}.parquet"


def begun_note_key(part: str) -> str:
    """Returns the key of the note that a process has started a part."""
    return f"{part.removesuffix('.parquet')}.begun"


def parse_model_folder(name: str) -> str | None:
    """Returns the model that a folder below `redetections/` stands for, such as `demo@0.3`, or None."""
    model = name.removeprefix(_MODEL).replace("~", "@")
    return model if name.startswith(_MODEL) and model else None


def comparison_examples_prefix(day: date) -> str:
    """Returns the prefix of the pictures of a day's comparison of models."""
    return f"{summary_key('model_comparison', day).rpartition('/')[0]}/examples"


def comparison_example_key(day: date, model_a: str, model_b: str, frame_id: str) -> str:
    """Returns the key of one such picture: below the prefix, `{model a}/{model b}/{frame id}.jpg`."""
    pair = f"{model_a}/{model_b}".replace("@", "~")
    return f"{comparison_examples_prefix(day)}/{pair}/{safe_name(frame_id)}.jpg"


def repair_entry_key(number: int) -> str:
    """Returns the key of an entry of the repair list: `metadata_repair_list/0000000001.json`."""
    return f"{REPAIR_LIST}/{number:010d}.json"


def follower_key(name: str) -> str:
    """Returns the key of what a follower keeps: `metadata_followers/days.json.zst`."""
    return f"{FOLLOWERS}/{name}.json.zst"


def damaged_copy_key(chain: ChainId, start: int, digest: str) -> str:
    """Returns the key under which the bytes of a damaged segment are kept, by their own hash."""
    return f"{DAMAGED}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}/{start:020d}.{digest}"


def repair_notes_prefix() -> str:
    """Returns the prefix of the notes that say which days are to be built again after a repair."""
    return f"{DAMAGED}/days_to_build"


def event_image_key(day: date, event_id: str, what: str) -> str:
    """Returns the key of an image made for an event: `event_images/day=2026-01-09/{event id}.difference.jpg`."""
    return f"event_images/day={day.isoformat()}/{safe_name(event_id)}.{safe_name(what)}.jpg"


def rules_key() -> str:
    """Returns the key of the stored rules of events: `rules.toml`."""
    return "rules.toml"


def audit_state_key() -> str:
    """Returns the key under which an audit notes how far it came: `audit/state.json`."""
    return "audit/state.json"


def audit_verdict_key(day: date) -> str:
    """Returns the key of the last audit's verdict on a day: `audit/day=2026-01-09/verdict.json`."""
    return f"audit/day={day.isoformat()}/verdict.json"


def parse_day(key: str) -> date | None:
    """Returns the day that a key of a daily table or summary belongs to, or None if it names none."""
    match = re.search(r"/day=(\d{4}-\d\d-\d\d)/", key, re.ASCII)
    return _day_in(match[1]) if match else None


def image_key(source: str, day: date, name: str) -> str:
    """Returns the key under which an image is stored: `images/{source}/{day}/{name}`."""
    return f"{IMAGES}/{safe_name(source)}/{day.isoformat()}/{safe_name(name)}"


def deleted_images_key(source: str, day: date) -> str:
    """Returns the key of the record of a source's deleted images: `deleted_images/gate/2026-01-09.json`.

    Args:
        source: The source as `image_key` writes it.
        day: UTC day below which the images were stored.
    """
    return f"{DELETED_IMAGES}/{source}/{day.isoformat()}.json"


def derived_image_key(key: str, derivation: str) -> str:
    """Returns the key of an image derived from another one: `images/yard/2026-01-09/derived/gray/0001.jpg`."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/{_DERIVED}/{derivation}/{name}"


def original_image_key(key: str) -> str:
    """Returns the key of the image that a derived one was made from; of any other image its own key."""
    parts = key.split("/")
    return "/".join((*parts[:-3], parts[-1])) if len(parts) > 3 and parts[-3] == _DERIVED else key


def safe_name(name: str) -> str:
    """Returns a name as one part of a key.

    Names of letters, digits, `.`, `_` and `-` stay as they are; of others those characters are kept and a hash
    of the whole is added (96 bits), so that two names never share a part, even if someone tries.
    """
    if _SAFE_NAME.fullmatch(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    stem, dot, ending = kept.rpartition(".")
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    if dot and len(ending) <= 5:
        return f"{stem[:60]}~{digest}.{ending}"
    return f"{kept[:60]}~{digest}"
