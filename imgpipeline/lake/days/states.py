"""Which stored summaries show everything that the ledger has of their days, without fetching the day tables.

The day catalogue remembers the answer for each version of a summary and its tables, so it costs requests only once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from imgpipeline.lake.days.day_catalog import DayCatalog, join_versions
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import list_versions, stored_key
from imgpipeline.lake.storage.manifest import Manifest, read_stored
from imgpipeline.objectstore import ObjectStore


@dataclass(slots=True)
class StoredStates:
    """Compares stored summaries with the stored tables and with the ledger, at the moment of the day catalogue."""

    store: ObjectStore
    catalog: DayCatalog
    """A catalogue that has followed the ledger; its owner saves it."""
    _listed: dict[str, Mapping[date, str]] = field(default_factory=dict)
    _versions: dict[tuple[str, date], str] = field(default_factory=dict)

    def listed(self, table: str) -> Mapping[date, str]:
        """Returns the e-tag of each stored day of a table, with one listing."""
        if table not in self._listed:
            self._listed[table] = list_versions(self.store, table)
        return self._listed[table]

    def is_complete(self, manifest: Manifest, e_tag: str) -> bool:
        """Tells whether a stored summary was made of the stored day tables, and the ledger has nothing newer.

        Several threads may ask at once if the day tables were `listed` before. They may read a version twice, which
        harms nothing. Whether the summaries among its inputs are current is for the caller to compare.

        Args:
            manifest: The manifest of the summary.
            e_tag: The version of its object.

        Raises:
            LedgerError: A segment after it cannot be read.
        """
        name, day, known = manifest.table, manifest.day, self.catalog.known
        tables = [table for table in SUMMARIES[name].inputs if table not in SUMMARIES]
        # These objects belong together: once that is known, their manifests need not be read again.
        listed = join_versions([e_tag, *(self.listed(table).get(day) for table in tables)])
        if known.is_complete(day, name, listed):
            return True
        if known.has_newer_segments(day, manifest.ends):
            return False
        if any(manifest.made_of.get(table) != self._version(table, day) for table in tables):
            return False
        return not self.catalog.has_newer_segments(day, name, listed, manifest.ends)

    def _version(self, table: str, day: date) -> str:
        if (table, day) not in self._versions:
            found = read_stored(self.store, stored_key(table, day))
            self._versions[table, day] = found.manifest.version if found else ""
        return self._versions[table, day]
