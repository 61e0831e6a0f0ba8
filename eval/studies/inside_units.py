"""What filters look for, and what excites units and classes: sections of `eval.studies.inside`. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.intervals import Bools, Floats
from eval.studies.cells import Table, Value, share, told
from eval.studies.clauses import sentence
from eval.studies.estimates import beyond, mean_of, median_of, said, share_of_groups, verdict
from eval.studies.inside_names import OTHER, ROBUST, UNTRAINED, Array, Measured, Networks, model_of
from eval.studies.reading import Pictures, Section
from eval.studies.sheets import filters, sheet

_DEAD = 0.01  # of the strongest filter's root mean square
_SHEET = 40  # images on a sheet, at most
_PIXELS = 1_500_000  # the same, of large ones
_AGAINST, _AS_CLAIMED = "against the first claim", "as the first claim says"


def roughness(weights: Array) -> Floats:
    """Of filters (n, C, h, w), (n,): mean square difference of neighbours beside twice the mean square.

    1 for weights that know nothing of their neighbours, 0 for constant ones, up to 2 where signs take turns; NaN
    without neighbours or weights.
    """
    wide = weights.astype(np.float64)
    squares = [(np.diff(wide, axis=axis) ** 2).reshape(len(wide), -1) for axis in (2, 3)]
    apart = np.concatenate(squares, axis=1)
    size = 2.0 * (wide**2).reshape(len(wide), -1).mean(1)
    if not apart.shape[1]:
        return np.full(len(wide), np.nan)
    rough: Floats = np.divide(apart.mean(1), size, out=np.full(len(wide), np.nan), where=size > 0)
    return rough


def filter_section(measured: Measured, networks: Networks) -> Section | None:
    """Filters of the first layer, beside those that learnt nothing; None where no network's can be shown."""
    rows, medians = [], {}
    for name, label in networks.labels.items():
        weights = measured.get(name, {}).get("weights")
        if weights is None:
            continue
        size = np.sqrt((weights.astype(np.float64) ** 2).reshape(len(weights), -1).mean(1))
        medians[name] = median_of(roughness(weights))
        rows.append((label, (medians[name], share(size < _DEAD * size.max()))))
    if not rows:
        return None
    table = Table(
        "filters-roughness",
        "Filters of the first layer",
        "Roughness: mean square difference of neighbouring weights beside twice their mean square, the median filter; "
        "1 where neighbours know nothing of each other, 0 where they are the same. Dead: less than 1% as large as the "
        "largest filter.",
        ("roughness", "dead"),
        tuple(rows),
    )
    lines = []
    for model in networks.models:
        own, null = medians.get(model), medians.get(model + UNTRAINED)
        if own is None or null is None:
            continue
        how = verdict(beyond(own, null), "the untrained is smoother", "the trained is smoother")
        lines.append(f"the median filter of {model} has a roughness of {said(own)}, untrained {said(null)}: {how}")
    n = ", ".join(f"{networks.labels[name]} {value.n}" for name, value in medians.items())
    return Section(
        "first-layer",
        "Filters: what the first layer looks for",
        "Filters of a first layer show what they look for: a mix of smooth edges and strokes, with some that are dead "
        "(Zeiler and Fergus 2014, section 4.1).",
        f"The weights of up to 64 filters of each network, as they are ({n}).",
        "The same architecture before it learnt anything: its filters are as rough as chance makes them.",
        sentence(lines, "no network could be compared with its untrained form"),
        (table,),
        pictures=filters(measured, networks.labels),
    )


