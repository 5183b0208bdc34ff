"""What the developer's process says before a release that protects nobody, or the auditor's people only."""

from __future__ import annotations

from secure_fair.settings import Settings

GRADIENT_WARNING = (
    "release `gradient` opens the exact gradient of every record in every step: the developer can read every "
    "attribute from it. It exists to compare with the plaintext baseline and to price MPC, not to protect anybody."
)
ADAPTER_WARNING = (
    "release `{release}` shows the developer {what} of a LoRA that the auditor trained to predict the attributes: "
    "whoever holds it predicts them for anybody."
)
PRIVATE_WARNING = (
    " What being in the auditor's images adds to that for a person is bounded by epsilon {epsilon:g} "
    "(sensitive.private), in so far as floating-point noise keeps to its law; what is true of everybody, it tells."
)


def warning(release: str, settings: Settings) -> str | None:
    """None: the release has a guarantee for the people in the data, or there is none to speak of."""
    if release == "gradient":
        return GRADIENT_WARNING
    what = {"adapter": "all", "adapter-gradient": "the row space", "predictor": "all, with its head,"}
    if release not in what:
        return None
    private = settings.sensitive.private
    more = PRIVATE_WARNING.format(epsilon=settings.privacy.epsilon) if private else " There is no guarantee."
    return ADAPTER_WARNING.format(release=release, what=what[release]) + more
