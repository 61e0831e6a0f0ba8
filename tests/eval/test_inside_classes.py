"""What the section on classes of `eval.studies.inside` concludes of images that were made for robust networks."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies.inside_names import Networks
from eval.studies.inside_units import class_section
from tests.eval.test_inside_said import NET, excited


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ((10, 9), "they do look like it to the other trained ones, as the second claim says"),
        ((10, 1), "they need not look like it to another trained one, against the second claim"),
        ((10, 5), "whether they look like it to the other trained ones cannot be told"),
    ],
)
def test_images_of_a_robust_network_are_judged_for_themselves(seen: tuple[int, int], says: str):
    """What is made for the others is seen by all; of the robust network's images the first two networks see some."""
    n, labels = 10, {"a": "a", "a_other": "a twin", "a_robust": "a robust", "a_untrained": "a untrained"}
    of = {}
    for name in labels:
        others = [other for other in labels if other != name]
        by = np.tile(np.arange(n), (len(others), 1))
        if name == "a_robust":
            for row, count in zip(by, (*seen, 0), strict=True):  # the untrained one has no say
                row[count:] = -1
        of[name] = excited(n) | {"other": np.array(others), "said": by}
    answer = class_section(of, Networks(("a",), labels)).answer
    assert answer.endswith(f"%): {says}.")
    assert "; of those made for a robust the class is seen by a in 100.0%" in answer
    assert "to the other trained ones, against the first claim; of those made for others" in answer


def test_without_a_robust_network_the_second_claim_is_left_open():
    of = {name: excited() | {"other": np.array([n for n in NET.labels if n != name])} for name in NET.labels}
    answer = class_section(of, NET).answer
    assert answer.endswith("; of the second claim nothing can be told, as no a was trained robustly.")