def unit_section(measured: Measured, networks: Networks) -> Section:
    """Images that excite units, beside the best real ones, and on another network."""
    rows, lines = [], []
    for name, label in networks.labels.items():
        one = measured[name]
        apart = (one["made"] - one["real"]) / np.where(one["spread"] > 0, one["spread"], np.nan)
        noise = (one["noise"] - one["real"]) / np.where(one["spread"] > 0, one["spread"], np.nan)
        better, agreed = share(one["made"] > one["real"]), _agreement(one, _witness(networks, name))
        rows.append((label, (median_of(apart), better, median_of(noise), *agreed)))
        if name in networks.models:
            null = _agreement(measured[name + UNTRAINED], name)[1]
            text = (
                f"in {label} the image excites {told(better)} of {_which(one)} more than any real image, by "
                f"{said(rows[-1][1][0], 1)} deviations in the median"
            )
            if agreed[1] is not None and agreed[2] is not None:
                text += (
                    f", and the unit of another seed that is most like it answers {told(agreed[1])} of them more than "
                    f"any real image, {_told(agreed[2])} of those made for other units: "
                    f"{_matched(agreed[1], agreed[2])}"
                )
            if agreed[1] is not None and null is not None:
                how = verdict(beyond(agreed[1], null), "which is less", "which is more")
                text += (
                    f"; {label} itself answers {told(null)} of an untrained network's images, beside those "
                    f"{told(agreed[1])} of the trained one's: {how}"
                )
            lines.append(text)
    table = Table(
        "stimuli",
        "Images that excite units",
        "Units of one layer. Beyond the best real image: what the image that was made excites more than the best test "
        "image, in deviations of the unit over the test images; the same of noise. Matched: the unit of another "
        "network of the same architecture (of another seed for the model itself, of the model itself for the others) "
        "whose responses to test images correlate most; alike: that correlation on other test images. Its share of "
        "images that excite it more than its best test image, of those made for the unit it is matched with, and of "
        "those made for the other units.",
        ("beyond the best real", "above it", "noise beyond it", "alike", "matched unit", "others' images"),
        tuple(rows),
    )
    first = measured[next(iter(networks.labels))]
    return Section(
        "units-excited",
        "Units: the images that excite them most",
        "What excites a unit most shows what it looks for (Erhan et al. 2009; Zeiler and Fergus 2014; Olah et al. "
        "2017).",
        f"An image for each of {_which(first)} of each network, by ascent from grey noise with decay, blur and shifts, "
        "at most as far from grey as the median test image, which is a root mean square of "
        f"{float(first['radius']):.2f} of the box; those of {next(iter(networks.labels.values()))} are "
        f"{_distance(first['image']):.2f} from it in the median.",
        f"The best real images, the best of {int(first['noises'])} images of noise, as many as real ones and as far "
        "from grey as the median of these, the unit of another network that does the same on real images, under images "
        "that were made for other units, and an untrained network.",
        sentence(lines, "no network was measured"),
        (table,),
        pictures=_pictures(measured, networks, ""),
    )


def _which(one: Mapping[str, Array]) -> str:
    """The units that are looked at, in words."""
    units, there = one["unit"], int(one["there"])
    if len(units) == there:
        return f"all {there} units of {one['layer']}"
    if units.tolist() == list(range(len(units))):
        return f"the first {len(units)} of {there} units of {one['layer']}"
    return f"unit {', '.join(map(str, units))} of the {there} of {one['layer']}"


def _distance(images: Array) -> float:
    """How far images (n, C, H, W) of bytes are from grey, in the median: root mean square, of the box."""
    apart = (images.astype(np.float64) / 255.0 - 0.5).reshape(len(images), -1)
    return float(np.median(np.sqrt((apart**2).mean(1))))


def _told(value: Value) -> str:
    """A share as a sentence has it, with its interval if there is one."""
    return f"{value.ours:.1%} (n={value.n}, no interval)" if np.isnan(value.low) else told(value)


def _matched(own: Value, others: Value) -> str:
    """Whether the matched unit answers what was made for its partner more than what was made for other units."""
    return verdict(beyond(own, others), "more of its partner's", "fewer of its partner's")


def _witness(networks: Networks, name: str) -> str | None:
    """The network of the same model that another one's images are shown to."""
    model = model_of(name)
    return networks.variant(model, OTHER) if name == model else model


def _agreement(one: Mapping[str, Array], witness: str | None) -> tuple[Value | None, Value | None, Value | None]:
    """How alike the matched units are, and which images excite them more than any real one."""
    others = [str(other) for other in one["other"]]
    if witness not in others:
        return None, None, None
    row = others.index(witness)
    if (one["matched"][row] < 0).all():
        return None, None, None
    hit: Bools = one["answers"][row] > one["answers_real"][row][:, None]  # (n, n)
    own = np.eye(len(hit), dtype=bool)
    strangers = np.where(own, np.nan, hit).astype(np.float64)
    rest = mean_of(np.nanmean(strangers, axis=1), kind="share") if len(hit) > 1 else None
    return median_of(one["alike"][row]), share(hit[own]), rest


