"""What the page says in sentences: which the reader may read alone, so each says what it does not mean, too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from secure_fair.report.arms import BIAS, METRICS, UTILITY, Arm, Row, field, reference, twin
from secure_fair.report.material import Opened
from secure_fair.report.statistics import LEAST, Estimate, epsilon_text
from secure_fair.settings import SENSITIVE


@dataclass(frozen=True)
class Reading:
    """What one release gave the developer. severity: `exposed`, `bounded` or `nothing`.

    verdict: a few words that stand alone; assumption: what a bound needs, said wherever the bound is.
    """

    severity: str
    verdict: str
    title: str
    text: str
    assumption: str = ""


_EXPOSED, _OPEN = "exposed", "not protected"
_IN_NAME = "bounded in name only"
_NOMINAL = 20.0  # above this epsilon a bound rules out next to nothing
_DEALT = ("gradient", "moment", "adapter-gradient")  # releases that are computed with a dealer's help
_READINGS = {
    "gradient": Reading(
        _EXPOSED,
        _OPEN,
        "The developer can read every attribute of the training data",
        "The exact gradient of every record was opened in every step, and it tells each record's group. The secure "
        "computation hid the table on its way, and then its result gave the table away. There is no epsilon. Treat the "
        "developer as somebody who holds the attributes: this arm exists to equal the plaintext and to price the "
        "secure computation.",
    ),
    "moment": Reading(
        "bounded",
        "bounded if all follow the protocol",
        "Sums over all records, with noise",
        "What being in the data adds to what the developer can learn of one person\u2019s attributes is bounded by the "
        "epsilon below, if the developer runs this program unchanged (so clips its vectors and sends each id once) and "
        "nobody colludes with the dealer. The developer can still predict attributes from what is true of everybody.",
        "if the developer runs this program unchanged and nobody colludes with the dealer",
    ),
    "randomized-response": Reading(
        "bounded",
        "bounded",
        "Each attribute once, flipped by chance",
        "What being in the data adds to what the developer can learn of one person\u2019s attributes is bounded by the "
        "epsilon below, whatever developer and dealer do. But each person\u2019s own answer was handed over with its "
        "id, and at a large epsilon most answers are true. The developer can still predict attributes from what is "
        "true of everybody.",
        "whatever developer and dealer do",
    ),
    "adapter": Reading(
        _EXPOSED,
        _OPEN,
        "The developer holds the auditor\u2019s adapter",
        "An adapter that was trained to predict the attribute is nearly a predictor of it, for anybody. What it tells "
        "about the auditor\u2019s own people is not bounded.",
    ),
    "adapter-gradient": Reading(
        _EXPOSED,
        _OPEN,
        "The developer can rebuild much of the auditor\u2019s adapter",
        "Exact gradients of the overlap of two adapters give the developer the space that the auditor\u2019s adapter "
        "works in. There is no epsilon.",
    ),
    "predictor": Reading(
        _EXPOSED,
        _OPEN,
        "The developer holds the auditor\u2019s predictor of the attributes",
        "The auditor trained a model to predict the attributes and handed it over: it names them for anybody. What it "
        "tells about the auditor\u2019s own people is not bounded.",
    ),
    "none": Reading(
        "nothing",
        "nothing opened",
        "Nothing was opened",
        "The auditor was not asked. What images and labels tell of attributes, the developer knew before.",
    ),
}
_ENTROPY = Reading(
    _EXPOSED,
    _OPEN,
    "The developer can read the adversary, which predicts the attribute of anybody",
    "The exact gradient of every record was opened in every step. With entropy it tells the direction of the hidden "
    "adversary rather than each record\u2019s group, and from an adversary followed over the steps the attributes that "
    "trained it can be solved for where a batch has few records. There is no epsilon.",
)
_PRIVATE_SENSITIVE = Reading(
    "bounded",
    "bounded for the auditor\u2019s people",
    "The auditor\u2019s adapter, trained under differential privacy",
    "What being in the auditor\u2019s images adds to what the developer can learn of one person\u2019s attributes is "
    "bounded by the epsilon below, if floating-point noise keeps to its law. The adapter, or what was shown of it, is "
    "still made to predict the attributes of anybody, the developer\u2019s own people included.",
    "for the people in the auditor\u2019s images, if floating-point noise keeps to its law",
)
_PLAINTEXT = Reading(
    _EXPOSED,
    _OPEN,
    "One process held everything in the clear",
    "The plaintext baseline trains on the attributes themselves. It protects nobody, and is what the secure arms are "
    "measured against.",
)
_UNKNOWN = Reading(
    _EXPOSED,
    _OPEN,
    "A release that this report does not know",
    "Assume that the developer can read every attribute until the documentation of the version that made this run "
    "says otherwise.",
)

AUDITOR = (
    "The ids of the training records (with release gradient also the order in which they were used), the method, the "
    "release, batch size, epochs, the width of representations, the number of task classes, and when steps happened. "
    "Whatever else it was sent was masked: no image, label, representation, prediction or weight."
)
AUDIT_AUDITOR = (
    "Which records were audited, the number of classes, a salted digest of the predictions, when it happened; in an "
    "exact audit every count under the developer\u2019s noise; and what the developer\u2019s own policy shares of the "
    "result. No single label or prediction was sent to it unmasked."
)
DEALER = (
    "Names, shapes and the number of steps. It dealt random numbers and received no share. Together with either other "
    "party it could have read the remaining one\u2019s inputs, so it matters who operates it."
)
NO_DEALER = "No dealer took part: these releases need none."
EVERYBODY = (
    "Developer and auditor both know every record id: that somebody is in the data is not protected. Unless it says "
    "otherwise, all of this assumes parties that follow the protocol and do not collude. A simulation runs them on one "
    "machine under one user: it shows and measures the protocol, and protects nothing from whoever owns that machine."
)


def reading(arm: Arm) -> Reading:
    """What the developer got in this arm."""
    if not arm.secure and arm.method != "erm":
        return _PLAINTEXT
    if (arm.method, arm.release) == ("ent", "gradient"):
        return _ENTROPY
    private = arm.release in SENSITIVE and arm.epsilon
    found = _PRIVATE_SENSITIVE if private else _READINGS.get(arm.release, _UNKNOWN)
    if found.severity == "bounded" and arm.epsilon is not None and arm.epsilon > _NOMINAL:
        text = f"{found.text} An epsilon above {_NOMINAL:g} rules out next to nothing: count them as not protected."
        return replace(found, severity=_EXPOSED, verdict=_IN_NAME, text=text)
    return found


def dealer(arms: Sequence[Arm], *, audited: bool) -> str:
    """What the dealer learned of these arms."""
    return DEALER if audited or any(arm.secure and arm.release in _DEALT for arm in arms) else NO_DEALER


def opened(values: Iterable[Opened]) -> list[str]:
    """The disclosure log in words."""
    return [f"{value.name}: opened {_times(value.times)}, {value.numbers:,} numbers in all" for value in values]


def recovered(arm: Arm) -> str | None:
    """The attack's success in one sentence."""
    share = arm.over_seeds(lambda row: field(row, "leakage", "attribute_recovery", "accuracy"))
    if share is None:
        return None
    gain = arm.over_seeds(lambda row: field(row, "leakage", "in_minus_out", "difference"))
    text = f"The best attack named the attribute of {share.mean:.1%} of the training people"
    if arm.release in SENSITIVE:
        return f"{text}, who are the developer\u2019s: the release was made from none of them."
    return f"{text}." if gain is None else f"{text}, {100 * gain.mean:+.1f} points against people outside of the data."


