"""What our L-BFGS costs: evaluations, and time beside SciPy's, image by image in Foolbox 2's manner.

`pytest -m slow tests/benchmarks -s` prints the figures. Ours takes its batch of 100, which is what a batched search is
for; SciPy takes the first 20 of these images, as its time per image does not depend on their number. Distortions are
compared on these 20: on five or fewer the order of the two means still changes from one set of images to the next.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.benchmarks.measure import measure
from tests.benchmarks.networks import load
from tests.benchmarks.peers import DEFAULT, methods

pytestmark = pytest.mark.slow

IMAGES, FEW = 100, 20
# Times faster than SciPy, and evaluations an image at most; DDN takes 1,000.
BOUNDS = {
    "mlp": (50, 60),
    "mnist_lenet5_clean": (50, 120),
    "mnist_lenet5_adv": (50, 280),
    "cifar10_resnet20": (15, 150),
}


@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
@pytest.mark.parametrize("network", BOUNDS)
def test_the_default_is_many_times_faster_than_scipy_at_no_larger_distortion(benchmark, real_data, network, kind):
    subject = load(network, IMAGES)
    goal = subject.goal(kind, 0)
    default, scipy = methods([DEFAULT, "scipy-foolbox2"])
    few = torch.arange(FEW)

    ours = measure(default, subject.network, subject.x, goal, 0)
    theirs = measure(scipy, subject.network, subject.x[few], goal[few], 0)
    benchmark.pedantic(lambda: default.run(subject.network, subject.x, goal, 0), rounds=1)
    milliseconds = (ours.milliseconds + 1e3 * benchmark.stats.stats.mean / IMAGES) / 2  # before and after SciPy
    faster = theirs.milliseconds / milliseconds
    evaluations = max(ours.forwards, ours.backwards)
    sizes = np.mean(ours.rms[:FEW]), np.mean(theirs.rms)
    benchmark.extra_info.update(faster=faster, evaluations=evaluations, rms=sizes[0], rms_scipy=sizes[1])
    print(
        f"{network}, {kind}: {evaluations:.0f} evaluations and {milliseconds:.1f} ms an image, {faster:.0f} times "
        f"faster than SciPy; mean RMS {sizes[0]:.5f}, SciPy {sizes[1]:.5f}"
    )
    assert all(ours.reached)
    assert all(theirs.reached)
    least, most = BOUNDS[network]
    assert evaluations <= most
    assert sizes[0] <= sizes[1]
    assert faster >= least
