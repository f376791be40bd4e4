"""Class groups: labels that one tracker follows together, since detectors mistake one for another."""

from collections.abc import Mapping
from dataclasses import dataclass

from imgpipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ClassGroups:
    """Which labels are followed together."""

    first_labels: Mapping[str, str]
    """For each label of a group the group's first label, which names the group."""

    def of(self, label: str) -> str:
        """Returns the group of a label; a label that no group names is alone."""
        return self.first_labels.get(label, label)


def parse_groups(text: str) -> ClassGroups:
    """Reads groups such as `person; car,van,truck,bus`.

    Args:
        text: Groups separated by semicolons, their labels by commas.

    Raises:
        ConfigurationError: A label stands in two groups.
    """
    groups = [[label.strip() for label in group.split(",") if label.strip()] for group in text.split(";")]
    first_labels: dict[str, str] = {}
    for labels in groups:
        for label in labels:
            if first_labels.setdefault(label, labels[0]) != labels[0]:
                raise ConfigurationError(
                    f"The label {label!r} stands in two groups of {text!r}; expected each label once.",
                    next_step="change IMGPIPELINE_TRACK_GROUPS",
                )
    return ClassGroups(first_labels)
