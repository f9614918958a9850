"""When what a model is asked differs from what it learnt: the settings, one set a recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MonitorParams(BaseModel):
    """How windows of the log are compared with the reference (docs/monitoring.md).

    A distance has to exceed two things: what `false_alarm` of windows reach though nothing has
    changed, by resampling the reference's patients; and the least that is worth a retraining.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Beats of the log in a window: sixteen recordings, of which the service logs 64 beats each.
    window_beats: int = Field(default=1024, ge=20)
    # So many of the last windows decide, and so many of them must have drifted.
    windows: int = Field(default=5, ge=1)
    persistent: int = Field(default=2, ge=1)
    # A window with less is not judged: a few beats, or a patient or two, are like nothing else.
    least_beats: int = Field(default=200, ge=1)
    least_patients: int = Field(default=3, ge=1)
    # The log names nobody. A request is taken for a patient, but never fewer beats than these:
    # single images mostly come one after another from one person.
    beats_per_patient: int = Field(default=50, ge=1)
    # Share of unchanged windows that may be called drifted, over all features together. Twice in
    # five, that is one false request for retraining in 250 looks at five fresh windows.
    false_alarm: float = Field(default=0.02, gt=0, lt=0.5)
    # Least worth a retraining, however sure. Population stability index: 0.1 is customary for
    # "some change" (Siddiqi, Credit Risk Scorecards, 2006). The others are as small: a tenth of
    # the beats elsewhere, a fifth of the reference's own spread, a twentieth of the answers.
    least_psi: float = Field(default=0.1, ge=0)
    least_ks: float = Field(default=0.1, ge=0, le=1)
    least_wasserstein: float = Field(default=0.2, ge=0)
    least_share: float = Field(default=0.05, ge=0, le=1)
    # Resampled windows, and their seed.
    resamples: int = Field(default=4000, ge=200)
    seed: int = 0

    @model_validator(mode="after")
    def _can_persist(self) -> MonitorParams:
        if self.persistent > self.windows:
            raise ValueError(f"persistent {self.persistent} is more than windows {self.windows}")
        return self
