"""Two training loops, compared, in words."""

from __future__ import annotations

from collections import Counter, defaultdict

from gradcheck import words
from gradcheck.loops.names import Link
from gradcheck.loops.results import Doubt, LoopsReport
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.json import divergence_to_json, dump_json, quantiles
from gradcheck.report.steps import describe_divergence
from gradcheck.report.text import Json, describe_ratios, page
from gradcheck.report.traces import _steps

DOUBTS = {
    Doubt.OTHER_START: "they begin with other values of {}; give both the same, or pass start='theirs'",
    Doubt.NO_NAMES: 'parameters were matched with none of the other loop: {}; pass names={{"theirs": "ours"}}',
    Doubt.NOT_REPEATED: "{} are others when the loop is called again; seed what it draws inside of the function",
    Doubt.OTHER_RANDOMNESS: "they draw other random numbers: {} is zero at other places; draw the same in both",
    Doubt.KINKS: "in {} rounding put the two on different sides of a kink, or one called the model once more",
    Doubt.NO_INFORMATION: "no gradient or update was above rounding noise, so nothing could tell right from wrong",
}


COARSEST = ("bfloat16", "float16", "float32", "float64")


@words.text.register
def _page(report: LoopsReport) -> str:
    return page([summarise_loops(report), *(f"  {line}" for line in describe_loops(report))])


def describe_loops(report: LoopsReport) -> list[str]:
    """Return how the tensors were matched, what was compared with nothing, where the comparisons lie, and what next."""
    lines: list[str] = []
    for how, matches in _matches(report).items():
        lines.append(f"matched by {how}: {'; '.join(dict.fromkeys(matches))}")
    for side, names in (("ours", report.only_ours), ("theirs", report.only_theirs)):
        if names:
            lines.append(f"not compared, in {side} only: {'; '.join(_grouped(names))}")
    if report.unmeasured:
        lines.append(f"not judged, for want of measured noise: {'; '.join(report.unmeasured)}")
    if report.loss_scale != 1:
        lines.append(f"ours scales its loss by {report.loss_scale:g}, and its gradients back before the update")
    for side, sentences in zip(("ours", "theirs"), report.unseen, strict=True):
        lines += [f"not seen in {side}: {sentence}" for sentence in sentences]
    if report.ratios.size:
        lines.append(describe_ratios(report.ratios.size, *_quantiles(report)))
    gradients = {name: share for name, share in report.smallest.items() if name.startswith("backward/")}
    if report and gradients:
        worst = max(gradients, key=gradients.__getitem__)
        lines.append(
            f"an error of {gradients[worst]:.1g} of its largest element would have been seen in the gradient of "
            f"{worst.removeprefix('backward/')}, in all others a smaller one"
        )
    if report.kinks:
        how = "backward passes not judged, one side alone across a kink, or calling the model once more"
        lines.append(f"{how}: steps {', '.join(map(str, report.kinks))}")
    if report.precisions[0] != report.precisions[1]:
        lines.append(f"ours computes in {report.precisions[0]}, theirs in {report.precisions[1]}: judged by the lower")
    if report.counts[0] != report.counts[1]:
        lines.append(f"ours took {_steps(report.counts[0])}, theirs {report.counts[1]:,}: compared as far as both go")
    if report.free is not None and report.free.horizon is not None:
        lines.append(
            f"by themselves compared for {_steps(report.free.horizon)}: from there rounding alone parts any two runs"
        )
    if report.verdict is Verdict.FAIL:
        lines.append("mend the first difference: those after it may follow from it")
    return lines


def summarise_loops(report: LoopsReport) -> str:
    """Return the verdict, and where and why the loops part, or why that cannot be told."""
    if report.verdict is Verdict.FAIL and report.first_divergence is not None:
        found = report.first_divergence
        where = describe_divergence(found, report.factor, "ours", "theirs")
        return f"FAIL: the loops are not the same program. They part at {where}."
    if report.doubt is not None:
        why = DOUBTS[report.doubt].format(
            " ".join(report.told) if report.doubt is Doubt.NOT_REPEATED else ", ".join(report.told)
        )
        return f"INCONCLUSIVE: {why}."
    if report.precisions[0] != report.precisions[1]:
        low = min(report.precisions, key=COARSEST.index)
        return f"PASS: the loops are the same program, as far as {low} can tell: all of {_steps(report.steps)} agree."
    return f"PASS: the loops are the same program: all of {_steps(report.steps)} agree within rounding noise."


def _matches(report: LoopsReport) -> dict[str, list[str]]:
    """Return what was matched otherwise than by its own name, by how; of an optimizer's state the slot alone."""
    found: dict[str, list[str]] = defaultdict(list)
    for link in report.links:
        if link.slots[0] != link.slots[1] or (any(link.slots) and link.scale != 1):
            scale = f" / {link.scale:g}" if link.scale != 1 else ""
            found["slot"].append(f"{link.slots[0]}{scale} = {link.slots[1]}")
        elif not any(link.slots) and not link.is_plain and not link.theirs[0].startswith("backward/"):
            found[link.how].append(_link(link))
    return found


def _link(link: Link) -> str:
    ours, theirs = (" + ".join(name.removeprefix("update/") for name in side) for side in (link.ours, link.theirs))
    layout = " transposed" if link.axes is not None else " as one-hot rows" if link.one_hot else ""
    return f"{ours}{layout} = {theirs}"


def _grouped(names: tuple[str, ...]) -> list[str]:
    """Return names, those of an optimizer's state by the slot alone."""
    slots = Counter("/".join(name.split("/")[:3]) for name in names if name.startswith("update/optim/"))
    calls = Counter(name.partition("@")[0] for name in names if not name.startswith("update/optim/"))
    return [f"{name} of {count} calls" if count > 1 else name for name, count in calls.items()] + [
        f"{slot} of {count} parameters" if count > 1 else slot for slot, count in slots.items()
    ]


def loops_to_json(report: LoopsReport) -> Json:
    """Return a `LoopsReport`."""
    free = report.free
    return {
        "verdict": str(report.verdict),
        "reason": report.doubt and str(report.doubt),
        "told": list(report.told),
        "factor": report.factor,
        "steps": report.steps,
        "steps_of_ours": report.counts[0],
        "steps_of_theirs": report.counts[1],
        "comparisons": int(report.ratios.size),
        "ratios": dict(zip(("median", "p99.9", "largest"), _quantiles(report), strict=True)),
        "first_divergence": divergence_to_json(report.first_divergence, "ours", "theirs"),
        "worst": divergence_to_json(report.worst, "ours", "theirs"),
        "matched": [{"ours": list(link.ours), "theirs": list(link.theirs), "by": link.how} for link in report.links],
        "only_ours": list(report.only_ours),
        "only_theirs": list(report.only_theirs),
        "unmeasured": list(report.unmeasured),
        "loss_scale": report.loss_scale,
        "unseen_in_ours": list(report.unseen[0]),
        "unseen_in_theirs": list(report.unseen[1]),
        "steps_across_kinks": list(report.kinks),
        "precisions": list(report.precisions),
        "smallest_errors": report.smallest,
        "horizon_step": free and free.horizon,
        "free_steps": free and len(free.envelope),
    }


@words.document.register
def _as_json(report: LoopsReport) -> str:
    return dump_json(loops_to_json(report))


def _quantiles(report: LoopsReport) -> list[float]:
    return quantiles(report.ratios, [0.5, 0.999, 1.0]) if report.ratios.size else [0.0] * 3
