"""Training runs in words: how they were set up, their epochs, how two compare, what a pass is worth, their figure."""

from __future__ import annotations

from collections.abc import Mapping

from gradcheck.numerics.agreement import Verdict
from gradcheck.report.json import divergence_from_json
from gradcheck.report.steps import describe_divergence
from gradcheck.report.text import Json, describe_ratios


def describe_lock_step(found: Json) -> str:
    """Return what single steps showed, beside their number and their worst; from `lock_step_to_json`."""
    ratios = [
        float(found["ratios"][name]) for name in ("median", "p99.9", "largest") if found["ratios"][name] is not None
    ]
    if len(ratios) < 3:
        return "nothing was compared"
    text = describe_ratios(found["comparisons"], *ratios)
    if found["failed_steps"]:
        text = f"{found['failed_steps']:,} of {found['steps_compared']:,} steps are wrong"
    elif found["verdict"] == Verdict.INCONCLUSIVE:
        text += "; no gradient was above rounding noise, so none was tested"
    elif found["uninformative"]:
        text += f"; never above rounding noise, so untested: {', '.join(found['uninformative'])}"
    if found["kinks_crossed"]:
        text += f"; {found['kinks_crossed']:,} kinks crossed by one side"
    return text


def describe_free_run(found: Json) -> str:
    """Return what the run as a whole showed, beside its steps and its worst; from `free_run_to_json`."""
    first = found["first_failure"]
    if first is not None:
        return f"leaves its shadows at step {first['step']:,}, {first['tensor']}"
    if found["verdict"] == Verdict.FAIL:
        return "leaves its shadows"
    if not found["steps_compared"]:
        return "nothing was compared"
    text = f"weights {found['max_relative_distance']:.1e} apart; "
    if found["horizon_step"] is None:
        return f"{text}horizon not reached"
    why = "one side crossed a kink" if found["kinks_crossed"] else "rounding alone parts any two runs"
    return f"{text}horizon at step {found['horizon_step']:,}: from there {why}"


def describe_stop(stop: Json) -> str:
    """Return why a run ended before its end."""
    where = "on either side" if stop.get("side") is None else f"on the side of {stop['side']}"
    return f"stopped at step {stop['step']:,}, where {stop['tensor']} is not finite {where}; lower the learning rate."


def describe_verdict(verdict: str, ours: str, theirs: str) -> str:
    """Return what a verdict on two programs means, as a clause."""
    return {
        "pass": f"{ours} and {theirs} are the same program",
        "fail": f"{ours} and {theirs} are not the same program",
        "inconclusive": f"no telling whether {ours} and {theirs} are the same program",
    }[verdict]


def summarise_trajectory(document: Json, sides: Mapping[str, str]) -> str:
    """Return the sentence that ends a fair run, from its document; ``sides`` are its two keys and their names."""
    verdict, result = Verdict(document["verdict"]), describe_result(document, sides)
    told = f"{verdict.upper()}: {describe_verdict(verdict, *sides.values())}"
    if verdict is Verdict.FAIL:
        return f"{told}. {result}".rstrip()
    return f"{told}: {result[:1].lower()}{result[1:]}" if verdict is Verdict.PASS else f"INCONCLUSIVE: {result}"


def describe_result(document: Json, sides: Mapping[str, str]) -> str:
    """Return what a fair run's verdict rests on, as a sentence; nothing where that is not told."""
    verdict, steps = Verdict(document["verdict"]), document["lock_step"]["steps_compared"]
    if verdict is Verdict.FAIL:
        if document["first_divergence"] is None:
            return ""
        found = divergence_from_json(document["first_divergence"], document["factor"], *sides)
        return f"They part at {describe_divergence(found, document['factor'], *sides.values())}."
    if document["stopped_by"] is not None:
        return describe_stop(document["stopped_by"])
    if verdict is Verdict.PASS:
        return f"All of {steps:,} steps agree within rounding noise."
    if document.get("reason"):
        return f"{document['reason'][:1].upper()}{document['reason'][1:]}."
    return f"{steps:,} steps were compared, and none could tell right from wrong."


def describe_setting(document: Json) -> str:
    """Return how a run was trained, after its network."""
    configuration = document["configuration"]
    return f"batch {configuration['batch_size']}, {configuration['dtype']}, seed {configuration['seed']}"


def describe_epoch(line: Json, epochs: int, sides: Mapping[str, str]) -> str:
    """Return what the sides came to in an epoch, of so many, in one line."""
    told = []
    for key, name in sides.items():
        if (one := line[key]) is not None:
            validated = one["validation_loss"] is not None
            validation = (
                f", validation {one['validation_loss']:.4f} {one['validation_accuracy']:.2%}" if validated else ""
            )
            training = f"training {one['train_loss']:.4f} {one['train_accuracy']:.2%}"
            told.append(f"{name} {training}{validation}, {one['seconds']:.1f} s")
    return f"epoch {line['epoch'] + 1} of {epochs}: {'; '.join(told)}"


def sensitivity_rows(found: Json) -> list[tuple[str, str, str, str]]:
    """Return, for every gradient, the smallest relative fault caught, in which step, and on how many others."""
    return [
        (
            tensor,
            f"{one['size']:.1e}" if one else "none",
            f"{one['step']:,}" if one else "",
            f"{round(one['share_of_steps'] * one['steps'])} of {one['steps']}" if one else "",
        )
        for tensor, one in found["by_tensor"].items()
    ]


def describe_other_faults(found: Json) -> str:
    """Return which other faults a run would have caught, and which not."""
    caught, missed = found["caught"], found["missed"]
    count = len(caught) + len(missed)
    told = (
        f"Of {count} other faults all were caught"
        if not missed
        else f"Of {count} other faults these were not caught: {', '.join(missed)}"
    )
    by_name = [name for name in caught if " " not in name]
    kinds = ", ".join(["wrong signs, stale gradients, single zeros", *by_name])
    return f"{told} ({kinds})" if caught else told


SENSITIVITY = "Faults that this run catches, each planted in the step that is named:"

SENSITIVITY_COLUMNS = ("gradient", "times 1 +", "in step", "and in other steps")


# What a figure of a run says, beside its numbers.
FIGURE = {
    "distance": "{ours} to {theirs}, each training on its own",
    "allowed": "allowed: up to {factor:g} \N{MULTIPLICATION SIGN} the spread of the shadows",
    "spread": "spread of the shadows: what rounding alone does",
    "equal": "bitwise equal",
    "explained": "kink crossed by one side, explained by rounding",
    "unexplained": "kink crossed by one side, not explained",
    "horizon": "horizon: step {step:,}\nbeyond the horizon: nothing can be told",
    "divergence": "first divergence: step {step:,},\n{phase}, {tensor}",
    "failures": "step above what is allowed",
    "factor": "{factor:g} allowed",
    "steps": "steps taken",
    "distances": "free-run: relative distance\nof all parameters",
    "noises": "lock-step, each step:\n\N{MULTIPLICATION SIGN} rounding noise",
    "caption": (
        "Shadows are {ours} runs nudged by one unit in the last place at every step.\n"
        "The verdict is reached tensor by tensor; the curves are of all parameters together. "
        "Differences up to machine epsilon always pass."
    ),
}
