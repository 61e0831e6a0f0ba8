"""What the diagnosis asks of an evaluation: whether weaker searches find what stronger ones missed. Free of torch.

Sources: see `eval.diagnosis.symptoms`. Not asked, since nobody can ask it for you: whether the attack fits the defence
(C15).
"""

from __future__ import annotations

import numpy as np

from eval.diagnosis.checks import MASKED, NOT_MEASURED, Question, Seen, Told, beyond_chance, share, some
from eval.intervals import wilson

MORE = 0.005  # share of the samples that more of the same may find
SCORES = 0.002  # share that a search by scores may find beyond gradients
LATE = f"more than {SCORES:.1%}: one image of up to {1 / SCORES:.0f}"
DEGREES = 30.0  # of rotations, either way
MOVED = 0.1  # along each axis, of the larger side
_ENOUGH = 100  # samples of which a clean accuracy can be told from chance
AIMED: Told = ("the attacks aim at classes, and the searches of the diagnosis do not", None)
TURNED = 0.5  # share of the images that may fall to them without a remark
SIGMAS = (0.05, 0.1, 0.2)  # deviations of noise, as shares of the box


def _found_by(name: str, what: str) -> Question:
    """A search that should find nothing where the first one failed."""

    def ask(seen: Seen) -> Told:
        pgd, found = some(seen.searches, "pgd"), some(seen.searches, name)
        if pgd is None or found is None:
            return NOT_MEASURED
        text = f"{what}: {share(found)} images that gradient searches, longer and targeted ones too, cannot"
        return text, bool(found.any())

    titles = {
        "step": ("iterative", "Many steps find what one step finds", "C2, S1"),
        "half": ("monotone", "A larger budget finds what a smaller one finds", "C3, S5"),
        "noise": ("noise", "Gradients find what random points find", "C11, S4"),
        "scores": ("black_box", "Gradients find what a search by scores finds", "C9, S2"),
    }
    short, title, source = titles[name]
    return Question(
        short, title, "finds one",
        "A weaker search succeeds where the gradient search fails: gradients are misleading there.",
        MASKED, source, ask,
    )  # fmt: skip


def _more(name: str, what: str, short: str, title: str, source: str) -> Question:
    def ask(seen: Seen) -> Told:
        found = some(seen.searches, name)
        if found is None:
            return NOT_MEASURED
        return f"{what}: {share(found)} more", beyond_chance(int(found.sum()), found.size, MORE)

    return Question(
        short, title, f"finds more than {MORE:.1%} of the images, beyond chance",
        "The search had not come to its end, so that a longer one would leave less standing.",
        "give it more: attack.pgd.steps, attack.pgd.restarts, or attack=standard", source, ask, fault=False,
    )  # fmt: skip


def _missed(seen: Seen) -> Told:
    samples = some(seen.searches, "sample")
    if samples is None or seen.standing is None:
        return NOT_MEASURED
    if seen.targeted:
        return AIMED
    names = ("pgd", "step", "half", "noise", "scores", "longer", "again", "targeted")
    found = np.logical_or.reduce([seen.searches[n] for n in names if n in seen.searches])
    missed = found[np.isin(samples, list(seen.standing))]
    if missed.size == 0:
        return "the attacks of this run left none of the images standing that were searched", False
    text = f"{share(missed)} images left standing by the attacks of this run fall to a search of the diagnosis"
    return text, bool(missed.any())


def _stages(seen: Seen) -> Told:
    if seen.late is None or not seen.tried:
        return NOT_MEASURED
    text = f"{' and '.join(seen.scored)} broke {seen.late} of {seen.tried} images that gradients had not"
    return text, seen.late / seen.tried > SCORES


def _elsewhere(seen: Seen) -> Told:
    if seen.elsewhere is None:
        return NOT_MEASURED
    k = seen.elsewhere
    return f"perturbations made for other networks break {k} of {seen.tried} images that its own do not", bool(
        seen.tried and k / seen.tried > SCORES
    )


def _neighbour(seen: Seen) -> Told:
    samples = some(seen.neighbours, "sample")
    if samples is None or seen.standing is None:
        return NOT_MEASURED
    if seen.targeted:
        return AIMED
    standing = np.isin(samples, list(seen.standing))
    if not standing.any():
        return "no image was left standing", False
    hits = seen.neighbours["near"][standing]
    text = f"the way to an image of another class leaves the class within the budget for {share(hits)} images"
    return f"{text} that were left standing", bool(hits.any())


