"""What the diagnosis asks of a network: its answers, its gradients, and how a search on it goes. Free of torch.

Sources: C1 to C18, Carlini et al., "On evaluating adversarial robustness" (arXiv 1902.06705), section 5; S1 to S5, the
signs of Athalye, Carlini and Wagner, ICML 2018 (arXiv 1802.00420), section 3.1; AA, the flags of the program of Croce
and Hein, ICML 2020 (arXiv 2003.01690); I1 to I6, Pintor et al., NeurIPS 2022 (arXiv 2106.09947); Tramer et al., NeurIPS
2020 (arXiv 2002.08347).
"""

from __future__ import annotations

import numpy as np

from eval.diagnosis.checks import MASKED, NOT_MEASURED, Arrays, Question, Seen, Told, area, beyond_chance, share, some

REPEAT = 1e-4  # of normalised logits, between two forwards
ALONE = 1e-3  # the same, between alone and in a batch
SLOPE = (0.2, 5.0)  # of the change that a gradient announces
SURE = 0.05  # share of images that a healthy network may be so sure of that their cross-entropy has no gradient
RISING = 0.5  # share of the steps after which the loss must be no smaller
CONSISTENT = 0.9
LATE = 0.05  # share of its gain that the last tenth of a path may bring


def _looked(arrays: Arrays, name: str) -> bool:
    """Whether a probe had images to look at: it has a value for each under that name."""
    return some(arrays, name) is not None


def _randomised(seen: Seen) -> Told:
    repeat, turned = some(seen.answers, "repeat"), some(seen.answers, "turned")
    if repeat is None or turned is None:
        return NOT_MEASURED
    text = f"logits differ by up to {repeat.max():.2g} of their length between forwards; {share(turned)} change class"
    return text, bool(repeat.max() > REPEAT or turned.any())


def _batch(seen: Seen) -> Told:
    alone = some(seen.answers, "alone")
    if alone is None:
        return NOT_MEASURED
    text = f"logits differ by up to {alone.max():.2g} of their length between alone and in a batch"
    return text, None if _randomised(seen)[1] else bool(alone.max() > ALONE)


def _probabilities(seen: Seen) -> Told:
    found = some(seen.answers, "probabilities")
    if found is None or not _looked(seen.answers, "repeat"):
        return NOT_MEASURED
    return ("rows in [0, 1] that sum to 1" if found else "values that are no probabilities"), bool(found)


def _labels(seen: Seen) -> Told:
    levels, classes = some(seen.answers, "levels"), some(seen.answers, "num_classes")
    if levels is None or classes is None or classes < 3:
        return NOT_MEASURED
    return f"at most {int(levels.max())} different values among the {int(classes)} of an image", bool(levels.max() <= 2)


def _dynamic(seen: Seen) -> Told:
    calls = some(seen.answers, "autograd")
    if calls is None or not _looked(seen.answers, "repeat"):
        return NOT_MEASURED
    return f"{int(calls)} calls for gradients inside forward", bool(calls > 0)


def _few(seen: Seen) -> Told:
    classes = some(seen.answers, "num_classes")
    return NOT_MEASURED if classes is None else (f"{int(classes)} classes", bool(classes < 4))


def _none(seen: Seen) -> Told:
    none = some(seen.slopes, "none")
    if none is None or not _looked(seen.slopes, "zero"):
        return NOT_MEASURED
    return ("no path from the logits to the pixels" if none else "a gradient reaches the pixels"), bool(none)


def _zero(seen: Seen) -> Told:
    zero, margin = some(seen.slopes, "zero"), some(seen.slopes, "zero_margin")
    if zero is None or margin is None:
        return NOT_MEASURED
    text = f"it is exactly zero on {share(zero)} images for the cross-entropy, on {share(margin)} for the margin"
    flat = beyond_chance(int(zero.sum()), zero.size, SURE)
    known = seen.bracket
    if flat and not margin.any() and known is not None and 0 < known.certified == known.standing and not known.broken:
        return f"{text}; yet each sample that was left standing is proved", False
    return text, bool(margin.any()) or flat


def _slope(seen: Seen) -> Told:
    slope = some(seen.slopes, "slope")
    if slope is None or bool(np.isnan(slope[:, 0]).all()):
        return NOT_MEASURED
    middle = float(np.nanmedian(slope[:, 0]))
    text = f"a step of a tenth of eps changes the margin by {middle:.2g} times what the gradient says (median)"
    return text, not SLOPE[0] <= middle <= SLOPE[1]


def _unstable(seen: Seen) -> Told:
    unstable = some(seen.slopes, "unstable")
    if unstable is None:
        return NOT_MEASURED
    return f"noise of 4/255 changes the cross-entropy by {unstable.mean():.0%} of itself", bool(unstable.mean() > 0.1)


def _unbounded(seen: Seen) -> Told:
    found = some(seen.paths, "unbounded")
    return NOT_MEASURED if found is None else (f"{share(found)} reached without a budget", not found.all())


def _grey(seen: Seen) -> Told:
    found, classes = some(seen.paths, "grey"), some(seen.answers, "num_classes")
    if found is None or classes is None:
        return NOT_MEASURED
    left = int((~found).sum())
    text = f"{left} of {found.size} left standing at half the width of the box; chance is 1 in {int(classes)}"
    return text, beyond_chance(left, found.size, 1 / float(classes))