def lead(arms: Sequence[Arm]) -> list[tuple[Arm | None, str]]:
    """The whole page in a few sentences, each with the arm that it is about."""
    if not arms:
        return []
    erm = reference(arms)
    said: list[tuple[Arm | None, str]] = []
    if erm is not None and len(arms) > 1 and (bias := erm.metric(BIAS)) is not None:
        text = (
            f"Trained without fairness (ERM), the model is right for {_share(erm.metric(UTILITY))} of the test "
            f"records, and its error rates differ between groups by up to {_value(bias)}."
        )
        said.append((erm, text))
    said += [(arm, _sentence(arm, erm, twin(arm, arms))) for arm in arms if arm is not erm or len(arms) == 1]
    seeds = max(len(arm.rows) for arm in arms)
    limits = (
        "One seed was trained: how much of a difference is chance, this page cannot say."
        if seeds == 1
        else f"{seeds} seeds are too few for an interval: how much of a difference is chance, this page cannot say."
        if seeds < LEAST
        else f"Intervals are 95 % over {seeds} seeds; they say nothing of other data sets."
    )
    if any(arm.reused for arm in arms):
        limits += " A private release was made once and serves several trainings: the intervals leave out its noise."
    said.append((None, limits))
    return said


def of_pair(name: str, arms: Sequence[Arm]) -> str:
    """A pair of an experiment: what ERM's bias is, and the smallest that each kind of protection reaches."""
    erm = reference(arms)
    text = f"{name}: without fairness a difference of {_value(None if erm is None else erm.metric(BIAS))}"
    best: dict[str, tuple[float, Arm]] = {}
    for arm in arms:
        bias = arm.metric(BIAS)
        if arm is not erm and bias is not None:
            verdict = reading(arm).verdict
            best[verdict] = min(best.get(verdict, (bias.mean, arm)), (bias.mean, arm), key=lambda found: found[0])
    parts = [f"{_value(arm.metric(BIAS))} by {arm.name} ({verdict})" for verdict, (_, arm) in best.items()]
    return f"{text}; at the least " + ", ".join(parts) + "." if parts else f"{text}."


