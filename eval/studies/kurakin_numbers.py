"""The numbers of Kurakin et al. for photographed prints.

Source: "Adversarial examples in the physical world", 2016 (arXiv 1607.02533), the tables of photographs: Inception v3,
102 images.
"""

from __future__ import annotations

from dataclasses import dataclass

DESTROYABLE = 50  # images behind its destruction rates, about: 40 to 75


@dataclass(frozen=True)
class Printed:
    """One method at one eps, in percent.

    Attributes:
        photo: correct on the photo.
        file: correct as a file.
        destroyed: by the photo, average case, by the likeliest class.
        destroyed_top5: the same by the likeliest five.
        filtered: destroyed of the prefiltered pictures, by the likeliest class.
        filtered_top5: the same by the likeliest five.
    """

    photo: float | None = None
    file: float | None = None
    destroyed: float | None = None
    destroyed_top5: float | None = None
    filtered: float | None = None
    filtered_top5: float | None = None


PRINTED = {
    ("fast", "16/255"): Printed(36.4, 36.3, 12.5, 40.0, 5.1, 39.4),
    ("fast", "8/255"): Printed(49.0, 30.4, 33.3, 40.0, 14.6, 70.8),
    ("basic iterative", "16/255"): Printed(49.0, 28.4, 40.4, 69.4, 60.0, 87.8),
    ("basic iterative", "8/255"): Printed(51.0, 26.5, 52.1, 90.5, 64.7, 91.2),
    ("least likely class", "16/255"): Printed(60.0, 1.0, 72.2, 85.1, 87.5, 97.9),
    ("least likely class", "8/255"): Printed(69.6, 0.0, 86.3, 94.6, 88.9, 97.0),
}
"""By the method and eps."""