def _rising(seen: Seen) -> Told:
    loss = some(seen.paths, "loss")
    if loss is None:
        return NOT_MEASURED
    rising = float((np.diff(loss, axis=1) >= 0).mean())
    return f"the loss rises in {rising:.0%} of the steps", rising < RISING


def _consistent(seen: Seen) -> Told:
    loss, reached = some(seen.paths, "loss"), some(seen.paths, "reached")
    if loss is None or reached is None:
        return NOT_MEASURED
    found = area(loss.ravel(), reached.ravel())
    if np.isnan(found):
        return "no path has both points that succeed and points that do not", None
    return f"of two points of the paths, the one with the larger loss is the adversarial one in {found:.1%}", (
        found < CONSISTENT
    )


def _silent(seen: Seen) -> Told:
    reached, last = some(seen.paths, "reached"), some(seen.paths, "last")
    if reached is None or last is None:
        return NOT_MEASURED
    lost = reached.any(axis=1) & ~last
    return f"{share(lost)} paths pass an adversarial point and end elsewhere", bool(lost.any())


def _late(seen: Seen) -> Told:
    loss = some(seen.paths, "loss")
    if loss is None:
        return NOT_MEASURED
    best = np.maximum.accumulate(loss, axis=1)
    gain = best[:, -1] - best[:, 0]
    tenth = max(1, (loss.shape[1] - 1) // 10)
    late = float(np.mean((best[:, -1] - best[:, -1 - tenth]) / np.where(gain > 0, gain, 1.0)))
    return f"the last tenth of the steps brings {late:.1%} of the gain", late > LATE


SYMPTOMS: tuple[Question, ...] = (
    Question(
        "randomised", "The same image gets the same answer", f"a difference above {REPEAT:g}",
        "Every gradient is that of one draw, and a success may be luck, as may a failure.",
        "average the gradient over draws: attack=pgd_eot", "C14, AA", _randomised,
    ),
    Question(
        "batch_dependent", "An answer does not depend on the rest of its batch", f"a difference above {ALONE:g}",
        "Results depend on which images happen to share a batch, and gradients leak between them.",
        "put batch norm into evaluation mode; look for statistics taken over the batch", "AA", _batch,
    ),
    Question(
        "probabilities", "Answers are logits", "probabilities in place of logits",
        "Their gradient vanishes where the network is sure, which looks like robustness.",
        "return the values before the softmax, or use attack=square", "AA", _probabilities,
    ),
    Question(
        "hard_labels", "Answers say how sure the network is", "two values alone",
        "Decisions have no gradient, and no search that follows scores can see where to go.",
        "return what the decision is made from; else attack=foolbox/hopskipjump access=labels", "C17", _labels,
    ),
    Question(
        "dynamic", "Forward is a fixed function", "a gradient is asked for inside forward",
        "The network optimises at inference; what an attack differentiates may not be what answers.",
        "attack the whole of it, with gradients through its inner steps, or attack=square", "AA", _dynamic,
    ),
    Question(
        "no_gradient", "A gradient reaches the pixels", "none does",
        "Searches that follow gradients stand still, which looks like robustness.", MASKED, "I1", _none,
    ),
    Question(
        "zero_gradient", "Gradients are not zero",
        f"one image for the margin, more than {SURE:.0%} for the cross-entropy, beyond chance",
        "Searches that follow gradients stand still on these images.",
        "where the cross-entropy alone is concerned, attack.pgd.loss=margin; else " + MASKED, "I1, AA", _zero,
    ),
    Question(
        "slope", "A step along the gradient does what the gradient says",
        f"less than {SLOPE[0]:g} or more than {SLOPE[1]:g} times as much",
        "The gradient is that of something else, or of a scale finer than any perturbation.", MASKED,
        "central differences", _slope,
    ),
    Question(
        "unbounded", "Without a budget every image falls", "one that does not",
        "Any image can become any other one: a search that fails here fails for other reasons than robustness.",
        MASKED, "C5, S3, I6", _unbounded,
    ),
    Question(
        "grey", "With half the width of the box no more than chance is left", "more than chance, beyond its interval",
        "Any image can become grey, which no network can name.", MASKED, "C4", _grey,
    ),
    Question(
        "rising", "The loss rises along the path", f"less than {RISING:.0%} of the steps",
        "The search does not climb: steps too long, or gradients that mislead.",
        "shorten attack.pgd.step_size; else " + MASKED, "C13", _rising,
    ),
    Question(
        "consistent", "A larger loss is nearer to success", f"an area below {CONSISTENT:g}",
        "The search maximises something else than what counts.", "attack.pgd.loss=margin", "Tramer et al.", _consistent,
    ),
    Question(
        "late", "The path has come to its end", f"more than {LATE:.0%} of the gain in the last tenth",
        "A longer search would find more.", "attack.pgd.steps", "I4", _late, fault=False,
    ),
    Question(
        "silent", "A path that succeeded ends in success", "one that does not",
        "An attack that returns its last point would lose these; the searches here return their best one.",
        "nothing, here", "I3", _silent, fault=False,
    ),
    Question(
        "unstable", "Small noise changes the loss little", "by more than 10%",
        "Networks that are very sure do this too, since their loss is tiny: a remark, no verdict.",
        "look at the slopes above", "I2", _unstable, fault=False,
    ),
    Question(
        "few_classes", "The usual losses are defined", "fewer than 4 classes",
        "The ratio of logit differences needs four; the margin takes its place here.", "nothing, here", "AA", _few,
        fault=False,
    ),
)  # fmt: skip
"""In the order in which a report shows them."""
