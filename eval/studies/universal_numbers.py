"""Fooling rates of universal perturbations in the literature, in percent. Free of torch.

Source: Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, "Universal adversarial perturbations", CVPR 2017 (arXiv
1610.08401), tables 1 and 2: 10,000 images to make them on, 50,000 of ImageNet's validation set to judge them on, 10 of
255 in Linf and 2,000 in L2, not clipped to the box.
"""

from __future__ import annotations

from collections.abc import Mapping

MADE_ON, JUDGED_ON = 10_000, 50_000
EPS = 10 / 255
FOOLED: Mapping[tuple[str, str], tuple[float, float]] = {
    ("l2", "vgg16"): (90.7, 90.3),
    ("l2", "vgg19"): (86.9, 84.5),
    ("l2", "googlenet"): (82.9, 82.0),
    ("l2", "resnet152"): (89.7, 88.5),
    ("linf", "vgg16"): (78.5, 78.3),
    ("linf", "vgg19"): (77.8, 77.8),
    ("linf", "googlenet"): (80.8, 78.9),
    ("linf", "resnet152"): (85.4, 84.0),
}
"""By norm and network: on the images that it was made on, and on others."""
_ORDER = ("googlenet", "vgg16", "vgg19", "resnet152")
_ROWS = ((78.9, 39.2, 39.8, 45.5), (56.5, 78.3, 73.1, 63.4), (53.6, 73.5, 77.8, 58.0), (50.5, 47.0, 45.5, 84.0))
TRANSFER: Mapping[tuple[str, str], float] = {
    (source, target): value
    for source, row in zip(_ORDER, _ROWS, strict=True)
    for target, value in zip(_ORDER, row, strict=True)
}
"""In Linf, by the networks that it was made for and shown to."""


def network(name: str) -> str:
    """The paper's network that a model of that name is, or nothing.

    >>> network("torchvision_vgg16"), network("cnn")
    ('vgg16', '')
    """
    return next((known for known in _ORDER if name == f"torchvision_{known}"), "")