def _sentence(arm: Arm, erm: Arm | None, plaintext: Arm | None) -> str:
    bias, utility = arm.metric(BIAS), arm.metric(UTILITY)
    if bias is None:
        return f"{arm.name}: accuracy {_value(utility)}; without the attributes there is no group metric."
    text = f"{arm.name}: a difference of {_value(bias)} at accuracy {_value(utility)}"
    if plaintext is not None and _same(arm, plaintext):
        text += ", equal to its plaintext twin in every digit shown"
    if erm is not None and (change := arm.minus(erm, BIAS)) is not None and change.low is not None:
        text += f"; against ERM {_value(change, sign=True)}, {_chance(change)}"
    return f"{text}. {protection(arm)}"


def protection(arm: Arm) -> str:
    """The protection of the training people's attributes from the developer, in one sentence that stands alone."""
    found = reading(arm)
    if found.severity == "nothing":
        return "Nothing was opened."
    if not arm.secure:
        return "The attributes were in the clear."
    if found.verdict == _IN_NAME and arm.epsilon is not None:
        return f"Epsilon {epsilon_text(arm.epsilon)} rules out next to nothing: count the people as not protected."
    if found.severity == _EXPOSED or arm.epsilon is None:
        return "The developer can read the attributes out of what it was given: no protection."
    return (
        f"What being in the data adds to what the developer can learn of a person is bounded by epsilon "
        f"{epsilon_text(arm.epsilon)}, {found.assumption}."
    )


def _chance(change: Estimate) -> str:
    if change.low is None or change.high is None or change.low <= 0 <= change.high:
        return "which the seeds do not tell from none"
    return f"{'lower' if change.mean < 0 else 'higher'} beyond what the seeds vary"


def _same(arm: Arm, plaintext: Arm) -> bool:
    """Whether every metric of every seed agrees in the digits that the page shows."""
    other = {row["seed"]: _shown(row) for row in plaintext.rows}
    return all(_shown(row) == other.get(row["seed"]) for row in arm.rows)


def _shown(row: Row) -> list[str]:
    return [str(value if value is None else round(value, 3)) for value in map(row["metrics"].get, METRICS)]


def _share(value: Estimate | None) -> str:
    return "an unknown share" if value is None else f"{value.mean:.1%}"


def _value(value: Estimate | None, *, sign: bool = False) -> str:
    if value is None:
        return "not defined"
    text = format(value.mean, "+.3f" if sign else ".3f").replace("-", "\u2212")
    return text if value.half is None else f"{text} \u00b1 {value.half:.3f}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
