"""The numbers of Szegedy et al., as they are printed. Free of torch.

Source: "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), Tables 1 to 4. How many images stand
behind the matrices is not said there: 28 of their 31 entries with a decimal are multiples of 1/256. Those of Gaussian
noise are not, so that nobody knows how far chance moves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

IMAGES = 256  # behind the matrices and the distortions
TEST, TRAIN, HALF = 10_000, 60_000, 30_000  # behind the errors of Tables 1 and 3

Printed = Mapping[str, Sequence[str]]

ERRORS: Printed = {  # Table 1: error in percent on training and test set, average minimum distortion
    "fc10_1e-4": ["6.7", "7.4", "0.062"],
    "fc10_1e-2": ["10", "9.4", "0.1"],
    "fc10_1": ["21.2", "20", "0.14"],
    "fc100_100": ["0", "1.64", "0.058"],
    "fc200_200": ["0", "1.54", "0.065"],
    "ae400": ["0.57", "1.9", "0.086"],
}
FULL = ("fc10_1e-4", "fc10_1e-2", "fc10_1", "fc100_100", "fc200_200", "ae400")
TRANSFER: Printed = {  # Table 2: error in percent of the networks in that order
    "fc10_1e-4": ["100", "11.7", "22.7", "2", "3.9", "2.7"],
    "fc10_1e-2": ["87.1", "100", "35.2", "35.9", "27.3", "9.8"],
    "fc10_1": ["71.9", "76.2", "100", "48.1", "47", "34.4"],
    "fc100_100": ["28.9", "13.7", "21.1", "100", "6.6", "2"],
    "fc200_200": ["38.2", "14", "23.8", "20.3", "100", "2.7"],
    "ae400": ["23.4", "16", "24.8", "9.4", "6.6", "100"],
    "gaussian_0.1": ["5.0", "10.1", "18.3", "0", "0", "0.8"],
    "gaussian_0.3": ["15.6", "11.3", "22.7", "5", "4.3", "3.1"],
}
HALVES = ("fc100_100_p1", "fc123_456_p1", "fc100_100_p2")
HALVES_ERRORS: Printed = {  # Table 3: error in percent on P1, P2 and the test set, average minimum distortion
    "fc100_100_p1": ["0", "2.4", "2", "0.062"],
    "fc123_456_p1": ["0", "2.5", "2.1", "0.059"],
    "fc100_100_p2": ["2.3", "0", "2.1", "0.058"],
}
NATIVE: Printed = {  # Table 4
    "fc100_100_p1": ["100", "26.2", "5.9"],
    "fc123_456_p1": ["6.25", "100", "5.1"],
    "fc100_100_p2": ["8.2", "8.2", "100"],
    "gaussian_0.06": ["2.2", "2.6", "2.4"],
    "gaussian_0.1": ["2.6", "2.8", "2.7"],
}
AMPLIFIED: Printed = {  # Table 4, amplified to 0.1
    "fc100_100_p1": ["100", "98", "43"],
    "fc123_456_p1": ["96", "100", "22"],
    "fc100_100_p2": ["27", "50", "100"],
}


def decimals(text: str) -> int:
    """How many digits stand after the point.

    >>> decimals("6.25"), decimals("20")
    (2, 0)
    """
    return len(text.partition(".")[2])