def class_section(measured: Measured, networks: Networks) -> Section:
    """Images that excite classes, on all networks."""
    names = list(networks.labels)
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    cells: dict[tuple[str, str], Value] = {}
    for name in names:
        one = measured[name]
        judges = {name: one["class_said"]} | dict(zip(map(str, one["other"]), one["said"], strict=True))
        seen = {judge: _seen(judges[judge], one["class_unit"]) for judge in names if judge in judges}
        cells |= {(name, judge): value for judge, value in seen.items()}
        rows.append((networks.labels[name], tuple(seen.get(judge) for judge in names)))
    table = Table(
        "class-images",
        "Who sees the class that an image was made for",
        "Row: the network that the images were made for; column: the one that is asked. The share of images that it "
        "takes for their class. Images of one class differ in the noise that they were made from, and may share their "
        "fate: n counts classes, and intervals are over them.",
        tuple(networks.labels[name] for name in names),
        tuple(rows),
    )
    first = measured[names[0]]
    lines = []
    for model in networks.models:
        others = [n for n in networks.trained if n != model]
        told_of = [f"{networks.labels[n]} in {told(cells[model, n])}" for n in others if (model, n) in cells]
        back = [f"{networks.labels[n]} {told(cells[n, model])}" for n in (*others, model + UNTRAINED) if n in measured]
        text = f"of the images made for {model} it sees the class in {told(cells[model, model])}"
        text += f", {', '.join(told_of)}" if told_of else ""
        text += _foreign([cells[model, n] for n in others if (model, n) in cells])
        lines.append(text + (f"; of those made for others it sees it: {', '.join(back)}" if back else ""))
        lines += _of_robust(cells, networks, model)
    known, there = len(np.unique(first["class_unit"])), int(first["class_there"])
    of = f"the first {known} of the {there} classes that the images have" if known < there else f"all {there} classes"
    starts = len(first["class_unit"]) // known
    each = "An image" if starts == 1 else f"{starts} images, from different noise,"
    return Section(
        "classes-excited",
        "Classes: the images that a network is surest of",
        "Images that a network takes for a class with certainty need not look like it to another one (Nguyen, "
        "Yosinski and Clune 2015); those of robustly trained networks do (Tsipras et al. 2019; Engstrom et al. 2019).",
        f"{each} for each of {of}, for each network, made as those of units are.",
        "Images that were made for an untrained network, and the share that chance would bring, one of all classes.",
        sentence(lines, "no network was measured"),
        (table,),
        pictures=_pictures(measured, networks, "class_"),
    )


def _of_robust(cells: Mapping[tuple[str, str], Value], networks: Networks, model: str) -> list[str]:
    """What becomes of the claim about images that were made for robustly trained networks."""
    robust = networks.variant(model, ROBUST)
    if robust is None:
        return [f"of the second claim nothing can be told, as no {model} was trained robustly"]
    others = [n for n in networks.trained if n != robust and (robust, n) in cells]
    told_of = ", ".join(f"{networks.labels[n]} in {told(cells[robust, n])}" for n in others)
    asked = [cells[robust, n] for n in others]
    verdict_of = _foreign(asked, "as the second claim says", "against the second claim")
    return [f"of those made for {networks.labels[robust]} the class is seen by {told_of}{verdict_of}"] if asked else []


def _foreign(asked: Sequence[Value], alike: str = _AGAINST, unlike: str = _AS_CLAIMED) -> str:
    """Whether images look like their class to other trained networks: to clearly more than half, or fewer, of them.

    Args:
        asked: the share of images that each of these networks takes for their class.
        alike: what it means for the claim if they do.
        unlike: what it means if they need not.
    """
    if not asked:
        return ""
    if all(value.low > 0.5 for value in asked):
        return f": they do look like it to the other trained ones, {alike}"
    if any(value.high < 0.5 for value in asked):
        return f": they need not look like it to another trained one, {unlike}"
    return ": whether they look like it to the other trained ones cannot be told"


def _seen(said: Array, wanted: Array) -> Value:
    """The share of images (m,) that are taken for what they were made for; the starts of a class count as one."""
    hits = said == wanted
    return share_of_groups(np.stack([hits[wanted == c] for c in np.unique(wanted)]))


def _pictures(measured: Measured, networks: Networks, prefix: str) -> tuple[Pictures, ...]:
    """The images of each network beside the best real ones."""
    shown = []
    for name, label in networks.labels.items():
        one = measured[name]
        kinds = len(np.unique(one[f"{prefix}unit"]))
        shown.append(_sheet(label, one[f"{prefix}image"], kinds if prefix else None))
        if name in networks.models:
            real = one[f"{prefix}shown"][:kinds]  # the same for all starts
            shown.append(_sheet(f"{label}: the best real images", real, kinds if prefix else None))
    what = "classes" if prefix else "units"
    place = (
        "A column is a class, a row a start; on the other sheet the test image of which the network is surest."
        if prefix
        else "One of units after the other, in rows; in the same place of the other sheet the test image that excites "
        "it most."
    )
    return (Pictures(f"images-of-{what}", f"Images made for {what}", place, tuple(shown)),)


def _sheet(label: str, images: Array, columns: int | None) -> tuple[str, Array]:
    """A sheet with its label, which says so where not all images are on it."""
    most = min(_SHEET, max(4, _PIXELS // int(np.prod(images.shape[-2:]))))
    if len(images) > most:
        label, images, columns = f"{label}, the first {most} of {len(images)}", images[:most], None
    page = sheet(images.astype(np.float32) / 255.0, columns)
    return label, page if page.shape[0] in (1, 3) else page.mean(axis=0, keepdims=True)