def _impossible(seen: Seen) -> Told:
    if seen.targeted:
        return AIMED
    samples = some(seen.neighbours, "sample")
    both = [] if samples is None else [i for i, s in enumerate(samples) if str(s) in seen.smallest]
    if samples is None or not both:
        return "no search for the smallest perturbation in this norm took part", None
    found = float(np.median([seen.smallest[str(samples[i])] for i in both]))
    walk = float(np.median(seen.neighbours["walk"][both]))
    text = f"the smallest perturbations found have a median size of {found:.3g}"
    return f"{text}, the ways to images of other classes one of {walk:.3g}, on {len(both)} images", found > walk


def _broader(seen: Seen) -> Told:
    turned = some(seen.broader, "turned")
    if turned is None:
        return NOT_MEASURED
    noise = [f"{share(seen.broader[f'noise_{k}'])} for {sigma:g}" for k, sigma in enumerate(SIGMAS)]
    text = f"a rotation up to {DEGREES:g} degrees with a move up to {MOVED:.0%} changes the class of {share(turned)}"
    return f"{text} images; Gaussian noise, by its deviation, that of {', of '.join(noise)}", beyond_chance(
        int(turned.sum()), turned.size, TURNED
    )


def _accuracy(seen: Seen) -> Told:
    right, n, chance = seen.accuracy
    if n == 0:
        return NOT_MEASURED
    text = f"{right / n:.1%} clean accuracy, n = {n}; always naming the largest class gives {chance:.1%}"
    if chance == 1 or float(wilson(right, n)[0]) > chance:
        return text, None if chance == 1 else False
    return text, True if right <= chance * n or n >= _ENOUGH else None


def _complete(seen: Seen) -> Told:
    if seen.standing is None:
        return NOT_MEASURED
    return (f"{', '.join(seen.scored)} needs no gradient" if seen.scored else "all attacks need gradients"), (
        not seen.scored
    )


COMPARISONS: tuple[Question, ...] = (
    Question(
        "missed", "The attacks of this run break what the searches of the diagnosis break", "one image",
        "Proof: the robust accuracy of this run is too high, by these images at least.",
        "use attack=standard, or what the checks below advise", "C12", _missed,
    ),
    Question(
        "accuracy", "The network is better than guessing", "clean accuracy at chance, by its interval",
        "Robustness of a network that guesses means nothing.",
        "check its normalisation, the order of the classes and its weights", "C1", _accuracy,
    ),
    _found_by("step", "one gradient step breaks"),
    _found_by("half", "half of the budget breaks"),
    _found_by("noise", "random points break"),
    _found_by("scores", "a few hundred queries for scores break"),
    Question(
        "stages", "Gradients break what the search by scores breaks, in the whole run", LATE,
        "A search without gradients succeeds where all with gradients failed: gradients are masked.",
        "believe the lower number; give the search by scores more queries, or " + MASKED, "C9, S2, AA", _stages,
    ),
    Question(
        "elsewhere", "Its own perturbations break what those of other networks break", LATE,
        "What transfers needs no gradient of this network: its own gradients mislead.", MASKED, "C10", _elsewhere,
    ),
    Question(
        "neighbour", "No image of another class is within reach", "one image",
        "Walking towards another image takes no gradient, so that every attack should have found as much.", MASKED,
        "C6", _neighbour,
    ),
    Question(
        "impossible", "Smallest perturbations are smaller than the way to an image of another class", "a larger median",
        "A search whose result is farther than another image has failed, whatever it reports.", MASKED, "C6",
        _impossible,
    ),
    _more("longer", "twice the steps break", "more_steps", "More steps find no more", "C7"),
    _more("again", "another start breaks", "more_restarts", "Another start finds no more", "C8"),
    Question(
        "complete", "A search without gradients takes part", "none does",
        "Where gradients are masked, nobody would notice.", "attack=standard, or add square", "C17", _complete,
        fault=False,
    ),
    Question(
        "broader", "A turned or moved image keeps its class", f"more than {TURNED:.0%} do not",
        "Robust accuracy speaks of small perturbations alone. A network may withstand these and not a turned image.",
        "train on what images meet where the network is used, and test that too", "C18", _broader, fault=False,
    ),
)  # fmt: skip
"""In the order in which a report shows them."""
