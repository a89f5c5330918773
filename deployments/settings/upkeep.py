"""Arguments of what stands beside the path of a job: order, checkpoints, how long what is kept stays, webhooks."""

import base64
import os

from pydantic import Field, field_validator

from cluster.policy.calls import Rules
from cluster.pools.stage_args import Args
from deployments.errors import ConfigError
from deployments.settings.secrets import HOW, is_reference, resolved

_DAY_S = 86_400.0
_OWN_SECRET = "env:MAGICVIDEO_WEBHOOK_SECRET"
_AT = "What webhooks.secret names"


class KeeperArgs(Args):
    """The deployment that writes and reads checkpoints: outputs of stages that a restarted job goes on from."""

    enabled: bool = True
    replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1.0, ge=0)
    max_ongoing_requests: int = Field(default=4, ge=1, description="Outputs held in memory at once per replica.")
    ttl_s: float = Field(default=86_400.0, gt=0, description="Checkpoints of a job are kept so long after its end.")
    state_every_s: float = Field(
        default=60.0,
        ge=0,
        description="A call that computes has its state kept so often, so that a killed replica "
        "costs no more; 0: never.",
    )


class OrderArgs(Args):
    """Who goes next at each stage, and who stops for whom: `cluster.policy.calls.Rules`. All in seconds."""

    refuses: bool = Field(
        default=True, description="Whether a job whose deadline_s cannot be kept is refused; else that only orders it."
    )
    enabled: bool = Field(default=True, description="false: calls are sent as they come, to the least busy replica.")
    age_s: float = Field(default=600.0, gt=0, description="So late a call rises by one class, twice as late by two.")
    ahead_s: float = Field(default=1.0, ge=0, description="A replica that is free so soon is sent its next call.")
    hand_off_s: float = Field(default=1.0, ge=0, description="Of a replica's time that stopping and going on costs.")
    gain: float = Field(default=2.0, gt=0, description="An urgent call must begin sooner by so many of those.")
    margin: float = Field(default=0.25, ge=0, description="Of its seconds: with less room a call is in danger.")
    max_yields: int = Field(default=4, ge=0, description="Of one job; 0: no call stops for another.")
    last_steps: int = Field(default=2, ge=0, description="With no more of them left a call is not stopped.")
    safety: float = Field(default=0.1, ge=0, description="Of an estimate, on top of it, before a deadline is promised.")
    soft_s: dict[int, float] = Field(
        default={},
        description="By priority: when a job without deadline_s should be done; else thrice its own seconds.",
    )

    def rules(self) -> Rules:
        """As the policy takes them."""
        return Rules(**self.model_dump(exclude={"enabled", "refuses", "soft_s"}))


class RetentionArgs(Args):
    """How long what is kept stays; null: for ever."""

    paused_s: float | None = Field(default=7 * _DAY_S, gt=0, description="Paused jobs; they fail then.")
    events_s: float | None = Field(default=30 * _DAY_S, gt=0, description="Events of jobs that have ended.")
    deliveries_s: float | None = Field(default=30 * _DAY_S, gt=0, description="Webhooks of jobs that have ended.")
    results_s: float | None = Field(default=None, gt=0, description="Videos, from the end of their job.")
    jobs_s: float | None = Field(default=None, gt=0, description="Jobs with all they have, from their end.")
    studies_s: float | None = Field(
        default=None, gt=0, description="Studies with their votes, from their last vote or working link."
    )
    orphans_s: float = Field(default=6 * 3600.0, gt=0, description="Files that no job names, from their writing.")
    sweep_s: float = Field(default=60.0, gt=0, description="Between two looks for what is to go.")
    orphans_every_s: float = Field(default=3600.0, gt=0, description="Between two looks through all files.")


class WebhookArgs(Args):
    """Telling whoever made a job that it has ended."""

    secret: str | None = Field(
        default_factory=lambda: _OWN_SECRET if os.environ.get(_OWN_SECRET.removeprefix("env:")) else None,
        description="Where the secret stands that signs what is sent, as env:NAME or file:/path; without one there are "
        "no webhooks. Base64, as `whsec_...`.",
    )
    allow_private: bool = Field(default=False, description="Whether to post into private networks, too.")

    @field_validator("secret")
    @classmethod
    def _by_reference(cls, secret: str | None) -> str | None:
        if secret is not None and not is_reference(secret):
            raise ValueError(f"it must say where the secret stands, as {HOW}: Ray's dashboard shows what stands here")
        return secret

    def signing_secret(self) -> str | None:
        """The secret itself.

        Raises:
            ConfigError: it is not there, or none that signs.
        """
        if self.secret is None:
            return None
        secret = resolved(self.secret, "webhooks.secret")
        try:
            size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
        except ValueError:
            raise ConfigError(f"{_AT} is not base64, as `openssl rand -base64 32` makes it.") from None
        if size < 16:
            raise ConfigError(f"{_AT} has {size} bytes; it needs 16 at least, as `openssl rand -base64 32` makes it.")
        return secret
