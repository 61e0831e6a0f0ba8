"""The networks of another spec under names that end otherwise, as a second cohort of them needs.

A spec that names its networks itself, such as several factories, takes no notice of the name that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.spec import Network, Spec, comes_ready


@dataclass(frozen=True)
class Renamed:
    """Networks with a suffix to their names.

    Attributes:
        of: the spec that makes them.
        suffix: of each name.
    """

    of: Spec
    suffix: str

    @property
    def ready(self) -> bool:
        """Whether they come with their weights."""
        return comes_ready(self.of)

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """As the other spec builds them."""
        made = self.of.build(name, input_shape, num_classes)
        return {own + self.suffix: network for own, network in made.items()}
